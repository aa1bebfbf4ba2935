#include "delta/full.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum { HEAD_BYTES = 4 + 1 + HASH_BYTES + 4, ROW_BYTES = 1 + 4, WINDOW_LOG = 22 };

static size_t row_at(size_t segment)
{
    return HEAD_BYTES + segment * ROW_BYTES;
}

size_t full_header_bytes(size_t nsegments)
{
    size_t bytes = row_at(nsegments);

    if (nsegments < FULL_ALIGNED_FROM)
        return bytes;
    return (bytes + LEAF_BYTES - 1) / LEAF_BYTES * LEAF_BYTES;
}

bool full_is_aligned_stream(const struct manifest *m, uint64_t pack_bytes)
{
    size_t header = full_header_bytes(m->nsegments);

    return header % LEAF_BYTES == 0 && pack_bytes == header + m->stream_bytes;
}

int full_check_index(const struct manifest *m, const struct pack_index *x, struct err *err)
{
    const struct hash *leaves = x->leaves + full_header_bytes(m->nsegments) / LEAF_BYTES;

    for (size_t i = 0; i < m->nsegments; i++) {
        size_t n = (manifest_segment_bytes(m, i) + LEAF_BYTES - 1) / LEAF_BYTES;
        struct hash h = merkle_segment_of(leaves + i * MERKLE_FANOUT, n);

        if (!hash_equal(&h, &m->segments[i]))
            return err_set(err, ERR_CORRUPT,
                           "segment %zu: what its index says is not what the manifest does", i);
    }
    return 0;
}

static void put_u32(unsigned char *b, size_t v)
{
    for (int i = 0; i < 4; i++)
        b[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t u32(const unsigned char *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

struct full_encoder {
    pack_write_at write;
    void *ctx;
    ZSTD_CCtx *zstd;
    unsigned char *frame; /* room for the longest frame of a segment */
    unsigned char *table; /* header and rows, as they will be written */
    size_t nsegments, done;
    uint64_t at; /* where the next payload goes */
};

static void must(size_t zstd_result)
{
    if (ZSTD_isError(zstd_result))
        abort();
}

int full_encoder_new(struct full_encoder **ret, size_t nsegments, int level, pack_write_at write,
                     void *ctx, struct err *err)
{
    struct full_encoder *e;

    if (nsegments > FULL_SEGMENTS_MAX)
        return err_set(err, ERR_LIMIT, "%zu segments, a pack holds at most %d", nsegments,
                       FULL_SEGMENTS_MAX);
    if (level < FULL_LEVEL_MIN || level > FULL_LEVEL_MAX)
        return err_set(err, ERR_INVALID, "level %d is not in %d..%d", level, FULL_LEVEL_MIN,
                       FULL_LEVEL_MAX);
    e = mem_alloc(sizeof(*e));
    e->write = write;
    e->ctx = ctx;
    e->zstd = ZSTD_createCCtx();
    if (e->zstd == NULL)
        abort();
    must(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, level));
    must(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_windowLog, WINDOW_LOG));
    must(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_contentSizeFlag, 1));
    must(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_checksumFlag, 0));
    e->frame = mem_alloc(ZSTD_compressBound(SEGMENT_BYTES));
    e->table = mem_alloc(full_header_bytes(nsegments));
    e->nsegments = nsegments;
    e->at = full_header_bytes(nsegments);
    *ret = e;
    return 0;
}

int full_encoder_add(struct full_encoder *e, const void *data, size_t len, struct err *err)
{
    unsigned char *row = e->table + row_at(e->done);
    enum segment_encoding encoding = SEGMENT_ZSTD;
    const void *payload = e->frame;
    size_t size;
    int r;

    if (e->done == e->nsegments || len == 0 || len > SEGMENT_BYTES)
        return err_set(err, ERR_INTERNAL, "segment %zu of %zu, of %zu bytes", e->done, e->nsegments,
                       len);
    size = ZSTD_compress2(e->zstd, e->frame, ZSTD_compressBound(SEGMENT_BYTES), data, len);
    if (ZSTD_isError(size))
        return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(size));
    if (size >= len) {
        encoding = SEGMENT_STORED;
        payload = data;
        size = len;
    }
    r = e->write(e->ctx, payload, size, e->at, err);
    if (r < 0)
        return r;
    row[0] = (unsigned char)encoding;
    put_u32(row + 1, size);
    e->at += size;
    e->done++;
    return 0;
}

