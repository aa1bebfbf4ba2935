#include "delta/decode.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum { WINDOW_LOG = 24, FILE_NONE = -1 };

struct delta_decoder {
    struct delta_decoder_options o;
    struct group *open; /* the last group that was needed */
    struct coder *coder;
    struct group_scratch scratch;
    ZSTD_DCtx *zstd;
    unsigned char *payload;
    unsigned char *streams;
    bool words; /* of the segment */
    size_t streams_cap;
    uint32_t *by_digest; /* the base's files, sorted by digest */
    size_t nfiles;
};

static void sort_files(struct delta_decoder *d);

static size_t longest_payload(const struct delta *d)
{
    size_t most = 0;

    for (size_t i = 0; i < d->nsegments; i++) {
        if (d->segments[i].encoding != SEGMENT_STORED && d->segments[i].length > most)
            most = d->segments[i].length;
    }
    return most;
}

struct delta_decoder *delta_decoder_new(const struct delta_decoder_options *options)
{
    struct delta_decoder *d = mem_alloc(sizeof(*d));

    d->o = *options;
    d->coder = coder_new();
    group_scratch_init(&d->scratch);
    d->zstd = ZSTD_createDCtx();
    if (d->zstd == NULL ||
        ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, WINDOW_LOG)))
        abort();
    d->payload = mem_alloc(longest_payload(options->delta) + 1);
    sort_files(d);
    return d;
}

void delta_decoder_free(struct delta_decoder *d)
{
    if (d == NULL)
        return;
    group_close(d->open);
    coder_free(d->coder);
    group_scratch_release(&d->scratch);
    ZSTD_freeDCtx(d->zstd);
    free(d->payload);
    free(d->streams);
    free(d->by_digest);
    free(d);
}

static int compare_files(const void *a, const void *b, void *manifest)
{
    const struct manifest *m = manifest;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int r = hash_compare(&m->entries[x].hash, &m->entries[y].hash);

    return r != 0 ? r : x < y ? -1 : x > y;
}

static void sort_files(struct delta_decoder *d)
{
    const struct manifest *m = d->o.base;
    union {
        const struct manifest *in;
        void *out;
    } pass = { m };

    d->by_digest = mem_calloc(m->nentries + 1, sizeof(*d->by_digest));
    for (size_t i = 0; i < m->nentries; i++) {
        if (m->entries[i].kind == ENTRY_FILE && m->entries[i].size > 0)
            d->by_digest[d->nfiles++] = (uint32_t)i;
    }
    qsort_r(d->by_digest, d->nfiles, sizeof(*d->by_digest), compare_files, pass.out);
}

/* The base's file with this content, or FILE_NONE. */
static int64_t find_file(const struct delta_decoder *d, const struct hash *digest)
{
    const struct manifest *m = d->o.base;
    size_t low = 0, high = d->nfiles;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (hash_compare(&m->entries[d->by_digest[middle]].hash, digest) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < d->nfiles && hash_equal(&m->entries[d->by_digest[low]].hash, digest))
        return d->by_digest[low];
    return FILE_NONE;
}

/* [from, to) of the stream, which lies in no group: content that the base has too. out: NULL if it is
 * only to be there. */
