/* bases.h - the files of every release of a service on this disk, by digest.
 *
 * A delta names the files that it is told by, not a version (DESIGN: "a base is named by file
 * digests"): whichever release here has a file of that content can give it. What a file holds is what
 * its release's manifest says until somebody reads it; whoever uses it verifies what comes out.
 *
 *     bases_open(&b, dir, &not_this, &first)     reads the manifests
 *     bases_find(b, &digest, size)               -> a file, or BASES_NONE
 *     bases_read(b, file, data, len, offset, err)
 *     bases_close(b)
 *
 * A release that cannot be read only gives nothing; one that is removed meanwhile makes bases_read()
 * fail. At most BASES_MAX releases, and with BASES_ENTRIES_MAX entries no further one, so that memory is
 * bounded (150 bytes an entry). Blocks; one thread at a time. */
#ifndef AGENT_BASES_H
#define AGENT_BASES_H

#include "store/unpack.h"

enum { BASES_MAX = 8, BASES_ENTRIES_MAX = 1 << 20 };

#define BASES_NONE UINT32_MAX

struct bases;

/* dir: ROOT/services/SERVICE. All releases in it but `except`, `first` in front (may be zero), the rest
 * youngest first. Always gives *ret. */
void bases_open(struct bases **ret, const char *dir, const struct hash *except,
                const struct hash *first);
void bases_close(struct bases *b); /* NULL is fine */

/* As unpack_open() wants them; borrowed. Returns how many. */
size_t bases_trees(const struct bases *b, const struct unpack_base **ret);
/* The manifest of an artifact that a release here has, or NULL. */
const struct manifest *bases_manifest(const struct bases *b, const struct hash *artifact);

uint32_t bases_find(const struct bases *b, const struct hash *digest, uint64_t size);
/* -ERR_NOT_FOUND: it is gone. -ERR_CORRUPT: it is shorter than it should be. */
MUST_CHECK int bases_read(const struct bases *b, uint32_t file, void *data, size_t len,
                          uint64_t offset, struct err *err);

#endif
