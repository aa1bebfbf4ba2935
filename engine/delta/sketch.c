#include "delta/sketch.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { FEWEST = 4, BYTES_A_FEATURE = 1 << 10 };

void sketch_release(struct sketch *s)
{
    free(s->features);
    *s = (struct sketch){ NULL, 0 };
}

/* The table is part of nobody's format; it is the same in every run (splitmix64). */
void sketcher_init(struct sketcher *s)
{
    uint64_t state = 0x5eed;

    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < 256; i++) {
        uint64_t z = state += 0x9e3779b97f4a7c15;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        s->gear[i] = z ^ (z >> 31);
    }
}

void sketcher_release(struct sketcher *s)
{
    sketch_release(&s->found);
    s->cap = 0;
}

void sketcher_begin(struct sketcher *s, uint64_t size)
{
    uint64_t most = FEWEST + size / BYTES_A_FEATURE;

    s->hash = 0;
    s->at = 0;
    s->kept = 0;
    s->most = most < SKETCH_FIRST ? (size_t)most : SKETCH_FIRST;
    s->found = (struct sketch){ NULL, 0 };
    s->cap = 0;
}

/* A feature is kept if it is less than this. */
static uint64_t limit(const struct sketcher *s)
{
    return s->kept < s->most ? UINT64_MAX : s->least[s->most - 1];
}

static void keep(struct sketcher *s, uint64_t feature)
{
    size_t i = s->kept;

    while (i > 0 && s->least[i - 1] > feature)
        i--;
    if (i > 0 && s->least[i - 1] == feature)
        return;
    if (s->kept < s->most)
        s->kept++;
    memmove(&s->least[i + 1], &s->least[i], (s->kept - 1 - i) * sizeof(s->least[0]));
    s->least[i] = feature;
}

/* Two bits a byte: 64 of them forget what lies more than SKETCH_WINDOW bytes back. */
static uint64_t roll(const struct sketcher *s, uint64_t hash, unsigned char byte)
{
    return (hash << 2) + s->gear[byte];
}

/* Bytes of one region, behind the first window of the file. */
static void scan(struct sketcher *s, const unsigned char *data, size_t len)
{
    uint64_t hash = s->hash, most = limit(s);

    for (size_t i = 0; i < len; i++) {
        hash = roll(s, hash, data[i]);
        if (hash < most) {
            keep(s, hash);
            most = limit(s);
        }
    }
    s->hash = hash;
}

static void end_region(struct sketcher *s)
{
    for (size_t i = 0; i < s->kept; i++) {
        VEC_GROW(s->found.features, s->found.count, s->cap);
        s->found.features[s->found.count++] = s->least[i];
    }
    s->kept = 0;
    s->most = SKETCH_MORE;
}

void sketcher_add(struct sketcher *s, const unsigned char *data, size_t len)
{
    for (; len > 0 && s->at < SKETCH_WINDOW - 1; data++, len--, s->at++)
        s->hash = roll(s, s->hash, *data);
    while (len > 0) {
        size_t left = SKETCH_REGION - (size_t)(s->at % SKETCH_REGION);
        size_t n = len < left ? len : left;

        scan(s, data, n);
        s->at += n;
        data += n;
        len -= n;
        if (n == left)
            end_region(s);
    }
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

void sketcher_end(struct sketcher *s, struct sketch *ret)
{
    size_t kept = 0;

    end_region(s);
    if (s->found.count > 0)
        qsort(s->found.features, s->found.count, sizeof(*s->found.features), by_value);
    for (size_t i = 0; i < s->found.count; i++) {
        if (kept == 0 || s->found.features[i] != s->found.features[kept - 1])
            s->found.features[kept++] = s->found.features[i];
    }
    s->found.count = kept;
    *ret = s->found;
    s->found = (struct sketch){ NULL, 0 };
    s->cap = 0;
}
