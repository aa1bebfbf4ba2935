#include "delta/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { BETWEEN_MAX = 64 << 10, NONE = -1 };

/* A file of the base under one of the keys that it is looked for by. */
struct named {
    const char *name;
    const struct entry *entry;
    uint32_t index;
};

struct plan {
    const struct manifest *base, *target;
    struct named *by_digest, *by_name;
    size_t nfiles;
    plan_whole whole;
    void *ctx;
    struct delta *d;
    size_t cap;     /* of d->groups */
    size_t sources; /* of all groups */
};

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static int by_digest(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int r = hash_compare(&x->entry->hash, &y->entry->hash);

    return r != 0 ? r : x->index < y->index ? -1 : x->index > y->index;
}

static int by_name(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int r = strcmp(x->name, y->name);

    return r != 0 ? r : x->index < y->index ? -1 : x->index > y->index;
}

static void index_base(struct plan *p)
{
    const struct manifest *m = p->base;

    p->by_digest = mem_calloc(m->nentries + 1, sizeof(*p->by_digest));
    for (size_t i = 0; i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];

        if (e->kind == ENTRY_FILE && e->size > 0)
            p->by_digest[p->nfiles++] = (struct named){ last_name(e->path), e, (uint32_t)i };
    }
    p->by_name = mem_dup(p->by_digest, (p->nfiles + 1) * sizeof(*p->by_name));
    qsort(p->by_digest, p->nfiles, sizeof(*p->by_digest), by_digest);
    qsort(p->by_name, p->nfiles, sizeof(*p->by_name), by_name);
}

/* The first element that is not below key. */
static size_t lower_bound(const struct named *items, size_t n, const struct named *key,
                          int (*compare)(const void *, const void *))
{
    size_t low = 0;

    while (low < n) {
        size_t middle = low + (n - low) / 2;

        if (compare(&items[middle], key) < 0)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

static int64_t same_content(const struct plan *p, const struct entry *e)
{
    struct named key = { NULL, e, 0 };
    size_t i = lower_bound(p->by_digest, p->nfiles, &key, by_digest);

    if (i < p->nfiles && hash_equal(&p->by_digest[i].entry->hash, &e->hash))
        return p->by_digest[i].index;
    return NONE;
}

static uint64_t apart(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Two artifacts of one file each are versions of one thing, whatever the files are called. */
static int64_t only_file(const struct plan *p)
{
    if (p->nfiles != 1 || p->target->nentries != 1)
        return NONE;
    return p->by_name[0].index;
}

/* Of the base's files of that name: the one of the same path, else the one nearest in size. */
static int64_t same_name(const struct plan *p, const struct entry *e)
{
    struct named key = { last_name(e->path), e, 0 };
    size_t i = lower_bound(p->by_name, p->nfiles, &key, by_name);
    int64_t best = NONE;
    uint64_t distance = UINT64_MAX;

    for (; i < p->nfiles && strcmp(p->by_name[i].name, key.name) == 0; i++) {
        const struct entry *b = p->by_name[i].entry;

        if (strcmp(b->path, e->path) == 0)
            return p->by_name[i].index;
        if (b->size > 2 * e->size || e->size > 2 * b->size || apart(b->size, e->size) >= distance)
            continue;
        distance = apart(b->size, e->size);
        best = p->by_name[i].index;
    }
    return best == NONE ? only_file(p) : best;
}

static struct delta_group *add_group(struct plan *p, uint64_t begin, uint64_t length)
{
    struct delta_group *g;

    VEC_GROW(p->d->groups, p->d->ngroups, p->cap);
    g = &p->d->groups[p->d->ngroups++];
    *g = (struct delta_group){ .begin = begin, .length = length };
    return g;
}

static void add_source(struct plan *p, struct delta_group *g, int64_t source)
{
    if (source == NONE)
        return;
    g->sources = mem_realloc(g->sources, (g->nsources + 1) * sizeof(*g->sources));
    g->sources[g->nsources++] = (uint32_t)source;
    p->sources++;
}

static void plan_large(struct plan *p, size_t entry, int64_t source)
{
    const struct entry *e = &p->target->entries[entry];
    uint64_t part = PLAN_PART_BYTES;

    if (source != NONE && e->size <= PLAN_WHOLE_MAX && p->whole(p->ctx, entry, (size_t)source))
        part = e->size;
    for (uint64_t at = 0; at < e->size; at += part)
        add_source(p, add_group(p, e->offset + at, e->size - at < part ? e->size - at : part),
                   source);
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
        if (same_content(p, e) != NONE)
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
    struct delta_group *g = add_group(p, begin, length);

    for (; i < end; i++) {
        const struct entry *e = &p->target->entries[i];
        int64_t source;

        if (e->kind != ENTRY_FILE || e->size == 0)
            continue;
        source = same_content(p, e);
        if (source == NONE)
            source = same_name(p, e);
        if (source != NONE && p->base->entries[source].size < 32 * PLAN_SMALL)
            add_source(p, g, source);
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
               plan_whole whole, void *ctx, struct err *err)
{
    struct plan p = { .base = base, .target = target, .whole = whole, .ctx = ctx };

    p.d = mem_alloc(sizeof(*p.d));
    index_base(&p);
    for (size_t i = 0; i < target->nentries;) {
        const struct entry *e = &target->entries[i];

        if (e->kind != ENTRY_FILE || e->size == 0 || same_content(&p, e) != NONE) {
            i++;
        } else if (e->size < PLAN_SMALL) {
            i = plan_shared(&p, i);
        } else {
            plan_large(&p, i, same_name(&p, e));
            i++;
        }
    }
    free(p.by_digest);
    free(p.by_name);
    plan_segments(&p);
    if (p.d->ngroups > DELTA_GROUPS_MAX || p.sources > DELTA_SOURCES_MAX ||
        p.d->nsegments > FULL_SEGMENTS_MAX) {
        int r = err_set(err, ERR_LIMIT, "delta pack: %zu groups, %zu sources, %zu segments",
                        p.d->ngroups, p.sources, p.d->nsegments);

        delta_free(p.d);
        return r;
    }
    *ret = p.d;
    return 0;
}
