/* plan.h - which files of the base tell which stretch of the target.
 *
 * A file with the digest of one in the base needs nothing; pairs.h says of which files of the base
 * any other is made. A large file is a group of its own (a very large one several), small ones that
 * lie together share a group, with what is unchanged between them. A group of code has one source,
 * since addresses are predicted from one; others have all that a window can hold, each once.
 *
 * Pure; the flags and layouts of groups are left to the encoder, which sees the bytes. */
#ifndef DELTA_PLAN_H
#define DELTA_PLAN_H

#include "delta/pairs.h"

enum {
    PLAN_SMALL = 64 << 10,          /* files below may share a group */
    PLAN_SHARED_MAX = 4 << 20,      /* target bytes of a shared group */
    PLAN_PART_BYTES = 64 << 20,     /* a larger file is cut in groups of this ... */
    PLAN_WHOLE_MAX = 512 << 20,     /* ... unless whole() asks for one, and it is no larger */
    PLAN_SOURCES_BYTES = 128 << 20, /* of a group with more than one source */
};

/* May this file (entries of the two manifests) be one group whatever its size? */
typedef bool (*plan_whole)(void *ctx, size_t target_entry, size_t base_entry);

/* Fills ret->groups and ->segments (encoding SEGMENT_COPY where no group has bytes, else
 * SEGMENT_DELTA). pairs: one for each entry of the target. -ERR_LIMIT: over DELTA_GROUPS_MAX; sources
 * over DELTA_SOURCES_MAX are left out. Gives *ret. */
MUST_CHECK int delta_plan(struct delta **ret, const struct manifest *base,
                          const struct manifest *target, const struct pair *pairs, plan_whole whole,
                          void *ctx, struct err *err);

#endif
