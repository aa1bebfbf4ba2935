#include "delta/match.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { SLACK = 512, AHEAD = 32, FILTER_BITS = 3 };

void covers_add(struct covers *c, struct cover cover)
{
    VEC_GROW(c->items, c->count, c->cap);
    c->items[c->count++] = cover;
}

void covers_release(struct covers *c)
{
    free(c->items);
    *c = (struct covers){ NULL, 0, 0 };
}

struct match_index {
    struct match_params params;
    const unsigned char *base;
    size_t length;
    unsigned shift;  /* of the rolling hash: it forgets a byte after 32 / shift more */
    unsigned bits;   /* of head */
    uint32_t *head;  /* hash -> position / step + 1; 0: none */
    uint64_t *there; /* a bit for each of 2^FILTER_BITS times as many hashes: is there anything? */
    uint32_t *older; /* position / step -> the one before with this hash */
    uint32_t gear[256];
};

/* A fixed table of well-mixed numbers (splitmix64). */
static void fill_gear(uint32_t gear[256])
{
    uint64_t x = 0;

    for (int i = 0; i < 256; i++) {
        uint64_t z = x += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        gear[i] = (uint32_t)(z >> 32);
    }
}

/* A slot of the filter; its upper bits are the slot of the table. */
static uint32_t filter_slot_of(const struct match_index *x, uint32_t hash)
{
    return (hash * 0x9e3779b1u) >> (32 - x->bits - FILTER_BITS);
}

static uint32_t slot_of(const struct match_index *x, uint32_t hash)
{
    return filter_slot_of(x, hash) >> FILTER_BITS;
}

/* Most of what is looked for is not there: this is told from few cache lines. */
static bool may_be_there(const struct match_index *x, uint32_t hash)
{
    uint32_t slot = filter_slot_of(x, hash);

    return (x->there[slot / 64] >> (slot % 64) & 1) != 0;
}

static uint32_t warm(const struct match_index *x, const unsigned char *data)
{
    uint32_t h = 0;

    for (unsigned i = 0; i < x->params.seed; i++)
        h = (h << x->shift) + x->gear[data[i]];
    return h;
}

/* Every place of the table is a cache miss: they are asked for some time before they are needed. */
static void fill(struct match_index *x)
{
    unsigned step = x->params.step, seed = x->params.seed;
    size_t count = (x->length - seed) / step + 1;
    uint32_t slots[AHEAD];

    x->older = mem_calloc(count, sizeof(*x->older));
    /* From the end, so that a chain leads to the first place first. */
    for (size_t end = count; end > 0;) {
        size_t n = end < AHEAD ? end : AHEAD;

        for (size_t k = 0; k < n; k++) {
            slots[k] = filter_slot_of(x, warm(x, x->base + (end - 1 - k) * step));
            __builtin_prefetch(&x->head[slots[k] >> FILTER_BITS], 1);
            __builtin_prefetch(&x->there[slots[k] / 64], 1);
        }
        for (size_t k = 0; k < n; k++) {
            const unsigned char *at = x->base + --end * step;

            if (memcmp(at, at + 1, seed - 1) == 0)
                continue; /* a run of one byte is no landmark */
            x->older[end] = x->head[slots[k] >> FILTER_BITS];
            x->head[slots[k] >> FILTER_BITS] = (uint32_t)end + 1;
            x->there[slots[k] / 64] |= (uint64_t)1 << (slots[k] % 64);
        }
    }
}

struct match_index *match_index_new(const unsigned char *base, size_t length,
                                    const struct match_params *params)
{
    struct match_index *x = mem_alloc(sizeof(*x));

    x->params = *params;
    x->base = base;
    x->length = length;
    x->shift = 32 / params->seed;
    fill_gear(x->gear);
    for (x->bits = 10; x->bits < 28 && ((size_t)1 << x->bits) < length / params->step; x->bits++)
        ;
    x->head = mem_calloc((size_t)1 << x->bits, sizeof(*x->head));
    x->there = mem_calloc((size_t)1 << (x->bits + FILTER_BITS - 6), sizeof(*x->there));
    if (length >= params->seed)
        fill(x);
    return x;
}

void match_index_extend(struct match_index *x, size_t length)
{
    x->length = length;
}

void match_index_free(struct match_index *x)
{
    if (x == NULL)
        return;
    free(x->head);
    free(x->there);
    free(x->older);
    free(x);
}

