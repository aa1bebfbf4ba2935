/* packed.h - is a file compressed, packed or encrypted already?
 *
 * A small change of what goes into a compressor changes nearly all that comes out, so no delta of it
 * helps. packed_kind() knows what announces itself in its first bytes; packed_is_dense() sees what
 * does not: bytes as evenly spread as only compression and encryption make them. packed_find() asks
 * both. Whether a file of such a kind really cost bytes is for costs.h to say. Pure. */
#ifndef DELTA_PACKED_H
#define DELTA_PACKED_H

#include "delta/group.h"

enum { PACKED_HEAD = 4096, PACKED_SAMPLE = 4096, PACKED_SAMPLES = 16 };

struct packed {
    const char *name;   /* "gzip", "a zip archive", "compressed or encrypted data" */
    const char *remedy; /* "deploy it uncompressed"; NULL: there is none */
};

/* head: the file's first len bytes, PACKED_HEAD of them if there are as many. NULL: of no known kind.
 * What it gives is constant. */
const struct packed *packed_kind(const void *head, size_t len);

/* Are these bytes as good as random? False for less than PACKED_SAMPLE / 4. */
bool packed_is_dense(const void *data, size_t len);

/* Is it of a kind that says so itself, rather than one whose bytes only look so? */
bool packed_announces(const struct packed *kind);

/* What the name says: the second best, where the content cannot be read. NULL: nothing. */
const struct packed *packed_by_name(const char *path);

/* Reads the head of a file, and samples of it if that tells nothing: of what kind is it? *ret: NULL
 * if it is not packed. < 0: it cannot be read. */
MUST_CHECK int packed_find(const struct delta_files *files, size_t entry, uint64_t size,
                           const struct packed **ret);

#endif
