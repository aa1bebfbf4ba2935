#include "swarm/figures.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    ASKED_MAX = 8,      /* times that one leaf may come or be asked for, at the most */
    LEAVES_MORE = 1024, /* beside those of the packs */
    BURST_LEAVES = 64,
    FASTER_MAX = 4,      /* than its own rate, for as long as a second: bursts, coarse clocks */
    FASTER_MIN_MS = 1000 /* below that it may be anything */
};

struct figures *figures_new(void)
{
    return mem_alloc(sizeof(struct figures));
}

void figures_free(struct figures *f)
{
    if (f != NULL)
        map_release(&f->accused);
    free(f);
}

/* What can have come in that time: limits let leaves pass whole, and what is short is measured coarsely. */
static double most_bytes(const struct msg_fetch *f)
{
    double ms = (double)(f->ms > FASTER_MIN_MS ? f->ms : FASTER_MIN_MS);

    return (double)f->rate * FASTER_MAX / 1000 * ms + BURST_LEAVES * (double)LEAF_BYTES;
}

static int check_fetch(const struct msg_fetch *f, uint64_t limit, struct err *err)
{
    if (f->done > 1 || f->rate_from > RATE_OBSERVED)
        return err_set(err, ERR_INVALID, "unknown kind of rate %u", f->rate_from);
    if ((f->rate_from == RATE_NONE) != (f->rate == 0) || f->rate > FIGURES_RATE_MAX ||
        (f->rate > 0 && f->rate < FIGURES_RATE_MIN))
        return err_set(err, ERR_INVALID, "a rate of %llu bytes a second",
                       (unsigned long long)f->rate);
    if (f->ms > FIGURES_MS_MAX)
        return err_set(err, ERR_INVALID, "%llu ms", (unsigned long long)f->ms);
    if (f->bytes > limit || f->near_bytes > f->bytes || f->far_bytes > f->bytes - f->near_bytes)
        return err_set(err, ERR_INVALID, "more bytes than there are");
    if (f->rate > 0 && (double)f->bytes > most_bytes(f))
        return err_set(err, ERR_INVALID, "%llu bytes in %llu ms by %llu bytes a second",
                       (unsigned long long)f->bytes, (unsigned long long)f->ms,
                       (unsigned long long)f->rate);
    if (f->edges > FIGURES_EDGES_MAX || f->stale > f->edges)
        return err_set(err, ERR_INVALID, "%u of %u edges are stale", f->stale, f->edges);
    return 0;
}

void figures_cut(struct msg_progress *p, uint64_t limit_bytes)
{
    uint64_t limit = limit_bytes == 0 ? FIGURES_BYTES_MAX : limit_bytes;
    uint64_t most = (limit / LEAF_BYTES + LEAVES_MORE) * ASKED_MAX;
    struct msg_fetch *f = p->fetch.items;

    if (p->fetch.count == 0)
        return;
    f->stolen = f->stolen > most ? (uint32_t)most : f->stolen;
    f->doubled = f->doubled > most ? (uint32_t)most : f->doubled;
    f->useless = f->useless > most ? (uint32_t)most : f->useless;
    f->bad = f->bad > most ? (uint32_t)most : f->bad;
}

int figures_check(const struct msg_progress *p, uint64_t limit_bytes, struct err *err)
{
    uint64_t limit = limit_bytes == 0 ? FIGURES_BYTES_MAX : limit_bytes;

    if (p->wanted_bytes > limit || p->staged_bytes > p->wanted_bytes || p->seed_bytes > limit ||
        p->peer_bytes > limit - p->seed_bytes || p->saved_bytes > FIGURES_BYTES_MAX)
        return err_set(err, ERR_INVALID, "progress: more bytes than there are");
    if (p->fetch.count > 0 && check_fetch(p->fetch.items, limit, err) < 0)
        return err_wrap(err, "progress");
    return 0;
}

/* Thousandths of what bytes take at its rate; 0: too little to tell. */
static uint64_t ratio_of(const struct msg_fetch *f, uint64_t bytes)
{
    double bound_ms = f->rate == 0 ? 0 : (double)bytes * 1000 / (double)f->rate, ratio;

    if (bound_ms < FIGURES_BOUND_MS)
        return 0;
    ratio = (double)f->ms * 1000 / bound_ms;
    if (ratio < 1)
        return 1;
    return ratio > FIGURES_RATIO_MAX ? FIGURES_RATIO_MAX : (uint64_t)(ratio + 0.5);
}

uint64_t figures_ratio(const struct msg_fetch *f)
{
    return f->done ? ratio_of(f, f->bytes) : 0;
}

static void add_done(struct figures *f, const struct msg_fetch *m)
{
    uint64_t ratio = figures_ratio(m);
    struct msg_swarm *s = &f->sums;

    s->done++;
    if (m->bytes == 0)
        return;
    spread_add(&f->times, m->ms);
    s->ms_max = m->ms > s->ms_max ? m->ms : s->ms_max;
    if (ratio == 0)
        return;
    s->rated++;
    s->by_limit += m->rate_from == RATE_LIMIT;
    s->by_link += m->rate_from == RATE_LINK;
    s->by_observed += m->rate_from == RATE_OBSERVED;
    spread_add(&f->ratios, ratio);
    s->ratio_max = ratio > s->ratio_max ? ratio : s->ratio_max;
}

/* Each machine accuses another once, however often it names it. */
static void add_banned(struct figures *f, const struct list_of *list)
{
    const struct msg_banned *banned = list->items;

    for (size_t i = 0; i < list->count; i++) {
        size_t k = 0;

        while (k < i && strcmp(banned[k].machine, banned[i].machine) != 0)
            k++;
        if (k == i)
            figures_accuse(f, banned[i].machine);
    }
}

