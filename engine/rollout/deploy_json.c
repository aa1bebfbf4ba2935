/* deploy_json.c - a deployment as JSON: what a step needs to go on after kill -9. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

enum { TEXT_MAX = 1 << 20 };

enum kind { TEXT = 1, INT, BOOL, ENUM, JSON };

struct field {
    const char *name;
    enum kind kind;
    size_t offset;
};

#define FIELD(type, name, kind)                  \
    {                                            \
#name, kind, offsetof(struct type, name) \
    }
#define END        \
    {              \
        NULL, 0, 0 \
    }

static const struct field deploy_fields[] = {
    FIELD(deploy, id, TEXT),
    FIELD(deploy, cluster, TEXT),
    FIELD(deploy, service, TEXT),
    FIELD(deploy, commit, TEXT),
    FIELD(deploy, ref, TEXT),
    FIELD(deploy, actor, TEXT),
    FIELD(deploy, why, TEXT),
    FIELD(deploy, recipe, TEXT),
    FIELD(deploy, params, JSON),
    FIELD(deploy, data, JSON),
    FIELD(deploy, no_input, BOOL),
    FIELD(deploy, created_ms, INT),
    FIELD(deploy, state, ENUM),
    FIELD(deploy, reason, TEXT),
    FIELD(deploy, waiting_for, TEXT),
    FIELD(deploy, phase, ENUM),
    FIELD(deploy, gate_passed, BOOL),
    FIELD(deploy, nothing_to_do, BOOL),
    FIELD(deploy, build_failed, BOOL),
    FIELD(deploy, front_ms, INT),
    FIELD(deploy, blocked_ms, INT),
    FIELD(deploy, blocked_since_ms, INT),
    FIELD(deploy, built_ms, INT),
    FIELD(deploy, gated_ms, INT),
    FIELD(deploy, planned_ms, INT),
    FIELD(deploy, staged_ms, INT),
    FIELD(deploy, finished_ms, INT),
    FIELD(deploy, phase_ms, INT),
    FIELD(deploy, deadline_extra_ms, INT),
    FIELD(deploy, held_from, ENUM),
    FIELD(deploy, held_ms, INT),
    FIELD(deploy, held_since_ms, INT),
    FIELD(deploy, held_by_person, BOOL),
    FIELD(deploy, hold_expired, BOOL),
    FIELD(deploy, artifacts, JSON),
    FIELD(deploy, release, TEXT),
    FIELD(deploy, deltas, JSON),
    FIELD(deploy, delta_until_ms, INT),
    FIELD(deploy, origin_before, INT),
    FIELD(deploy, rollback_to, TEXT),
    FIELD(deploy, previous, TEXT),
    FIELD(deploy, wave, INT),
    FIELD(deploy, wave_open, BOOL),
    FIELD(deploy, skip_bake, BOOL),
    FIELD(deploy, promoted, BOOL),
    FIELD(deploy, wave_ms, INT),
    FIELD(deploy, healthy_ms, INT),
    FIELD(deploy, progress_ms, INT),
    FIELD(deploy, silent_ms, INT),
    FIELD(deploy, progress, TEXT),
    FIELD(deploy, memo, JSON),
    FIELD(deploy, ask_count, INT),
    FIELD(deploy, rollback_ms, INT),
    FIELD(deploy, back_ms, INT),
    FIELD(deploy, rollback_by_person, BOOL),
    FIELD(deploy, cause, TEXT),
    FIELD(deploy, failures, JSON),
    FIELD(deploy, bad, INT),
    FIELD(deploy, told, JSON),
    END,
};

static const struct field region_fields[] = {
    FIELD(deploy_region, name, TEXT),
    FIELD(deploy_region, fleet_known, BOOL),
    FIELD(deploy_region, fleet_total, INT),
    FIELD(deploy_region, fleet_reachable, INT),
    FIELD(deploy_region, variants, JSON),
    FIELD(deploy_region, fleet_at_ms, INT),
    FIELD(deploy_region, verified, BOOL),
    FIELD(deploy_region, late, BOOL),
    FIELD(deploy_region, told, BOOL),
    FIELD(deploy_region, generation, INT),
    FIELD(deploy_region, goal, TEXT),
    FIELD(deploy_region, moved, INT),
    END,
};

static const struct field pending_fields[] = {
    FIELD(deploy_pending, key, TEXT),
    FIELD(deploy_pending, region, TEXT),
    FIELD(deploy_pending, kind, TEXT),
    FIELD(deploy_pending, wave, INT),
    FIELD(deploy_pending, ranks, JSON),
    FIELD(deploy_pending, at_ms, INT),
    END,
};

_Static_assert(sizeof(enum deploy_state) == sizeof(int) && sizeof(enum deploy_phase) == sizeof(int),
               "enums are saved as ints");

static json_t *save_field(const struct field *f, const char *at)
{
    json_t *json;

    switch (f->kind) {
    case TEXT:
        return json_string(*(char *const *)(const void *)at);
    case INT:
        return json_integer(*(const int64_t *)(const void *)at);
    case BOOL:
        return json_boolean(*(const bool *)(const void *)at);
    case ENUM:
        return json_integer(*(const int *)(const void *)at);
    case JSON:
        json = *(json_t *const *)(const void *)at;
        return json == NULL ? json_null() : json_deep_copy(json);
    }
    return json_null();
}

static json_t *save(const struct field *fields, const void *object)
{
    json_t *out = json_object();

    for (const struct field *f = fields; f->name != NULL; f++)
        json_object_set_new(out, f->name, save_field(f, (const char *)object + f->offset));
    return out;
}

static int load_field(const struct field *f, char *at, const json_t *json, struct err *err)
{
    const json_t *value = json_object_get(json, f->name);
    const char *text = NULL;
    int64_t n = 0;
    int r = 0;

    switch (f->kind) {
    case TEXT:
        r = json_get_text_or(json, f->name, TEXT_MAX, "", &text, err);
        deploy_set_text((char **)(void *)at, text);
        return r;
    case INT:
        return json_get_int_or(json, f->name, INT64_MIN, INT64_MAX, 0, (int64_t *)(void *)at, err);
    case BOOL:
        return json_get_bool_or(json, f->name, false, (bool *)(void *)at, err);
    case ENUM:
        r = json_get_int_or(json, f->name, 0, DEPLOY_SUPERSEDED, 0, &n, err);
        *(int *)(void *)at = (int)n;
        return r;
    case JSON:
        if (value == NULL || json_is_null(value))
            return 0;
        json_decref(*(json_t **)(void *)at);
        *(json_t **)(void *)at = json_deep_copy(value);
        return 0;
    }
    return 0;
}

static int load(const struct field *fields, void *object, const json_t *json, struct err *err)
{
    int r = 0;

    for (const struct field *f = fields; r == 0 && f->name != NULL; f++)
        r = load_field(f, (char *)object + f->offset, json, err);
    return r;
}

json_t *deploy_to_json(const struct deploy *d)
{
    json_t *out = save(deploy_fields, d), *regions = json_array(), *pending = json_array();

    for (size_t i = 0; i < d->nregions; i++)
        json_array_append_new(regions, save(region_fields, &d->regions[i]));
    for (size_t i = 0; i < d->npending; i++)
        json_array_append_new(pending, save(pending_fields, &d->pending[i]));
    json_object_set_new(out, "regions", regions);
    json_object_set_new(out, "pending", pending);
    json_object_set_new(out, "plan", d->plan == NULL ? json_null() : plan_to_json(d->plan));
    return out;
}

static int load_lists(struct deploy *d, const json_t *json, struct err *err)
{
    const json_t *regions = NULL, *pending = NULL;
    int r = json_get_array(json, "regions", PLAN_REGIONS_MAX, &regions, err);

    if (r == 0)
        r = json_get_array(json, "pending", 1 << 20, &pending, err);
    if (r < 0)
        return r;
    d->regions = mem_calloc(json_array_size(regions) + 1, sizeof(*d->regions));
    for (size_t i = 0; r == 0 && i < json_array_size(regions); i++) {
        d->regions[i].variants = json_object();
        d->nregions++;
        r = load(region_fields, &d->regions[i], json_array_get(regions, i), err);
    }
    d->pending = mem_calloc(json_array_size(pending) + 1, sizeof(*d->pending));
    for (size_t i = 0; r == 0 && i < json_array_size(pending); i++) {
        d->pending[i].ranks = json_array();
        d->npending++;
        r = load(pending_fields, &d->pending[i], json_array_get(pending, i), err);
    }
    return r;
}

int deploy_from_json(struct deploy **ret, const json_t *json, struct err *err)
{
    struct deploy *d = deploy_new("", "", "", "", 0);
    const json_t *plan = json_object_get(json, "plan");
    int r = load(deploy_fields, d, json, err);

    if (r == 0)
        r = load_lists(d, json, err);
    if (r == 0 && plan != NULL && !json_is_null(plan))
        r = plan_from_json(&d->plan, plan, err);
    if (r < 0) {
        deploy_free(d);
        return err_wrap(err, "deployment");
    }
    *ret = d;
    return 0;
}
