/* spread.h - how numbers lie: a histogram that answers quantiles, and adds up.
 *
 * The buckets are the same everywhere: one for each number below 2 * SPREAD_SUB, then SPREAD_SUB for each
 * power of two. So two spreads are merged by adding counts, in any order, with the result that one
 * of all numbers would have given; what is answered is at most 1/128 beside a number that was added.
 * Integers only: the same numbers give the same answer on every machine.
 *
 *     spread_add(&s, v)                       each number
 *     spread_put(&s, index, count)            or a bucket of another spread
 *     spread_at(&s, 990)                      the number that 99.0 % are not above
 *
 * Numbers above SPREAD_MAX count as SPREAD_MAX. 13 KB, however many numbers; pure.
 *
 * Source: the layout is that of HdrHistogram (G. Tene) with 7 significant bits. */
#ifndef SWARM_SPREAD_H
#define SWARM_SPREAD_H

#include <stddef.h>
#include <stdint.h>

enum {
    SPREAD_SUB = 64,
    SPREAD_MAX = 1 << 30,
    SPREAD_BUCKETS = 2 * SPREAD_SUB + (30 - 7) * SPREAD_SUB + 1,
};

struct spread {
    uint64_t counts[SPREAD_BUCKETS];
    uint64_t total; /* of counts */
};

/* Which bucket a number falls into, and the middle of a bucket. */
size_t spread_index(uint64_t value);
uint64_t spread_value(size_t index); /* of an index below SPREAD_BUCKETS */

void spread_add(struct spread *s, uint64_t value);
/* Indexes that there are not, and counts that would overflow, are not added. */
void spread_put(struct spread *s, size_t index, uint64_t count);
/* permille: 0 … 1000. 0 if nothing was added. */
uint64_t spread_at(const struct spread *s, unsigned permille);
/* How many are not above that number; up to 1/64 above it they may count, too: buckets are whole. */
uint64_t spread_upto(const struct spread *s, uint64_t value);

#endif
