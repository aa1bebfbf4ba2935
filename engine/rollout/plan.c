#include "rollout/plan.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/share.h"
#include "wire/predicate.h"

void threshold_text(char out[17], uint64_t threshold)
{
    snprintf(out, 17, "%016" PRIx64, threshold);
}

bool threshold_parse(uint64_t *ret, const char *text)
{
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *ret = strtoull(text, NULL, 16);
    return true;
}

/* --- what the policy wants --- */

static int parse_share(struct plan_wave *w, const json_t *json, struct err *err)
{
    const json_t *percent = json_object_get(json, "percent");
    int64_t count = 0;

    if (percent != NULL && !json_is_null(percent)) {
        w->percent = json_number_value(percent);
        if (!json_is_number(percent) || !(w->percent > 0 && w->percent <= 100))
            return err_set(err, ERR_POLICY, "percent: must be above 0 and at most 100");
        return 0;
    }
    if (json_get_int(json, "count", 1, INT64_C(1) << 32, &count, err) < 0) {
        err->code = ERR_POLICY;
        return err_wrap(err, "neither percent nor a good count");
    }
    w->count = (uint64_t)count;
    return 0;
}

static int parse_moving(struct plan_wave *w, const json_t *json, struct err *err)
{
    const json_t *moving = json_object_get(json, "max_moving");
    char *end;

    if (moving == NULL || json_is_null(moving)) {
        w->moving_percent = 25;
        return 0;
    }
    if (json_is_integer(moving) && json_integer_value(moving) > 0) {
        w->moving_count = (uint64_t)json_integer_value(moving);
        return 0;
    }
    if (json_is_string(moving)) {
        w->moving_percent = strtod(json_string_value(moving), &end);
        if (strcmp(end, "%") == 0 && w->moving_percent > 0 && w->moving_percent <= 100)
            return 0;
    }
    return err_set(err, ERR_POLICY, "max_moving: must be a count above 0 or a text like \"25%%\"");
}

static int parse_where(struct plan_wave *w, const json_t *json, struct err *err)
{
    const json_t *where = json_object_get(json, "where");
    struct predicate *check = NULL;
    int r;

    if (where == NULL || json_is_null(where) || json_object_size(where) == 0) {
        w->where = mem_strdup("{}");
        return 0;
    }
    r = predicate_from_json(&check, where, err);
    predicate_free(check);
    if (r < 0) {
        err->code = ERR_POLICY;
        return err_wrap(err, "where");
    }
    w->where = json_text(where);
    return 0;
}

static int parse_wave(struct plan_wave *w, const json_t *json, struct err *err)
{
    const char *name = NULL;
    int64_t bake = 0, max_failed = 0;
    int r = json_get_text(json, "name", 64, &name, err);

    if (r == 0)
        r = json_get_int_or(json, "bake", 0, 30 * 86400, 0, &bake, err);
    if (r == 0)
        r = json_get_int_or(json, "max_failed", 0, INT64_C(1) << 32, 0, &max_failed, err);
    if (r < 0) {
        err->code = ERR_POLICY;
        return r;
    }
    w->name = mem_strdup(name);
    w->bake_ms = bake * 1000;
    w->max_failed = (uint64_t)max_failed;
    r = parse_share(w, json, err);
    if (r == 0)
        r = parse_moving(w, json, err);
    return r < 0 ? r : parse_where(w, json, err);
}

/* Cumulative shares of one group must rise, where they can be compared. */
static int check_rising(const struct plan *p, size_t i, struct err *err)
{
    const struct plan_wave *w = &p->waves[i];

    for (size_t k = i; k-- > 0;) {
        const struct plan_wave *v = &p->waves[k];

        if (v->group != w->group)
            continue;
        if ((v->percent > 0 && w->percent > 0 && v->percent > w->percent) ||
            (v->count > 0 && w->count > 0 && v->count > w->count))
            return err_set(err, ERR_POLICY,
                           "wave '%s': takes less than wave '%s' before it (shares are cumulative)",
                           w->name, v->name);
        break;
    }
    return 0;
}

