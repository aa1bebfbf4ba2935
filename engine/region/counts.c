#include "region/counts.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/figures.h"
#include "wire/doc.h"
#include "wire/member.h"

enum { NOT_SELECTED = UINT32_MAX };

static int parse_rules(struct count_plan *p, const struct msg_plan *msg, struct err *err)
{
    const struct msg_rule *rules = msg->rules.items;

    p->rules = mem_calloc(msg->rules.count, sizeof(*p->rules));
    for (size_t i = 0; i < msg->rules.count; i++) {
        if (rules[i].wave >= p->waves)
            return err_set(err, ERR_INVALID, "rule %zu: wave %u of %u", i, rules[i].wave, p->waves);
        if (predicate_parse(&p->rules[i].where, rules[i].where, err) < 0)
            return err_wrap(err, "rule %zu", i);
        p->rules[i].wave = rules[i].wave;
        p->rules[i].threshold = rules[i].threshold;
        p->nrules++;
    }
    return 0;
}

static int parse_variant(json_t **ret, const char *text, struct err *err)
{
    int r = json_parse(ret, text, strlen(text), err);

    if (r == 0)
        r = variant_check(*ret, err);
    return r < 0 ? err_wrap(err, "variant") : 0;
}

static int parse(struct count_plan *p, const struct msg_plan *msg, struct err *err)
{
    int r = doc_check_name("deployment", msg->deployment, err);

    if (r == 0)
        r = doc_check_name("service", msg->service, err);
    if (r < 0)
        return r;
    if (msg->waves > WAVES_MAX)
        return err_set(err, ERR_LIMIT, "%u waves, at most %d", msg->waves, WAVES_MAX);
    if (predicate_parse(&p->select, msg->select, err) < 0)
        return err_wrap(err, "select");
    r = parse_variant(&p->variant, msg->variant, err);
    return r < 0 ? r : parse_rules(p, msg, err);
}

