#include "offer.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "delta/decode.h"
#include "io/files.h"

struct offer {
    struct hash pack, target, base;
    enum pack_kind kind;
    uint64_t bytes;
    size_t head_leaves;          /* of a delta */
    struct manifest *given;      /* manifest of the base, if it came from elsewhere */
    const struct manifest *from; /* of the base */
    uint32_t *places;            /* of each entry of it: a file of the bases */
    struct full *full;
    struct delta *delta;
    struct planner_part *parts; /* NULL: not ready */
    struct bitmap gives, refused;
};

void offer_new(struct offer **ret, const struct hash *pack, const struct pack_index *index)
{
    struct offer *o = mem_alloc(sizeof(*o));

    o->pack = *pack;
    o->target = index->target;
    o->base = index->base;
    o->kind = index->kind;
    o->bytes = index->bytes;
    o->head_leaves = 1;
    *ret = o;
}

void offer_free(struct offer *o)
{
    if (o == NULL)
        return;
    manifest_free(o->given);
    full_free(o->full);
    delta_free(o->delta);
    bitmap_release(&o->gives);
    bitmap_release(&o->refused);
    free(o->places);
    free(o->parts);
    free(o);
}

const struct hash *offer_pack(const struct offer *o)
{
    return &o->pack;
}

const struct hash *offer_base(const struct offer *o)
{
    return &o->base;
}

uint64_t offer_bytes(const struct offer *o)
{
    return o->bytes;
}

bool offer_fits(const struct offer *o, const struct hash *artifact)
{
    return hash_equal(&o->target, artifact);
}

bool offer_is_ready(const struct offer *o)
{
    return o->parts != NULL;
}

bool offer_gives(const struct offer *o, size_t segment)
{
    return bitmap_get(&o->gives, segment);
}

static bool are_here(const struct bitmap *here, uint64_t at, uint64_t len)
{
    for (size_t i = (size_t)(at / LEAF_BYTES); len > 0 && i <= (at + len - 1) / LEAF_BYTES; i++) {
        if (i >= here->bits || !bitmap_get(here, i))
            return false;
    }
    return true;
}

bool offer_can_give(const struct offer *o, size_t segment, const struct bitmap *here)
{
    const struct planner_part *part = &o->parts[segment];
    bool all = bitmap_get(&o->gives, segment);

    for (size_t k = 0; all && k < PLANNER_RANGES; k++)
        all = are_here(here, part->at[k], part->len[k]);
    return all;
}

void offer_take_manifest(struct offer *o, struct manifest *m)
{
    manifest_free(o->given);
    o->given = m;
}

bool offer_lacks_manifest(const struct offer *o, const struct bases *b)
{
    return o->kind == PACK_DELTA && o->given == NULL && bases_manifest(b, &o->base) == NULL;
}

static size_t leaves_of(uint64_t bytes)
{
    return (size_t)((bytes + LEAF_BYTES - 1) / LEAF_BYTES);
}

size_t offer_head_leaves(const struct offer *o, size_t nsegments)
{
    size_t all = leaves_of(o->bytes);
    size_t head = o->kind == PACK_FULL ? leaves_of(full_header_bytes(nsegments)) : o->head_leaves;

    return head < all ? head : all;
}

void offer_planner(const struct offer *o, struct planner_pack *ret)
{
    *ret = (struct planner_pack){ .bytes = o->bytes,
                                  .head_leaves = offer_head_leaves(o, o->gives.bits),
                                  .parts = o->parts,
                                  .gives = &o->gives };
}

/* --- the table --- */

static int read_pack(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    return fd_read_at(*(const int *)ctx, data, len, offset, err);
}

static int read_full(struct offer *o, int fd, const struct offer_target *t, struct err *err)
{
    int r = full_read(&o->full, read_pack, &fd, o->bytes, t->manifest, &t->artifact, err);

    if (r < 0)
        return r;
    o->parts = mem_calloc(t->manifest->nsegments + 1, sizeof(*o->parts));
    for (size_t i = 0; i < t->manifest->nsegments; i++) {
        o->parts[i].at[0] = o->full->segments[i].offset;
        o->parts[i].len[0] = o->full->segments[i].length;
        bitmap_put(&o->gives, i, true);
    }
    return 0;
}

