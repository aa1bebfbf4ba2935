/* planner.h - which leaves of which packs a machine fetches, so that it fetches the fewest bytes.
 *
 * Any segment of an artifact may come from any pack that can give it: from the full pack always, from
 * a delta pack if the files that it is told by are on this disk. What a pack needs to give a segment
 * are one or two ranges of its bytes, and its head; the unit of transfer is the leaf, so that a leaf
 * that holds parts of many segments is paid once, and one that is here already costs nothing. That is
 * why one function serves the first plan, the one after a kill, and the one after a pack has come or
 * gone: what was fetched before only makes its pack cheaper.
 *
 * The cheapest choice of leaves is a set cover, so the planner tries a fixed list of good ones and takes
 * the best: each pack by itself, each pair (what the first does not give, the second does), and each
 * segment from where it adds least; what is left over always goes to where it adds least. That is
 * never worse than any single delta with the full pack for the rest.
 *
 * Chains (a delta onto what another delta makes) are left out on purpose: a chain needs the whole
 * middle version on disk, twice the decoding, and two packs whose sum is hardly below the direct delta
 * that the control plane makes for every version that many machines run; a machine that is further
 * behind takes what its files still allow, and the rest from the full pack.
 *
 * Pure. Memory: a bit a leaf and a byte a segment for each choice under trial; time: about
 * packs^2 x segments steps. */
#ifndef AGENT_PLANNER_H
#define AGENT_PLANNER_H

#include "base/bitmap.h"

enum { PLANNER_PACKS_MAX = 8, PLANNER_RANGES = 2 };

/* What must be here of a pack to give one segment: ascending byte ranges; length 0: none. */
struct planner_part {
    uint64_t at[PLANNER_RANGES];
    uint64_t len[PLANNER_RANGES];
};

struct planner_pack { /* all borrowed */
    uint64_t bytes;
    size_t head_leaves;               /* needed for anything that is taken from it */
    const struct planner_part *parts; /* one a segment */
    const struct bitmap *gives;       /* segments that it can give; NULL: all */
    const struct bitmap *here;        /* leaves; NULL: none */
};

struct plan {
    size_t npacks;
    struct bitmap take[PLANNER_PACKS_MAX];   /* segments, by pack */
    struct bitmap leaves[PLANNER_PACKS_MAX]; /* needed for them, here or not */
    uint64_t missing[PLANNER_PACKS_MAX];     /* bytes of these that are not here */
    uint64_t missing_bytes;                  /* in all */
};

/* A plan for the segments in needed, from at most PLANNER_PACKS_MAX packs. Of equal ones that which
 * stands first in this order: the first pack by itself, the others, pairs. False, and nothing in *ret
 * to be released: no pack gives one of them. */
bool planner_choose(struct plan *ret, const struct planner_pack *packs, size_t npacks,
                    const struct bitmap *needed);
void plan_release(struct plan *p); /* a zeroed one is fine */

/* Does anything come from that pack? */
bool plan_uses(const struct plan *p, size_t pack);

#endif
