#include "delta/search.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    CHUNK = 8 << 20,    /* searched by one job */
    STRETCH = 64 << 20, /* searched in one window */
    WINDOW = 128 << 20, /* of the base */
    NEAR = 16 << 20,    /* of it on either side of where a stretch of no code should lie */
    LOCAL = 1 << 20,    /* how far a chunk is looked for first */
    BLOCK = 4096,
    PLAIN = 32 << 20,
    SAMPLES = 8, /* of a chunk, to see how far it moved */
    SAMPLE = 32,
    REACH = 64 << 10, /* how far it may have moved, to be seen so */
};

void delta_each(const struct delta_pool *pool, size_t n,
                void (*job)(void *arg, size_t i, unsigned worker), void *arg)
{
    if (pool != NULL && pool->workers > 1 && n > 1) {
        pool->each(pool->ctx, n, job, arg);
        return;
    }
    for (size_t i = 0; i < n; i++)
        job(arg, i, 0);
}

unsigned delta_workers(const struct delta_pool *pool)
{
    return pool == NULL ? 1 : pool->workers;
}

/* How much work a level puts into matching. Large windows get by with fewer seeds. */
static struct match_params params_of(int level, bool code, uint64_t window)
{
    unsigned step = window > (uint64_t)64 << 20 ? 8 : 4;

    /* Large files that are no code hold large pieces. */
    if (level < 6 && !code && window > PLAIN)
        return (struct match_params){ 32, 64, 2, 8 };
    if (level < 3)
        return (struct match_params){ 32, 32, 2, 12 };
    if (level < 6)
        return (struct match_params){ 32, 16, 4, 8 };
    if (level < 9)
        return (struct match_params){ 16, 8, 16, 8 };
    if (level < 16)
        return (struct match_params){ 16, step, 32, 8 };
    return (struct match_params){ 16, 4, 128, 8 };
}

static unsigned passes_of(int level, const struct group *g)
{
    return g->sites == NULL || level < 6 ? 1 : 2;
}

int search_read(const struct search_target *t, uint64_t at, void *data, size_t len, struct err *err)
{
    const struct manifest *m = t->manifest;
    unsigned char *out = data;
    int r = 0;

    for (size_t k = manifest_first_file(m, (size_t)(at / SEGMENT_BYTES));
         r == 0 && len > 0 && k < m->nentries; k++) {
        const struct entry *e = &m->entries[k];
        uint64_t left;
        size_t n;

        if (e->kind != ENTRY_FILE || e->offset + e->size <= at)
            continue;
        left = e->offset + e->size - at;
        n = left < len ? (size_t)left : len;
        r = t->files->read(t->files->ctx, k, out, n, at - e->offset, err);
        at += n;
        out += n;
        len -= n;
    }
    return r;
}

/* A stretch of the target and the window of the base that it is searched in. */
struct search {
    struct group *g;
    const struct search_target *t;
    const struct delta_pool *pool;
    struct match_params params;
    unsigned pass;
    bool thorough; /* what near places do not tell is looked for in the whole window */
    uint64_t stretch, stretch_end; /* of the group */
    uint64_t window, window_end;   /* of the sources */
    int64_t shift;                 /* base position - target position, at the end of the last one */
    unsigned char *base;           /* the window, as it is compared; NULL: not loaded */
    struct match_index *index;
    struct chunk *chunks;
    size_t nchunks;
    struct covers found; /* of the stretches so far */
};

struct chunk {
    struct covers covers; /* in the group's positions */
    struct err err;
    int status;
    bool unclear; /* does not follow the shift: needs the window */
};

/* As it is compared in this pass. */
static void image(const struct search *s, const struct sites *sites, bool of_base,
                  unsigned char *data, uint64_t offset, size_t lead, size_t len)
{
    if (sites == NULL)
        return;
    if (s->pass == 0)
        sites_blank(sites, data, offset, lead, len);
    else
        sites_resolve(sites, of_base ? &s->g->translator : NULL, data, offset, lead, len);
}

static size_t chunk_bytes(const struct search *s, size_t i, uint64_t *ret_from)
{
    uint64_t from = s->stretch + (uint64_t)i * CHUNK, left = s->stretch_end - from;

    *ret_from = from;
    return left < CHUNK ? (size_t)left : CHUNK;
}

