#include "delta/encode.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum { SMALL_STREAM = 24, FULL_FROM = 4, SMALL_GROUP = 8 << 20, BATCH_A_WORKER = 2, BOTH_FROM = 6 };

/* What one thread needs. */
struct worker {
    struct coder *coder;
    struct group_scratch scratch;
    ZSTD_CCtx *zstd;
    unsigned char *target;
    struct buf streams[STREAMS];
    struct buf zipped;
    struct buf literal; /* the frame of this segment's literals, once it is made */
};

/* One segment of a batch. */
struct job {
    struct buf payload;
    unsigned encoding;
    uint64_t stream_bytes[STREAMS], literal_bytes;
    uint64_t raw_bytes; /* of the streams together */
    int status;
    struct err err;
};

struct encoder {
    const struct delta_encode_options *o;
    struct delta *d;
    struct worker *workers;
    struct job *jobs;
    size_t first, count;    /* of the segments in the batch */
    struct group **open;    /* by group; NULL: not at work */
    size_t opened, closed;  /* groups before have been */
    size_t emitted;         /* covers of groups before have been */
    int64_t shift;          /* base position - target position at the end of ... */
    size_t shift_of;        /* ... this group; SIZE_MAX: none */
    struct sites **layouts; /* of predicted groups' target files, while they are matched */
    size_t small_from;      /* the first group of a run of small ones, ... */
    int *small_status;      /* ... and what became of each */
    struct err *small_err;
    struct delta_stats *stats;
    struct costs *costs;
};

/* Streams are a few per cent of what they tell: they may cost more. */
static int stream_level(int level)
{
    static const int levels[] = { 0, 1, 3, 6, 8, 10, 12, 14, 16, 18 };

    return level <= 9 ? levels[level] : 19;
}

static void worker_init(struct worker *w)
{
    w->coder = coder_new();
    group_scratch_init(&w->scratch);
    w->zstd = ZSTD_createCCtx();
    if (w->zstd == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_windowLog, 22)))
        abort();
    w->target = mem_alloc(SEGMENT_BYTES);
}

static void worker_release(struct worker *w)
{
    coder_free(w->coder);
    group_scratch_release(&w->scratch);
    ZSTD_freeCCtx(w->zstd);
    free(w->target);
    for (int i = 0; i < STREAMS; i++)
        buf_release(&w->streams[i]);
    buf_release(&w->zipped);
    buf_release(&w->literal);
}

/* Replaces out's bytes by a frame of data. */
static int zip(ZSTD_CCtx *zstd, int level, const void *data, size_t len, struct buf *out,
               struct err *err)
{
    size_t size = ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);

    buf_reset(out);
    buf_reserve(out, ZSTD_compressBound(len));
    if (!ZSTD_isError(size))
        size = ZSTD_compress2(zstd, out->data, ZSTD_compressBound(len), data, len);
    if (ZSTD_isError(size))
        return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(size));
    out->len = size;
    return 0;
}

/* The file that lies at this place of the target's stream. */
static size_t file_at(const struct manifest *m, uint64_t at)
{
    size_t k = manifest_first_file(m, (size_t)(at / SEGMENT_BYTES));

    while (m->entries[k].offset + m->entries[k].size <= at)
        k++;
    return k;
}

struct file {
    const struct delta_files *files;
    size_t entry;
};

static int read_file(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct file *f = ctx;

    return f->files->read(f->files->ctx, f->entry, data, len, offset, err);
}

/* Two ELF files of one machine with as many loads. A file that cannot be read is found out later. */
static bool is_code(void *ctx, size_t target, size_t base)
{
    const struct encoder *e = ctx;
    struct file t = { e->o->target_files, target }, b = { e->o->base_files, base };
    struct elf x, y;

    return elf_parse(&x, e->o->target->entries[target].size, read_file, &t, NULL) == 0 &&
           elf_parse(&y, e->o->base->entries[base].size, read_file, &b, NULL) == 0 &&
           x.machine != 0 && x.machine == y.machine && x.nloads > 0 && x.nloads == y.nloads;
}

