/* deploy_region.c - what is known of the regions, and the questions that are out to them. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

struct deploy_region *deploy_find_region(const struct deploy *d, const char *name)
{
    for (size_t i = 0; i < d->nregions; i++)
        if (strcmp(d->regions[i].name, name) == 0)
            return &d->regions[i];
    return NULL;
}

const struct deploy_region_input *find_input(const struct deploy_input *in, const char *name)
{
    for (size_t i = 0; i < in->nregions; i++)
        if (strcmp(in->regions[i].name, name) == 0)
            return &in->regions[i];
    return NULL;
}

struct deploy_pending *find_pending(const struct deploy *d, const char *region, const char *kind,
                                    int64_t wave)
{
    for (size_t i = 0; i < d->npending; i++) {
        struct deploy_pending *p = &d->pending[i];

        if (strcmp(p->region, region) == 0 && strcmp(p->kind, kind) == 0 && p->wave == wave)
            return p;
    }
    return NULL;
}

void drop_pending(struct deploy *d, size_t i)
{
    struct deploy_pending *p = &d->pending[i];

    free(p->key);
    free(p->region);
    free(p->kind);
    json_decref(p->ranks);
    memmove(p, p + 1, (d->npending - i - 1) * sizeof(*p));
    d->npending--;
}

static const json_t *replica_of(const struct deploy_region *r, const json_t *artifact)
{
    const char *variant = json_string_value(json_object_get(artifact, "variant"));

    if (!r->fleet_known)
        return artifact;
    return json_integer_value(json_object_get(r->variants, variant)) > 0 ? artifact : NULL;
}

bool deploy_region_verified(const struct deploy *d, const struct deploy_region_input *input)
{
    const struct deploy_region *r = deploy_find_region(d, input->name);
    size_t i, needed = 0, have = 0;
    json_t *a;

    json_array_foreach(d->artifacts, i, a)
    {
        const char *hash = json_string_value(json_object_get(a, "artifact"));

        if (r != NULL && replica_of(r, a) == NULL)
            continue;
        needed++;
        for (size_t k = 0; k < input->nreplicas; k++)
            have += strcmp(input->replicas[k].artifact, hash) == 0 &&
                    strcmp(input->replicas[k].state, "verified") == 0;
    }
    return have >= needed;
}

void sync_regions(struct step *s)
{
    struct deploy *d = s->d;

    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *input = &s->in->regions[i];
        struct deploy_region *r = deploy_find_region(d, input->name);

        if (r == NULL && d->nregions < PLAN_REGIONS_MAX) {
            d->regions = mem_realloc(d->regions, (d->nregions + 1) * sizeof(*d->regions));
            r = &d->regions[d->nregions++];
            *r = (struct deploy_region){ .name = mem_strdup(input->name),
                                         .goal = mem_strdup(""),
                                         .variants = json_object() };
        }
        if (r == NULL || r->verified || !r->fleet_known || !deploy_region_verified(d, input))
            continue;
        r->verified = true;
        if (r->fleet_total > 0)
            act_event(s, "replicated", json_pack("{s:s}", "region", r->name),
                      "region %s holds the artifacts that it needs", r->name);
    }
}

void ask_fleet(struct step *s, const struct deploy_region_input *input)
{
    const struct deploy *d = s->d;
    const json_t *select = json_object_get(d->data, "select");
    const json_t *variant = json_object_get(d->data, "variant");

    if (!input->connected || find_pending(d, input->name, "fleet", -1) != NULL)
        return;
    act_ask(s, input->name, "fleet", -1, NULL,
            json_pack("{s:o,s:o}", "select",
                      json_is_object(select) ? json_deep_copy(select) : json_object(), "variant",
                      json_is_object(variant) ? json_deep_copy(variant) : json_object()));
}

static void take_fleet(struct step *s, struct deploy_region *r, const json_t *value)
{
    const json_t *variants = json_object_get(value, "variants");

    r->fleet_known = true;
    r->fleet_at_ms = s->in->now_ms;
    r->fleet_total = (uint64_t)json_integer_value(json_object_get(value, "total"));
    r->fleet_reachable = (uint64_t)json_integer_value(json_object_get(value, "reachable"));
    json_decref(r->variants);
    r->variants = json_is_object(variants) ? json_deep_copy(variants) : json_object();
}

static void take_quantile(struct deploy *d, const struct deploy_pending *p, const json_t *value)
{
    size_t region = d->plan == NULL ? 0 : plan_find_region(d->plan, p->region);
    const json_t *list = json_object_get(value, "thresholds");
    size_t n = json_array_size(list);
    uint64_t *thresholds;

    if (d->plan == NULL || region == d->plan->nregions || p->wave < 0 ||
        (size_t)p->wave >= d->plan->nwaves)
        return;
    if (strcmp(p->kind, "matching") == 0) {
        plan_set_matching(d->plan, region, (size_t)p->wave,
                          (uint64_t)json_integer_value(json_object_get(value, "matching")));
        return;
    }
    thresholds = mem_calloc(n + 1, sizeof(*thresholds));
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        if (text == NULL || !threshold_parse(&thresholds[i], text))
            n = 0; /* nonsense: it is asked again */
    }
    plan_set_thresholds(d->plan, region, (size_t)p->wave, p->ranks, thresholds, n);
    free(thresholds);
}

void take_replies(struct step *s)
{
    struct deploy *d = s->d;

    for (size_t k = 0; k < s->in->nreplies; k++) {
        const struct deploy_reply *reply = &s->in->replies[k];

        for (size_t i = 0; i < d->npending; i++) {
            struct deploy_pending *p = &d->pending[i];
            struct deploy_region *r = deploy_find_region(d, p->region);

            if (strcmp(p->key, reply->key) != 0)
                continue;
            if (strcmp(p->kind, "fleet") == 0 && r != NULL)
                take_fleet(s, r, reply->value);
            else
                take_quantile(d, p, reply->value);
            drop_pending(d, i);
            break;
        }
    }
}
