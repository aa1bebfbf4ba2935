/* pairs.h - from which files of the base a file of the target is made.
 *
 * In this order: the base's file with the same digest; of the same path; of the same path but for
 * versions and hashes in names (lib/foo-1.2.3/x and lib/foo-1.2.4/x, app.3f2a1c.js and
 * app.9b8d77.js); those that are like it by content, the likest first; the one of the same name whose
 * size is nearest, within a factor of two; at last, if both artifacts are one file, that.
 *
 * Content is looked at only where names leave a doubt, so that an unchanged tree costs nothing: a
 * file of the same path and nearly the same size is taken for what it seems to be, and so is a large
 * one. For the others, sketches (sketch.h) of the base's files are made: first of those that their
 * names point to, then of those that are gone, of changed and of unchanged ones, up to
 * PAIRS_BASE_LEAST + PAIRS_BASE_FACTOR x the bytes in doubt. A file may have several sources, if each
 * tells a part that the others do not: parts of one file, or a file made of several, are found.
 *
 * Memory: 90 bytes an entry of either artifact, and the sketches: 16 bytes a
 * feature, of which there are 4 to 16 a file and 8 a further MiB. The answer depends on the two
 * artifacts alone, not on the pool. */
#ifndef DELTA_PAIRS_H
#define DELTA_PAIRS_H

#include "delta/search.h"

enum {
    PAIR_SOURCES_MAX = 8,
    PAIRS_TRUSTED_MIN = 4 << 20, /* of this size and the same path: not looked at */
    PAIRS_TRUSTED_PART = 32,     /* sizes differ by less than this part: nearly the same */
    PAIRS_BASE_LEAST = 32 << 20,
    PAIRS_BASE_FACTOR = 4,
};

enum pair_by {
    PAIR_NONE = 0, /* nothing in the base is like it, or it is no file, or empty */
    PAIR_DIGEST,
    PAIR_PATH, /* versions and hashes disregarded */
    PAIR_CONTENT,
    PAIR_NAME,
    PAIR_ONLY,
};

struct pair {
    uint32_t sources[PAIR_SOURCES_MAX]; /* entries of the base; the best first */
    uint8_t nsources;
    uint8_t by; /* enum pair_by */
};

struct pairs_options { /* borrowed for the call */
    const struct manifest *base, *target;
    const struct delta_files *base_files, *target_files;
    const struct delta_pool *pool; /* NULL: this thread alone */
};

/* Gives an array of one pair for each entry of the target, for free(). Errors: of reading. */
MUST_CHECK int pairs_find(struct pair **ret, const struct pairs_options *options, struct err *err);

/* A key that two paths share if they are the same but for versions and hashes in their names. */
uint64_t pairs_stripped_key(const char *path);

#endif
