#include "wire/utf8.h"

#include <stdint.h>

/* Length of the sequence that starts at s, or 0. */
static size_t sequence(const unsigned char *s, size_t left)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t point;
    size_t len;

    if (s[0] < 0x80)
        return s[0] != 0 ? 1 : 0;
    if ((s[0] & 0xe0) == 0xc0)
        len = 2;
    else if ((s[0] & 0xf0) == 0xe0)
        len = 3;
    else if ((s[0] & 0xf8) == 0xf0)
        len = 4;
    else
        return 0;
    if (len > left)
        return 0;
    point = s[0] & (0x7fU >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (s[i] & 0x3fU);
    }
    if (point < least[len] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return 0;
    return len;
}

bool utf8_valid(const void *data, size_t len)
{
    const unsigned char *s = data;
    size_t at = 0;

    while (at < len) {
        size_t step = sequence(s + at, len - at);

        if (step == 0)
            return false;
        at += step;
    }
    return true;
}