/* Flags and layout of a group, if it is one whole file of code. */
static int describe(struct encoder *e, size_t k, struct err *err)
{
    struct delta_group *g = &e->d->groups[k];
    size_t entry = file_at(e->o->target, g->begin);
    const struct entry *x = &e->o->target->entries[entry];
    struct file t = { e->o->target_files, entry };
    int r;

    if (g->nsources != 1 || x->offset != g->begin || x->size != g->length || x->size < PLAN_SMALL ||
        !is_code(e, entry, g->sources[0]))
        return 0;
    r = sites_open(&e->layouts[k], x->size, read_file, &t, err);
    if (r < 0)
        return r;
    g->flags = DELTA_PREDICTED;
    g->layout = mem_dup(sites_elf(e->layouts[k]), sizeof(*g->layout));
    return 0;
}

/* A part of a large file begins in the base where the part before it ended. */
static bool goes_on(const struct encoder *e, size_t k)
{
    const struct delta_group *g = &e->d->groups[k], *before = g - 1;

    return k > 0 && e->shift_of == k - 1 && before->begin + before->length == g->begin &&
           before->nsources == 1 && g->nsources == 1 && before->sources[0] == g->sources[0] &&
           file_at(e->o->target, before->begin) == file_at(e->o->target, g->begin);
}

/* Matches group k and compresses its covers into the group's `covers`. */
static int match_group(struct encoder *e, size_t k, const struct delta_pool *pool,
                       int64_t *ret_shift, struct err *err)
{
    struct delta_group *g = &e->d->groups[k];
    struct search_target t = { e->o->target, e->o->target_files, NULL };
    int64_t hint = goes_on(e, k) ? e->shift + (int64_t)(g->begin - (g - 1)->begin) : 0;
    int r = describe(e, k, err);

    if (r == 0)
        r = group_open(&e->open[k], g, e->o->base, e->o->base_files, err);
    t.sites = e->layouts[k];
    if (r == 0)
        r = search_group(e->open[k], &t, e->o->level, goes_on(e, k) ? &hint : NULL, ret_shift, pool,
                         err);
    sites_close(e->layouts[k]);
    e->layouts[k] = NULL;
    return r;
}

static void match_job(void *arg, size_t i, unsigned worker)
{
    struct encoder *e = arg;
    size_t k = e->small_from + i;
    int64_t shift;

    (void)worker;
    e->small_status[i] = match_group(e, k, NULL, &shift, &e->small_err[i]);
}

/* Matches the groups [from, e->opened) beside each other. */
static int match_small(struct encoder *e, size_t from, struct err *err)
{
    size_t n = e->opened - from;
    int r = 0;

    e->small_from = from;
    e->small_status = mem_calloc(n, sizeof(*e->small_status));
    e->small_err = mem_calloc(n, sizeof(*e->small_err));
    delta_each(e->o->pool, n, match_job, e);
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = e->small_status[i];
        if (r < 0)
            *err = e->small_err[i];
    }
    free(e->small_status);
    free(e->small_err);
    return r;
}

/* Matches all groups that have bytes before `end`: small ones beside each other, in a large one the
 * pool works on its chunks. */
static int open_groups(struct encoder *e, uint64_t end, struct err *err)
{
    struct delta *d = e->d;
    int r = 0;

    while (r == 0 && e->opened < d->ngroups && d->groups[e->opened].begin < end) {
        size_t from = e->opened;
        int64_t shift = 0;

        while (e->opened < d->ngroups && d->groups[e->opened].begin < end &&
               d->groups[e->opened].length <= SMALL_GROUP)
            e->opened++;
        if (e->opened > from) {
            r = match_small(e, from, err);
        } else {
            r = match_group(e, e->opened++, e->o->pool, &shift, err);
            e->shift = shift;
            e->shift_of = from;
        }
    }
    return r;
}

static void close_groups(struct encoder *e, uint64_t end)
{
    struct delta *d = e->d;

    for (; e->closed < e->opened && d->groups[e->closed].begin + d->groups[e->closed].length <= end;
         e->closed++) {
        group_close(e->open[e->closed]);
        e->open[e->closed] = NULL;
    }
}

static int read_target(struct encoder *e, size_t i, unsigned char *out, struct err *err)
{
    const struct search_target t = { e->o->target, e->o->target_files, NULL };

    return search_read(&t, (uint64_t)i * SEGMENT_BYTES, out,
                       manifest_segment_bytes(e->o->target, i), err);
}