int full_encoder_finish(struct full_encoder *e, const struct hash *artifact,
                        uint64_t *ret_pack_bytes, struct err *err)
{
    int r;

    if (e->done != e->nsegments)
        return err_set(err, ERR_INTERNAL, "%zu of %zu segments were encoded", e->done,
                       e->nsegments);
    memcpy(e->table, "SLP2", 4);
    e->table[4] = PACK_FULL;
    memcpy(e->table + 5, artifact->b, HASH_BYTES);
    put_u32(e->table + 5 + HASH_BYTES, e->nsegments);
    r = e->write(e->ctx, e->table, full_header_bytes(e->nsegments), 0, err);
    if (r == 0)
        *ret_pack_bytes = e->at;
    return r;
}

void full_encoder_free(struct full_encoder *e)
{
    if (e == NULL)
        return;
    ZSTD_freeCCtx(e->zstd);
    free(e->frame);
    free(e->table);
    free(e);
}

static int parse_row(struct full_segment *s, const unsigned char *row, size_t i, uint64_t offset,
                     uint64_t pack_bytes, const struct manifest *m, struct err *err)
{
    size_t raw = manifest_segment_bytes(m, i);

    s->encoding = (enum segment_encoding)row[0];
    s->length = u32(row + 1);
    s->offset = offset;
    if (s->encoding != SEGMENT_STORED && s->encoding != SEGMENT_ZSTD)
        return err_set(err, ERR_INVALID, "full pack: segment %zu: unknown encoding %u", i, row[0]);
    if (s->encoding == SEGMENT_STORED ? s->length != raw : s->length == 0 || s->length >= raw)
        return err_set(err, ERR_INVALID, "full pack: segment %zu: %u bytes for %zu", i, s->length,
                       raw);
    if (s->length > pack_bytes - offset)
        return err_set(err, ERR_INVALID, "full pack: segment %zu ends behind the pack", i);
    return 0;
}

static int check_head(const unsigned char *b, size_t len, const struct manifest *m,
                      const struct hash *artifact, struct err *err)
{
    if (m->nsegments > FULL_SEGMENTS_MAX)
        return err_set(err, ERR_LIMIT, "full pack: %zu segments, at most %d may be", m->nsegments,
                       FULL_SEGMENTS_MAX);
    if (len < HEAD_BYTES)
        return err_set(err, ERR_INVALID, "full pack: ends after %zu bytes", len);
    if (memcmp(b, "SLP2", 4) != 0)
        return err_set(err, ERR_INVALID, "full pack: does not begin with SLP2");
    if (b[4] != PACK_FULL)
        return err_set(err, ERR_INVALID, "full pack: is of kind %u", b[4]);
    if (memcmp(b + 5, artifact->b, HASH_BYTES) != 0)
        return err_set(err, ERR_INVALID, "full pack: is of another artifact");
    if (u32(b + 5 + HASH_BYTES) != m->nsegments)
        return err_set(err, ERR_INVALID, "full pack: %u segments, the artifact has %zu",
                       u32(b + 5 + HASH_BYTES), m->nsegments);
    if (len != full_header_bytes(m->nsegments))
        return err_set(err, ERR_INVALID, "full pack: table of %zu bytes, needs %zu", len,
                       full_header_bytes(m->nsegments));
    for (size_t i = row_at(m->nsegments); i < len; i++) {
        if (b[i] != 0)
            return err_set(err, ERR_INVALID, "full pack: no zeros behind its table");
    }
    return 0;
}

int full_parse(struct full **ret, const void *data, size_t len, uint64_t pack_bytes,
               const struct manifest *m, const struct hash *artifact, struct err *err)
{
    const unsigned char *b = data;
    uint64_t offset = len;
    struct full *f;
    int r = check_head(b, len, m, artifact, err);

    if (r < 0)
        return r;
    if (pack_bytes < len)
        return err_set(err, ERR_INVALID, "full pack: %llu bytes, its table alone takes %zu",
                       (unsigned long long)pack_bytes, len);
    f = mem_alloc(sizeof(*f));
    f->nsegments = m->nsegments;
    f->segments = mem_calloc(f->nsegments, sizeof(*f->segments));
    for (size_t i = 0; r == 0 && i < f->nsegments; i++) {
        r = parse_row(&f->segments[i], b + row_at(i), i, offset, pack_bytes, m, err);
        offset += f->segments[i].length;
    }
    if (r == 0 && offset != pack_bytes)
        r = err_set(err, ERR_INVALID, "full pack: %llu bytes left over",
                    (unsigned long long)(pack_bytes - offset));
    if (r < 0) {
        full_free(f);
        return r;
    }
    *ret = f;
    return 0;
}