/* Where each file of the base lies on this disk. */
static void find_places(struct offer *o, const struct bases *b)
{
    const struct manifest *m = o->from;

    o->places = mem_calloc(m->nentries + 1, sizeof(*o->places));
    for (size_t i = 0; i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];

        o->places[i] = e->kind == ENTRY_FILE ? bases_find(b, &e->hash, e->size) : BASES_NONE;
    }
}

/* Are the files here that [from, to) of the stream, in no group, is copied from? */
static bool has_copies(const struct offer_target *t, const struct bases *b, size_t segment,
                       uint64_t from, uint64_t to)
{
    const struct manifest *m = t->manifest;

    for (size_t k = manifest_first_file(m, segment); k < m->nentries; k++) {
        const struct entry *e = &m->entries[k];

        if (e->offset >= to)
            break;
        if (e->kind == ENTRY_FILE && e->size > 0 && e->offset + e->size > from &&
            bases_find(b, &e->hash, e->size) == BASES_NONE)
            return false;
    }
    return true;
}

static bool has_sources(const struct offer *o, const struct delta_group *g)
{
    for (size_t i = 0; i < g->nsources; i++) {
        if (o->from->entries[g->sources[i]].size > 0 && o->places[g->sources[i]] == BASES_NONE)
            return false;
    }
    return true;
}

/* The part of segment i, and whether all that it is told by is here. first: the first group that ends
 * behind its begin. */
static bool look_at(const struct offer *o, const struct offer_target *t, const struct bases *b,
                    size_t i, size_t first, struct planner_part *part)
{
    const struct delta_segment *s = &o->delta->segments[i];
    uint64_t start = (uint64_t)i * SEGMENT_BYTES, at = start;
    uint64_t end = start + manifest_segment_bytes(t->manifest, i);
    bool here = true;

    part->at[1] = s->offset;
    part->len[1] = s->length;
    if (s->encoding == SEGMENT_STORED || s->encoding == SEGMENT_ZSTD)
        return true;
    for (size_t k = first; k < o->delta->ngroups && o->delta->groups[k].begin < end; k++) {
        const struct delta_group *g = &o->delta->groups[k];

        if (g->begin < start) { /* its covers lie before an earlier segment */
            part->at[0] = g->covers_offset;
            part->len[0] = g->covers_length;
        } else if (g->covers_length > 0 && g->covers_offset < part->at[1]) {
            part->at[1] = g->covers_offset;
            part->len[1] = s->offset + s->length - g->covers_offset;
        }
        here = here && has_sources(o, g) &&
               (g->begin <= at || has_copies(t, b, i, at, g->begin < end ? g->begin : end));
        at = g->begin + g->length;
    }
    return here && (at >= end || has_copies(t, b, i, at, end));
}

static void look_at_all(struct offer *o, const struct offer_target *t, const struct bases *b)
{
    size_t first = 0;

    for (size_t i = 0; i < t->manifest->nsegments; i++) {
        while (first < o->delta->ngroups &&
               o->delta->groups[first].begin + o->delta->groups[first].length <=
                   (uint64_t)i * SEGMENT_BYTES)
            first++;
        bitmap_put(&o->gives, i, look_at(o, t, b, i, first, &o->parts[i]));
    }
}

static int read_delta(struct offer *o, int fd, const struct offer_target *t, const struct bases *b,
                      struct err *err)
{
    unsigned char head[DELTA_HEAD_BYTES];
    size_t leaves;
    int r;

    if (o->bytes < sizeof(head))
        return err_set(err, ERR_INVALID, "a delta of %llu bytes", (unsigned long long)o->bytes);
    r = fd_read_at(fd, head, sizeof(head), 0, err);
    if (r < 0)
        return r;
    leaves = leaves_of(delta_header_bytes(head));
    if (leaves > o->head_leaves && leaves <= leaves_of(o->bytes)) {
        o->head_leaves = leaves;
        return 1;
    }
    o->from = o->given != NULL ? o->given : bases_manifest(b, &o->base);
    if (o->from == NULL)
        return err_set(err, ERR_INTERNAL, "the manifest of its base has not been given");
    r = delta_read(&o->delta, read_pack, &fd, o->bytes, o->from, &o->base, t->manifest,
                   &t->artifact, err);
    if (r < 0)
        return r;
    find_places(o, b);
    o->parts = mem_calloc(t->manifest->nsegments + 1, sizeof(*o->parts));
    look_at_all(o, t, b);
    return 0;
}

/* A malformed pack is one that does not give what the manifest promises. */
static int blame(int r, struct err *err)
{
    if (r != -ERR_INVALID && r != -ERR_LIMIT)
        return r;
    if (err != NULL)
        err->code = ERR_CORRUPT;
    return -ERR_CORRUPT;
}

