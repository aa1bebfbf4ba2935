/* deploy_roll.c - rolling: wave by wave, forward and back.
 *
 * Happy path of a wave: its reachable machines are staged -> it opens (its rules enter the goals)
 * -> they activate and turn healthy -> it bakes -> policy.advance says go -> the next one opens. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

#define N(x) ((unsigned long long)(x))

static const struct plan_wave *open_wave(const struct deploy *d)
{
    return &d->plan->waves[d->wave];
}

static void next_wave(struct step *s)
{
    struct deploy *d = s->d;

    d->wave++;
    d->wave_open = false;
    d->skip_bake = false;
    d->promoted = false;
    d->wave_ms = d->progress_ms = s->in->now_ms;
    d->healthy_ms = d->silent_ms = 0;
    deploy_set_text(&d->asked, "");
}

static json_t *wave_json(const struct deploy *d)
{
    return json_pack("{s:I,s:s}", "index", (json_int_t)d->wave + 1, "wave", open_wave(d)->name);
}

static void note_progress(struct step *s, const struct wave_counts *c)
{
    struct deploy *d = s->d;
    json_t *json = counts_json(c);
    char *text = json_text(json);

    if (strcmp(d->progress, text) != 0) {
        deploy_set_text(&d->progress, text);
        d->progress_ms = s->in->now_ms;
    }
    free(text);
    json_decref(json);
}

/* Healthy but for the bad machines that the wave may have. */
static bool is_settled(const struct plan_wave *w, const struct wave_counts *c)
{
    uint64_t bad = c->bad < w->max_failed ? c->bad : w->max_failed;

    return c->healthy > 0 && c->healthy + bad >= c->reachable;
}

int64_t deploy_bake_ms(const struct deploy *d, int64_t now_ms)
{
    if (d->plan == NULL || !d->wave_open || (size_t)d->wave >= d->plan->nwaves)
        return 0;
    if (d->skip_bake)
        return open_wave(d)->bake_ms;
    return d->healthy_ms == 0 ? 0 : now_ms - d->healthy_ms;
}

static json_t *snapshot(const struct step *s, const struct wave_counts *c)
{
    const struct deploy *d = s->d;
    const struct plan_wave *w = open_wave(d);
    struct wave_counts fleet = deploy_fleet_counts(d, s->in);
    json_t *wave = counts_json(c);

    json_object_set_new(wave, "index", json_integer((json_int_t)d->wave + 1));
    json_object_set_new(wave, "name", json_string(w->name));
    json_object_set_new(wave, "bake", json_integer(w->bake_ms / 1000));
    json_object_set_new(wave, "max_failed", json_integer((json_int_t)w->max_failed));
    json_object_set_new(wave, "moved", json_integer((json_int_t)fleet.activated));
    return json_pack("{s:o,s:I,s:o,s:b,s:o,s:O,s:O}", "wave", wave, "waves",
                     (json_int_t)d->plan->nwaves, "fleet", counts_json(&fleet), "emergency", 0,
                     "deployment", info_json(d), "params", d->params, "memo", d->memo);
}

/* What is the same whenever the question is the same, and then the times. */
static void ask_advance(struct step *s, const struct wave_counts *c)
{
    const struct deploy *d = s->d;
    int64_t baked = deploy_bake_ms(d, s->in->now_ms), now = s->in->now_ms;
    int64_t left = deploy_deadline_ms(d) - deploy_elapsed_ms(d, now);
    json_t *input = snapshot(s, c);
    json_t *wave = json_object_get(input, "wave");
    char *text = json_text(input);
    char *key = mem_printf("%d%d%s", d->wave_open, baked >= open_wave(d)->bake_ms, text);

    json_object_set_new(wave, "baked", json_integer(baked / 1000));
    json_object_set_new(input, "elapsed", json_integer(deploy_elapsed_ms(d, now) / 1000));
    json_object_set_new(input, "deadline_left", json_integer(left < 0 ? 0 : left / 1000));
    json_object_set_new(input, "since_progress", json_integer((now - d->progress_ms) / 1000));
    json_object_set_new(input, "now", json_integer(now / 1000));
    act_question(s, ASK_ADVANCE, input, key);
    free(text);
    free(key);
}

static void wave_done(struct step *s, const char *why)
{
    act_event(s, "wave_done", wave_json(s->d), "wave '%s' is done%s%s", open_wave(s->d)->name,
              why[0] == '\0' ? "" : ": ", why);
    next_wave(s);
}

