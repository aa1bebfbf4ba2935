#include "delta/delta.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum { COVER_BYTES_MAX = 5 + 5 + 10, TABLE_LEVEL = 19 };

static void put_u32(struct buf *out, size_t v)
{
    for (int i = 0; i < 4; i++)
        buf_char(out, (char)(unsigned char)(v >> (8 * i)));
}

static uint32_t u32(const unsigned char *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void put_segments(struct buf *out, const struct delta *d)
{
    for (size_t i = 0; i < d->nsegments;) {
        unsigned encoding = d->segments[i].encoding;
        size_t end = i;

        while (end < d->nsegments && d->segments[end].encoding == encoding)
            end++;
        varint_put(out, end - i);
        buf_char(out, (char)encoding);
        for (; i < end; i++) {
            if (encoding != SEGMENT_COPY)
                varint_put(out, d->segments[i].length);
        }
    }
}

static void put_layout(struct buf *out, const struct elf *e)
{
    varint_put(out, e->nloads);
    for (size_t i = 0; i < e->nloads; i++) {
        varint_put(out, e->loads[i].offset);
        varint_put(out, e->loads[i].address);
        varint_put(out, e->loads[i].file_bytes);
        varint_put(out, e->loads[i].memory_bytes);
    }
    varint_put(out, e->eh_hdr.from);
}

static void put_groups(struct buf *out, const struct delta *d)
{
    uint64_t end = 0;

    for (size_t i = 0; i < d->ngroups; i++) {
        const struct delta_group *g = &d->groups[i];
        uint32_t next = 0;

        varint_put(out, g->begin - end);
        varint_put(out, g->length);
        buf_char(out, (char)g->flags);
        varint_put(out, g->nsources);
        for (size_t k = 0; k < g->nsources; k++) {
            varint_put(out, fold((int64_t)g->sources[k] - (int64_t)next));
            next = g->sources[k] + 1;
        }
        varint_put(out, g->ncovers);
        if (g->ncovers > 0) {
            varint_put(out, g->covers_raw);
            varint_put(out, g->covers_length);
        }
        if (g->flags & DELTA_PREDICTED)
            put_layout(out, g->layout);
        end = g->begin + g->length;
    }
}

int delta_encode_table(struct buf *out, const struct delta *d, struct err *err)
{
    AUTO_BUF table = BUF_INIT;
    AUTO_BUF frame = BUF_INIT;
    size_t size;

    put_segments(&table, d);
    put_groups(&table, d);
    if (table.len > DELTA_TABLE_MAX || d->ngroups > DELTA_GROUPS_MAX)
        return err_set(err, ERR_LIMIT, "delta pack: a table of %zu bytes", table.len);
    buf_reset(out);
    buf_str_append(out, "SLP1");
    buf_char(out, PACK_DELTA);
    buf_append(out, d->base.b, HASH_BYTES);
    buf_append(out, d->target.b, HASH_BYTES);
    put_u32(out, d->nsegments);
    put_u32(out, d->ngroups);
    put_u32(out, table.len);
    buf_reserve(&frame, ZSTD_compressBound(table.len));
    size = ZSTD_compress(frame.data, ZSTD_compressBound(table.len), buf_str(&table), table.len,
                         TABLE_LEVEL);
    if (ZSTD_isError(size))
        return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(size));
    put_u32(out, size);
    buf_append(out, frame.data, size);
    return 0;
}

/* The table as it is read. */
struct reading {
    struct delta *d;
    struct varints in;
    const struct manifest *base, *target;
    uint64_t pack_bytes;
    size_t sources; /* of all groups so far */
};

static int malformed(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "delta pack: its table is malformed: %s", what);
}

static bool take(struct reading *r, uint64_t max, uint64_t *ret)
{
    return varint_get(&r->in, ret) && *ret <= max;
}

static bool take_byte(struct reading *r, unsigned *ret)
{
    if (r->in.at == r->in.end)
        return false;
    *ret = *r->in.at++;
    return true;
}

static int take_segment(struct reading *r, size_t i, unsigned encoding, struct err *err)
{
    struct delta_segment *s = &r->d->segments[i];
    size_t raw = manifest_segment_bytes(r->target, i);
    uint64_t length = 0;

    if (encoding != SEGMENT_COPY && !take(r, raw, &length))
        return malformed(err, "a segment's length");
    if ((encoding == SEGMENT_STORED && length != raw) ||
        (encoding != SEGMENT_STORED && encoding != SEGMENT_COPY && (length == 0 || length >= raw)))
        return malformed(err, "a segment's length");
    s->encoding = encoding;
    s->length = (uint32_t)length;
    return 0;
}