int full_read(struct full **ret, pack_read_at read, void *ctx, uint64_t pack_bytes,
              const struct manifest *m, const struct hash *artifact, struct err *err)
{
    size_t len = full_header_bytes(m->nsegments);
    unsigned char *head;
    int r;

    if (m->nsegments > FULL_SEGMENTS_MAX || pack_bytes < len)
        return err_set(err, ERR_INVALID, "full pack: %llu bytes cannot hold %zu segments",
                       (unsigned long long)pack_bytes, m->nsegments);
    head = mem_alloc(len);
    r = read(ctx, head, len, 0, err);
    if (r == 0)
        r = full_parse(ret, head, len, pack_bytes, m, artifact, err);
    free(head);
    return r;
}

void full_free(struct full *f)
{
    if (f == NULL)
        return;
    free(f->segments);
    free(f);
}

struct full_decoder {
    ZSTD_DCtx *zstd;
    unsigned char *payload;
};

struct full_decoder *full_decoder_new(void)
{
    struct full_decoder *d = mem_alloc(sizeof(*d));

    d->zstd = ZSTD_createDCtx();
    if (d->zstd == NULL)
        abort();
    must(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, WINDOW_LOG));
    d->payload = mem_alloc(SEGMENT_BYTES);
    return d;
}

void full_decoder_free(struct full_decoder *d)
{
    if (d == NULL)
        return;
    ZSTD_freeDCtx(d->zstd);
    free(d->payload);
    free(d);
}

/* Exactly one frame, without dictionary, that states the size we expect. */
static int check_frame(const unsigned char *frame, size_t len, size_t raw, struct err *err)
{
    if (ZSTD_getFrameContentSize(frame, len) != raw)
        return err_set(err, ERR_CORRUPT, "its frame is not of %zu bytes", raw);
    if (ZSTD_getDictID_fromFrame(frame, len) != 0)
        return err_set(err, ERR_CORRUPT, "its frame wants a dictionary");
    if (ZSTD_findFrameCompressedSize(frame, len) != len)
        return err_set(err, ERR_CORRUPT, "its payload is not one frame");
    return 0;
}

static int decode(struct full_decoder *d, const struct full_segment *s, size_t raw,
                  pack_read_at read, void *ctx, unsigned char *out, struct err *err)
{
    size_t got;
    int r;

    if (s->encoding == SEGMENT_STORED)
        return read(ctx, out, raw, s->offset, err);
    r = read(ctx, d->payload, s->length, s->offset, err);
    if (r == 0)
        r = check_frame(d->payload, s->length, raw, err);
    if (r < 0)
        return r;
    got = ZSTD_decompressDCtx(d->zstd, out, raw, d->payload, s->length);
    if (ZSTD_isError(got))
        return err_set(err, ERR_CORRUPT, "zstd: %s", ZSTD_getErrorName(got));
    if (got != raw)
        return err_set(err, ERR_CORRUPT, "decodes to %zu of %zu bytes", got, raw);
    return 0;
}

int full_read_segment(struct full_decoder *d, const struct full *f, const struct manifest *m,
                      size_t i, pack_read_at read, void *ctx, unsigned char *out, struct err *err)
{
    size_t raw = manifest_segment_bytes(m, i);
    struct hash h;

    if (decode(d, &f->segments[i], raw, read, ctx, out, err) < 0)
        return err_wrap(err, "segment %zu", i);
    h = merkle_segment(out, raw);
    if (hash_equal(&h, &m->segments[i]))
        return 0;
    memset(out, 0, raw); /* nobody can use what nobody vouches for */
    return err_set(err, ERR_CORRUPT, "segment %zu: its digest is not the manifest's", i);
}

void full_segment_leaves(const struct full *f, size_t i, uint32_t *ret_first, uint32_t *ret_count)
{
    const struct full_segment *s = &f->segments[i];
    uint64_t first = s->offset / LEAF_BYTES;
    uint64_t last = (s->offset + s->length - 1) / LEAF_BYTES;

    *ret_first = (uint32_t)first;
    *ret_count = (uint32_t)(last - first + 1);
}
