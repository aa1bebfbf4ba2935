/* costs.h - which files a pack's bytes go to, and why.
 *
 *     c = costs_new(target)
 *     costs_segment(c, i, encoding, bytes)          each segment, in order; then
 *       costs_group(c, begin, length, covers, n)    each group that has bytes in it, in order
 *     costs_finish(c, files, &top)
 *     costs_free(c)
 *
 * A segment's bytes are shared out among the files that it tells: in a delta segment a byte that no
 * cover tells counts as much as COVERED told ones, in a frame of its own all count alike. So the
 * figures add up to the payloads' bytes, and each is an estimate.
 *
 * Then the dearest are named, with a reason. Of those that are new for the most part the first bytes
 * and some samples are read: are they compressed already (packed.h)? 24 bytes an entry. Pure. */
#ifndef DELTA_COSTS_H
#define DELTA_COSTS_H

#include "delta/group.h"
#include "delta/packed.h"

enum {
    COSTS_NAMED = 10,
    COSTS_LEAST = 256,             /* bytes of the pack; a file below is not named */
    COSTS_PACKED_LEAST = 64 << 10, /* nor counted as packed */
};

enum cost_reason {
    COST_NONE = 0,
    COST_CHANGED, /* differs from the base here and there */
    COST_MIXED,   /* more than half of it is new */
    COST_NEW,     /* nothing in the base is like it */
    COST_PACKED,  /* new for the most part, and compressed */
};

struct cost {
    uint32_t entry; /* of the target */
    enum cost_reason reason;
    const struct packed *packed;
    uint64_t bytes;     /* of the pack, about */
    uint64_t new_bytes; /* of the file, told without the base */
};

struct costs_top {
    struct cost items[COSTS_NAMED]; /* the dearest first */
    size_t count;
    size_t packed; /* files with COST_PACKED that cost COSTS_PACKED_LEAST and more */
};

struct costs;

struct costs *costs_new(const struct manifest *target); /* borrows until _free() */
void costs_free(struct costs *c);
/* bytes: of its payload. encoding: as in struct delta_segment. */
void costs_segment(struct costs *c, size_t i, unsigned encoding, uint64_t bytes);
/* The covers of the whole group. */
void costs_group(struct costs *c, uint64_t begin, uint64_t length, const struct cover *covers,
                 size_t ncovers);
/* files: the target's; of what cannot be read, the name is asked. */
void costs_finish(struct costs *c, const struct delta_files *files, struct costs_top *ret);

/* "gzip: a delta of it can't help; deploy it uncompressed" */
void cost_describe(struct buf *out, const struct cost *c);
/* "packed", ... */
const char *cost_reason_name(enum cost_reason reason);

#endif
