/* related.h - is there anything in a target that its base has? Asked before a delta is made that may
 * take long and save nothing.
 *
 * The features (sketch.h) of the target's changed files are looked for among those of the base's files
 * that are not in the target. Programs that were linked again keep a tenth of them and more, unrelated
 * content none at all. One pass over those files, about a byte a cycle: a fiftieth of what making the
 * delta takes, at most. Pure; memory: 16 bytes a feature, of which a GiB has 8,192. */
#ifndef DELTA_RELATED_H
#define DELTA_RELATED_H

#include "delta/group.h"

struct related {
    uint64_t bytes;         /* of the target's changed files */
    size_t features, found; /* in them, and how many of those the base has */
};

/* Errors: of reading. */
MUST_CHECK int related_find(const struct manifest *base, const struct delta_files *base_files,
                            const struct manifest *target, const struct delta_files *target_files,
                            struct related *ret, struct err *err);

enum {
    RELATED_FEATURES_MIN = 64, /* fewer tell nothing */
    RELATED_PERCENT = 2,       /* of them found: below, it is unrelated */
};

/* Would a delta save next to nothing? False in doubt, and if half of the target is unchanged. */
bool related_is_hopeless(const struct related *r, const struct manifest *target);

#endif