static int take_segments(struct reading *r, struct err *err)
{
    size_t n = r->d->nsegments;

    for (size_t i = 0; i < n;) {
        uint64_t count = 0;
        unsigned encoding = 0;

        if (!take(r, n - i, &count) || count == 0 || !take_byte(r, &encoding) || encoding < 1 ||
            encoding > SEGMENT_COPY)
            return malformed(err, "a run of segments");
        for (size_t end = i + (size_t)count; i < end; i++) {
            if (take_segment(r, i, encoding, err) < 0)
                return -(int)ERR_INVALID;
        }
    }
    return 0;
}

static int take_layout(struct reading *r, struct delta_group *g, struct err *err)
{
    uint64_t loads = 0, limit = (uint64_t)1 << 62;

    if (!take(r, ELF_LOADS_MAX, &loads))
        return malformed(err, "loads");
    g->layout = mem_alloc(sizeof(*g->layout));
    for (size_t i = 0; i < loads; i++) {
        struct elf_load *l = &g->layout->loads[i];

        if (!take(r, limit, &l->offset) || !take(r, limit, &l->address) ||
            !take(r, limit, &l->file_bytes) || !take(r, limit, &l->memory_bytes))
            return malformed(err, "loads");
    }
    g->layout->nloads = (size_t)loads;
    if (!take(r, limit, &g->layout->eh_hdr.from))
        return malformed(err, "loads");
    return 0;
}

/* Without the base's manifest nobody can tell. */
static bool is_file(const struct manifest *base, size_t entry)
{
    return base == NULL || (entry < base->nentries && base->entries[entry].kind == ENTRY_FILE);
}

static int take_sources(struct reading *r, struct delta_group *g, struct err *err)
{
    uint64_t count = 0, folded = 0;
    int64_t at = 0;

    if (!take(r, DELTA_SOURCES_MAX - r->sources, &count) ||
        count > (uint64_t)(r->in.end - r->in.at))
        return malformed(err, "a group's sources");
    r->sources += (size_t)count;
    g->sources = mem_calloc((size_t)count + 1, sizeof(*g->sources));
    for (; g->nsources < count; g->nsources++) {
        if (!take(r, (uint64_t)1 << 32, &folded))
            return malformed(err, "a group's sources");
        at += unfold(folded);
        if (at < 0 || at > UINT32_MAX || !is_file(r->base, (size_t)at))
            return malformed(err, "a source that is no file of the base");
        g->sources[g->nsources] = (uint32_t)at++;
    }
    return 0;
}

uint64_t delta_source_bytes(const struct delta_group *g, const struct manifest *base)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < g->nsources; i++)
        bytes += base->entries[g->sources[i]].size;
    return bytes;
}

/* Is the group exactly one file of the target? */
static bool is_one_file(const struct manifest *m, const struct delta_group *g)
{
    size_t low = 0, high = m->nentries;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (m->entries[middle].offset + m->entries[middle].size <= g->begin)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->nentries && m->entries[low].offset == g->begin &&
           m->entries[low].size == g->length;
}

static int take_group(struct reading *r, struct delta_group *g, uint64_t end, struct err *err)
{
    uint64_t left = r->target->stream_bytes - end, value = 0;

    if (!take(r, left, &value))
        return malformed(err, "a group's begin");
    g->begin = end + value;
    if (!take(r, left - value, &g->length) || g->length == 0 || g->length > DELTA_GROUP_BYTES_MAX ||
        !take_byte(r, &g->flags) || g->flags > DELTA_PREDICTED)
        return malformed(err, "a group's length or flags");
    if (take_sources(r, g, err) < 0)
        return -(int)ERR_INVALID;
    if (!take(r, DELTA_COVERS_MAX, &value))
        return malformed(err, "a group's covers");
    g->ncovers = (size_t)value;
    if (g->ncovers > 0) {
        if (!take(r, g->ncovers * COVER_BYTES_MAX, &value))
            return malformed(err, "a group's covers");
        g->covers_raw = (uint32_t)value;
        if (!take(r, r->pack_bytes, &value) || value == 0 || value > UINT32_MAX / 2)
            return malformed(err, "a group's covers");
        g->covers_length = (uint32_t)value;
    }
    if (g->flags != 0 && (g->nsources != 1 || !is_one_file(r->target, g)))
        return malformed(err, "a predicted group that is not one file");
    return g->flags & DELTA_PREDICTED ? take_layout(r, g, err) : 0;
}