static int code_groups(struct encoder *e, struct worker *w, size_t i, bool words, struct err *err)
{
    const struct delta *d = e->d;
    uint64_t start = (uint64_t)i * SEGMENT_BYTES;
    uint64_t end = start + manifest_segment_bytes(e->o->target, i);
    int r = 0;

    for (int k = 0; k < STREAMS; k++)
        buf_reset(&w->streams[k]);
    coder_write(w->coder, w->streams);
    for (size_t k = e->closed; r == 0 && k < e->opened; k++) {
        const struct delta_group *g = &d->groups[k];
        uint64_t from = g->begin > start ? g->begin : start;
        uint64_t to = g->begin + g->length < end ? g->begin + g->length : end;

        if (from < to)
            r = group_code(e->open[k], w->coder, &w->scratch, from - g->begin, to - g->begin, words,
                           w->target + (from - start), err);
    }
    return r;
}

/* One stream, compressed if that pays, appended to lengths and bodies. */
static int zip_stream(struct worker *w, int level, int k, struct buf *lengths, struct buf *bodies,
                      struct err *err)
{
    const struct buf *s = &w->streams[k];
    struct buf *frame = k == STREAM_LITERAL ? &w->literal : &w->zipped;
    bool zipped = false;

    if (s->len >= SMALL_STREAM) {
        /* Literals are the same whatever the sites are. */
        if ((k != STREAM_LITERAL || frame->len == 0) &&
            zip(w->zstd, level, s->data, s->len, frame, err) < 0)
            return -(int)ERR_INTERNAL;
        zipped = frame->len < s->len;
    }
    varint_put(lengths, s->len);
    varint_put(lengths, zipped ? frame->len : 0);
    buf_append(bodies, zipped ? frame->data : buf_str(s), zipped ? frame->len : s->len);
    return 0;
}

static int zip_streams(struct worker *w, int level, bool words, struct job *j, struct err *err)
{
    AUTO_BUF bodies = BUF_INIT;

    buf_reset(&j->payload);
    buf_char(&j->payload, words ? DELTA_WORDS : 0);
    j->raw_bytes = 0;
    for (int k = 0; k < STREAMS; k++) {
        size_t before = bodies.len;

        if (zip_stream(w, level, k, &j->payload, &bodies, err) < 0)
            return -(int)ERR_INTERNAL;
        j->stream_bytes[k] = bodies.len - before;
        j->raw_bytes += w->streams[k].len;
    }
    buf_append(&j->payload, bodies.data, bodies.len);
    j->literal_bytes = w->streams[STREAM_LITERAL].len;
    j->encoding = SEGMENT_DELTA;
    return 0;
}

/* A frame of its own, or stored, if that is smaller. Not tried where the delta is small. */
static int try_full(struct worker *w, int level, struct job *j, size_t len, struct err *err)
{
    if (j->payload.len < len / FULL_FROM && j->raw_bytes <= DELTA_STREAMS_MAX)
        return 0;
    if (zip(w->zstd, level, w->target, len, &w->zipped, err) < 0)
        return -(int)ERR_INTERNAL;
    if (w->zipped.len < j->payload.len || j->raw_bytes > DELTA_STREAMS_MAX) {
        buf_reset(&j->payload);
        buf_append(&j->payload, w->zipped.data, w->zipped.len);
        j->encoding = SEGMENT_ZSTD;
    }
    if (j->payload.len >= len) {
        buf_reset(&j->payload);
        buf_append(&j->payload, w->target, len);
        j->encoding = SEGMENT_STORED;
    }
    return 0;
}

/* Does the segment hold data of a program, linked to a fixed address? */
static bool is_fixed(const struct encoder *e, size_t i)
{
    uint64_t start = (uint64_t)i * SEGMENT_BYTES, end = start + SEGMENT_BYTES;

    for (size_t k = e->closed; k < e->opened && e->d->groups[k].begin < end; k++) {
        const struct delta_group *g = &e->d->groups[k];

        if (g->begin + g->length > start && g->layout != NULL && g->layout->fixed)
            return true;
    }
    return false;
}

