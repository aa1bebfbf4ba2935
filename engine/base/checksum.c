#include "base/checksum.h"

#include <string.h>

/* Eight independent chains keep the multiplier busy. A step is a bijection of the chain's state for a given word,
 * and of the word for a given state. */
enum { LANES = 8, BLOCK = LANES * 8 };

static const uint64_t factor = 0x9e3779b97f4a7c15; /* odd; 2^64 over the golden ratio */

static inline uint64_t step(uint64_t state, uint64_t word)
{
    uint64_t product = (state ^ word) * factor;

    return product ^ product >> 32;
}

static inline void add_block(uint64_t lanes[LANES], const unsigned char *block)
{
    uint64_t words[LANES];

    memcpy(words, block, sizeof(words));
    for (int i = 0; i < LANES; i++)
        lanes[i] = step(lanes[i], words[i]);
}

uint64_t checksum_of(const void *data, size_t len)
{
    uint64_t lanes[LANES] = { 1, 2, 3, 4, 5, 6, 7, 8 }, sum = len;
    unsigned char rest[BLOCK] = { 0 };
    const unsigned char *at = data;

    for (size_t left = len / BLOCK; left > 0; left--, at += BLOCK)
        add_block(lanes, at);
    if (len % BLOCK > 0) {
        memcpy(rest, at, len % BLOCK);
        add_block(lanes, rest);
    }
    for (int i = 0; i < LANES; i++)
        sum = step(sum, lanes[i]);
    return sum;
}