void figures_add(struct figures *f, const struct msg_progress *p)
{
    const struct msg_fetch *m = p->fetch.items;
    struct msg_swarm *s = &f->sums;

    if (p->fetch.count == 0)
        return;
    s->machines++;
    if (m->done)
        add_done(f, m);
    else
        s->late += m->ms >= FIGURES_LATE_MS &&
                   ratio_of(m, m->bytes + p->wanted_bytes - p->staged_bytes) > FIGURES_LATE;
    s->near_bytes += m->near_bytes;
    s->far_bytes += m->far_bytes;
    s->stolen += m->stolen;
    s->doubled += m->doubled;
    s->useless += m->useless;
    s->bad += m->bad;
    s->edges += m->edges;
    s->stale += m->stale;
    add_banned(f, &m->banned);
}

void figures_refused(struct figures *f, uint64_t times)
{
    f->sums.refused += times;
}

void figures_accuse(struct figures *f, const char *machine)
{
    uintptr_t n = (uintptr_t)map_get(&f->accused, machine);

    if (n == 0 && f->naccused == FIGURES_ACCUSED_MAX)
        return;
    f->naccused += n == 0;
    map_put(&f->accused, machine, (void *)(n + 1)); /* NOLINT: a counter, not a pointer */
}

static void take_spread(const struct spread *s, struct list_of *ret)
{
    struct msg_bucket *buckets;
    size_t n = 0;

    for (size_t i = 0; i < SPREAD_BUCKETS; i++)
        n += s->counts[i] > 0;
    *ret = (struct list_of){ NULL, 0 };
    if (n == 0)
        return;
    ret->items = buckets = mem_calloc(n, sizeof(*buckets));
    for (size_t i = 0; i < SPREAD_BUCKETS; i++) {
        if (s->counts[i] > 0)
            buckets[ret->count++] = (struct msg_bucket){ (uint16_t)i, s->counts[i] };
    }
}

static int by_accusers(const void *a, const void *b)
{
    const struct msg_offender *x = a, *y = b;

    if (x->by != y->by)
        return x->by < y->by ? 1 : -1;
    return strcmp(x->machine, y->machine);
}

static void take_offenders(const struct figures *f, struct list_of *ret)
{
    struct msg_offender *all;
    struct map_entry *e;
    size_t n = 0;

    *ret = (struct list_of){ NULL, 0 };
    if (f->naccused == 0)
        return;
    all = mem_calloc(f->naccused, sizeof(*all));
    for (size_t i = 0; (e = map_next(&f->accused, &i)) != NULL;)
        all[n++] = (struct msg_offender){ mem_strdup(e->key), (uintptr_t)e->value };
    qsort(all, n, sizeof(*all), by_accusers);
    ret->items = all;
    ret->count = n > OFFENDERS_MAX ? OFFENDERS_MAX : n;
    for (size_t i = ret->count; i < n; i++)
        free(all[i].machine);
}

void figures_take(const struct figures *f, struct msg_swarm *ret)
{
    *ret = f->sums;
    take_spread(&f->ratios, &ret->ratios);
    take_spread(&f->times, &ret->times);
    take_offenders(f, &ret->offenders);
    ret->packs = (struct list_of){ NULL, 0 };
}

static void merge_spread(struct spread *s, const struct list_of *list)
{
    const struct msg_bucket *buckets = list->items;

    for (size_t i = 0; i < list->count; i++)
        spread_put(s, buckets[i].index, buckets[i].count);
}

void figures_merge(struct figures *f, const struct msg_swarm *m)
{
    struct msg_swarm *s = &f->sums;
    const struct {
        uint64_t *to;
        uint64_t n;
    } sums[] = {
        { &s->machines, m->machines },     { &s->done, m->done },
        { &s->rated, m->rated },           { &s->late, m->late },
        { &s->refused, m->refused },       { &s->by_limit, m->by_limit },
        { &s->by_link, m->by_link },       { &s->by_observed, m->by_observed },
        { &s->near_bytes, m->near_bytes }, { &s->far_bytes, m->far_bytes },
        { &s->stolen, m->stolen },         { &s->doubled, m->doubled },
        { &s->useless, m->useless },       { &s->bad, m->bad },
        { &s->edges, m->edges },           { &s->stale, m->stale },
    };

    for (size_t i = 0; i < COUNT_OF(sums); i++)
        *sums[i].to += sums[i].n;
    s->ratio_max = m->ratio_max > s->ratio_max ? m->ratio_max : s->ratio_max;
    s->ms_max = m->ms_max > s->ms_max ? m->ms_max : s->ms_max;
    merge_spread(&f->ratios, &m->ratios);
    merge_spread(&f->times, &m->times);
}

int figures_cross_rack(const struct msg_swarm *m)
{
    double all = (double)m->near_bytes + (double)m->far_bytes;

    return all > 0 ? (int)((double)m->far_bytes * 1000 / all + 0.5) : -1;
}

uint64_t figures_copies(const struct msg_swarm *m)
{
    const struct msg_pack_sent *packs = m->packs.items;
    double most = 0;

    for (size_t i = 0; i < m->packs.count; i++) {
        double copies =
            packs[i].bytes == 0 ? 0 : (double)packs[i].sent_bytes * 1000 / (double)packs[i].bytes;

        most = copies > most ? copies : most;
    }
    return (uint64_t)(most + 0.5);
}
