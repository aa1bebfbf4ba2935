/* sketch.h - a few numbers that tell what a file is like, without comparing it with every other.
 *
 *     sketcher_init(&s)
 *     sketcher_begin(&s, size)
 *     sketcher_add(&s, data, len) ...              the file, in order, in pieces of any length
 *     sketcher_end(&s, &sketch)                    again from _begin() for the next file
 *     sketcher_release(&s)
 *
 * A feature is the rolling hash (Gear) of 32 bytes. Of each MiB of a file the features with the least
 * values are kept: they depend on what is there and not on where, so that files which share a part of
 * their bytes share about that part of their features, whatever was inserted, moved or cut. That is
 * bottom-k sampling (Broder 1997: resemblance and containment) with Gear for the hash, as Odess has
 * it (ICDE 2021).
 *
 * Of the first MiB up to SKETCH_FIRST are kept (fewer of a file below 12 KiB), of each further one
 * SKETCH_MORE: 64 KiB of features for a GiB. One pass, about a byte a cycle. Pure, deterministic. */
#ifndef DELTA_SKETCH_H
#define DELTA_SKETCH_H

#include <stddef.h>
#include <stdint.h>

enum { SKETCH_WINDOW = 32, SKETCH_REGION = 1 << 20, SKETCH_FIRST = 16, SKETCH_MORE = 8 };

struct sketch {
    uint64_t *features; /* ascending, each once */
    size_t count;       /* 0: shorter than SKETCH_WINDOW */
};

void sketch_release(struct sketch *s);

struct sketcher {
    uint64_t gear[256];
    uint64_t hash, at;
    uint64_t least[SKETCH_FIRST]; /* of this region, ascending, each once */
    size_t kept, most;
    struct sketch found; /* of the regions before */
    size_t cap;
};

void sketcher_init(struct sketcher *s);
void sketcher_release(struct sketcher *s);
/* size: of the file; it decides how much is kept. */
void sketcher_begin(struct sketcher *s, uint64_t size);
void sketcher_add(struct sketcher *s, const unsigned char *data, size_t len);
/* Gives *ret. */
void sketcher_end(struct sketcher *s, struct sketch *ret);

#endif
