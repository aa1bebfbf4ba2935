/* plan.h - which files of the base tell which stretch of the target.
 *
 * A file with the digest of one in the base needs nothing. Any other is paired with the base's file
 * of the same path, else with one of the same name whose size is within a factor of two, the nearest
 * first; else, if both artifacts are one file, with that; else it has no source. A large file is a
 * group of its own (a very large one several), small ones that lie together share a group, with
 * what is unchanged between them.
 *
 * Pure; the flags and layouts of groups are left to the encoder, which sees the bytes. */
#ifndef DELTA_PLAN_H
#define DELTA_PLAN_H

#include "delta/delta.h"

enum {
    PLAN_SMALL = 64 << 10,      /* files below may share a group */
    PLAN_SHARED_MAX = 4 << 20,  /* target bytes of a shared group */
    PLAN_PART_BYTES = 64 << 20, /* a larger file is cut in groups of this ... */
    PLAN_WHOLE_MAX = 512 << 20, /* ... unless whole() asks for one, and it is no larger */
};

/* May this file (entries of the two manifests) be one group whatever its size? */
typedef bool (*plan_whole)(void *ctx, size_t target_entry, size_t base_entry);

/* Fills ret->groups and ->segments (encoding SEGMENT_COPY where no group has bytes, else
 * SEGMENT_DELTA). -ERR_LIMIT: over DELTA_GROUPS_MAX or DELTA_SOURCES_MAX. Gives *ret. */
MUST_CHECK int delta_plan(struct delta **ret, const struct manifest *base,
                          const struct manifest *target, plan_whole whole, void *ctx,
                          struct err *err);

#endif
