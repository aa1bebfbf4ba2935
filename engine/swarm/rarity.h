/* rarity.h - how many of our neighbours have each leaf: counters that are compared 64 at a time.
 *
 * Bit k of all counters lies in plane k, one bit a leaf. Adding a set of leaves is a ripple carry over
 * the planes, and the least count among some candidates is found from the highest plane down: each
 * plane keeps the candidates that have a 0 there, if any has. Both cost a word operation per 64 leaves
 * and plane, so that a swarm of thousands of leaves is looked through in a microsecond.
 *
 * Planes are added when a counter overflows; subtracting what was not added is our own bug. */
#ifndef SWARM_RARITY_H
#define SWARM_RARITY_H

#include "base/bitmap.h"

struct rarity {
    uint64_t *planes; /* plane-major, words of 64 leaves */
    size_t words, nplanes;
};

void rarity_init(struct rarity *r, size_t leaves);
void rarity_release(struct rarity *r);

void rarity_add(struct rarity *r, size_t leaf);
void rarity_remove(struct rarity *r, size_t leaf);
void rarity_add_all(struct rarity *r, const struct bitmap *leaves);
void rarity_remove_all(struct rarity *r, const struct bitmap *leaves);

size_t rarity_of(const struct rarity *r, size_t leaf);

/* Leaves in set (r->words words) only those whose count is the least in it. */
void rarity_keep_least(const struct rarity *r, uint64_t *set);

#endif
