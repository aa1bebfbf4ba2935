/* deploy_gate.c - replicating: the gate, then the plan.
 *
 * Happy path: fleet asked everywhere -> policy.replicate says go (latched) -> policy.waves ->
 * machines per `where` -> ranks -> thresholds frozen -> rolling. A region that goes away in the
 * middle is left out after DEPLOY_PLAN_ASK_MS and joins late. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

/* --- the gate --- */

static bool counts_in(const struct deploy_region *r, const struct deploy_region_input *input)
{
    return r != NULL && r->fleet_known ? r->fleet_total > 0 : input->machines > 0;
}

static const char *replica_state(const struct deploy *d, const struct deploy_region_input *input,
                                 int64_t *bytes, int64_t *total)
{
    const char *state = "waiting";
    bool failed = false;

    for (size_t i = 0; i < input->nreplicas; i++) {
        const struct deploy_replica *r = &input->replicas[i];

        *bytes += r->bytes;
        *total += r->total;
        failed = failed || strcmp(r->state, "failed") == 0;
        if (strcmp(r->state, "waiting") != 0)
            state = "fetching";
    }
    if (deploy_region_verified(d, input))
        return "verified";
    if (failed)
        return "failed";
    return input->connected ? state : "unreachable";
}

static json_t *replication_json(const struct step *s)
{
    const struct deploy *d = s->d;
    json_t *regions = json_object();
    json_int_t total = 0, verified = 0, failed = 0;

    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *input = &s->in->regions[i];
        const struct deploy_region *r = deploy_find_region(d, input->name);
        int64_t bytes = 0, of = 0;
        const char *state = replica_state(d, input, &bytes, &of);

        if (!counts_in(r, input))
            continue;
        total++;
        verified += strcmp(state, "verified") == 0;
        failed += strcmp(state, "failed") == 0;
        json_object_set_new(
            regions, input->name,
            json_pack("{s:b,s:s,s:I,s:I,s:I}", "verified", strcmp(state, "verified") == 0, "state",
                      state, "bytes", (json_int_t)bytes, "total", (json_int_t)of, "machines",
                      (json_int_t)(r != NULL && r->fleet_known ? (int64_t)r->fleet_total
                                                               : input->machines)));
    }
    return json_pack("{s:I,s:I,s:I,s:o,s:o,s:O,s:O}", "total", total, "verified", verified,
                     "failed", failed, "region", regions, "deployment", info_json(d), "params",
                     d->params, "memo", d->memo);
}

/* Asks again what is older than DEPLOY_FLEET_MS. False: an answer is still to come. */
static bool fleet_is_known(struct step *s)
{
    bool known = true;

    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *input = &s->in->regions[i];
        struct deploy_region *r = deploy_find_region(s->d, input->name);

        if (r == NULL || !input->connected)
            continue;
        if (!r->fleet_known || s->in->now_ms - r->fleet_at_ms >= DEPLOY_FLEET_MS)
            ask_fleet(s, input);
        else
            act_wake(s, r->fleet_at_ms + DEPLOY_FLEET_MS);
        if (!r->fleet_known) {
            act_waiting(s, "region %s to count the machines", r->name);
            known = false;
        }
    }
    return known;
}

static uint64_t fleet_total(const struct step *s)
{
    uint64_t total = 0;

    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *input = &s->in->regions[i];
        const struct deploy_region *r = deploy_find_region(s->d, input->name);

        if (r != NULL && counts_in(r, input))
            total += r->fleet_known ? r->fleet_total : (uint64_t)input->machines;
    }
    return total;
}

static void pass_gate(struct step *s, const char *why)
{
    struct deploy *d = s->d;

    d->gate_passed = true;
    d->gated_ms = s->in->now_ms;
    d->phase = PLANNING_NONE;
    json_decref(d->memo);
    d->memo = json_object();
    deploy_set_text(&d->asked, "");
    act_event(s, "gate", NULL, "replication suffices%s%s", why[0] == '\0' ? "" : ": ", why);
}

