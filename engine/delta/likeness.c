#include "delta/likeness.h"

#include <stdlib.h>

#include "base/mem.h"
#include "delta/sketch.h"

enum {
    READ_BYTES = 256 << 10,
    COMMON = 64, /* as many files have it: no evidence; also the vote of one that has it alone */
    LEAST_FEATURES = 2, /* of a file that has more than twice that */
    LEAST_PART = 16,    /* a further source tells at least this part of the features */
};

/* A feature of the base. */
struct posting {
    uint64_t feature;
    uint32_t slot; /* of the candidates */
};

struct range {
    size_t from, to;
    bool told; /* by a source that was chosen */
};

/* What one thread needs. */
struct voter {
    struct sketcher sketcher;
    unsigned char *buffer;
    uint32_t *votes, *counts; /* by slot; zero between uses */
    uint32_t *touched;
    size_t ntouched;
    size_t failed; /* its first job that did, if status < 0: then it does no more */
    int status;
    struct err err;
};

struct likeness {
    const struct pairs_options *o;
    const uint32_t *candidates;
    size_t ncandidates;
    const struct doubt *doubts;
    size_t ndoubts;
    struct sketch *sketches; /* of the candidates, until they are indexed */
    struct posting *postings;
    size_t npostings;
    struct voter *voters;
};

static int sketch_file(struct voter *v, const struct delta_files *files, const struct manifest *m,
                       size_t entry, struct sketch *ret, struct err *err)
{
    uint64_t size = m->entries[entry].size;
    int r = 0;

    sketcher_begin(&v->sketcher, size);
    for (uint64_t at = 0; r == 0 && at < size;) {
        size_t n = size - at < READ_BYTES ? (size_t)(size - at) : READ_BYTES;

        r = files->read(files->ctx, entry, v->buffer, n, at, err);
        if (r == 0)
            sketcher_add(&v->sketcher, v->buffer, n);
        at += n;
    }
    sketcher_end(&v->sketcher, ret);
    return r;
}

static void sketch_job(void *arg, size_t i, unsigned worker)
{
    struct likeness *l = arg;
    struct voter *v = &l->voters[worker];

    if (v->status < 0)
        return;
    v->failed = i;
    v->status =
        sketch_file(v, l->o->base_files, l->o->base, l->candidates[i], &l->sketches[i], &v->err);
}

static int by_feature(const void *a, const void *b)
{
    const struct posting *x = a, *y = b;

    if (x->feature != y->feature)
        return x->feature < y->feature ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void make_index(struct likeness *l)
{
    size_t total = 0;

    for (size_t i = 0; i < l->ncandidates; i++)
        total += l->sketches[i].count;
    l->postings = mem_calloc(total + 1, sizeof(*l->postings));
    for (size_t i = 0; i < l->ncandidates; i++) {
        for (size_t k = 0; k < l->sketches[i].count; k++)
            l->postings[l->npostings++] =
                (struct posting){ l->sketches[i].features[k], (uint32_t)i };
        sketch_release(&l->sketches[i]);
    }
    qsort(l->postings, l->npostings, sizeof(*l->postings), by_feature);
}

static struct range look_up(const struct likeness *l, uint64_t feature)
{
    size_t low = 0, high = l->npostings, end; /* more than COMMON are not counted */

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (l->postings[middle].feature < feature)
            low = middle + 1;
        else
            high = middle;
    }
    for (end = low; end < l->npostings && l->postings[end].feature == feature; end++) {
        if (end - low > COMMON)
            break;
    }
    return (struct range){ low, end, false };
}

/* Counts what the features that no source tells yet say. */
static void vote(const struct likeness *l, struct voter *v, const struct range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t files = ranges[i].to - ranges[i].from;

        if (ranges[i].told || files > COMMON)
            continue;
        for (size_t k = ranges[i].from; k < ranges[i].to; k++) {
            uint32_t slot = l->postings[k].slot;

            if (v->counts[slot]++ == 0)
                v->touched[v->ntouched++] = slot;
            v->votes[slot] += (uint32_t)(COMMON / files);
        }
    }
}