static void go(struct step *s, const struct decision *decision, const struct wave_counts *c)
{
    /* Guardrail: silence is never healthy, whatever the policy says. */
    if (!s->d->wave_open || c->healthy == 0 || c->healthy * 2 < c->reachable) {
        act_waiting(s, "%llu of %llu machines of wave '%s' to be healthy", N(c->healthy),
                    N(c->reachable), open_wave(s->d)->name);
        return;
    }
    wave_done(s, decision->reason);
}

/* True: the deployment has moved on, look again. */
static bool obey(struct step *s, const struct wave_counts *c)
{
    struct deploy *d = s->d;
    struct decision decision;
    int64_t wave = d->wave;

    if (!take_decision(s, &decision))
        return false;
    d->ask_again_ms = s->in->now_ms + (decision.after_ms < 200 ? 200 : decision.after_ms);
    switch (decision.action) {
    case DECISION_GO:
        go(s, &decision, c);
        break;
    case DECISION_HOLD:
        hold(s, false, "%s", decision.reason);
        break;
    case DECISION_ROLLBACK:
        start_rollback(s, false, decision.reason);
        break;
    case DECISION_FAIL:
        finish(s, DEPLOY_FAILED, "%s", decision.reason);
        break;
    case DECISION_WAIT:
    case DECISION_NONE:
        act_waiting(s, "%s", decision.reason);
        break;
    }
    if (d->state == DEPLOY_ROLLING)
        act_wake(s, d->ask_again_ms);
    return d->wave != wave;
}

/* --- before the wave is open --- */

/* A wave that takes nobody: skipped if earlier waves have its machines, else held. */
static bool skip_empty(struct step *s)
{
    struct deploy *d = s->d;
    const struct plan_wave *w = open_wave(d);

    if (d->promoted || w->matching > 0 || w->percent >= 100) {
        act_event(s, "wave_done", wave_json(d), "wave '%s' takes no further machine", w->name);
        next_wave(s);
        return true;
    }
    hold(s, false, "wave '%s' is empty: no selected machine matches its where", w->name);
    return false;
}

static void wait_for_anybody(struct step *s)
{
    struct deploy *d = s->d;

    if (d->silent_ms == 0 || d->silent_ms < s->in->watching_ms)
        d->silent_ms = s->in->now_ms;
    if (s->in->now_ms >= d->silent_ms + DEPLOY_SILENT_MS) {
        hold(s, false, "no machine of wave '%s' is reachable", open_wave(d)->name);
        return;
    }
    act_waiting(s, "a machine of wave '%s' to be reachable", open_wave(d)->name);
    act_wake(s, d->silent_ms + DEPLOY_SILENT_MS);
}

static void open_it(struct step *s)
{
    struct deploy *d = s->d;

    d->wave_open = true;
    d->wave_ms = d->progress_ms = s->in->now_ms;
    if (d->staged_ms == 0)
        d->staged_ms = s->in->now_ms;
    act_event(s, "wave_open", wave_json(d), "wave '%s' opens (%lld of %zu)", open_wave(d)->name,
              (long long)d->wave + 1, d->plan->nwaves);
    deploy_set_text(&d->asked, "");
    act_goals(s);
}

static bool try_open(struct step *s, const struct wave_counts *c)
{
    struct deploy *d = s->d;
    const struct plan_wave *w = open_wave(d);
    uint64_t staged = c->staged > c->activated ? c->staged : c->activated;

    if (c->total == 0)
        return skip_empty(s);
    if (c->reachable == 0 && !d->promoted) {
        wait_for_anybody(s);
        return false;
    }
    d->silent_ms = 0;
    if (staged + (c->bad <= w->max_failed ? c->bad : 0) >= c->reachable || d->promoted) {
        d->promoted = false;
        open_it(s);
        return true;
    }
    if (c->bad > 0) {
        if (s->answered == ASK_ADVANCE)
            return obey(s, c);
        ask_advance(s, c);
        return false;
    }
    act_waiting(s, "%llu of %llu machines of wave '%s' are staged", N(staged), N(c->reachable),
                w->name);
    return false;
}

/* --- while it is open --- */

static bool too_many_broken(struct step *s)
{
    struct wave_counts fleet = deploy_fleet_counts(s->d, s->in);
    uint64_t limit = plan_first_wave_limit(fleet.total);

    if (fleet.bad <= limit)
        return false;
    deploy_set_text(&s->d->cause, "");
    give_up(s, "too many machines are broken at a time, whatever the policy allows");
    return true;
}