int offer_read(struct offer *o, const char *path, const struct offer_target *t,
               const struct bases *b, struct err *err)
{
    int fd = -1, r;

    if (offer_is_ready(o))
        return 0;
    r = file_open_read(&fd, path, err);
    if (r < 0)
        return r;
    bitmap_release(&o->gives);
    bitmap_release(&o->refused);
    bitmap_init(&o->gives, t->manifest->nsegments);
    bitmap_init(&o->refused, t->manifest->nsegments);
    r = o->kind == PACK_DELTA ? read_delta(o, fd, t, b, err) : read_full(o, fd, t, err);
    close(fd);
    return blame(r, err);
}

/* --- giving --- */

struct giving {
    struct offer *o;
    const struct offer_use *use;
    size_t refused;
    int fd;
    unsigned char *bytes; /* of a segment */
};

static int read_base(void *ctx, size_t entry, void *data, size_t len, uint64_t offset,
                     struct err *err)
{
    const struct giving *g = ctx;

    return bases_read(g->use->bases, g->o->places[entry], data, len, offset, err);
}

/* Of a delta: a segment that it does not give only stays needed. */
static int decode_delta(struct giving *g, struct delta_decoder *decoder, size_t i)
{
    struct err why = ERR_INIT;
    int r = delta_read_segment(decoder, i, g->bytes, &why);

    if (r < 0) {
        if (g->refused++ == 0)
            log_info("the delta does not give segment %zu: %s", i, why.text);
        bitmap_put(&g->o->gives, i, false);
        bitmap_put(&g->o->refused, i, true);
    }
    return r;
}

static bool is_wanted(const struct giving *g, size_t i)
{
    return unpack_needed(g->use->unpack, i) && bitmap_get(g->use->take, i);
}

static int write_segment(struct giving *g, size_t i, struct err *err)
{
    return unpack_checked(g->use->unpack, i, g->bytes,
                          manifest_segment_bytes(g->use->target->manifest, i), err);
}

static int give_one(struct giving *g, struct delta_decoder *delta, struct full_decoder *full,
                    size_t i, struct err *err)
{
    int r;

    if (delta != NULL)
        return decode_delta(g, delta, i) < 0 ? 0 : write_segment(g, i, err);
    r = full_read_segment(full, g->o->full, g->use->target->manifest, i, read_pack, &g->fd,
                          g->bytes, err);
    return r < 0 ? r : write_segment(g, i, err);
}

static int give_all(struct giving *g, struct delta_decoder *delta, struct full_decoder *full,
                    struct err *err)
{
    const struct manifest *m = g->use->target->manifest;
    int r = 0;

    for (size_t i = 0; r == 0 && i < m->nsegments; i++) {
        if (!is_wanted(g, i))
            continue;
        if (atomic_load(g->use->cancelled))
            return err_set(err, ERR_CANCELLED, "another release is wanted");
        atomic_fetch_add(g->use->done_bytes, manifest_segment_bytes(m, i));
        r = give_one(g, delta, full, i, err);
    }
    return r;
}

static int give(struct giving *g, struct err *err)
{
    struct delta_files files = { read_base, g };
    struct delta_decoder_options o = { g->o->delta, g->o->from, g->use->target->manifest,
                                       &files,      read_pack,  &g->fd };
    struct delta_decoder *delta = g->o->delta == NULL ? NULL : delta_decoder_new(&o);
    struct full_decoder *full = delta != NULL ? NULL : full_decoder_new();
    int r;

    g->bytes = mem_alloc(SEGMENT_BYTES);
    r = give_all(g, delta, full, err);
    free(g->bytes);
    delta_decoder_free(delta);
    full_decoder_free(full);
    return blame(r, err);
}

int offer_apply(struct offer *o, const char *path, const struct offer_use *use, size_t *ret_refused,
                struct err *err)
{
    struct giving g = { .o = o, .use = use, .fd = -1 };
    int r = file_open_read(&g.fd, path, err);

    if (r < 0)
        return r;
    r = give(&g, err);
    close(g.fd);
    *ret_refused += g.refused;
    return r;
}

void offer_forgive(struct offer *o)
{
    for (size_t i = 0; i < o->refused.bits; i++) {
        if (bitmap_put(&o->refused, i, false))
            bitmap_put(&o->gives, i, true);
    }
}