/* Reads target bytes [from - lead, from + len) and makes the image of [from, from + len). Gives the
 * memory. */
static int load_chunk(const struct search *s, uint64_t from, size_t len, unsigned char **ret,
                      size_t *ret_lead, struct err *err)
{
    size_t lead = s->t->sites == NULL ? 0 : from < SITES_LEAD ? (size_t)from : SITES_LEAD;
    unsigned char *data = mem_alloc(lead + len + SITES_PAD);
    int r = search_read(s->t, s->g->g->begin + from - lead, data, lead + len, err);

    if (r < 0) {
        free(data);
        return r;
    }
    image(s, s->t->sites, false, data, from, lead, len);
    *ret = data;
    *ret_lead = lead;
    return 0;
}

/* Found covers are relative to chunk and window. */
static void keep(struct chunk *c, const struct covers *found, uint64_t from, uint64_t window)
{
    for (size_t i = 0; i < found->count; i++) {
        struct cover cover = found->items[i];

        cover.t += (uint32_t)from;
        cover.s += window;
        covers_add(&c->covers, cover);
    }
}

static void search_chunk(void *arg, size_t i, unsigned worker)
{
    struct search *s = arg;
    struct chunk *c = &s->chunks[i];
    struct covers found = { NULL, 0, 0 };
    unsigned char *data = NULL;
    uint64_t from;
    size_t len = chunk_bytes(s, i, &from), lead = 0;

    (void)worker;
    if (!c->unclear)
        return;
    c->status = load_chunk(s, from, len, &data, &lead, &c->err);
    if (c->status < 0)
        return;
    match_find(s->index, data + lead, len, (int64_t)from + s->shift - (int64_t)s->window, &found);
    keep(c, &found, from, s->window);
    covers_release(&found);
    free(data);
}

static bool mostly_equal(const unsigned char *a, const unsigned char *b, size_t len)
{
    size_t equal = 0, blocks = 0;

    for (size_t at = 0; at < len; at += BLOCK, blocks++) {
        size_t n = len - at < BLOCK ? len - at : BLOCK;

        equal += memcmp(a + at, b + at, n) == 0;
    }
    return equal * 2 >= blocks;
}

/* Where in the base a sample of the target lies, that should be at `at` or not far from there. */
static bool find_sample(const struct search *s, const unsigned char *sample, uint64_t at,
                        unsigned char *window, uint64_t *ret)
{
    uint64_t size = group_source_bytes(s->g), from = at < REACH ? 0 : at - REACH, to;
    const unsigned char *found;

    if (size < SAMPLE || at > size - SAMPLE || memcmp(sample, sample + 1, SAMPLE - 1) == 0)
        return false;
    *ret = at;
    if (group_read(s->g, window, SAMPLE, at, NULL) < 0 || memcmp(window, sample, SAMPLE) == 0)
        return true; /* whoever reads more finds out why that is not possible */
    to = size - at < SAMPLE + REACH ? size : at + SAMPLE + REACH;
    if (group_read(s->g, window, (size_t)(to - from), from, NULL) < 0)
        return true;
    found = memmem(window, (size_t)(to - from), sample, SAMPLE);
    if (found != NULL)
        *ret = from + (uint64_t)(found - window);
    return found != NULL;
}

/* How far a chunk moved: what most of its samples say, s->shift if no two agree. *ret_one: no sample
 * says anything else. */
static int64_t find_shift(const struct search *s, const unsigned char *data, size_t len,
                          uint64_t chunk_from, bool *ret_one)
{
    unsigned char *window = mem_alloc(SAMPLE + 2 * REACH);
    int64_t shifts[SAMPLES], best = s->shift;
    size_t n = 0, most = 1;

    for (size_t i = 0; i < SAMPLES; i++) {
        size_t inside = len / SAMPLES * i + len / SAMPLES / 2, votes = 1;
        int64_t at = (int64_t)(chunk_from + inside) + (n == 0 ? s->shift : shifts[n - 1]);
        uint64_t place;

        if (at < 0 || len - inside < SAMPLE ||
            !find_sample(s, data + inside, (uint64_t)at, window, &place))
            continue;
        shifts[n] = (int64_t)place - (int64_t)(chunk_from + inside);
        for (size_t k = 0; k < n; k++)
            votes += shifts[k] == shifts[n];
        if (votes > most) {
            most = votes;
            best = shifts[n];
        }
        n++;
    }
    *ret_one = n <= 1 || most == n;
    free(window);
    return best;
}

