/* deploy_count.c - what the regions counted, and which of it may be believed now. */
#include <string.h>

#include "rollout/deploy_inner.h"

static bool is_lost(const struct deploy_input *in, const struct deploy_region_input *r)
{
    return !r->connected && in->now_ms - deploy_since(in, r->seen_ms) > DEPLOY_REGION_LOST_MS;
}

static bool is_fresh(const struct deploy_region *r, const struct deploy_region_input *i)
{
    return i->connected && i->counted && i->counts_generation >= r->generation;
}

bool counts_are_fresh(struct step *s, const char **ret_region)
{
    for (size_t i = 0; i < s->d->nregions; i++) {
        const struct deploy_region *r = &s->d->regions[i];
        const struct deploy_region_input *input = find_input(s->in, r->name);

        if (r->generation == 0 || input == NULL || is_fresh(r, input) || is_lost(s->in, input))
            continue;
        if (!input->connected)
            act_wake(s, deploy_since(s->in, input->seen_ms) + DEPLOY_REGION_LOST_MS + 1);
        *ret_region = r->name;
        return false;
    }
    return true;
}

static void add(struct wave_counts *sum, const struct wave_counts *c, bool reachable)
{
    sum->total += c->total;
    if (!reachable)
        return;
    sum->reachable += c->reachable;
    sum->staged += c->staged;
    sum->activated += c->activated;
    sum->healthy += c->healthy;
    sum->bad += c->bad;
    sum->unknown += c->unknown;
    sum->rolled_back += c->rolled_back;
    sum->previous += c->previous;
}

/* Counts of waves [from, to) over the regions that have a goal of this deployment. */
static struct wave_counts counts(const struct deploy *d, const struct deploy_input *in, size_t from,
                                 size_t to)
{
    struct wave_counts sum = { 0 };

    for (size_t i = 0; i < in->nregions; i++) {
        const struct deploy_region_input *r = &in->regions[i];
        const struct deploy_region *known = deploy_find_region(d, r->name);

        if (known == NULL || known->generation == 0)
            continue;
        for (size_t w = from; w < to && w < r->nwaves; w++)
            add(&sum, &r->waves[w], !is_lost(in, r));
    }
    return sum;
}

struct wave_counts deploy_wave_counts(const struct deploy *d, const struct deploy_input *in,
                                      size_t wave)
{
    return counts(d, in, wave, wave + 1);
}

struct wave_counts deploy_fleet_counts(const struct deploy *d, const struct deploy_input *in)
{
    return counts(d, in, 0, PLAN_WAVES_MAX + 1);
}

void note_moved(struct step *s)
{
    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *r = &s->in->regions[i];
        struct deploy_region *known = deploy_find_region(s->d, r->name);
        int64_t moved = 0;

        if (known == NULL || known->generation == 0 || !is_fresh(known, r))
            continue;
        for (size_t w = 0; w < r->nwaves; w++)
            moved += (int64_t)r->waves[w].activated;
        if (moved > known->moved)
            known->moved = moved;
    }
}

json_t *counts_json(const struct wave_counts *c)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "total", (json_int_t)c->total,
                     "reachable", (json_int_t)c->reachable, "offline",
                     (json_int_t)(c->total > c->reachable ? c->total - c->reachable : 0), "staged",
                     (json_int_t)c->staged, "activated", (json_int_t)c->activated, "healthy",
                     (json_int_t)c->healthy, "bad", (json_int_t)c->bad, "unknown",
                     (json_int_t)c->unknown);
}

json_t *info_json(const struct deploy *d)
{
    json_t *info = json_pack("{s:s,s:s,s:s,s:s,s:s}", "id", d->id, "service", d->service, "commit",
                             d->commit, "actor", d->actor, "reason", d->why);

    if (d->previous[0] != '\0')
        json_object_set_new(info, "previous", json_string(d->previous));
    return info;
}