static int copy_files(struct delta_decoder *d, size_t segment, uint64_t from, uint64_t to,
                      unsigned char *out, struct err *err)
{
    const struct manifest *m = d->o.target;
    uint64_t start = (uint64_t)segment * SEGMENT_BYTES;

    for (size_t k = manifest_first_file(m, segment); k < m->nentries; k++) {
        const struct entry *e = &m->entries[k];
        uint64_t begin = e->offset > from ? e->offset : from;
        uint64_t end = e->offset + e->size < to ? e->offset + e->size : to;
        int64_t file;
        int r;

        if (e->offset >= to)
            break;
        if (e->kind != ENTRY_FILE || begin >= end)
            continue;
        file = find_file(d, &e->hash);
        if (file == FILE_NONE || d->o.base->entries[file].size != e->size)
            return err_set(err, ERR_NOT_FOUND, "%s: the base has no such file", e->path);
        r = out == NULL ? 0
                        : d->o.files->read(d->o.files->ctx, (size_t)file, out + (begin - start),
                                           (size_t)(end - begin), begin - e->offset, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Exactly one frame of raw bytes, without dictionary. */
static int unzip(struct delta_decoder *d, const unsigned char *frame, size_t len,
                 unsigned char *out, size_t raw, struct err *err)
{
    if (ZSTD_getFrameContentSize(frame, len) != raw || ZSTD_getDictID_fromFrame(frame, len) != 0 ||
        ZSTD_findFrameCompressedSize(frame, len) != len)
        return err_set(err, ERR_CORRUPT, "not a frame of %zu bytes", raw);
    if (ZSTD_decompressDCtx(d->zstd, out, raw, frame, len) != raw)
        return err_set(err, ERR_CORRUPT, "a frame does not decompress");
    return 0;
}

static int read_covers(struct delta_decoder *d, struct group *g, struct err *err)
{
    const struct delta_group *x = g->g;
    unsigned char *frame, *raw;
    struct cover *covers = NULL;
    int r;

    if (x->ncovers == 0) {
        group_take_covers(g, NULL, 0);
        return 0;
    }
    if (ZSTD_compressBound(x->covers_raw) < x->covers_length)
        return err_set(err, ERR_CORRUPT, "a frame of %u bytes for %u", x->covers_length,
                       x->covers_raw);
    frame = mem_alloc(x->covers_length);
    raw = mem_alloc((size_t)x->covers_raw + 1);
    r = d->o.read(d->o.ctx, frame, x->covers_length, x->covers_offset, err);
    if (r == 0)
        r = unzip(d, frame, x->covers_length, raw, x->covers_raw, err);
    free(frame);
    if (r == 0)
        r = delta_covers_parse(&covers, raw, x->covers_raw, x->ncovers, x->length,
                               group_source_bytes(g), err);
    free(raw);
    if (r == 0)
        group_take_covers(g, covers, x->ncovers);
    return r;
}

static int open_group(struct delta_decoder *d, struct delta_group *x, struct err *err)
{
    struct group *g = NULL;
    int r;

    if (d->open != NULL && d->open->g == x)
        return 0;
    group_close(d->open);
    d->open = NULL;
    r = group_open(&g, x, d->o.base, d->o.files, err);
    if (r == 0)
        r = read_covers(d, g, err);
    if (r < 0) {
        group_close(g);
        return err_wrap(err, "a group's covers");
    }
    d->open = g;
    return 0;
}

/* The streams of a payload, decompressed into d->streams. */
static int open_streams(struct delta_decoder *d, size_t len, struct varints streams[STREAMS],
                        struct err *err)
{
    struct varints in = { d->payload, d->payload + len };
    uint64_t raw[STREAMS], zipped[STREAMS], total = 0;
    unsigned char *out;

    if (in.at == in.end || *in.at > DELTA_WORDS)
        return err_set(err, ERR_CORRUPT, "its flags are malformed");
    d->words = *in.at++ == DELTA_WORDS;
    for (int i = 0; i < STREAMS; i++) {
        if (!varint_get(&in, &raw[i]) || !varint_get(&in, &zipped[i]) ||
            raw[i] > DELTA_STREAMS_MAX || zipped[i] > SEGMENT_BYTES)
            return err_set(err, ERR_CORRUPT, "its streams' lengths are malformed");
        total += raw[i];
    }
    if (total > DELTA_STREAMS_MAX)
        return err_set(err, ERR_CORRUPT, "streams of %llu bytes", (unsigned long long)total);
    if (total > d->streams_cap || d->streams == NULL) {
        free(d->streams);
        d->streams_cap = (size_t)total;
        d->streams = mem_alloc(d->streams_cap + 1);
    }
    out = d->streams;
    for (int i = 0; i < STREAMS; i++) {
        size_t take = (size_t)(zipped[i] == 0 ? raw[i] : zipped[i]);

        if (take > (size_t)(in.end - in.at))
            return err_set(err, ERR_CORRUPT, "its streams end behind it");
        if (zipped[i] == 0)
            memcpy(out, in.at, take);
        else if (unzip(d, in.at, take, out, (size_t)raw[i], err) < 0)
            return -(int)ERR_CORRUPT;
        in.at += take;
        streams[i] = (struct varints){ out, out + raw[i] };
        out += raw[i];
    }
    return in.at == in.end ? 0 : err_set(err, ERR_CORRUPT, "bytes behind its streams");
}

/* The first group that ends behind `at`. */
static size_t first_group(const struct delta *d, uint64_t at)
{
    size_t low = 0, high = d->ngroups;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (d->groups[middle].begin + d->groups[middle].length <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Groups, and copies of files between them. */
static int assemble(struct delta_decoder *d, size_t i, unsigned char *out, struct err *err)
{
    struct delta *x = d->o.delta;
    uint64_t start = (uint64_t)i * SEGMENT_BYTES, at = start;
    uint64_t end = start + manifest_segment_bytes(d->o.target, i);
    bool coded = x->segments[i].encoding == SEGMENT_DELTA;
    int r = 0;

    for (size_t k = first_group(x, start); r == 0 && at < end; k++) {
        struct delta_group *g = k < x->ngroups ? &x->groups[k] : NULL;
        uint64_t next = g == NULL || g->begin > end ? end : g->begin;
        uint64_t to;

        if (next > at) {
            r = copy_files(d, i, at, next, out, err);
            at = next;
        }
        if (r < 0 || at == end)
            break;
        if (!coded)
            return err_set(err, ERR_CORRUPT, "a copy that has a group in it");
        to = g->begin + g->length < end ? g->begin + g->length : end;
        r = open_group(d, g, err);
        if (r == 0)
            r = group_code(d->open, d->coder, &d->scratch, at - g->begin, to - g->begin, d->words,
                           out + (at - start), err);
        at = to;
    }
    return r < 0 || !coded ? r : coder_end(d->coder, err);
}

static int decode(struct delta_decoder *d, size_t i, unsigned char *out, struct err *err)
{
    const struct delta_segment *s = &d->o.delta->segments[i];
    struct varints streams[STREAMS];
    size_t raw = manifest_segment_bytes(d->o.target, i);
    int r;

    if (s->encoding == SEGMENT_STORED)
        return d->o.read(d->o.ctx, out, raw, s->offset, err);
    if (s->encoding != SEGMENT_COPY) {
        r = d->o.read(d->o.ctx, d->payload, s->length, s->offset, err);
        if (r < 0)
            return r;
    }
    if (s->encoding == SEGMENT_ZSTD)
        return unzip(d, d->payload, s->length, out, raw, err);
    if (s->encoding == SEGMENT_DELTA) {
        r = open_streams(d, s->length, streams, err);
        if (r < 0)
            return r;
        coder_read(d->coder, streams);
    }
    return assemble(d, i, out, err);
}

int delta_read_segment(struct delta_decoder *d, size_t i, unsigned char *out, struct err *err)
{
    size_t raw = manifest_segment_bytes(d->o.target, i);
    struct hash h;
    int r = decode(d, i, out, err);

    if (r == 0) {
        h = merkle_segment(out, raw);
        if (!hash_equal(&h, &d->o.target->segments[i]))
            r = err_set(err, ERR_CORRUPT, "its digest is not the manifest's");
    }
    if (r == 0)
        return 0;
    memset(out, 0, raw); /* nobody can use what nobody vouches for */
    return err_wrap(err, "segment %zu", i);
}

int delta_check_copy(struct delta_decoder *d, size_t i, struct err *err)
{
    if (d->o.delta->segments[i].encoding != SEGMENT_COPY)
        return err_set(err, ERR_INVALID, "segment %zu is no copy", i);
    return assemble(d, i, NULL, err) < 0 ? err_wrap(err, "segment %zu", i) : 0;
}