static int place_payloads(struct reading *r, uint64_t at, struct err *err)
{
    struct delta *d = r->d;
    size_t k = 0;

    for (size_t i = 0; i < d->nsegments; i++) {
        uint64_t end = (uint64_t)i * SEGMENT_BYTES + manifest_segment_bytes(r->target, i);

        for (; k < d->ngroups && d->groups[k].begin < end; k++) {
            d->groups[k].covers_offset = at;
            at += d->groups[k].covers_length;
        }
        d->segments[i].offset = at;
        at += d->segments[i].length;
    }
    if (at != r->pack_bytes)
        return err_set(err, ERR_INVALID, "delta pack: %llu bytes, its payloads end at %llu",
                       (unsigned long long)r->pack_bytes, (unsigned long long)at);
    return 0;
}

static int take_table(struct reading *r, size_t ngroups, struct err *err)
{
    struct delta *d = r->d;
    uint64_t end = 0;
    int status = take_segments(r, err);

    if (status == 0 && ngroups > (size_t)(r->in.end - r->in.at))
        status = malformed(err, "more groups than bytes");
    if (status < 0)
        return status;
    d->groups = mem_calloc(ngroups + 1, sizeof(*d->groups));
    while (status == 0 && d->ngroups < ngroups) {
        struct delta_group *g = &d->groups[d->ngroups++];

        status = take_group(r, g, end, err);
        end = g->begin + g->length;
    }
    if (status == 0 && r->in.at != r->in.end)
        status = malformed(err, "bytes left over");
    return status;
}

uint64_t delta_header_bytes(const unsigned char head[DELTA_HEAD_BYTES])
{
    return DELTA_HEAD_BYTES + (uint64_t)u32(head + DELTA_HEAD_BYTES - 4);
}

static int check_head(const unsigned char *b, const struct hash *base, const struct hash *target,
                      const struct manifest *m, uint64_t pack_bytes, struct err *err)
{
    const unsigned char *numbers = b + 5 + 2 * HASH_BYTES;

    if (memcmp(b, "SLP1", 4) != 0)
        return err_set(err, ERR_INVALID, "delta pack: does not begin with SLP1");
    if (b[4] != PACK_DELTA)
        return err_set(err, ERR_INVALID, "delta pack: is of kind %u", b[4]);
    if (memcmp(b + 5, base->b, HASH_BYTES) != 0)
        return err_set(err, ERR_INVALID, "delta pack: is for another base");
    if (memcmp(b + 5 + HASH_BYTES, target->b, HASH_BYTES) != 0)
        return err_set(err, ERR_INVALID, "delta pack: is of another artifact");
    if (u32(numbers) != m->nsegments)
        return err_set(err, ERR_INVALID, "delta pack: %u segments, the artifact has %zu",
                       u32(numbers), m->nsegments);
    if (m->nsegments > FULL_SEGMENTS_MAX || u32(numbers + 4) > DELTA_GROUPS_MAX ||
        u32(numbers + 8) > DELTA_TABLE_MAX)
        return err_set(err, ERR_LIMIT, "delta pack: %zu segments, %u groups, a table of %u bytes",
                       m->nsegments, u32(numbers + 4), u32(numbers + 8));
    if (u32(numbers + 12) > pack_bytes - DELTA_HEAD_BYTES ||
        u32(numbers + 12) > ZSTD_compressBound(DELTA_TABLE_MAX))
        return err_set(err, ERR_INVALID, "delta pack: its table ends behind it");
    return 0;
}

/* Gives the table's bytes. */
static int read_table(const unsigned char *head, pack_read_at read, void *ctx, unsigned char **ret,
                      struct err *err)
{
    size_t raw = u32(head + 5 + 2 * HASH_BYTES + 8), len = u32(head + 5 + 2 * HASH_BYTES + 12);
    unsigned char *frame = mem_alloc(len + 1), *table;
    int r = read(ctx, frame, len, DELTA_HEAD_BYTES, err);

    if (r == 0 && (ZSTD_getFrameContentSize(frame, len) != raw ||
                   ZSTD_findFrameCompressedSize(frame, len) != len))
        r = err_set(err, ERR_INVALID, "delta pack: its table is not a frame of %zu bytes", raw);
    if (r < 0) {
        free(frame);
        return r;
    }
    table = mem_alloc(raw + 1);
    if (ZSTD_decompress(table, raw, frame, len) != raw)
        r = err_set(err, ERR_INVALID, "delta pack: its table does not decompress");
    free(frame);
    if (r < 0)
        free(table);
    else
        *ret = table;
    return r;
}

