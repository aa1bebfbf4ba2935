/* placed.h - the bytes of a pack at the place where they are wanted, instead of in a file of the pack.
 *
 * A full pack of which no segment could be made smaller is its table and then the stream, byte by byte.
 * What arrives of it is written into the files of the tree at once, and given to others from there:
 * every byte is written once and lies on disk once. Only the table has the pack's file.
 *
 *     placed_suits(m, pack_bytes)                       is it such a pack, and of few enough files?
 *     placed_open(&p, m, &where, &err)
 *     exchange_fetch_start() with fetch.placed = p      leaves go through placed_write(), placed_read()
 *     placed_verified(p, segment, &err)                 when its leaves are here
 *     placed_seal(p)                                    nothing is written from here on
 *     placed_free(p)                                    after the pack has been closed
 *
 * What is promised: every leaf had the digest that the index has when it came, or when it was read after a
 * restart. If leaves are blocks of the stream (full_is_aligned_stream()), every segment then had the one
 * that the manifest has, and is not read again to be sure that the disk has kept it since; whoever
 * gives a leaf compares it with what was verified.
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

/* All leaves of the segment are here and verified, as an index has them that full_check_index() has
 * compared: is it the manifest's? One that is not made of leaves of its own is read and hashed.
 * -ERR_CORRUPT: it is not. */
MUST_CHECK int placed_verified(const struct placed *p, size_t segment, struct err *err);

void placed_seal(struct placed *p);

#endif