static void obey_gate(struct step *s, const struct decision *decision)
{
    struct deploy *d = s->d;

    d->ask_again_ms = s->in->now_ms + (decision->after_ms < 200 ? 200 : decision->after_ms);
    switch (decision->action) {
    case DECISION_GO:
        pass_gate(s, decision->reason);
        return;
    case DECISION_HOLD:
        hold(s, false, "%s", decision->reason);
        return;
    case DECISION_ROLLBACK:
    case DECISION_FAIL:
        finish(s, DEPLOY_FAILED, "%s", decision->reason);
        return;
    case DECISION_WAIT:
    case DECISION_NONE:
        break;
    }
    act_waiting(s, "%s", decision->reason);
    act_wake(s, d->ask_again_ms);
}

static bool ask_gate(struct step *s)
{
    struct decision decision;
    json_t *input;
    char *key;

    if (s->answered == ASK_REPLICATE) {
        if (take_decision(s, &decision))
            obey_gate(s, &decision);
        return s->d->gate_passed;
    }
    input = replication_json(s);
    key = json_text(input);
    json_object_set_new(input, "elapsed", json_integer((s->in->now_ms - s->d->built_ms) / 1000));
    json_object_set_new(input, "now", json_integer(s->in->now_ms / 1000));
    act_question(s, ASK_REPLICATE, input, key);
    free(key);
    return false;
}

static bool somebody_is_selected(struct step *s)
{
    struct deploy *d = s->d;
    int64_t until = deploy_since(s->in, d->phase_ms) + DEPLOY_SETTLE_MS;

    if (fleet_total(s) > 0)
        return true;
    if (s->in->now_ms < until) {
        act_waiting(s, "machines that the policy selects (none is known)");
        act_wake(s, until);
        return false;
    }
    hold(s, false, "the policy selects no machine that is known");
    return false;
}

/* --- the plan --- */

static int by_size(const void *a, const void *b)
{
    const struct deploy_region *x = *(const struct deploy_region *const *)a;
    const struct deploy_region *y = *(const struct deploy_region *const *)b;

    if (x->fleet_total != y->fleet_total)
        return x->fleet_total < y->fleet_total ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct deploy_region *const *)a)->name,
                  (*(const struct deploy_region *const *)b)->name);
}

static json_t *sorted_json(const struct deploy_region **list, size_t n,
                           int (*order)(const void *, const void *))
{
    json_t *out = json_array();

    qsort(list, n, sizeof(*list), order);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(out, json_pack("{s:s,s:I,s:I}", "name", list[i]->name, "total",
                                             (json_int_t)list[i]->fleet_total, "reachable",
                                             (json_int_t)list[i]->fleet_reachable));
    return out;
}

static json_t *fleet_json(const struct deploy *d)
{
    const struct deploy_region *list[PLAN_REGIONS_MAX];
    json_int_t total = 0, reachable = 0;
    json_t *names;
    size_t n = 0;

    for (size_t i = 0; i < d->nregions; i++) {
        if (!d->regions[i].fleet_known || d->regions[i].fleet_total == 0)
            continue;
        total += (json_int_t)d->regions[i].fleet_total;
        reachable += (json_int_t)d->regions[i].fleet_reachable;
        list[n++] = &d->regions[i];
    }
    names = sorted_json(list, n, by_name);
    return json_pack("{s:I,s:I,s:o,s:o,s:o,s:O}", "total", total, "reachable", reachable, "regions",
                     names, "regions_by_size", sorted_json(list, n, by_size), "deployment",
                     info_json(d), "params", d->params);
}

static bool builds_variant(const struct deploy *d, const char *variant)
{
    size_t i;
    json_t *a;

    json_array_foreach(d->artifacts, i, a)
    {
        if (strcmp(json_string_value(json_object_get(a, "variant")), variant) == 0)
            return true;
    }
    return false;
}

/* Every selected machine must have an artifact. */
static bool variants_are_complete(struct step *s)
{
    struct deploy *d = s->d;

    for (size_t i = 0; i < d->nregions; i++) {
        const char *variant;
        json_t *count;

        json_object_foreach(d->regions[i].variants, variant, count)
        {
            long long n = (long long)json_integer_value(count);

            if (n == 0 || (variant[0] != '\0' && builds_variant(d, variant)))
                continue;
            if (variant[0] == '\0')
                finish(s, DEPLOY_FAILED,
                       "the plan is refused: %lld selected machines in region %s have no variant",
                       n, d->regions[i].name);
            else
                finish(s, DEPLOY_FAILED,
                       "the plan is refused: %lld selected machines in region %s need the variant "
                       "'%s', which the build does not yield",
                       n, d->regions[i].name, variant);
            return false;
        }
    }
    return true;
}