/* Matches a chunk, which probably moved by shift, against the base's bytes [from, to), with an index
 * or by following the hint. True if that tells enough of it. */
static bool search_near(struct search *s, struct chunk *c, const unsigned char *data, size_t len,
                        uint64_t chunk_from, int64_t shift, uint64_t from, uint64_t to, bool follow)
{
    static const struct match_params none = { 32, 32, 0, 8 };
    struct covers found = { NULL, 0, 0 };
    size_t size = (size_t)(to - from), told = 0;
    unsigned char *base = mem_alloc(size);
    struct match_index *index;

    c->status = group_read(s->g, base, size, from, &c->err);
    if (c->status == 0 && (!follow || mostly_equal(base, data, len))) {
        index = match_index_new(base, follow ? 0 : size, follow ? &none : &s->params);
        if (follow)
            match_index_extend(index, size);
        match_find(index, data, len, (int64_t)chunk_from + shift - (int64_t)from, &found);
        match_index_free(index);
        for (size_t i = 0; i < found.count; i++)
            told += found.items[i].length;
        if (told >= (s->thorough ? len - len / 8 : len / 2))
            keep(c, &found, chunk_from, from);
        covers_release(&found);
    }
    free(base);
    return c->covers.count > 0;
}

/* Where little moved, the base at the present shift, or not far from it, is all that is needed. */
static void follow_chunk(void *arg, size_t i, unsigned worker)
{
    struct search *s = arg;
    struct chunk *c = &s->chunks[i];
    unsigned char *data = NULL;
    uint64_t from, size = group_source_bytes(s->g), near, end;
    size_t len = chunk_bytes(s, i, &from), lead;
    int64_t at, shift;
    bool one;

    (void)worker;
    c->status = load_chunk(s, from, len, &data, &lead, &c->err);
    if (c->status < 0)
        return;
    shift = find_shift(s, data, len, from, &one);
    at = (int64_t)from + shift;
    if (at < 0 || (uint64_t)at >= size || len > size - (uint64_t)at) {
        free(data);
        return;
    }
    near = (uint64_t)at < LOCAL ? 0 : (uint64_t)at - LOCAL;
    end = size - (uint64_t)at - len < LOCAL ? size : (uint64_t)at + len + LOCAL;
    if ((one &&
         search_near(s, c, data, len, from, shift, (uint64_t)at, (uint64_t)at + len, true)) ||
        (c->status == 0 && size > WINDOW &&
         search_near(s, c, data, len, from, shift, near, end, false)))
        c->unclear = false;
    free(data);
}

static void image_part(void *arg, size_t i, unsigned worker)
{
    struct search *s = arg;
    size_t at = i * CHUNK, len = (size_t)(s->window_end - s->window) - at;
    uint64_t offset = s->window + at;

    (void)worker;
    /* Without lead: a neighbour may be at work on the bytes before. Whole functions later, the beat
     * is the same. */
    image(s, s->g->sites, true, s->base + at, offset, 0, len < CHUNK ? len : CHUNK);
}

/* Reads the window, unless it is there. */
static int load_window(struct search *s, struct err *err)
{
    uint64_t size = group_source_bytes(s->g), most = WINDOW, middle, from = 0, to = size;
    size_t len;
    int r;

    if (size > WINDOW && s->g->sites == NULL)
        most = STRETCH + 2 * NEAR;
    if (size > most) {
        middle =
            (uint64_t)((int64_t)s->stretch + s->shift < 0 ? 0 : (int64_t)s->stretch + s->shift);
        from = middle < (most - STRETCH) / 2 ? 0 : middle - (most - STRETCH) / 2;
        from = from > size - most ? size - most : from;
        to = from + most;
    }
    if (s->base != NULL && s->window == from && s->window_end == to)
        return 0;
    match_index_free(s->index);
    free(s->base);
    s->index = NULL;
    s->window = from;
    s->window_end = to;
    len = (size_t)(to - from);
    s->base = mem_alloc(len + SITES_PAD);
    r = group_read(s->g, s->base, len, from, err);
    if (r < 0)
        return r;
    if (s->g->sites != NULL)
        delta_each(s->pool, (len + CHUNK - 1) / CHUNK, image_part, s);
    s->index = match_index_new(s->base, len, &s->params);
    return 0;
}

