/* moves.h - where a place of the base lies in the target.
 *
 * Made from the covers of one file: where several cover a place, the longest wins (the lower target
 * position, if they are equally long); between covers, the one before goes on. This is robust: a
 * short chance match does not lead the addresses of a whole function astray.
 *
 * 16 bytes an interval, of which there are at most two a cover. Pure. */
#ifndef DELTA_MOVES_H
#define DELTA_MOVES_H

#include <stdbool.h>

#include "delta/match.h"

enum { MOVES_COVERS_MAX = 1 << 20 };

struct moves {
    struct interval *items;
    size_t count;
};

struct interval {
    uint64_t from; /* in the base; up to the next one's */
    int64_t shift; /* target position - base position */
};

/* covers: at most MOVES_COVERS_MAX. */
void moves_init(struct moves *m, const struct cover *covers, size_t count);
void moves_release(struct moves *m);

/* The place in the target of `at` in the base. */
uint64_t moves_at(const struct moves *m, uint64_t at);

#endif