int delta_read(struct delta **ret, pack_read_at read, void *ctx, uint64_t pack_bytes,
               const struct manifest *base, const struct hash *base_id,
               const struct manifest *target, const struct hash *target_id, struct err *err)
{
    struct reading r = { .base = base, .target = target, .pack_bytes = pack_bytes };
    const unsigned char *numbers;
    unsigned char head[DELTA_HEAD_BYTES], *table = NULL;
    int status;

    if (pack_bytes < DELTA_HEAD_BYTES)
        return err_set(err, ERR_INVALID, "delta pack: ends after %llu bytes",
                       (unsigned long long)pack_bytes);
    status = read(ctx, head, sizeof(head), 0, err);
    if (status == 0)
        status = check_head(head, base_id, target_id, target, pack_bytes, err);
    if (status == 0)
        status = read_table(head, read, ctx, &table, err);
    if (status < 0)
        return status;
    numbers = head + 5 + 2 * HASH_BYTES;
    r.in = (struct varints){ table, table + u32(numbers + 8) };
    r.d = mem_alloc(sizeof(*r.d));
    r.d->base = *base_id;
    r.d->target = *target_id;
    r.d->nsegments = target->nsegments;
    r.d->segments = mem_calloc(r.d->nsegments + 1, sizeof(*r.d->segments));
    status = take_table(&r, u32(numbers + 4), err);
    if (status == 0)
        status = place_payloads(&r, DELTA_HEAD_BYTES + (uint64_t)u32(numbers + 12), err);
    free(table);
    if (status < 0)
        delta_free(r.d);
    else
        *ret = r.d;
    return status;
}

void delta_free(struct delta *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->ngroups; i++) {
        free(d->groups[i].sources);
        free(d->groups[i].layout);
    }
    free(d->groups);
    free(d->segments);
    free(d);
}

void delta_covers_encode(struct buf *out, const struct cover *covers, size_t count)
{
    uint64_t t = 0, s = 0;

    for (size_t i = 0; i < count; i++) {
        varint_put(out, covers[i].t - t);
        t = covers[i].t + covers[i].length;
    }
    for (size_t i = 0; i < count; i++)
        varint_put(out, covers[i].length);
    for (size_t i = 0; i < count; i++) {
        varint_put(out, fold((int64_t)(covers[i].s - s)));
        s = covers[i].s + covers[i].length;
    }
}

static int check_covers(struct cover *covers, struct varints *in, size_t count,
                        uint64_t target_bytes, uint64_t source_bytes)
{
    uint64_t t = 0, s = 0, value = 0;

    for (size_t i = 0; i < count; i++) {
        if (!varint_get(in, &value) || value > UINT32_MAX)
            return -1;
        covers[i].t = (uint32_t)value;
    }
    for (size_t i = 0; i < count; i++) {
        if (!varint_get(in, &value) || value == 0 || value > UINT32_MAX)
            return -1;
        covers[i].length = (uint32_t)value;
    }
    for (size_t i = 0; i < count; i++) {
        if (!varint_get(in, &value))
            return -1;
        t += covers[i].t;
        s += (uint64_t)unfold(value);
        if (t > target_bytes || covers[i].length > target_bytes - t || s > source_bytes ||
            covers[i].length > source_bytes - s)
            return -1;
        covers[i].t = (uint32_t)t;
        covers[i].s = s;
        t += covers[i].length;
        s += covers[i].length;
    }
    return in->at == in->end ? 0 : -1;
}

int delta_covers_parse(struct cover **ret, const void *data, size_t len, size_t count,
                       uint64_t target_bytes, uint64_t source_bytes, struct err *err)
{
    struct varints in = { data, (const unsigned char *)data + len };
    struct cover *covers;

    if (count > DELTA_COVERS_MAX || count > len)
        return err_set(err, ERR_CORRUPT, "%zu covers in %zu bytes", count, len);
    covers = mem_calloc(count + 1, sizeof(*covers));
    if (check_covers(covers, &in, count, target_bytes, source_bytes) < 0) {
        free(covers);
        return err_set(err, ERR_CORRUPT, "its covers are malformed");
    }
    *ret = covers;
    return 0;
}