static void take_waves(struct step *s)
{
    struct deploy *d = s->d;
    const json_t *select = json_object_get(d->data, "select");
    char *text = json_is_object(select) ? json_text(select) : mem_strdup("{}");
    struct err err = ERR_INIT;

    s->answered = ASK_NONE;
    if (s->in->answer == NULL) {
        hold(s, false, "%s", s->in->answer_error);
    } else if (plan_from_waves(&d->plan, s->in->answer, text, &err) < 0) {
        finish(s, DEPLOY_FAILED, "the plan is refused: %s", err.text);
    } else {
        for (size_t i = 0; i < d->nregions; i++)
            if (d->regions[i].fleet_known)
                plan_add_region(d->plan, d->regions[i].name, d->regions[i].fleet_total);
        d->phase = PLANNING_MATCHING;
        d->phase_ms = s->in->now_ms;
    }
    free(text);
}

/* A region that has machines and is away for a moment is worth waiting for. */
static bool waits_for_region(struct step *s)
{
    const struct deploy *d = s->d;
    int64_t until = deploy_since(s->in, d->gated_ms) + DEPLOY_PLAN_ASK_MS;

    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *input = &s->in->regions[i];
        const struct deploy_region *r = deploy_find_region(d, input->name);

        if (input->machines == 0 || s->in->now_ms >= until || (r != NULL && r->fleet_known))
            continue;
        if (input->connected)
            ask_fleet(s, input);
        act_waiting(s, "region %s to connect and count its machines", input->name);
        act_wake(s, until);
        return true;
    }
    return false;
}

static void ask_waves(struct step *s)
{
    struct deploy *d = s->d;

    if (s->answered == ASK_WAVES) {
        take_waves(s);
        return;
    }
    if (!variants_are_complete(s) || waits_for_region(s))
        return;
    act_waiting(s, "the policy's waves");
    deploy_set_text(&d->asked, "");
    act_question(s, ASK_WAVES, fleet_json(d), "waves");
}

static void ask_quantile(struct step *s, size_t region, size_t wave, const char *kind,
                         json_t *ranks)
{
    const struct deploy *d = s->d;
    AUTO_BUF where = BUF_INIT;

    plan_where(d->plan, wave, &where);
    act_ask(s, d->plan->regions[region].name, kind, (int64_t)wave, json_incref(ranks),
            json_pack("{s:s,s:o,s:o}", "deployment", d->id, "where",
                      json_loads(buf_str(&where), 0, NULL), "ranks", ranks));
}

/* True once every group of the region has been counted. */
static bool region_is_matched(struct step *s, size_t region)
{
    const struct plan *p = s->d->plan;
    const char *name = p->regions[region].name;

    for (size_t w = 0; w < p->nwaves; w++)
        if (p->waves[w].group == w && !p->regions[region].known[w] &&
            find_pending(s->d, name, "matching", (int64_t)w) == NULL)
            ask_quantile(s, region, w, "matching", json_array());
    return plan_is_matched(p, region);
}

static bool region_is_frozen(struct step *s, size_t region)
{
    const struct plan *p = s->d->plan;
    const char *name = p->regions[region].name;

    for (size_t w = 0; w < p->nwaves; w++) {
        json_t *ranks;

        if (p->waves[w].group != w || find_pending(s->d, name, "ranks", (int64_t)w) != NULL)
            continue;
        ranks = plan_ranks(p, region, w);
        if (json_array_size(ranks) > 0)
            ask_quantile(s, region, w, "ranks", ranks);
        else
            json_decref(ranks);
    }
    return plan_is_frozen(p, region);
}