static int code(struct encoder *e, struct worker *w, size_t i, bool words, struct job *j)
{
    int r = code_groups(e, w, i, words, &j->err);

    return r < 0 ? r : zip_streams(w, stream_level(e->o->level), words, j, &j->err);
}

/* With words or without: what linkers for fixed addresses write is mostly the better for it. The
 * higher levels try both. */
static int code_best(struct encoder *e, struct worker *w, size_t i, struct job *j)
{
    bool words = is_fixed(e, i);
    struct job other = { .payload = BUF_INIT };
    int r;

    buf_reset(&w->literal);
    r = code(e, w, i, words, j);
    if (r < 0 || e->o->level < BOTH_FROM)
        return r;
    if (words && w->streams[STREAM_WORD_RUN].len == 0)
        return 0;
    r = code(e, w, i, !words, &other);
    if (r < 0) {
        j->err = other.err;
    } else if (other.payload.len < j->payload.len) {
        struct buf longer = j->payload;

        *j = other;
        other.payload = longer;
    }
    buf_release(&other.payload);
    return r;
}

static void segment_job(void *arg, size_t n, unsigned worker)
{
    struct encoder *e = arg;
    struct worker *w = &e->workers[worker];
    struct job *j = &e->jobs[n];
    size_t i = e->first + n;

    j->encoding = e->d->segments[i].encoding;
    j->status = 0;
    buf_reset(&j->payload);
    if (j->encoding == SEGMENT_COPY)
        return;
    j->status = read_target(e, i, w->target, &j->err);
    if (j->status == 0)
        j->status = code_best(e, w, i, j);
    if (j->status == 0)
        j->status = try_full(w, e->o->level, j, manifest_segment_bytes(e->o->target, i), &j->err);
}

static int emit_covers(struct encoder *e, struct delta_group *g, const struct group *open,
                       struct err *err)
{
    AUTO_BUF raw = BUF_INIT;
    AUTO_BUF frame = BUF_INIT;
    int r;

    e->stats->groups++;
    e->stats->predicted_groups += (g->flags & DELTA_PREDICTED) != 0;
    e->stats->covers += open->ncovers;
    g->ncovers = open->ncovers;
    if (g->ncovers == 0)
        return 0;
    delta_covers_encode(&raw, open->covers, open->ncovers);
    r = zip(e->workers[0].zstd, stream_level(e->o->level), raw.data, raw.len, &frame, err);
    if (r < 0)
        return r;
    g->covers_raw = (uint32_t)raw.len;
    g->covers_length = (uint32_t)frame.len;
    e->stats->covers_bytes += frame.len;
    return e->o->emit(e->o->ctx, frame.data, frame.len, err);
}

/* Whom to blame for these bytes of segment i. */
static void count_costs(struct encoder *e, size_t i, unsigned encoding, uint64_t bytes)
{
    uint64_t start = (uint64_t)i * SEGMENT_BYTES;
    uint64_t end = start + manifest_segment_bytes(e->o->target, i);

    costs_segment(e->costs, i, encoding, bytes);
    for (size_t k = e->closed; k < e->opened && e->d->groups[k].begin < end; k++) {
        const struct delta_group *g = &e->d->groups[k];

        if (g->begin + g->length > start)
            costs_group(e->costs, g->begin, g->length, e->open[k]->covers, e->open[k]->ncovers);
    }
}

static int emit_segment(struct encoder *e, size_t n, struct err *err)
{
    struct job *j = &e->jobs[n];
    struct delta_segment *s = &e->d->segments[e->first + n];
    uint64_t end = (uint64_t)(e->first + n) * SEGMENT_BYTES +
                   manifest_segment_bytes(e->o->target, e->first + n);
    uint64_t covers_before = e->stats->covers_bytes;
    int r = 0;

    if (j->status < 0) {
        *err = j->err;
        return j->status;
    }
    for (; r == 0 && e->emitted < e->d->ngroups && e->d->groups[e->emitted].begin < end;
         e->emitted++)
        r = emit_covers(e, &e->d->groups[e->emitted], e->open[e->emitted], err);
    s->encoding = j->encoding;
    s->length = (uint32_t)j->payload.len;
    e->stats->segments[j->encoding]++;
    e->stats->payload_bytes[j->encoding] += j->payload.len;
    for (int k = 0; j->encoding == SEGMENT_DELTA && k < STREAMS; k++)
        e->stats->stream_bytes[k] += j->stream_bytes[k];
    if (j->encoding == SEGMENT_DELTA)
        e->stats->literal_bytes += j->literal_bytes;
    if (r == 0)
        count_costs(e, e->first + n, j->encoding,
                    j->payload.len + e->stats->covers_bytes - covers_before);
    if (r == 0 && j->payload.len > 0)
        r = e->o->emit(e->o->ctx, j->payload.data, j->payload.len, err);
    return r;
}

