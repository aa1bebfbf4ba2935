#include "store/pack_costs.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum { NO_SEGMENT = -1 };

/* A segment as both kinds of packs have it. */
struct place {
    uint64_t offset;
    uint32_t length;
    unsigned encoding;
};

struct reading {
    const struct pack_description *p;
    struct place *places; /* of the segments */
    struct delta *delta;  /* NULL: a full pack */
    unsigned char *data;  /* of segment `have` */
    int64_t have;
};

/* Reads len bytes of the pack that are one frame of raw bytes, into out. */
static int read_frame(const struct reading *r, uint64_t offset, size_t len, unsigned char *out,
                      size_t raw, struct err *err)
{
    unsigned char *frame = mem_alloc(len + 1);
    int status = r->p->read(r->p->ctx, frame, len, offset, err);

    if (status == 0 && (ZSTD_getFrameContentSize(frame, len) != raw ||
                        ZSTD_decompress(out, raw, frame, len) != raw))
        status = err_set(err, ERR_CORRUPT, "not a frame of %zu bytes", raw);
    free(frame);
    return status;
}

/* Segment i, if it is told without the base. */
static int load(struct reading *r, size_t i, struct err *err)
{
    const struct place *s = &r->places[i];
    size_t raw = manifest_segment_bytes(r->p->target, i);
    struct hash h;
    int status;

    if (r->have == (int64_t)i)
        return 0;
    r->have = NO_SEGMENT;
    if (s->encoding == SEGMENT_STORED)
        status = r->p->read(r->p->ctx, r->data, raw, s->offset, err);
    else if (s->encoding == SEGMENT_ZSTD)
        status = read_frame(r, s->offset, s->length, r->data, raw, err);
    else
        return err_set(err, ERR_NOT_FOUND, "segment %zu is told by the base", i);
    if (status < 0)
        return status;
    h = merkle_segment(r->data, raw);
    if (!hash_equal(&h, &r->p->target->segments[i]))
        return err_set(err, ERR_CORRUPT, "segment %zu: its digest is not the manifest's", i);
    r->have = (int64_t)i;
    return 0;
}

/* Bytes of a file of the target. */
static int read_file(void *ctx, size_t entry, void *data, size_t len, uint64_t offset,
                     struct err *err)
{
    struct reading *r = ctx;
    uint64_t at = r->p->target->entries[entry].offset + offset;
    unsigned char *out = data;

    while (len > 0) {
        size_t from = (size_t)(at % SEGMENT_BYTES);
        size_t n = SEGMENT_BYTES - from < len ? SEGMENT_BYTES - from : len;
        int status = load(r, (size_t)(at / SEGMENT_BYTES), err);

        if (status < 0)
            return status;
        memcpy(out, r->data + from, n);
        out += n;
        at += n;
        len -= n;
    }
    return 0;
}

static int read_covers(const struct reading *r, const struct delta_group *g, struct cover **ret,
                       struct err *err)
{
    unsigned char *raw;
    int status;

    *ret = NULL;
    if (g->ncovers == 0)
        return 0;
    raw = mem_alloc((size_t)g->covers_raw + 1);
    status = g->covers_length > ZSTD_compressBound(g->covers_raw)
                 ? err_set(err, ERR_CORRUPT, "a frame of %u bytes", g->covers_length)
                 : read_frame(r, g->covers_offset, g->covers_length, raw, g->covers_raw, err);
    if (status == 0)
        status =
            delta_covers_parse(ret, raw, g->covers_raw, g->ncovers, g->length, UINT64_MAX / 2, err);
    free(raw);
    return status < 0 ? err_wrap(err, "a group's covers") : 0;
}

static void count(struct delta_stats *ret, const struct place *s)
{
    ret->segments[s->encoding]++;
    ret->payload_bytes[s->encoding] += s->length;
}

/* Groups lie in the order of segments: each is read once, and kept while segments need it. */
static int add_delta(struct reading *r, struct costs *c, struct delta_stats *ret, struct err *err)
{
    struct delta *d = r->delta;
    struct cover *covers = NULL;
    size_t k = 0, loaded = SIZE_MAX;
    int status = 0;

    for (size_t i = 0; status == 0 && i < d->nsegments; i++) {
        uint64_t end = (uint64_t)i * SEGMENT_BYTES + manifest_segment_bytes(r->p->target, i);

        count(ret, &r->places[i]);
        costs_segment(c, i, r->places[i].encoding, r->places[i].length);
        for (; status == 0 && k < d->ngroups && d->groups[k].begin < end; k++) {
            const struct delta_group *g = &d->groups[k];

            if (loaded != k) {
                free(covers);
                status = read_covers(r, g, &covers, err);
                loaded = k;
                ret->groups++;
                ret->predicted_groups += (g->flags & DELTA_PREDICTED) != 0;
                ret->covers += g->ncovers;
                ret->covers_bytes += g->covers_length;
            }
            if (status == 0)
                costs_group(c, g->begin, g->length, covers, g->ncovers);
            if (g->begin + g->length > end)
                break;
        }
    }
    free(covers);
    return status;
}

static void add_full(struct reading *r, struct costs *c, struct delta_stats *ret)
{
    const struct manifest *m = r->p->target;

    for (size_t i = 0; i < m->nsegments; i++) {
        count(ret, &r->places[i]);
        costs_segment(c, i, r->places[i].encoding, r->places[i].length);
        costs_group(c, 0, m->stream_bytes, NULL, 0);
    }
}

static int open_delta(struct reading *r, struct err *err)
{
    const struct pack_description *p = r->p;
    int status = delta_read(&r->delta, p->read, p->ctx, p->bytes, NULL, &p->base_id, p->target,
                            &p->target_id, err);

    for (size_t i = 0; status == 0 && i < r->delta->nsegments; i++) {
        const struct delta_segment *s = &r->delta->segments[i];

        r->places[i] = (struct place){ s->offset, s->length, s->encoding };
    }
    return status;
}

static int open_full(struct reading *r, struct err *err)
{
    const struct pack_description *p = r->p;
    struct full *f = NULL;
    int status = full_read(&f, p->read, p->ctx, p->bytes, p->target, &p->target_id, err);

    for (size_t i = 0; status == 0 && i < f->nsegments; i++) {
        const struct full_segment *s = &f->segments[i];

        r->places[i] = (struct place){ s->offset, s->length, (unsigned)s->encoding };
    }
    full_free(f);
    return status;
}

/* "New" says nothing where there is no base. */
static void drop_reasons(struct costs_top *top)
{
    for (size_t i = 0; i < top->count; i++) {
        if (top->items[i].reason != COST_PACKED)
            top->items[i].reason = COST_NONE;
    }
}

int pack_costs(struct delta_stats *ret, const struct pack_description *pack, struct err *err)
{
    struct reading r = { .p = pack, .have = NO_SEGMENT };
    const struct delta_files files = { read_file, &r };
    struct costs *c = costs_new(pack->target);
    int status;

    memset(ret, 0, sizeof(*ret));
    r.places = mem_calloc(pack->target->nsegments + 1, sizeof(*r.places));
    r.data = mem_alloc(SEGMENT_BYTES);
    status = pack->kind == PACK_DELTA ? open_delta(&r, err) : open_full(&r, err);
    if (status == 0 && r.delta != NULL)
        status = add_delta(&r, c, ret, err);
    else if (status == 0)
        add_full(&r, c, ret);
    if (status == 0)
        costs_finish(c, &files, &ret->top);
    if (r.delta == NULL)
        drop_reasons(&ret->top);
    delta_free(r.delta);
    costs_free(c);
    free(r.places);
    free(r.data);
    return status;
}
