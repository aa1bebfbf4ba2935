/* share.h - dividing a number of machines over regions by the largest remainder.
 *
 * Hamilton's method, started from what each region already has, so that a region's share never
 * falls from one wave to the next (the plain method can: the Alabama paradox). */
#ifndef ROLLOUT_SHARE_H
#define ROLLOUT_SHARE_H

#include <stddef.h>
#include <stdint.h>

/* shares[i] is what region i has and is raised; sizes[i] its machines. Afterwards the shares sum to
 * target, which lies between the sum before and the sum of the sizes, and no share is over its
 * size. */
void share_raise(uint64_t *shares, const uint64_t *sizes, size_t n, uint64_t target);

#endif