static int add_wave(struct plan *p, const json_t *json, struct err *err)
{
    size_t i = p->nwaves++;
    struct plan_wave *w = &p->waves[i];

    if (parse_wave(w, json, err) < 0)
        return err_wrap(err, "waves: number %zu", i + 1);
    for (size_t k = 0; k < i; k++)
        if (strcmp(p->waves[k].name, w->name) == 0)
            return err_set(err, ERR_POLICY, "waves: two have the name '%s'", w->name);
    w->group = i;
    for (size_t k = 0; k < i && w->group == i; k++)
        if (strcmp(p->waves[k].where, w->where) == 0)
            w->group = k;
    return check_rising(p, i, err);
}

int plan_from_waves(struct plan **ret, const json_t *waves, const char *select, struct err *err)
{
    struct plan *p;
    int r = 0;

    if (!json_is_array(waves) || json_array_size(waves) == 0)
        return err_set(err, ERR_POLICY, "waves: there is none");
    if (json_array_size(waves) > PLAN_WAVES_MAX)
        return err_set(err, ERR_POLICY, "waves: more than %d", PLAN_WAVES_MAX);
    p = mem_alloc(sizeof(*p));
    p->select = mem_strdup(select);
    p->waves = mem_calloc(json_array_size(waves), sizeof(*p->waves));
    for (size_t i = 0; r == 0 && i < json_array_size(waves); i++)
        r = add_wave(p, json_array_get(waves, i), err);
    if (r < 0) {
        plan_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

static void region_release(struct plan_region *r)
{
    free(r->name);
    free(r->matching);
    free(r->known);
    free(r->ranks);
    free(r->thresholds);
    free(r->frozen);
}

void plan_free(struct plan *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->nwaves; i++) {
        free(p->waves[i].name);
        free(p->waves[i].where);
    }
    for (size_t i = 0; i < p->nregions; i++)
        region_release(&p->regions[i]);
    free(p->waves);
    free(p->regions);
    free(p->select);
    free(p);
}

/* --- who is there --- */

size_t plan_add_region(struct plan *p, const char *name, uint64_t total)
{
    struct plan_region *r;

    p->regions = mem_realloc(p->regions, (p->nregions + 1) * sizeof(*p->regions));
    r = &p->regions[p->nregions];
    *r = (struct plan_region){ .name = mem_strdup(name), .total = total };
    r->matching = mem_calloc(p->nwaves, sizeof(*r->matching));
    r->known = mem_calloc(p->nwaves, sizeof(*r->known));
    r->ranks = mem_calloc(p->nwaves, sizeof(*r->ranks));
    r->thresholds = mem_calloc(p->nwaves, sizeof(*r->thresholds));
    r->frozen = mem_calloc(p->nwaves, sizeof(*r->frozen));
    for (size_t w = 0; w < p->nwaves; w++) {
        if (plan_where_is_select(p, w)) {
            r->matching[w] = total;
            r->known[w] = true;
        }
    }
    return p->nregions++;
}

size_t plan_find_region(const struct plan *p, const char *name)
{
    for (size_t i = 0; i < p->nregions; i++)
        if (strcmp(p->regions[i].name, name) == 0)
            return i;
    return p->nregions;
}

bool plan_where_is_select(const struct plan *p, size_t w)
{
    return strcmp(p->waves[w].where, "{}") == 0;
}

void plan_where(const struct plan *p, size_t w, struct buf *out)
{
    if (plan_where_is_select(p, w))
        buf_str_append(out, p->select);
    else if (strcmp(p->select, "{}") == 0)
        buf_str_append(out, p->waves[w].where);
    else
        buf_printf(out, "{\"all\":[%s,%s]}", p->select, p->waves[w].where);
}

void plan_set_matching(struct plan *p, size_t region, size_t w, uint64_t matching)
{
    struct plan_region *r = &p->regions[region];

    for (size_t k = 0; k < p->nwaves; k++) {
        if (p->waves[k].group != p->waves[w].group)
            continue;
        r->matching[k] = matching;
        r->known[k] = true;
    }
}

bool plan_is_matched(const struct plan *p, size_t region)
{
    for (size_t w = 0; w < p->nwaves; w++)
        if (!p->regions[region].known[w])
            return false;
    return true;
}

/* --- sizes --- */

static uint64_t fleet_total(const struct plan *p)
{
    uint64_t total = 0;

    for (size_t i = 0; i < p->nregions; i++)
        total += p->regions[i].total;
    return total;
}

static size_t earlier_of_group(const struct plan *p, size_t w)
{
    for (size_t k = w; k-- > 0;)
        if (p->waves[k].group == p->waves[w].group)
            return k;
    return p->nwaves;
}

bool plan_wave_adds(const struct plan *p, size_t w)
{
    size_t before = earlier_of_group(p, w);

    return p->waves[w].target > (before == p->nwaves ? 0 : p->waves[before].target);
}

static void size_wave(struct plan *p, size_t w)
{
    struct plan_wave *wave = &p->waves[w];
    size_t before = earlier_of_group(p, w);
    uint64_t taken = before == p->nwaves ? 0 : p->waves[before].target;
    uint64_t *matching = mem_calloc(p->nregions + 1, sizeof(*matching));
    uint64_t *ranks = mem_calloc(p->nregions + 1, sizeof(*ranks));

    wave->matching = 0;
    for (size_t i = 0; i < p->nregions; i++) {
        matching[i] = p->regions[i].matching[w];
        ranks[i] = before == p->nwaves ? 0 : p->regions[i].ranks[before];
        wave->matching += matching[i];
    }
    wave->target = wave->percent > 0
                       ? (uint64_t)ceil(wave->percent / 100 * (double)wave->matching - 1e-9)
                       : wave->count;
    if (wave->target <= taken)
        wave->target = taken + 1;
    if (wave->target > wave->matching)
        wave->target = wave->matching;
    share_raise(ranks, matching, p->nregions, wave->target);
    for (size_t i = 0; i < p->nregions; i++)
        p->regions[i].ranks[w] = ranks[i];
    free(matching);
    free(ranks);
}

/* What needs no answer of the region: nobody, or everybody (also those that come later). */
static void freeze_ends(struct plan *p, size_t region)
{
    struct plan_region *r = &p->regions[region];

    for (size_t w = 0; w < p->nwaves; w++) {
        bool all = p->waves[w].percent >= 100 ||
                   (p->waves[w].matching > 0 && p->waves[w].target >= p->waves[w].matching);

        if (all || r->ranks[w] == 0) {
            r->thresholds[w] = all ? UINT64_MAX : 0;
            r->frozen[w] = true;
        }
    }
}

uint64_t plan_first_wave_limit(uint64_t fleet)
{
    uint64_t share = (fleet * PLAN_FIRST_WAVE_PERCENT + 99) / 100;

    return share > PLAN_FIRST_WAVE_FREE ? share : PLAN_FIRST_WAVE_FREE;
}

static int check_guardrails(const struct plan *p, int64_t deadline_ms, struct err *err)
{
    const struct plan_wave *first = &p->waves[0];
    uint64_t fleet = fleet_total(p), limit = plan_first_wave_limit(fleet);
    int64_t bakes = 0;

    for (size_t w = 0; w < p->nwaves; w++)
        bakes += p->waves[w].bake_ms;
    if (bakes > deadline_ms)
        return err_set(err, ERR_POLICY,
                       "the plan is longer than the deadline: its waves bake %" PRId64
                       " s, the deadline is %" PRId64 " s",
                       bakes / 1000, deadline_ms / 1000);
    if (first->target > limit)
        return err_set(err, ERR_POLICY,
                       "the first wave '%s' is too large: %" PRIu64 " of %" PRIu64
                       " machines, at most %" PRIu64 " may go first",
                       first->name, first->target, fleet, limit);
    return 0;
}

int plan_size(struct plan *p, int64_t deadline_ms, struct err *err)
{
    for (size_t w = 0; w < p->nwaves; w++)
        size_wave(p, w);
    p->sized = true;
    for (size_t i = 0; i < p->nregions; i++)
        freeze_ends(p, i);
    return check_guardrails(p, deadline_ms, err);
}

void plan_size_late(struct plan *p, size_t region)
{
    struct plan_region *r = &p->regions[region];

    for (size_t w = 0; w < p->nwaves; w++) {
        const struct plan_wave *wave = &p->waves[w];
        double part = wave->matching > 0 ? (double)wave->target / (double)wave->matching : 1;
        size_t before = earlier_of_group(p, w);
        uint64_t taken = before == p->nwaves ? 0 : r->ranks[before];

        r->ranks[w] = (uint64_t)floor(part * (double)r->matching[w] + 1e-9);
        if (r->ranks[w] < taken)
            r->ranks[w] = taken;
    }
    freeze_ends(p, region);
}

/* --- thresholds --- */

json_t *plan_ranks(const struct plan *p, size_t region, size_t w)
{
    const struct plan_region *r = &p->regions[region];
    json_t *ranks = json_array();
    uint64_t last = 0;

    for (size_t k = 0; k < p->nwaves; k++) {
        if (p->waves[k].group != p->waves[w].group || r->frozen[k] || r->ranks[k] <= last)
            continue;
        last = r->ranks[k];
        json_array_append_new(ranks, json_integer((json_int_t)last));
    }
    return ranks;
}

void plan_set_thresholds(struct plan *p, size_t region, size_t w, const json_t *ranks,
                         const uint64_t *thresholds, size_t n)
{
    struct plan_region *r = &p->regions[region];
    uint64_t floor_of_group = 0;

    for (size_t k = 0; k < p->nwaves; k++) {
        if (p->waves[k].group != p->waves[w].group)
            continue;
        for (size_t i = 0; !r->frozen[k] && i < n; i++) {
            if ((uint64_t)json_integer_value(json_array_get(ranks, i)) != r->ranks[k])
                continue;
            r->thresholds[k] = thresholds[i];
            r->frozen[k] = true;
        }
        if (r->thresholds[k] < floor_of_group)
            r->thresholds[k] = floor_of_group;
        floor_of_group = r->thresholds[k];
    }
}

bool plan_is_frozen(const struct plan *p, size_t region)
{
    for (size_t w = 0; w < p->nwaves; w++)
        if (!p->regions[region].frozen[w])
            return false;
    return p->sized;
}

uint64_t plan_max_moving(const struct plan *p, size_t region, size_t w)
{
    const struct plan_wave *wave = &p->waves[w];
    uint64_t here = p->regions[region].total, fleet = fleet_total(p);
    uint64_t limit = here * PLAN_MOVING_PERCENT / 100, n;

    if (wave->moving_percent > 0)
        n = (uint64_t)floor(wave->moving_percent / 100 * (double)here + 1e-9);
    else
        n = fleet == 0 ? 1 : (uint64_t)((double)wave->moving_count * (double)here / (double)fleet);
    n = n > limit ? limit : n;
    return n == 0 ? 1 : n;
}

uint64_t plan_max_moving_back(const struct plan *p, size_t region)
{
    uint64_t n = p->regions[region].total * PLAN_MOVING_PERCENT / 100;

    return n == 0 ? 1 : n;
}

static json_t *rules(const struct plan *p, size_t region, size_t upto, bool with_wave)
{
    const struct plan_region *r = &p->regions[region];
    json_t *list = json_array();
    char text[17];

    for (size_t w = 0; w < upto; w++) {
        json_t *rule;

        if (r->thresholds[w] == 0)
            continue;
        threshold_text(text, r->thresholds[w]);
        rule = json_pack("{s:o,s:s}", "where", json_loads(p->waves[w].where, 0, NULL), "threshold",
                         text);
        if (with_wave)
            json_object_set_new(rule, "wave", json_integer((json_int_t)w));
        json_array_append_new(list, rule);
    }
    return list;
}

json_t *plan_goal_rules(const struct plan *p, size_t region, size_t upto)
{
    return rules(p, region, upto, false);
}

json_t *plan_count_rules(const struct plan *p, size_t region)
{
    return rules(p, region, p->nwaves, true);
}
