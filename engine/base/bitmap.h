/* bitmap.h - a fixed number of bits; bit i is byte i/8, 1 << i%8, as it also travels and lies on
 * disk. */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bitmap {
    unsigned char *bytes;
    size_t bits;
    size_t set; /* how many are 1 */
};

void bitmap_init(struct bitmap *b, size_t bits); /* all 0 */
void bitmap_release(struct bitmap *b);
size_t bitmap_size(const struct bitmap *b); /* bytes */
bool bitmap_get(const struct bitmap *b, size_t i);
bool bitmap_put(struct bitmap *b, size_t i, bool value); /* true if that changed it */
bool bitmap_full(const struct bitmap *b);

/* 64 bits at a time: bit i is bit i % 64 of word i / 64; those past the end are 0. */
size_t bitmap_words(const struct bitmap *b);
static inline uint64_t bitmap_word(const struct bitmap *b, size_t word)
{
    uint64_t w;

    memcpy(&w, b->bytes + word * sizeof(w), sizeof(w)); /* whole words are allocated */
    return le64toh(w);
}

/* Takes the bits from len bytes; false (and nothing changed) unless len is bitmap_size() or, for
 * "none", 0, and the bits past the end are 0. */
bool bitmap_load(struct bitmap *b, const void *bytes, size_t len);

#endif