static bool judge(struct step *s, const struct wave_counts *c)
{
    struct deploy *d = s->d;
    const struct plan_wave *w = open_wave(d);

    if (is_settled(w, c)) {
        if (d->healthy_ms == 0)
            d->healthy_ms = s->in->now_ms;
        if (deploy_bake_ms(d, s->in->now_ms) < w->bake_ms)
            act_wake(s, d->healthy_ms + w->bake_ms);
    } else {
        d->healthy_ms = 0;
    }
    if (too_many_broken(s))
        return false;
    if (d->promoted) {
        wave_done(s, "promoted by a person");
        return true;
    }
    if (c->reachable == 0) {
        wait_for_anybody(s);
        return false;
    }
    d->silent_ms = 0;
    if (s->answered == ASK_ADVANCE)
        return obey(s, c);
    ask_advance(s, c);
    return false;
}

static void succeed(struct step *s)
{
    struct deploy *d = s->d;
    struct wave_counts fleet = deploy_fleet_counts(d, s->in);
    uint64_t away = fleet.total > fleet.healthy ? fleet.total - fleet.healthy : 0;

    if (away > 0)
        finish(s, DEPLOY_SUCCEEDED, "%llu of %llu machines are healthy on it; %llu are not yet",
               N(fleet.healthy), N(fleet.total), N(away));
    else
        finish(s, DEPLOY_SUCCEEDED, "%llu machines are healthy on it", N(fleet.healthy));
}

void step_rolling(struct step *s)
{
    struct deploy *d = s->d;
    const char *behind = NULL;
    bool again = true;

    tend_late(s);
    act_goals(s);
    while (again && d->state == DEPLOY_ROLLING) {
        struct wave_counts c;

        if ((size_t)d->wave >= d->plan->nwaves) {
            succeed(s);
            return;
        }
        if (!counts_are_fresh(s, &behind)) {
            act_waiting(s, "the counts of region %s", behind);
            return;
        }
        note_moved(s);
        c = deploy_wave_counts(d, s->in, (size_t)d->wave);
        note_progress(s, &c);
        again = d->wave_open ? judge(s, &c) : try_open(s, &c);
    }
}

/* --- back --- */

struct back {
    uint64_t want, have;
};

/* Machines that had moved and are reachable, and how many of them are back. */
static struct back count_back(const struct step *s)
{
    struct back b = { 0, 0 };

    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *input = &s->in->regions[i];
        const struct deploy_region *r = deploy_find_region(s->d, input->name);
        uint64_t away = 0, back = 0, moved;

        if (r == NULL || r->generation == 0)
            continue;
        moved = (uint64_t)r->moved;
        for (size_t w = 0; w < input->nwaves; w++) {
            away += input->waves[w].total - input->waves[w].reachable;
            back += input->waves[w].rolled_back;
        }
        if (!input->connected)
            away = moved;
        moved = moved > away ? moved - away : 0;
        b.want += moved;
        b.have += back < moved ? back : moved;
    }
    return b;
}

/* Those that never moved report under the new goal too, a moment later: worth a short wait, so that
 * the closing counts are whole. */
static bool rest_has_reported(struct step *s)
{
    struct wave_counts fleet = deploy_fleet_counts(s->d, s->in);
    struct deploy *d = s->d;

    if (d->back_ms == 0)
        d->back_ms = s->in->now_ms;
    if (fleet.previous >= fleet.reachable || s->in->now_ms >= d->back_ms + DEPLOY_BACK_MS)
        return true;
    act_waiting(s, "%llu of %llu machines to report", N(fleet.previous), N(fleet.reachable));
    act_wake(s, d->back_ms + DEPLOY_BACK_MS);
    return false;
}

static int64_t rollback_deadline(const struct deploy *d)
{
    return d->rollback_ms + deploy_deadline_ms(d);
}

void step_rolling_back(struct step *s)
{
    struct deploy *d = s->d;
    const char *behind = NULL;
    struct back b;

    act_goals(s);
    if (s->in->now_ms >= rollback_deadline(d)) {
        hold(s, false, "the rollback does not finish (%s)", d->cause);
        return;
    }
    act_wake(s, rollback_deadline(d));
    if (!counts_are_fresh(s, &behind)) {
        act_waiting(s, "the counts of region %s", behind);
        return;
    }
    b = count_back(s);
    if (b.have < b.want) {
        act_waiting(s, "%llu of %llu machines are back", N(b.have), N(b.want));
        return;
    }
    if (d->rollback_to[0] != '\0' && !rest_has_reported(s))
        return;
    if (d->rollback_to[0] == '\0')
        finish(s, DEPLOY_FAILED,
               "%s; it was the first deployment, so the moved machines stopped it", d->cause);
    else
        finish(s, DEPLOY_ROLLED_BACK, "%s", d->cause);
}