static uint64_t apart(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Votes decide; then whether names agree; then sizes; then the order. */
static bool is_better(const struct likeness *l, const struct voter *v, const struct doubt *d,
                      uint32_t a, uint32_t b)
{
    const struct entry *base = l->o->base->entries, *e = &l->o->target->entries[d->entry];
    uint32_t x = l->candidates[a], y = l->candidates[b];
    uint64_t away_x = apart(base[x].size, e->size), away_y = apart(base[y].size, e->size);

    if (v->votes[a] != v->votes[b])
        return v->votes[a] > v->votes[b];
    if (away_x != away_y)
        return away_x < away_y;
    return x < y;
}

/* The best slot, the one that names point to if it is about as good; < 0: none is good enough. */
static int64_t choose(const struct likeness *l, const struct voter *v, const struct doubt *d,
                      size_t nfeatures, bool first)
{
    size_t least =
        first || nfeatures / LEAST_PART < LEAST_FEATURES ? LEAST_FEATURES : nfeatures / LEAST_PART;
    int64_t best = -1, named = -1;

    if (first && nfeatures <= 2 * LEAST_FEATURES)
        least = 1;
    for (size_t i = 0; i < v->ntouched; i++) {
        uint32_t slot = v->touched[i];

        if (v->counts[slot] < least)
            continue;
        if (best < 0 || is_better(l, v, d, slot, (uint32_t)best))
            best = slot;
        if (first && d->pair->nsources > 0 && l->candidates[slot] == d->pair->sources[0])
            named = slot;
    }
    if (named >= 0 && (uint64_t)v->votes[named] * 4 >= (uint64_t)v->votes[best] * 3)
        return named;
    return best;
}

/* What this source has is told. Clears the counts. */
static void settle(const struct likeness *l, struct voter *v, struct range *ranges, size_t n,
                   int64_t chosen)
{
    for (size_t i = 0; chosen >= 0 && i < n; i++) {
        for (size_t k = ranges[i].from; k < ranges[i].to && !ranges[i].told; k++)
            ranges[i].told = l->postings[k].slot == (uint32_t)chosen;
    }
    for (size_t i = 0; i < v->ntouched; i++)
        v->votes[v->touched[i]] = v->counts[v->touched[i]] = 0;
    v->ntouched = 0;
}

static void decide(const struct likeness *l, struct voter *v, const struct doubt *d,
                   const struct sketch *s)
{
    struct range *ranges = mem_calloc(s->count + 1, sizeof(*ranges));
    struct pair found = { .by = PAIR_CONTENT };
    struct pair *p = d->pair;
    int64_t chosen = 0;

    for (size_t i = 0; i < s->count; i++)
        ranges[i] = look_up(l, s->features[i]);
    while (found.nsources < PAIR_SOURCES_MAX && chosen >= 0) {
        vote(l, v, ranges, s->count);
        chosen = choose(l, v, d, s->count, found.nsources == 0);
        settle(l, v, ranges, s->count, chosen);
        if (chosen >= 0)
            found.sources[found.nsources++] = l->candidates[chosen];
    }
    free(ranges);
    if (found.nsources == 0)
        return;
    if (p->nsources > 0 && p->sources[0] == found.sources[0])
        found.by = p->by;
    *p = found;
}

static void decide_job(void *arg, size_t i, unsigned worker)
{
    struct likeness *l = arg;
    struct voter *v = &l->voters[worker];
    struct sketch s = { NULL, 0 };

    if (v->status < 0)
        return;
    v->failed = i;
    v->status = sketch_file(v, l->o->target_files, l->o->target, l->doubts[i].entry, &s, &v->err);
    if (v->status == 0)
        decide(l, v, &l->doubts[i], &s);
    sketch_release(&s);
}

/* Runs n jobs. Of errors, the first in the order of the jobs. */
static int run(struct likeness *l, size_t n, void (*job)(void *, size_t, unsigned), struct err *err)
{
    const struct voter *first = NULL;

    delta_each(l->o->pool, n, job, l);
    for (unsigned i = 0; i < delta_workers(l->o->pool); i++) {
        const struct voter *v = &l->voters[i];

        if (v->status < 0 && (first == NULL || v->failed < first->failed))
            first = v;
    }
    if (first != NULL && err != NULL)
        *err = first->err;
    return first == NULL ? 0 : first->status;
}

static void voters_init(struct likeness *l)
{
    unsigned n = delta_workers(l->o->pool);

    l->voters = mem_calloc(n, sizeof(*l->voters));
    for (unsigned i = 0; i < n; i++) {
        struct voter *v = &l->voters[i];

        sketcher_init(&v->sketcher);
        v->buffer = mem_alloc(READ_BYTES);
        v->votes = mem_calloc(l->ncandidates + 1, sizeof(*v->votes));
        v->counts = mem_calloc(l->ncandidates + 1, sizeof(*v->counts));
        v->touched = mem_calloc(l->ncandidates + 1, sizeof(*v->touched));
    }
}

static void release(struct likeness *l)
{
    for (unsigned i = 0; i < delta_workers(l->o->pool); i++) {
        struct voter *v = &l->voters[i];

        sketcher_release(&v->sketcher);
        free(v->buffer);
        free(v->votes);
        free(v->counts);
        free(v->touched);
    }
    for (size_t i = 0; i < l->ncandidates; i++)
        sketch_release(&l->sketches[i]);
    free(l->voters);
    free(l->sketches);
    free(l->postings);
}

int likeness_find(const struct pairs_options *o, const uint32_t *candidates, size_t ncandidates,
                  const struct doubt *doubts, size_t ndoubts, struct err *err)
{
    struct likeness l = { .o = o,
                          .candidates = candidates,
                          .ncandidates = ncandidates,
                          .doubts = doubts,
                          .ndoubts = ndoubts };
    int r;

    if (ncandidates == 0 || ndoubts == 0)
        return 0;
    voters_init(&l);
    l.sketches = mem_calloc(ncandidates, sizeof(*l.sketches));
    r = run(&l, ncandidates, sketch_job, err);
    if (r == 0) {
        make_index(&l);
        r = run(&l, ndoubts, decide_job, err);
    }
    release(&l);
    return r;
}
