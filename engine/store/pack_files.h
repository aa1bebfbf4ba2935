/* pack_files.h - the files of an artifact, read out of its full pack in a store.
 *
 * What a delta is made against, or tested with, where the artifact is not unpacked. Keeps the last
 * `kept` segments decoded (4 MiB each). Any number of threads; they decode one at a time. What is
 * handed out is what the manifest says. */
#ifndef STORE_PACK_FILES_H
#define STORE_PACK_FILES_H

#include "delta/group.h"
#include "store/store.h"

enum { PACK_FILES_KEPT_MAX = 64 };

struct pack_files;

/* pack: the full pack of the artifact whose manifest is m (borrowed, as s is). kept: 1 to
 * PACK_FILES_KEPT_MAX. Errors: of the store; -ERR_INVALID: it is not its full pack. */
MUST_CHECK int pack_files_open(struct pack_files **ret, struct store *s, const struct manifest *m,
                               const struct hash *artifact, const struct hash *pack, size_t kept,
                               struct err *err);
void pack_files_close(struct pack_files *p); /* NULL is fine */

/* As struct delta_files wants it: { pack_files_read, p }. -ERR_CORRUPT. */
MUST_CHECK int pack_files_read(void *pack_files, size_t entry, void *data, size_t len,
                               uint64_t offset, struct err *err);

#endif
