#include "delta/coder.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { TABLE_BITS = 16, WORD_SHIFT = 12 };

/* Counts what is as expected up to the next exception. */
struct counter {
    enum stream counts, values;
    uint64_t left; /* reading: how many are as expected; writing: how many were */
    bool known;    /* reading: left has been read */
};

struct learnt {
    uint64_t address;
    uint64_t more; /* to add to its translation */
};

struct coder {
    struct buf *out; /* NULL: reading */
    struct varints in[STREAMS];
    struct counter bytes, addresses, words;
    struct learnt *learnt;   /* by a hash of the address */
    uint32_t *word_distance; /* by a hash of the value's upper bits */
    bool used;               /* the tables are not zero */
};

struct coder *coder_new(void)
{
    struct coder *c = mem_alloc(sizeof(*c));

    c->learnt = mem_calloc((size_t)1 << TABLE_BITS, sizeof(*c->learnt));
    c->word_distance = mem_calloc((size_t)1 << TABLE_BITS, sizeof(*c->word_distance));
    return c;
}

void coder_free(struct coder *c)
{
    if (c == NULL)
        return;
    free(c->learnt);
    free(c->word_distance);
    free(c);
}

static void reset(struct coder *c)
{
    if (c->used) {
        memset(c->learnt, 0, sizeof(*c->learnt) << TABLE_BITS);
        memset(c->word_distance, 0, sizeof(*c->word_distance) << TABLE_BITS);
    }
    c->used = true;
    c->bytes = (struct counter){ STREAM_GAP, STREAM_VALUE, 0, false };
    c->addresses = (struct counter){ STREAM_RUN, STREAM_RESIDUAL, 0, false };
    c->words = (struct counter){ STREAM_WORD_RUN, STREAM_WORD_RESIDUAL, 0, false };
}

void coder_write(struct coder *c, struct buf *out)
{
    reset(c);
    c->out = out;
}

void coder_read(struct coder *c, const struct varints *in)
{
    reset(c);
    c->out = NULL;
    memcpy(c->in, in, sizeof(c->in));
}

static int malformed(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "its streams do not fit the covers");
}

/* Reading: makes counter->left known. A stream that has ended means "for ever". */
static int count(struct coder *c, struct counter *n, struct err *err)
{
    struct varints *in = &c->in[n->counts];

    if (n->known)
        return 0;
    n->known = true;
    n->left = UINT64_MAX;
    if (in->at < in->end && (!varint_get(in, &n->left) || n->left == UINT64_MAX))
        return malformed(err);
    return 0;
}

int coder_literal(struct coder *c, unsigned char *target, size_t len, struct err *err)
{
    struct varints *in = &c->in[STREAM_LITERAL];

    if (c->out != NULL) {
        buf_append(&c->out[STREAM_LITERAL], target, len);
        return 0;
    }
    if ((size_t)(in->end - in->at) < len)
        return malformed(err);
    memcpy(target, in->at, len);
    in->at += len;
    return 0;
}

static void write_bytes(struct coder *c, const unsigned char *base, const unsigned char *target,
                        size_t len)
{
    size_t begin = 0;

    for (size_t i = 0; i < len; i++) {
        uint64_t x, y;

        for (; i + 8 <= len; i += 8) {
            memcpy(&x, base + i, 8);
            memcpy(&y, target + i, 8);
            if (x != y)
                break;
        }
        if (i == len)
            break;
        if (base[i] == target[i])
            continue;
        varint_put(&c->out[STREAM_GAP], c->bytes.left + (i - begin));
        buf_char(&c->out[STREAM_VALUE], (char)(unsigned char)(target[i] - base[i]));
        c->bytes.left = 0;
        begin = i + 1;
    }
    c->bytes.left += len - begin;
}

static int read_bytes(struct coder *c, const unsigned char *base, unsigned char *target, size_t len,
                      struct err *err)
{
    struct varints *values = &c->in[STREAM_VALUE];
    size_t at = 0;

    memcpy(target, base, len);
    for (;;) {
        if (count(c, &c->bytes, err) < 0)
            return -(int)ERR_CORRUPT;
        if (c->bytes.left >= len - at) {
            if (c->bytes.left != UINT64_MAX)
                c->bytes.left -= len - at;
            return 0;
        }
        at += (size_t)c->bytes.left;
        if (values->at == values->end)
            return malformed(err);
        target[at] = (unsigned char)(target[at] + *values->at++);
        at++;
        c->bytes.known = false;
    }
}

/* The difference between a field and its prediction: says *value when writing, learns it when
 * reading. */