int count_plan_new(struct count_plan **ret, const struct msg_plan *msg, struct err *err)
{
    struct count_plan *p = mem_alloc(sizeof(*p));
    int r;

    p->deployment = mem_strdup(msg->deployment);
    p->service = mem_strdup(msg->service);
    p->release = msg->release;
    p->rollback_to = msg->rollback_to;
    p->waves = msg->waves;
    p->dirty = true;
    r = parse(p, msg, err);
    if (r < 0) {
        count_plan_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void count_plan_free(struct count_plan *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->nrules; i++)
        predicate_free(p->rules[i].where);
    free(p->rules);
    predicate_free(p->select);
    json_decref(p->variant);
    free(p->members);
    free(p->deployment);
    free(p->service);
    buf_release(&p->sent);
    free(p);
}

bool report_failed_staging(const struct msg_report *r)
{
    return r->phase == PHASE_FAILED && strncmp(r->reason, "stage", 5) == 0;
}

static uint32_t wave_of(const struct count_plan *p, const struct machine *m)
{
    uint64_t hash;

    if (!predicate_match(p->select, m->labels, m->nlabels))
        return NOT_SELECTED;
    hash = wave_hash(p->deployment, m->id);
    for (size_t i = 0; i < p->nrules; i++) {
        if (hash < p->rules[i].threshold &&
            predicate_match(p->rules[i].where, m->labels, m->nlabels))
            return p->rules[i].wave;
    }
    return p->waves;
}

/* As wave_of(), remembered as long as the labels stay. An epoch is never 0. */
static uint32_t member(struct count_plan *p, const struct machine *m)
{
    struct count_member *c = &p->members[m->at];

    if (c->epoch != m->epoch)
        *c = (struct count_member){ m->epoch, wave_of(p, m) };
    return c->wave;
}

/* A machine that cannot stage (its disk is full, say) is bad as long as it says so: it goes on trying, and
 * the policy judges it meanwhile instead of waiting for it. */
static bool is_bad(const struct msg_report *r)
{
    return r->verdict == VERDICT_BAD || report_failed_staging(r) ||
           (r->phase == PHASE_FAILED && r->verdict == VERDICT_NONE);
}

/* What a report of the plan's release adds to its wave. */
static void add_report(struct msg_wave_counts *w, const struct machine *m,
                       const struct machine_service *v)
{
    const struct msg_report *r = v->report;
    bool fresh = m->reachable && !v->remembered && strcmp(r->boot, m->self->boot) == 0;
    bool activated = r->phase == PHASE_ACTIVATED || r->phase == PHASE_HEALTHY ||
                     (r->phase == PHASE_FAILED && !report_failed_staging(r));
    bool healthy = r->phase == PHASE_HEALTHY && r->verdict == VERDICT_GOOD;

    w->staged += m->reachable && (activated || r->phase == PHASE_STAGED);
    w->activated += activated;
    if (is_bad(r))
        w->bad++;
    else if (healthy && fresh)
        w->healthy++;
    else if (r->verdict == VERDICT_UNKNOWN || (activated && !fresh))
        w->unknown++;
}

/* Does it run the release before, healthy? */
static bool is_previous(const struct count_plan *p, const struct msg_report *r)
{
    return !hash_is_zero(&p->rollback_to) && hash_equal(&r->release, &p->rollback_to) &&
           r->phase == PHASE_HEALTHY && r->verdict == VERDICT_GOOD;
}

static bool is_rolled_back(const struct count_plan *p, const struct machine_service *v)
{
    if (v->moved == NULL || strcmp(v->moved, p->deployment) != 0)
        return false;
    return v->report->phase == PHASE_STOPPED || is_previous(p, v->report);
}

static const char *failed_phase(const struct count_plan *p, const struct msg_report *r)
{
    static const char *const phases[] = { "stage", "activate", "health", "rollback" };

    if (hash_equal(&r->release, &p->rollback_to))
        return "rollback";
    for (size_t i = 0; i < COUNT_OF(phases); i++) {
        if (strncmp(r->reason, phases[i], strlen(phases[i])) == 0)
            return phases[i];
    }
    return r->phase == PHASE_STAGED ? "stage" : "health";
}

static void add_failure(const struct count_plan *p, const struct machine *m,
                        const struct msg_report *r, struct msg_counts *ret)
{
    struct msg_failure *failures = ret->failures.items;

    if (ret->failures.count >= FAILURES_MAX)
        return;
    if (failures == NULL)
        ret->failures.items = failures = mem_calloc(FAILURES_MAX, sizeof(*failures));
    failures[ret->failures.count++] =
        (struct msg_failure){ mem_strdup(m->id), mem_strdup(failed_phase(p, r)),
                              mem_strdup(r->reason) };
}

static void add_progress(const struct msg_progress *g, struct msg_counts *ret)
{
    ret->staged_bytes += g->staged_bytes;
    ret->wanted_bytes += g->wanted_bytes;
    ret->seed_bytes += g->seed_bytes;
    ret->peer_bytes += g->peer_bytes;
    ret->saved_bytes += g->saved_bytes;
}

static void add_machine(struct count_plan *p, const struct machine *m, struct figures *f,
                        struct msg_counts *ret)
{
    const struct machine_service *v = machine_service(m, p->service);
    const struct msg_progress *told = v == NULL ? NULL : machine_progress(v, p->deployment);
    uint32_t at = member(p, m);
    struct msg_wave_counts *w;

    if (told != NULL) {
        add_progress(told, ret);
        figures_add(f, told);
    }
    if (v != NULL)
        figures_refused(f, v->refused);
    if (at == NOT_SELECTED) {
        ret->drift += machine_runs(m, p->service);
        return;
    }
    w = (struct msg_wave_counts *)ret->waves.items + at;
    w->total++;
    w->reachable += m->reachable;
    if (v == NULL || v->report == NULL)
        return;
    if (hash_equal(&v->report->release, &p->release) && v->report->phase != PHASE_STOPPED)
        add_report(w, m, v);
    w->rolled_back += is_rolled_back(p, v);
    w->previous += m->reachable && !v->remembered && is_previous(p, v->report);
    if (is_bad(v->report) || v->report->phase == PHASE_FAILED) {
        if (hash_equal(&v->report->release, &p->release) ||
            (!hash_is_zero(&p->rollback_to) && hash_equal(&v->report->release, &p->rollback_to) &&
             strcmp(v->report->deployment, p->deployment) == 0))
            add_failure(p, m, v->report, ret);
    }
}

static void take_figures(const struct figures *f, struct msg_counts *ret)
{
    if (f->sums.machines + f->sums.refused == 0)
        return;
    ret->swarm = (struct list_of){ mem_calloc(1, sizeof(struct msg_swarm)), 1 };
    figures_take(f, ret->swarm.items);
}

void machines_count(struct machines *ms, struct count_plan *p, uint64_t generation,
                    uint64_t slots_used, struct msg_counts *ret)
{
    struct msg_wave_counts *waves = mem_calloc(p->waves + 1, sizeof(*waves));
    struct figures *f = figures_new();

    *ret = (struct msg_counts){ .deployment = mem_strdup(p->deployment),
                                .generation = generation,
                                .slots_used = slots_used,
                                .waves = { waves, p->waves + 1 } };
    for (uint32_t i = 0; i <= p->waves; i++)
        waves[i].wave = i;
    if (p->nmembers < ms->count) {
        p->members = mem_realloc(p->members, ms->cap * sizeof(*p->members));
        memset(p->members + p->nmembers, 0, (ms->cap - p->nmembers) * sizeof(*p->members));
        p->nmembers = ms->cap;
    }
    for (size_t i = 0; i < ms->count; i++)
        add_machine(p, ms->all[i], f, ret);
    take_figures(f, ret);
    figures_free(f);
    p->dirty = false;
}

static int tally(struct msg_fleet *ret, const char *name, struct err *err)
{
    struct msg_tally *tallies = ret->variants.items;

    for (size_t i = 0; i < ret->variants.count; i++) {
        if (strcmp(tallies[i].name, name) == 0) {
            tallies[i].count++;
            return 0;
        }
    }
    if (ret->variants.count >= TALLIES_MAX)
        return err_set(err, ERR_LIMIT, "more than %d variants", TALLIES_MAX);
    if (tallies == NULL)
        ret->variants.items = tallies = mem_calloc(TALLIES_MAX, sizeof(*tallies));
    tallies[ret->variants.count++] = (struct msg_tally){ mem_strdup(name), 1 };
    return 0;
}

static int count_fleet(const struct machines *ms, const struct predicate *select,
                       const json_t *rule, struct msg_fleet *ret, struct err *err)
{
    for (size_t i = 0; i < ms->count; i++) {
        const struct machine *m = ms->all[i];
        const char *variant;

        if (!predicate_match(select, m->labels, m->nlabels))
            continue;
        variant = variant_of(rule, m->labels, m->nlabels);
        ret->total++;
        ret->reachable += m->reachable;
        if (tally(ret, variant == NULL ? "" : variant, err) < 0)
            return -(int)ERR_LIMIT;
    }
    return 0;
}

int machines_fleet(const struct machines *ms, const struct msg_fleet_ask *ask,
                   struct msg_fleet *ret, struct err *err)
{
    struct predicate *select = NULL;
    AUTO_JSON *rule = NULL;
    struct msg_fleet fleet = { .ask = ask->ask };
    int r = predicate_parse(&select, ask->select, err);

    if (r == 0)
        r = parse_variant(&rule, ask->variant, err);
    if (r == 0)
        r = count_fleet(ms, select, rule, &fleet, err);
    predicate_free(select);
    if (r < 0) {
        codec_release(msg_codec(MSG_FLEET), &fleet);
        return err_wrap(err, "fleet");
    }
    *ret = fleet;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* hash of the n-th + 1, so that `hash < t` takes n; rank 0 takes nobody. */
static uint64_t threshold(const uint64_t *hashes, size_t count, uint64_t rank)
{
    if (rank >= count)
        return UINT64_MAX;
    if (rank == 0)
        return 0;
    return hashes[rank - 1] == UINT64_MAX ? UINT64_MAX : hashes[rank - 1] + 1;
}

int machines_quantile(const struct machines *ms, const struct msg_quantile_ask *ask,
                      struct msg_quantile *ret, struct err *err)
{
    const struct msg_number *ranks = ask->ranks.items;
    struct predicate *where = NULL;
    struct msg_number *answers;
    uint64_t *hashes;
    size_t n = 0;

    if (predicate_parse(&where, ask->where, err) < 0)
        return err_wrap(err, "quantile");
    hashes = mem_calloc(ms->count, sizeof(*hashes));
    for (size_t i = 0; i < ms->count; i++) {
        const struct machine *m = ms->all[i];

        if (predicate_match(where, m->labels, m->nlabels))
            hashes[n++] = wave_hash(ask->deployment, m->id);
    }
    qsort(hashes, n, sizeof(*hashes), by_value);
    answers = mem_calloc(ask->ranks.count, sizeof(*answers));
    for (size_t i = 0; i < ask->ranks.count; i++)
        answers[i].value = threshold(hashes, n, ranks[i].value);
    *ret = (struct msg_quantile){ ask->ask, n, { answers, ask->ranks.count } };
    free(hashes);
    predicate_free(where);
    return 0;
}
