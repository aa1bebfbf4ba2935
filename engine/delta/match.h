/* match.h - find what a target shares with a base: few long covers that tolerate differences.
 *
 * A cover says "these bytes of the target are those of the base, but for differences". Differences
 * are cheap (addresses are predicted, what is left compresses), covers are not: so a cover is kept
 * until another place of the base explains the bytes ahead better by `gain` bytes (bsdiff's rule),
 * and is then extended both ways as long as at least half of the bytes agree.
 *
 * The base is indexed by a rolling hash of `seed` bytes at every step-th position; the target is
 * probed at each. What is compared is what the caller hands in: images of code in which addresses
 * are blanked (sites.h) make relinked code compare equal.
 *
 * Memory: an index takes 5 to 10 + 4 bytes per step bytes of the base. Pure, deterministic. */
#ifndef DELTA_MATCH_H
#define DELTA_MATCH_H

#include <stddef.h>
#include <stdint.h>

/* target[t, t + length) is like base[s, s + length). */
struct cover {
    uint64_t s;
    uint32_t t;
    uint32_t length;
};

struct covers {
    struct cover *items;
    size_t count, cap;
};

void covers_add(struct covers *c, struct cover cover);
void covers_release(struct covers *c);

struct match_params {
    unsigned seed;  /* 32, 16 or 8 bytes must agree to be noticed */
    unsigned step;  /* a power of two */
    unsigned chain; /* candidates looked at per probe, at most */
    unsigned gain;  /* how many bytes better another place has to be */
};

enum { MATCH_WINDOW_MAX = 1 << 30 };

struct match_index; /* of a base; any number of threads may search it */

/* Borrows base (at most MATCH_WINDOW_MAX bytes) until _free(). */
struct match_index *match_index_new(const unsigned char *base, size_t length,
                                    const struct match_params *params);
void match_index_free(struct match_index *index);
/* An index of no bytes becomes one of `length` bytes of which none is found by its content: a search
 * follows the hint, through differences, and sees nothing else. */
void match_index_extend(struct match_index *index, size_t length);

/* Appends the covers of target, ascending and disjoint in t, s and t relative to the two windows.
 * hint: where in the base target[0] probably lies. */
void match_find(const struct match_index *index, const unsigned char *target, size_t length,
                int64_t hint, struct covers *out);

#endif
