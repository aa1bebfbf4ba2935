/* placed.h - the bytes of a pack at the place where they are wanted, instead of in a file of the pack.
 *
 * A full pack of which no segment could be made smaller is its table and then the stream, byte by byte.
 * What arrives of it is written into the files of the tree at once, and read from there to be verified
 * and to be given to others: every byte is written once and lies on disk once. Only the table has the
 * pack's file.
 *
 *     placed_suits(m, pack_bytes)                       is it such a pack, and of few enough files?
 *     placed_open(&p, m, &where, &err)
 *     exchange_fetch_start() with fetch.placed = p      leaves go through placed_write(), placed_read()
 *     placed_hash(p, segment, &hash, &err)              when its leaves are here
 *     placed_seal(p)                                    nothing is written from here on
 *     placed_free(p)                                    after the pack has been closed
 *
 * The files stay open: they may be renamed meanwhile, and what is read is what was written, or what
 * somebody has written into them since; who gives leaves compares them with what was verified. Reading
 * and writing: any threads at once. */
#ifndef STORE_PLACED_H
#define STORE_PLACED_H

#include "wire/manifest.h"

enum { PLACED_FILES_MAX = 64 /* that are not empty */ };

struct placed;

struct placed_where {
    const char *path;
    bool is_file;   /* path is the artifact's one file; else the directory of its tree */
    bool read_only; /* it is complete: sealed from the start */
};

/* pack_bytes: as the index says. The table itself is checked by whoever reads it. */
bool placed_suits(const struct manifest *m, uint64_t pack_bytes);

/* Borrows m. The files must be there. -ERR_NOT_FOUND, -ERR_DENIED, -ERR_IO with the path. */
MUST_CHECK int placed_open(struct placed **ret, const struct manifest *m,
                           const struct placed_where *where, struct err *err);
void placed_free(struct placed *p); /* NULL is fine */

/* Bytes of the pack that lie before the first one that is here. */
uint64_t placed_from(const struct placed *p);

/* Takes the space of all files on disk. -ERR_NO_SPACE: there is not enough for all of them. */
MUST_CHECK int placed_reserve(const struct placed *p, struct err *err);

/* len bytes of the pack from offset on, which is not less than placed_from(). Writing: -ERR_DENIED once
 * it is sealed. */
MUST_CHECK int placed_read(const struct placed *p, void *data, size_t len, uint64_t offset,
                           struct err *err);
MUST_CHECK int placed_write(const struct placed *p, const void *data, size_t len, uint64_t offset,
                            struct err *err);

/* The digest of a segment as it lies there. */
MUST_CHECK int placed_hash(const struct placed *p, size_t segment, struct hash *ret,
                           struct err *err);

void placed_seal(struct placed *p);

#endif