/* Runs ready() on all regions. False: wait; a region that is away for too long starts it anew. */
static bool all_regions(struct step *s, bool (*ready)(struct step *s, size_t region))
{
    struct deploy *d = s->d;
    int64_t until = deploy_since(s->in, d->phase_ms) + DEPLOY_PLAN_ASK_MS;
    bool all = true;

    for (size_t i = 0; i < d->plan->nregions; i++) {
        const char *name = d->plan->regions[i].name;
        const struct deploy_region_input *input = find_input(s->in, name);

        if (ready(s, i))
            continue;
        all = false;
        act_waiting(s, "region %s to answer for the plan", name);
        act_wake(s, until);
        if ((input != NULL && input->connected) || s->in->now_ms < until)
            continue;
        act_event(s, "late", json_pack("{s:s}", "region", name),
                  "region %s is away: the plan is made without it", name);
        deploy_find_region(d, name)->fleet_known = false;
        plan_free(d->plan);
        d->plan = NULL;
        while (d->npending > 0)
            drop_pending(d, d->npending - 1);
        d->phase = PLANNING_NONE;
        return false;
    }
    return all;
}

static void start_rolling(struct step *s)
{
    struct deploy *d = s->d;

    d->planned_ms = s->in->now_ms;
    d->wave = 0;
    d->wave_open = false;
    d->wave_ms = s->in->now_ms;
    d->progress_ms = s->in->now_ms;
    d->promoted = false;
    s->out->planned = true;
    for (size_t i = 0; i < d->plan->nregions; i++)
        act_plan(s, i);
    act_event(s, "plan", plan_to_json(d->plan), "planned %zu waves in %zu regions", d->plan->nwaves,
              d->plan->nregions);
    enter(s, DEPLOY_ROLLING, "");
}

static void size_plan(struct step *s)
{
    struct deploy *d = s->d;
    struct err err = ERR_INIT;

    if (plan_size(d->plan, deploy_deadline_ms(d), &err) < 0) {
        plan_free(d->plan);
        d->plan = NULL;
        finish(s, DEPLOY_FAILED, "the plan is refused: %s", err.text);
        return;
    }
    d->phase = PLANNING_RANKS;
    d->phase_ms = s->in->now_ms;
}

void step_replicating(struct step *s)
{
    struct deploy *d = s->d;

    if (d->phase == PLANNING_NONE) {
        if (s->answered != ASK_REPLICATE && (!fleet_is_known(s) || !somebody_is_selected(s)))
            return;
        if (!d->gate_passed && d->promoted)
            pass_gate(s, "promoted by a person");
        if (!d->gate_passed && !ask_gate(s))
            return;
        if (deltas_hold(s))
            return;
        d->phase = PLANNING_WAVES;
    }
    if (d->phase == PLANNING_WAVES)
        ask_waves(s);
    if (d->state == DEPLOY_REPLICATING && d->phase == PLANNING_MATCHING &&
        all_regions(s, region_is_matched))
        size_plan(s);
    if (d->state == DEPLOY_REPLICATING && d->phase == PLANNING_RANKS &&
        all_regions(s, region_is_frozen))
        start_rolling(s);
}

/* A region that the plan does not have yet is asked step by step what the others were asked. */
static void plan_late(struct step *s, struct deploy_region *r,
                      const struct deploy_region_input *input)
{
    struct deploy *d = s->d;
    size_t region = plan_find_region(d->plan, r->name);

    if (region == d->plan->nregions && !r->fleet_known) {
        ask_fleet(s, input);
        return;
    }
    if (region == d->plan->nregions)
        region = plan_add_region(d->plan, r->name, r->fleet_total);
    if (!plan_is_frozen(d->plan, region)) {
        if (!region_is_matched(s, region))
            return;
        plan_size_late(d->plan, region);
        if (!region_is_frozen(s, region))
            return;
    }
    act_plan(s, region);
}

void tend_late(struct step *s)
{
    struct deploy *d = s->d;

    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *input = &s->in->regions[i];
        struct deploy_region *r = deploy_find_region(d, input->name);

        if (r == NULL || r->told)
            continue;
        if (!r->late && counts_in(r, input)) {
            r->late = true;
            act_event(s, "late", json_pack("{s:s}", "region", r->name),
                      "region %s is late: it was away when the plan was made", r->name);
        }
        plan_late(s, r, input);
    }
    for (size_t i = 0; i < d->nregions; i++) {
        struct deploy_region *r = &d->regions[i];

        if (r->late || r->verified || !r->told || r->fleet_total == 0)
            continue;
        r->late = true;
        act_event(s, "late", json_pack("{s:s}", "region", r->name),
                  "region %s is late: it gets its goal when it holds the artifacts", r->name);
    }
}
