#include "base/bitmap.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void bitmap_init(struct bitmap *b, size_t bits)
{
    b->bits = bits;
    b->set = 0;
    b->bytes = mem_alloc(bitmap_words(b) * sizeof(uint64_t) + 1);
}

void bitmap_release(struct bitmap *b)
{
    free(b->bytes);
    *b = (struct bitmap){ NULL, 0, 0 };
}

size_t bitmap_size(const struct bitmap *b)
{
    return (b->bits + 7) / 8;
}

size_t bitmap_words(const struct bitmap *b)
{
    return (b->bits + 63) / 64;
}

bool bitmap_get(const struct bitmap *b, size_t i)
{
    return i < b->bits && (b->bytes[i / 8] >> (i % 8) & 1) != 0;
}

bool bitmap_put(struct bitmap *b, size_t i, bool value)
{
    if (i >= b->bits || bitmap_get(b, i) == value)
        return false;
    b->bytes[i / 8] = (unsigned char)(b->bytes[i / 8] ^ 1u << (i % 8));
    b->set = value ? b->set + 1 : b->set - 1;
    return true;
}

bool bitmap_full(const struct bitmap *b)
{
    return b->set == b->bits;
}

bool bitmap_load(struct bitmap *b, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    size_t set = 0;

    if (len == 0) {
        memset(b->bytes, 0, bitmap_size(b));
        b->set = 0;
        return true;
    }
    if (len != bitmap_size(b) || (b->bits % 8 != 0 && p[len - 1] >> (b->bits % 8) != 0))
        return false;
    for (size_t i = 0; i < len; i++)
        set += (size_t)__builtin_popcount(p[i]);
    memcpy(b->bytes, p, len);
    b->set = set;
    return true;
}
