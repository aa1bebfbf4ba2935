#include "delta/plan.h"

#include <stdlib.h>

#include "base/mem.h"

enum { BETWEEN_MAX = 64 << 10 };

struct plan {
    const struct manifest *base, *target;
    const struct pair *pairs;
    plan_whole whole;
    void *ctx;
    struct delta *d;
    size_t cap;      /* of d->groups */
    size_t sources;  /* of all groups */
    uint32_t *taken; /* by entry of the base: 1 + the last group that has it for a source */
};

static void add_group(struct plan *p, uint64_t begin, uint64_t length)
{
    VEC_GROW(p->d->groups, p->d->ngroups, p->cap);
    p->d->groups[p->d->ngroups++] = (struct delta_group){ .begin = begin, .length = length };
}

/* The last group's. What would pass the format's limit is left out. */
static void add_source(struct plan *p, uint32_t source)
{
    struct delta_group *g = &p->d->groups[p->d->ngroups - 1];

    if (p->taken[source] == p->d->ngroups || p->sources == DELTA_SOURCES_MAX)
        return;
    p->taken[source] = (uint32_t)p->d->ngroups;
    g->sources = mem_realloc(g->sources, (g->nsources + 1) * sizeof(*g->sources));
    g->sources[g->nsources++] = source;
    p->sources++;
}

/* How many of a large file's sources are searched: all that one window can hold. */
static size_t large_sources(const struct plan *p, const struct pair *pair)
{
    uint64_t bytes = 0;
    size_t n = 0;

    for (; n < pair->nsources; n++) {
        bytes += p->base->entries[pair->sources[n]].size;
        if (n > 0 && bytes > PLAN_SOURCES_BYTES)
            break;
    }
    return n;
}

static void plan_large(struct plan *p, size_t entry)
{
    const struct entry *e = &p->target->entries[entry];
    const struct pair *pair = &p->pairs[entry];
    size_t nsources = large_sources(p, pair);
    uint64_t part = PLAN_PART_BYTES;

    if (nsources > 0 && e->size <= PLAN_WHOLE_MAX && p->whole(p->ctx, entry, pair->sources[0])) {
        part = e->size;
        nsources = 1;
    }
    for (uint64_t at = 0; at < e->size; at += part) {
        add_group(p, e->offset + at, e->size - at < part ? e->size - at : part);
        for (size_t i = 0; i < nsources; i++)
            add_source(p, pair->sources[i]);
    }
}

/* From entry i, a small changed file, on: how many bytes share its group; *ret_end: the entry behind
 * the last of them that changed. */
static uint64_t shared_length(const struct plan *p, size_t i, size_t *ret_end)
{
    const struct manifest *m = p->target;
    uint64_t begin = m->entries[i].offset, end = begin;

    *ret_end = i;
    for (; i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];

        if (e->kind != ENTRY_FILE || e->size == 0)
            continue;
        if (e->size >= PLAN_SMALL || e->offset + e->size - begin > PLAN_SHARED_MAX ||
            e->offset - end > BETWEEN_MAX)
            break;
        if (p->pairs[i].by == PAIR_DIGEST)
            continue;
        end = e->offset + e->size;
        *ret_end = i + 1;
    }
    return end - begin;
}

static size_t plan_shared(struct plan *p, size_t i)
{
    size_t end;
    uint64_t length = shared_length(p, i, &end), begin = p->target->entries[i].offset;

    add_group(p, begin, length);
    for (; i < end; i++) {
        const struct pair *pair = &p->pairs[i];

        for (size_t k = 0; k < pair->nsources; k++) {
            if (p->base->entries[pair->sources[k]].size < 32 * PLAN_SMALL)
                add_source(p, pair->sources[k]);
        }
    }
    return end;
}

static void plan_segments(struct plan *p)
{
    struct delta *d = p->d;

    d->nsegments = p->target->nsegments;
    d->segments = mem_calloc(d->nsegments + 1, sizeof(*d->segments));
    for (size_t i = 0; i < d->nsegments; i++)
        d->segments[i].encoding = SEGMENT_COPY;
    for (size_t k = 0; k < d->ngroups; k++) {
        const struct delta_group *g = &d->groups[k];

        for (uint64_t i = g->begin / SEGMENT_BYTES; i <= (g->begin + g->length - 1) / SEGMENT_BYTES;
             i++)
            d->segments[i].encoding = SEGMENT_DELTA;
    }
}

int delta_plan(struct delta **ret, const struct manifest *base, const struct manifest *target,
               const struct pair *pairs, plan_whole whole, void *ctx, struct err *err)
{
    struct plan p = { .base = base, .target = target, .pairs = pairs, .whole = whole, .ctx = ctx };

    p.d = mem_alloc(sizeof(*p.d));
    p.taken = mem_calloc(base->nentries + 1, sizeof(*p.taken));
    for (size_t i = 0; i < target->nentries;) {
        const struct entry *e = &target->entries[i];

        if (e->kind != ENTRY_FILE || e->size == 0 || pairs[i].by == PAIR_DIGEST) {
            i++;
        } else if (e->size < PLAN_SMALL) {
            i = plan_shared(&p, i);
        } else {
            plan_large(&p, i);
            i++;
        }
    }
    free(p.taken);
    plan_segments(&p);
    if (p.d->ngroups > DELTA_GROUPS_MAX || p.d->nsegments > FULL_SEGMENTS_MAX) {
        int r = err_set(err, ERR_LIMIT, "delta pack: %zu groups, %zu segments", p.d->ngroups,
                        p.d->nsegments);

        delta_free(p.d);
        return r;
    }
    *ret = p.d;
    return 0;
}