static int batch(struct encoder *e, struct err *err)
{
    uint64_t end = (uint64_t)(e->first + e->count - 1) * SEGMENT_BYTES +
                   manifest_segment_bytes(e->o->target, e->first + e->count - 1);
    int r = open_groups(e, end, err);

    if (r == 0)
        delta_each(e->o->pool, e->count, segment_job, e);
    for (size_t n = 0; r == 0 && n < e->count; n++)
        r = emit_segment(e, n, err);
    close_groups(e, end);
    if (r == 0 && e->o->progress != NULL &&
        e->o->progress(e->o->ctx, end, e->o->target->stream_bytes) < 0)
        r = err_set(err, ERR_CANCELLED, "stopped while the delta was made");
    return r;
}

static int run(struct encoder *e, struct err *err)
{
    size_t most = (size_t)delta_workers(e->o->pool) * BATCH_A_WORKER, n = e->d->ngroups + 1;
    int r = 0;

    e->workers = mem_calloc(delta_workers(e->o->pool), sizeof(*e->workers));
    for (unsigned i = 0; i < delta_workers(e->o->pool); i++)
        worker_init(&e->workers[i]);
    e->jobs = mem_calloc(most, sizeof(*e->jobs));
    e->open = mem_calloc(n, sizeof(struct group *));
    e->layouts = mem_calloc(n, sizeof(struct sites *));
    for (e->first = 0; r == 0 && e->first < e->d->nsegments; e->first += e->count) {
        e->count = e->d->nsegments - e->first < most ? e->d->nsegments - e->first : most;
        r = batch(e, err);
    }
    for (size_t k = 0; k < e->d->ngroups; k++)
        group_close(e->open[k]);
    for (unsigned i = 0; i < delta_workers(e->o->pool); i++)
        worker_release(&e->workers[i]);
    for (size_t i = 0; i < most; i++)
        buf_release(&e->jobs[i].payload);
    free(e->workers);
    free(e->jobs);
    free(e->open);
    free(e->layouts);
    return r;
}

static int plan(struct encoder *e, struct err *err)
{
    const struct delta_encode_options *o = e->o;
    struct pairs_options p = { o->base, o->target, o->base_files, o->target_files, o->pool };
    struct pair *pairs = NULL;
    int r = pairs_find(&pairs, &p, err);

    if (r == 0)
        r = delta_plan(&e->d, o->base, o->target, pairs, is_code, e, err);
    free(pairs);
    return r;
}

int delta_encode(const struct delta_encode_options *o, struct buf *head, struct delta_stats *stats,
                 struct err *err)
{
    struct encoder e = { .o = o, .stats = stats, .shift_of = SIZE_MAX };
    struct err local = ERR_INIT;
    int r;

    err = err == NULL ? &local : err;
    memset(stats, 0, sizeof(*stats));
    if (o->level < DELTA_LEVEL_MIN || o->level > DELTA_LEVEL_MAX)
        return err_set(err, ERR_INVALID, "level %d is not in %d..%d", o->level, DELTA_LEVEL_MIN,
                       DELTA_LEVEL_MAX);
    r = plan(&e, err);
    if (r < 0)
        return r;
    e.d->base = o->base_id;
    e.d->target = o->target_id;
    e.costs = costs_new(o->target);
    r = run(&e, err);
    if (r == 0)
        r = delta_encode_table(head, e.d, err);
    if (r == 0)
        costs_finish(e.costs, o->target_files, &stats->top);
    costs_free(e.costs);
    delta_free(e.d);
    return r;
}