/* Appends; a cover that goes on where the last one ends becomes part of it. */
static void append(struct covers *out, struct cover cover)
{
    struct cover *last = out->count == 0 ? NULL : &out->items[out->count - 1];

    if (last != NULL && last->t + last->length == cover.t && last->s + last->length == cover.s)
        last->length += cover.length;
    else
        covers_add(out, cover);
}

static int collect(struct search *s, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < s->nchunks; i++) {
        struct chunk *c = &s->chunks[i];

        if (r == 0 && c->status < 0) {
            r = c->status;
            if (err != NULL)
                *err = c->err;
        }
        for (size_t k = 0; k < c->covers.count; k++)
            append(&s->found, c->covers.items[k]);
        covers_release(&c->covers);
    }
    if (s->found.count > 0) {
        const struct cover *last = &s->found.items[s->found.count - 1];

        s->shift = (int64_t)last->s - (int64_t)last->t;
    }
    return r;
}

static int search_stretch(struct search *s, struct err *err)
{
    bool unclear = true;
    int r = 0;

    s->nchunks = (size_t)((s->stretch_end - s->stretch + CHUNK - 1) / CHUNK);
    s->chunks = mem_calloc(s->nchunks, sizeof(*s->chunks));
    for (size_t i = 0; i < s->nchunks; i++)
        s->chunks[i].unclear = true;
    if (s->g->sites == NULL) {
        delta_each(s->pool, s->nchunks, follow_chunk, s);
        unclear = false;
        for (size_t i = 0; i < s->nchunks; i++)
            unclear |= s->chunks[i].unclear;
    }
    if (unclear)
        r = load_window(s, err);
    if (r == 0 && unclear)
        delta_each(s->pool, s->nchunks, search_chunk, s);
    if (r == 0)
        r = collect(s, err);
    free(s->chunks);
    return r;
}

/* A format's limit: the shortest covers go first. */
static void limit_covers(struct covers *c)
{
    for (uint32_t least = 16; c->count > DELTA_COVERS_MAX; least *= 2) {
        size_t kept = 0;

        for (size_t i = 0; i < c->count; i++) {
            if (c->items[i].length >= least)
                c->items[kept++] = c->items[i];
        }
        c->count = kept;
    }
}

static int search_pass(struct search *s, const int64_t *hint, struct err *err)
{
    int r = 0;

    s->found = (struct covers){ NULL, 0, 0 };
    s->shift = 0;
    if (hint != NULL) {
        s->shift = *hint;
    } else if (s->g->g->nsources == 1 && s->g->sites == NULL) {
        /* A part of a large file: as far into the source as into the file. */
        size_t k = manifest_first_file(s->t->manifest, (size_t)(s->g->g->begin / SEGMENT_BYTES));
        const struct manifest *m = s->t->manifest;

        while (m->entries[k].offset + m->entries[k].size <= s->g->g->begin)
            k++;
        s->shift = (int64_t)(s->g->g->begin - m->entries[k].offset);
    }
    for (s->stretch = 0; r == 0 && s->stretch < s->g->g->length; s->stretch = s->stretch_end) {
        uint64_t left = s->g->g->length - s->stretch;

        s->stretch_end = s->stretch + (left < STRETCH ? left : STRETCH);
        r = search_stretch(s, err);
    }
    match_index_free(s->index);
    free(s->base);
    s->index = NULL;
    s->base = NULL;
    if (r < 0) {
        covers_release(&s->found);
        return r;
    }
    limit_covers(&s->found);
    group_take_covers(s->g, s->found.items, s->found.count);
    return 0;
}

int search_group(struct group *g, const struct search_target *t, int level, const int64_t *hint,
                 int64_t *ret_shift, const struct delta_pool *pool, struct err *err)
{
    uint64_t size = group_source_bytes(g);
    struct search s = { .g = g, .t = t, .pool = pool, .thorough = level >= 6 };
    int r = 0;

    if (size == 0) {
        group_take_covers(g, NULL, 0);
        *ret_shift = 0;
        return 0;
    }
    s.params = params_of(level, g->sites != NULL, size);
    for (s.pass = 0; r == 0 && s.pass < passes_of(level, g); s.pass++)
        r = search_pass(&s, hint, err);
    *ret_shift = s.shift;
    return r;
}
