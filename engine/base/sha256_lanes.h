/* sha256_lanes.h - SHA-256 of whole blocks by AVX-512, sixteen digests at a time. Of base/sha256.c and its
 * test alone.
 *
 * A register holds the same word of sixteen states, and what is computed is the text of the standard. All
 * sixteen take as long as six or seven by the SHA instructions (sha256_x86.h), so that it is worth it for
 * SHA256_LANES_MIN and more.
 *
 * Source: FIPS 180-4, 4.1.2 and 6.2.2. Pure. */
#ifndef BASE_SHA256_LANES_H
#define BASE_SHA256_LANES_H

#include "base/sha256_x86.h"

enum { SHA256_LANES = 16, SHA256_LANES_MIN = 8 };

/* Has this processor the instructions? Only then may the other one be called. */
bool sha256_lanes_there(void);

/* blocks blocks at each data[i] into the state h[i]; n of them, 1 to SHA256_LANES. */
void sha256_lanes(uint32_t *const *h, const unsigned char *const *data, size_t n, size_t blocks);

#endif
