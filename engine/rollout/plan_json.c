/* plan_json.c - a plan as JSON, to be kept in SQL between two steps of a deployment. */
#include <string.h>

#include "base/mem.h"
#include "rollout/plan.h"

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)n);
}

static json_t *wave_to_json(const struct plan_wave *w)
{
    return json_pack("{s:s,s:s,s:o,s:f,s:o,s:o,s:o,s:I,s:o,s:f,s:o}", "name", w->name, "where",
                     w->where, "group", number(w->group), "percent", w->percent, "count",
                     number(w->count), "target", number(w->target), "matching", number(w->matching),
                     "bake_ms", (json_int_t)w->bake_ms, "max_failed", number(w->max_failed),
                     "moving_percent", w->moving_percent, "moving_count", number(w->moving_count));
}

static json_t *region_to_json(const struct plan *p, const struct plan_region *r)
{
    json_t *waves = json_array();
    char text[17];

    for (size_t w = 0; w < p->nwaves; w++) {
        threshold_text(text, r->thresholds[w]);
        json_array_append_new(waves,
                              json_pack("{s:o,s:b,s:o,s:s,s:b}", "matching", number(r->matching[w]),
                                        "known", (int)r->known[w], "rank", number(r->ranks[w]),
                                        "threshold", text, "frozen", (int)r->frozen[w]));
    }
    return json_pack("{s:s,s:o,s:o}", "name", r->name, "total", number(r->total), "waves", waves);
}

json_t *plan_to_json(const struct plan *p)
{
    json_t *waves = json_array(), *regions = json_array();

    for (size_t i = 0; i < p->nwaves; i++)
        json_array_append_new(waves, wave_to_json(&p->waves[i]));
    for (size_t i = 0; i < p->nregions; i++)
        json_array_append_new(regions, region_to_json(p, &p->regions[i]));
    return json_pack("{s:s,s:b,s:o,s:o}", "select", p->select, "sized", (int)p->sized, "waves",
                     waves, "regions", regions);
}

static int get_number(const json_t *json, const char *key, uint64_t *ret, struct err *err)
{
    int64_t n = 0;
    int r = json_get_int(json, key, 0, INT64_MAX, &n, err);

    *ret = (uint64_t)n;
    return r;
}

static int wave_from_json(struct plan_wave *w, const json_t *json, size_t nwaves, struct err *err)
{
    const char *name = NULL, *where = NULL;
    uint64_t group = 0;
    int r = json_get_text(json, "name", 64, &name, err);

    if (r == 0)
        r = json_get_text(json, "where", 64 * 1024, &where, err);
    w->name = mem_strdup(name != NULL ? name : "");
    w->where = mem_strdup(where != NULL ? where : "{}");
    w->percent = json_number_value(json_object_get(json, "percent"));
    w->moving_percent = json_number_value(json_object_get(json, "moving_percent"));
    if (r == 0)
        r = get_number(json, "group", &group, err);
    if (r == 0)
        r = get_number(json, "count", &w->count, err);
    if (r == 0)
        r = get_number(json, "target", &w->target, err);
    if (r == 0)
        r = get_number(json, "matching", &w->matching, err);
    if (r == 0)
        r = json_get_int(json, "bake_ms", 0, INT64_MAX, &w->bake_ms, err);
    if (r == 0)
        r = get_number(json, "max_failed", &w->max_failed, err);
    if (r == 0)
        r = get_number(json, "moving_count", &w->moving_count, err);
    if (r == 0 && group >= nwaves)
        r = err_set(err, ERR_INVALID, "group: no such wave");
    w->group = (size_t)group;
    return r;
}

static int region_from_json(struct plan *p, const json_t *json, struct err *err)
{
    const char *name = NULL, *text = NULL;
    const json_t *waves = NULL;
    uint64_t total = 0;
    size_t added;
    struct plan_region *region;
    int r = json_get_text(json, "name", 128, &name, err);

    if (r == 0)
        r = get_number(json, "total", &total, err);
    if (r == 0)
        r = json_get_array(json, "waves", PLAN_WAVES_MAX, &waves, err);
    if (r == 0 && json_array_size(waves) != p->nwaves)
        r = err_set(err, ERR_INVALID, "waves: not as many as the plan has");
    if (r < 0)
        return r;
    added = plan_add_region(p, name, total); /* it may move p->regions */
    region = &p->regions[added];
    for (size_t w = 0; r == 0 && w < p->nwaves; w++) {
        const json_t *one = json_array_get(waves, w);

        r = get_number(one, "matching", &region->matching[w], err);
        if (r == 0)
            r = get_number(one, "rank", &region->ranks[w], err);
        if (r == 0)
            r = json_get_text(one, "threshold", 16, &text, err);
        if (r == 0 && !threshold_parse(&region->thresholds[w], text))
            r = err_set(err, ERR_INVALID, "threshold: not 16 digits");
        region->known[w] = json_is_true(json_object_get(one, "known"));
        region->frozen[w] = json_is_true(json_object_get(one, "frozen"));
    }
    return r;
}

int plan_from_json(struct plan **ret, const json_t *json, struct err *err)
{
    const json_t *waves = NULL, *regions = NULL;
    const char *select = NULL;
    struct plan *p;
    int r = json_get_text(json, "select", 64 * 1024, &select, err);

    if (r == 0)
        r = json_get_array(json, "waves", PLAN_WAVES_MAX, &waves, err);
    if (r == 0)
        r = json_get_array(json, "regions", PLAN_REGIONS_MAX, &regions, err);
    if (r < 0)
        return err_wrap(err, "plan");
    p = mem_alloc(sizeof(*p));
    p->select = mem_strdup(select);
    p->sized = json_is_true(json_object_get(json, "sized"));
    p->waves = mem_calloc(json_array_size(waves) + 1, sizeof(*p->waves));
    for (size_t i = 0; r == 0 && i < json_array_size(waves); i++)
        r = wave_from_json(&p->waves[p->nwaves++], json_array_get(waves, i), json_array_size(waves),
                           err);
    for (size_t i = 0; r == 0 && i < json_array_size(regions); i++)
        r = region_from_json(p, json_array_get(regions, i), err);
    if (r < 0) {
        plan_free(p);
        return err_wrap(err, "plan");
    }
    *ret = p;
    return 0;
}