static int difference(struct coder *c, struct counter *n, uint64_t *value, struct err *err)
{
    uint64_t folded;

    if (c->out != NULL) {
        if (*value == 0) {
            n->left++;
            return 0;
        }
        varint_put(&c->out[n->counts], n->left);
        varint_put(&c->out[n->values], fold((int64_t)*value));
        n->left = 0;
        return 0;
    }
    if (!n->known && count(c, n, err) < 0)
        return -(int)ERR_CORRUPT;
    *value = 0;
    if (n->left > 0) {
        n->left -= n->left != UINT64_MAX;
        return 0;
    }
    if (!varint_get(&c->in[n->values], &folded))
        return malformed(err);
    *value = (uint64_t)unfold(folded);
    n->known = false;
    return 0;
}

static uint64_t get(const unsigned char *b, unsigned width)
{
    uint64_t v = 0;

    memcpy(&v, b, width);
    return v;
}

/* Relative values wrap at 32 bits. */
static uint64_t narrow(uint64_t v, unsigned width)
{
    return width == 4 ? (uint64_t)(int64_t)(int32_t)(uint32_t)v : v;
}

static int code_value(struct coder *c, struct counter *n, unsigned char *target, unsigned width,
                      uint64_t predicted, uint64_t *difference_, struct err *err)
{
    uint64_t value = c->out == NULL ? 0 : narrow(get(target, width) - predicted, width);
    int r = difference(c, n, &value, err);

    if (r == 0 && c->out == NULL) {
        uint64_t result = predicted + value;

        memcpy(target, &result, width);
    }
    *difference_ = value;
    return r;
}

static int code_word(struct coder *c, const unsigned char *base, unsigned char *target,
                     struct err *err)
{
    uint32_t old = (uint32_t)get(base, 4);
    uint32_t *distance =
        &c->word_distance[((old >> WORD_SHIFT) * 0x9e3779b1u) >> (32 - TABLE_BITS)];
    uint64_t more;
    int r = code_value(c, &c->words, target, 4, (uint64_t)old + *distance, &more, err);

    *distance += (uint32_t)more;
    return r;
}

static int code_address(struct coder *c, const struct piece *p, const struct site *f,
                        struct err *err)
{
    const unsigned char *base = p->base + f->at;
    unsigned char *target = p->target + f->at;
    uint64_t old = 0, more, predicted, meant, found;
    struct learnt *l;
    int r;

    if (!site_target(p->t->base, f, base, p->base_offset + f->at, &old))
        return code_value(c, &c->addresses, target, f->width, get(base, f->width), &more, err);
    l = &c->learnt[(old * 0x9e3779b97f4a7c15u) >> (64 - TABLE_BITS)];
    if (l->address != old)
        *l = (struct learnt){ old, 0 };
    meant = translate(p->t, old) + l->more;
    predicted = site_value(p->t->target, f, base, p->target_offset + f->at, meant);
    r = code_value(c, &c->addresses, target, f->width, predicted, &more, err);
    if (more != 0 && site_target(p->t->target, f, target, p->target_offset + f->at, &found))
        l->more += found - meant;
    return r;
}

/* The place of a relocation record: relative to that of the record before it in this piece. */
static int code_place(struct coder *c, const struct piece *p, const struct site *f,
                      const struct site *before, struct err *err)
{
    uint64_t predicted, more;

    if (before == NULL)
        return code_address(c, p, f, err);
    predicted =
        get(p->target + before->at, 8) + get(p->base + f->at, 8) - get(p->base + before->at, 8);
    return code_value(c, &c->addresses, p->target + f->at, 8, predicted, &more, err);
}

static int code_bytes(struct coder *c, const struct piece *p, size_t from, size_t to,
                      struct err *err)
{
    if (c->out == NULL)
        return read_bytes(c, p->base + from, p->target + from, to - from, err);
    write_bytes(c, p->base + from, p->target + from, to - from);
    return 0;
}

int coder_cover(struct coder *c, const struct piece *p, struct err *err)
{
    const struct site *place = NULL;
    size_t at = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < p->nsites; i++) {
        const struct site *f = &p->sites[i];

        if (f->at < at)
            continue; /* cannot be: a scan gives disjoint fields */
        if (f->at > at)
            r = code_bytes(c, p, at, f->at, err);
        if (r < 0)
            return r;
        if (f->kind == SITE_WORD) {
            r = code_word(c, p->base + f->at, p->target + f->at, err);
        } else if (f->kind == SITE_PLACE) {
            r = code_place(c, p, f, place, err);
            place = f;
        } else {
            r = code_address(c, p, f, err);
        }
        at = f->at + f->width;
    }
    return r < 0 ? r : code_bytes(c, p, at, p->len, err);
}

int coder_end(struct coder *c, struct err *err)
{
    if (c->out != NULL)
        return 0;
    for (int i = 0; i < STREAMS; i++) {
        if (c->in[i].at != c->in[i].end)
            return malformed(err);
    }
    return 0;
}
