/* varint.h - numbers of 1 to 10 bytes: 7 bits a byte, the lowest first, the top bit says "more".
 *
 * Reading never passes the end; a number that is cut off or longer than 64 bits is refused. Signed
 * numbers are folded: 0, -1, 1, -2 … are 0, 1, 2, 3 … */
#ifndef DELTA_VARINT_H
#define DELTA_VARINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct varints {
    const unsigned char *at;
    const unsigned char *end;
};

static inline void varint_put(struct buf *out, uint64_t v)
{
    unsigned char b[10];
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        b[n++] = (unsigned char)(v | 0x80);
    b[n++] = (unsigned char)v;
    buf_append(out, b, n);
}

static inline bool varint_get(struct varints *in, uint64_t *ret)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        unsigned char b = *in->at++;

        if (shift == 63 && b > 1)
            return false;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            *ret = v;
            return true;
        }
    }
    return false;
}

static inline uint64_t fold(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t unfold(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

#endif