static uint64_t word_at(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

/* How many bytes of a and b agree from the front, at most max. */
static size_t agree(const unsigned char *a, const unsigned char *b, size_t max)
{
    size_t n = 0;

    for (; n + 32 <= max; n += 32) {
        if (((word_at(a + n) ^ word_at(b + n)) | (word_at(a + n + 8) ^ word_at(b + n + 8)) |
             (word_at(a + n + 16) ^ word_at(b + n + 16)) |
             (word_at(a + n + 24) ^ word_at(b + n + 24))) != 0)
            break;
    }
    for (; n + 8 <= max; n += 8) {
        uint64_t x = word_at(a + n) ^ word_at(b + n);

        if (x != 0)
            return n + (size_t)__builtin_ctzll(x) / 8;
    }
    while (n < max && a[n] == b[n])
        n++;
    return n;
}

/* The same, backward from a[-1], b[-1]. */
static size_t agree_back(const unsigned char *a, const unsigned char *b, size_t max)
{
    size_t n = 0;

    while (n < max && a[-1 - (ptrdiff_t)n] == b[-1 - (ptrdiff_t)n])
        n++;
    return n;
}

struct search {
    const struct match_index *x;
    const unsigned char *target;
    size_t length;
    struct covers *out;
    int64_t diagonal; /* base position - target position */
    size_t floor;     /* where the last cover's landmark ends */
};

struct landmark {
    size_t t, s, length;
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Of what is indexed under the hash of target[p]: the longest exact match around p. */
static struct landmark probe(const struct search *f, size_t p, uint32_t hash)
{
    const struct match_index *x = f->x;
    struct landmark best = { 0, 0, 0 };
    uint32_t at = x->head[slot_of(x, hash)];

    for (unsigned n = 0; at != 0 && n < x->params.chain; n++) {
        size_t s = (size_t)(at - 1) * x->params.step;
        size_t ahead, behind;

        at = x->older[at - 1];
        if (best.length > 0 && (int64_t)s - (int64_t)p == (int64_t)best.s - (int64_t)best.t)
            continue;
        ahead = agree(f->target + p, x->base + s, min_size(f->length - p, x->length - s));
        if (ahead < x->params.seed)
            continue;
        behind = agree_back(f->target + p, x->base + s, min_size(p - f->floor, s));
        if (ahead + behind > best.length)
            best = (struct landmark){ p - behind, s - behind, ahead + behind };
    }
    return best;
}

/* How many bytes of a and b are equal, place by place. */
static size_t equal_bytes(const unsigned char *a, const unsigned char *b, size_t len)
{
    const uint64_t low7 = 0x7f7f7f7f7f7f7f7f, ones = 0x0101010101010101;
    size_t n = 0, i = 0;

    for (; i + 8 <= len; i += 8) {
        uint64_t x = word_at(a + i) ^ word_at(b + i);
        uint64_t different = ((x & low7) + low7) | x; /* the top bit of each byte */

        n += ((~different >> 7 & ones) * ones) >> 56;
    }
    for (; i < len; i++)
        n += a[i] == b[i];
    return n;
}

/* Equal bytes of target[from, to) on the diagonal. */
static size_t count_equal(const struct search *f, size_t from, size_t to)
{
    int64_t s = (int64_t)from + f->diagonal;

    if (s < 0) {
        from = min_size(to, from + (size_t)-s);
        s = 0;
    }
    if (s >= (int64_t)f->x->length)
        return 0;
    return equal_bytes(f->target + from, f->x->base + s,
                       min_size(to - from, f->x->length - (size_t)s));
}

/* How far the run at p on the present diagonal goes. */
static size_t run_ahead(const struct search *f, size_t p)
{
    int64_t s = (int64_t)p + f->diagonal;

    if (s < 0 || s >= (int64_t)f->x->length)
        return 0;
    if (f->target[p] != f->x->base[s])
        return 0;
    return agree(f->target + p, f->x->base + s, min_size(f->length - p, f->x->length - (size_t)s));
}

/* Adds a length that scores best: +1 for each equal byte, -1 for each other. */
static size_t extend(const unsigned char *a, const unsigned char *b, size_t max,
                     ptrdiff_t direction)
{
    size_t best = 0;
    long score = 0, top = 0;

    for (size_t i = 0; i < max; i++) {
        score += *a == *b ? 1 : -1;
        if (score > top) {
            top = score;
            best = i + 1;
        }
        if (score < top - SLACK)
            break;
        a += direction;
        b += direction;
    }
    return best;
}

/* Two covers claim target[from, from + n): the split where most bytes agree. */
static size_t split(const struct search *f, const struct cover *left, const struct landmark *right,
                    size_t from, size_t n)
{
    const unsigned char *a = f->x->base + left->s + (from - left->t);
    const unsigned char *b = f->x->base + right->s - (right->t - from);
    const unsigned char *t = f->target + from;
    long score = 0, top = 0;
    size_t best = 0;

    for (size_t i = 0; i < n; i++) {
        score += (a[i] == t[i]) - (b[i] == t[i]);
        if (score > top) {
            top = score;
            best = i + 1;
        }
    }
    return best;
}

/* Extends the last cover forward into the gap and the new one backward, and adds the new one. */
static void accept(struct search *f, struct landmark mark)
{
    struct cover *last = f->out->count == 0 ? NULL : &f->out->items[f->out->count - 1];
    size_t begin = last == NULL ? 0 : last->t + last->length;
    size_t back = extend(f->target + mark.t - 1, f->x->base + mark.s - 1,
                         min_size(mark.t - begin, mark.s), -1);

    if (last != NULL) {
        size_t end = last->s + last->length;
        size_t more = extend(f->target + begin, f->x->base + end,
                             min_size(mark.t - begin, f->x->length - end), 1);

        if (more + back > mark.t - begin) {
            size_t twice = more + back - (mark.t - begin);
            size_t at = mark.t - back;
            size_t keep = split(f, last, &mark, at, twice);

            more = at + keep - begin;
            back -= keep;
        }
        last->length += (uint32_t)more;
    }
    covers_add(f->out, (struct cover){ mark.s - back, (uint32_t)(mark.t - back),
                                       (uint32_t)(mark.length + back) });
    f->diagonal = (int64_t)mark.s - (int64_t)mark.t;
    f->floor = mark.t + mark.length;
}

/* A run on the present diagonal: it belongs to the last cover, or begins the first one. */
static void follow(struct search *f, size_t p, size_t run)
{
    struct landmark mark = { p, (size_t)((int64_t)p + f->diagonal), run };
    struct cover *last = f->out->count == 0 ? NULL : &f->out->items[f->out->count - 1];

    if (last == NULL) {
        accept(f, mark);
        return;
    }
    /* Through the differences, if they are few; else as a cover of its own. */
    if (count_equal(f, last->t + last->length, p) * 2 + 8 >= p - last->t - last->length) {
        last->length = (uint32_t)(p + run - last->t);
        f->floor = p + run;
    } else {
        accept(f, mark);
    }
}

/* The last cover may go on to the end. */
static void extend_last(struct search *f)
{
    struct cover *last = &f->out->items[f->out->count - 1];
    size_t t = last->t + last->length;
    uint64_t s = last->s + last->length;

    last->length += (uint32_t)extend(f->target + t, f->x->base + s,
                                     min_size(f->length - t, f->x->length - (size_t)s), 1);
}

void match_find(const struct match_index *x, const unsigned char *target, size_t length,
                int64_t hint, struct covers *out)
{
    struct search f = { x, target, length, out, hint, 0 };
    unsigned seed = x->params.seed;
    uint32_t hash = 0;
    size_t p = 0, warmed = SIZE_MAX;

    out->count = 0;
    while (p + seed <= length) {
        size_t run = run_ahead(&f, p);
        struct landmark mark;

        if (run >= seed) {
            follow(&f, p, run);
            p += run;
            continue;
        }
        hash = warmed == p ? hash : warm(x, target + p);
        mark = may_be_there(x, hash) ? probe(&f, p, hash) : (struct landmark){ 0, 0, 0 };
        if (mark.length > 0 && (int64_t)mark.s - (int64_t)mark.t != f.diagonal &&
            mark.length > count_equal(&f, mark.t, mark.t + mark.length) + x->params.gain) {
            accept(&f, mark);
            p = f.floor;
            continue;
        }
        if (p + seed < length)
            hash = (hash << x->shift) + x->gear[target[p + seed]];
        warmed = ++p;
    }
    if (out->count > 0)
        extend_last(&f);
}
