/* trees.h - directory trees for tests: random ones from a seed, and are two of them the same? */
#ifndef TESTS_TREES_H
#define TESTS_TREES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A small generator that gives the same numbers everywhere (xorshift64*). */
struct random {
    uint64_t state; /* not zero */
};

uint64_t random_next(struct random *r);
uint64_t random_below(struct random *r, uint64_t n);
/* Half of it repeats itself, so that some segments compress and some do not. */
void random_fill(struct random *r, void *data, size_t len);

/* Fills the empty directory dir with at most `files` files, directories and symlinks, some deep, some
 * empty, some of several MiB if `large`. */
void tree_random(const char *dir, struct random *r, size_t files, bool large);

/* Same names, kinds, permission bits, targets and bytes; prints the first difference. */
bool trees_equal(const char *a, const char *b);

#endif
