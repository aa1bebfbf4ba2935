#include "rollout/deploy.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

static const char *const state_names[] = {
    "none",         "queued",    "building",    "replicating", "rolling", "held",
    "rolling_back", "succeeded", "rolled_back", "failed",      "aborted", "superseded",
};
static const char *const question_names[] = { "none", "replicate", "waves", "advance" };

const char *deploy_state_name(enum deploy_state s)
{
    return (size_t)s < COUNT_OF(state_names) ? state_names[s] : "none";
}

bool deploy_state_parse(enum deploy_state *ret, const char *name)
{
    for (size_t i = 1; i < COUNT_OF(state_names); i++) {
        if (strcmp(state_names[i], name) == 0) {
            *ret = (enum deploy_state)i;
            return true;
        }
    }
    return false;
}

bool deploy_state_is_final(enum deploy_state s)
{
    return s >= DEPLOY_SUCCEEDED;
}

const char *deploy_question_name(enum deploy_question q)
{
    return (size_t)q < COUNT_OF(question_names) ? question_names[q] : "none";
}

void deploy_set_text(char **field, const char *value)
{
    char *copy = mem_strdup(value == NULL ? "" : value);

    free(*field);
    *field = copy;
}

struct deploy *deploy_new(const char *id, const char *cluster, const char *service,
                          const char *commit, int64_t created_ms)
{
    struct deploy *d = mem_alloc(sizeof(*d));
    char **texts[] = { &d->ref,      &d->actor,       &d->why,     &d->recipe,
                       &d->reason,   &d->waiting_for, &d->release, &d->rollback_to,
                       &d->previous, &d->progress,    &d->cause,   &d->asked };

    d->id = mem_strdup(id);
    d->cluster = mem_strdup(cluster);
    d->service = mem_strdup(service);
    d->commit = mem_strdup(commit);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        *texts[i] = mem_strdup("");
    d->created_ms = created_ms;
    d->state = DEPLOY_QUEUED;
    d->memo = json_object();
    d->failures = json_array();
    d->told = json_object();
    d->artifacts = json_array();
    d->deltas = json_array();
    return d;
}

static void region_release(struct deploy_region *r)
{
    free(r->name);
    free(r->goal);
    json_decref(r->variants);
}

void deploy_free(struct deploy *d)
{
    char *texts[] = { d->id,          d->cluster,     d->service, d->commit,
                      d->ref,         d->actor,       d->why,     d->recipe,
                      d->reason,      d->waiting_for, d->release, d->previous,
                      d->rollback_to, d->progress,    d->cause,   d->asked };

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        free(texts[i]);
    while (d->npending > 0)
        drop_pending(d, d->npending - 1);
    for (size_t i = 0; i < d->nregions; i++)
        region_release(&d->regions[i]);
    free(d->pending);
    free(d->regions);
    plan_free(d->plan);
    json_decref(d->params);
    json_decref(d->data);
    json_decref(d->memo);
    json_decref(d->failures);
    json_decref(d->told);
    json_decref(d->artifacts);
    json_decref(d->deltas);
    free(d);
}

/* --- time --- */

int64_t data_ms(const struct deploy *d, const char *key, int64_t def_s)
{
    const json_t *value = json_object_get(d->data, key);

    return (json_is_integer(value) ? (int64_t)json_integer_value(value) : def_s) * 1000;
}

int64_t deploy_deadline_ms(const struct deploy *d)
{
    return data_ms(d, "deadline", 1800) + d->deadline_extra_ms;
}

int64_t deploy_elapsed_ms(const struct deploy *d, int64_t now_ms)
{
    int64_t end = d->finished_ms != 0 ? d->finished_ms : now_ms;
    int64_t gone = end - d->created_ms - d->held_ms - d->blocked_ms;

    if (d->state == DEPLOY_HELD)
        gone -= end - d->held_since_ms;
    if (d->blocked_since_ms != 0)
        gone -= end - d->blocked_since_ms;
    return gone < 0 ? 0 : gone;
}

int64_t deploy_since(const struct deploy_input *in, int64_t since_ms)
{
    return since_ms > in->watching_ms ? since_ms : in->watching_ms;
}

static int64_t hold_limit_ms(const struct deploy *d)
{
    if (d->no_input && !d->held_by_person)
        return 0;
    return data_ms(d, "hold_for", 86400);
}

/* --- changes of state --- */

void enter(struct step *s, enum deploy_state state, const char *reason)
{
    struct deploy *d = s->d;
    enum deploy_state from = d->state;

    d->state = state;
    deploy_set_text(&d->reason, reason);
    deploy_set_text(&d->waiting_for, "");
    deploy_set_text(&d->asked, "");
    act_event(
        s, "state",
        json_pack("{s:s,s:s}", "from", deploy_state_name(from), "to", deploy_state_name(state)),
        "%s%s%s", deploy_state_name(state), reason[0] == '\0' ? "" : ": ", reason);
}

static bool job_is_live(const struct deploy_input *in)
{
    return in->job_status != NULL &&
           (strcmp(in->job_status, "queued") == 0 || strcmp(in->job_status, "running") == 0);
}

void end_hold(struct step *s)
{
    struct deploy *d = s->d;

    if (d->state == DEPLOY_HELD)
        d->held_ms += s->in->now_ms - d->held_since_ms;
    d->held_since_ms = 0;
    d->held_by_person = false;
}

/* What the machines reported when it gave up: a rollback makes them report better things. */
static void keep_failures(struct step *s)
{
    struct deploy *d = s->d;
    struct wave_counts fleet = deploy_fleet_counts(d, s->in);

    if (json_array_size(d->failures) > 0 || d->bad > 0)
        return;
    d->bad = (int64_t)fleet.bad;
    for (size_t i = 0; i < s->in->nregions; i++) {
        const json_t *list = s->in->regions[i].failures;

        for (size_t k = 0; k < json_array_size(list); k++) {
            json_t *one = json_deep_copy(json_array_get(list, k));

            json_object_set_new(one, "region", json_string(s->in->regions[i].name));
            if (json_array_size(d->failures) < DEPLOY_FAILURES_SHOWN)
                json_array_append(d->failures, one);
            json_decref(one);
        }
    }
}

void finish(struct step *s, enum deploy_state state, const char *fmt, ...)
{
    struct deploy *d = s->d;
    AUTO_BUF text = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    end_hold(s);
    if (d->blocked_since_ms != 0)
        d->blocked_ms += s->in->now_ms - d->blocked_since_ms;
    d->blocked_since_ms = 0;
    d->finished_ms = s->in->now_ms;
    enter(s, state, buf_str(&text));
    while (d->npending > 0)
        drop_pending(d, d->npending - 1);
    s->out->cancel_job = job_is_live(s->in);
    s->out->drop_deltas = json_array_size(d->deltas) > 0;
    if (state == DEPLOY_FAILED || state == DEPLOY_ABORTED)
        keep_failures(s);
    s->out->finished = true;
    /* Who already has a goal of this deployment gets its last one: nobody else starts to move. */
    if (d->plan != NULL && (state == DEPLOY_FAILED || state == DEPLOY_ABORTED))
        act_goals(s);
}

void hold(struct step *s, bool by_person, const char *fmt, ...)
{
    struct deploy *d = s->d;
    AUTO_BUF text = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    if (d->state != DEPLOY_HELD) {
        d->held_from = d->state;
        d->held_since_ms = s->in->now_ms;
    }
    d->held_by_person = by_person;
    enter(s, DEPLOY_HELD, buf_str(&text));
    act_waiting(s, "a person: resume, promote, %sabort", d->plan != NULL ? "rollback or " : "or ");
}

void start_rollback(struct step *s, bool by_person, const char *cause)
{
    struct deploy *d = s->d;

    if (d->plan == NULL) {
        finish(s, DEPLOY_FAILED, "%s; no machine had moved", cause);
        return;
    }
    if (strcmp(d->rollback_to, d->release) == 0) {
        finish(s, DEPLOY_FAILED,
               "%s; there is nothing to go back to: this release is also the last good one", cause);
        return;
    }
    end_hold(s);
    keep_failures(s);
    d->rollback_ms = s->in->now_ms;
    d->rollback_by_person = by_person;
    deploy_set_text(&d->cause, cause);
    s->out->drop_deltas = json_array_size(d->deltas) > 0;
    enter(s, DEPLOY_ROLLING_BACK, cause);
    act_goals(s);
}

void give_up(struct step *s, const char *cause)
{
    const char *how = json_string_value(json_object_get(s->d->data, "on_failure"));

    if (how != NULL && strcmp(how, "hold") == 0)
        hold(s, false, "%s", cause);
    else if (how != NULL && strcmp(how, "fail") == 0)
        finish(s, DEPLOY_FAILED, "%s", cause);
    else
        start_rollback(s, false, cause);
}

bool take_decision(struct step *s, struct decision *ret)
{
    struct err err = ERR_INIT;

    s->answered = ASK_NONE;
    if (s->in->answer == NULL) {
        hold(s, false, "%s", s->in->answer_error);
        return false;
    }
    if (decision_parse(ret, s->in->answer, &err) < 0) {
        hold(s, false, "%s", err.text);
        return false;
    }
    if (ret->memo != NULL) {
        json_decref(s->d->memo);
        s->d->memo = json_is_object(ret->memo) ? json_deep_copy(ret->memo) : json_object();
    }
    return true;
}

/* --- queued and building --- */

static bool end_of_job(struct step *s)
{
    const struct deploy_input *in = s->in;

    if (in->job_status == NULL ||
        (strcmp(in->job_status, "failed") != 0 && strcmp(in->job_status, "cancelled") != 0))
        return false;
    s->d->build_failed = true;
    finish(s, DEPLOY_FAILED, "the build %s: %s", in->job_status, in->job_reason);
    return true;
}

/* The same commit and recipe as the last one: true while that is still being looked into. */
static bool take_artifacts(struct step *s);

static bool is_nothing_to_do(struct step *s)
{
    struct deploy *d = s->d;
    const struct deploy_input *in = s->in;
    int64_t until = deploy_since(in, d->front_ms) + DEPLOY_SETTLE_MS;

    if (!in->same_as_last || d->state != DEPLOY_QUEUED)
        return false;
    if (in->last_settled && in->last_total > 0 && in->last_healthy == in->last_total) {
        d->nothing_to_do = true;
        deploy_set_text(&d->release, in->last_release);
        if (in->job_result != NULL && !take_artifacts(s))
            return true;
        finish(s, DEPLOY_SUCCEEDED,
               "nothing to do: commit %.12s is healthy on all %llu machines already", d->commit,
               (unsigned long long)in->last_total);
        return true;
    }
    if (in->now_ms >= until)
        return false;
    act_waiting(s, "%llu of %llu machines that run this commit already to report",
                (unsigned long long)in->last_healthy, (unsigned long long)in->last_total);
    act_wake(s, until);
    return true;
}

static void step_queued(struct step *s)
{
    struct deploy *d = s->d;
    const struct deploy_input *in = s->in;

    if (in->newer != NULL) {
        finish(s, DEPLOY_SUPERSEDED, "superseded by %s", in->newer);
        return;
    }
    if (end_of_job(s))
        return;
    if (in->ahead != NULL) {
        if (d->blocked_since_ms == 0)
            d->blocked_since_ms = in->now_ms;
        act_waiting(s, "deployment %s of %s, which is ahead", in->ahead, d->service);
        return;
    }
    if (d->blocked_since_ms != 0)
        d->blocked_ms += in->now_ms - d->blocked_since_ms;
    d->blocked_since_ms = 0;
    if (d->front_ms == 0)
        d->front_ms = in->now_ms;
    if (is_nothing_to_do(s))
        return;
    if (in->job_status == NULL || strcmp(in->job_status, "queued") == 0)
        act_waiting(s, "a worker to claim job %lld", (long long)in->job_id);
    else
        enter(s, DEPLOY_BUILDING, "");
}

static bool take_artifacts(struct step *s)
{
    const json_t *list = json_object_get(s->in->job_result, "artifacts");
    json_t *a;
    size_t i;
    struct hash check;
    struct err err = ERR_INIT;
    const char *variant;

    if (json_array_size(list) == 0 || json_array_size(list) > DEPLOY_ARTIFACTS_MAX)
        goto bad;
    json_array_foreach(list, i, a)
    {
        if (json_get_text(a, "variant", 128, &variant, &err) < 0 ||
            json_get_hash(a, "artifact", &check, &err) < 0 ||
            json_get_hash(a, "pack", &check, &err) < 0)
            goto bad;
    }
    json_decref(s->d->artifacts);
    s->d->artifacts = json_deep_copy(list);
    return true;
bad:
    finish(s, DEPLOY_FAILED, "the worker's result is malformed%s%s",
           err.text[0] == '\0' ? "" : ": ", err.text);
    return false;
}

static int64_t read_from_origin(const struct deploy_input *in)
{
    int64_t bytes = 0;

    for (size_t i = 0; i < in->nregions; i++) {
        for (size_t k = 0; k < in->regions[i].nreplicas; k++)
            bytes += in->regions[i].replicas[k].origin_bytes;
    }
    return bytes;
}

static void step_building(struct step *s)
{
    struct deploy *d = s->d;
    const struct deploy_input *in = s->in;

    if (end_of_job(s))
        return;
    if (in->job_status == NULL || strcmp(in->job_status, "succeeded") != 0) {
        act_waiting(s, "job %lld, which %s", (long long)in->job_id,
                    in->job_status != NULL && strcmp(in->job_status, "running") == 0
                        ? "is running"
                        : "waits for a worker");
        return;
    }
    if (json_array_size(d->artifacts) == 0 && !take_artifacts(s))
        return;
    if (in->sign_error != NULL) {
        finish(s, DEPLOY_FAILED, "%s", in->sign_error);
        return;
    }
    if (in->signed_release == NULL) {
        act_waiting(s, "the packs to be verified");
        s->out->sign = true;
        return;
    }
    deploy_set_text(&d->release, in->signed_release);
    deploy_set_text(&d->rollback_to, in->rollback_to);
    deploy_set_text(&d->previous, in->previous);
    d->built_ms = d->phase_ms = in->now_ms;
    d->origin_before = read_from_origin(in);
    act_replicate(s);
    ask_deltas(s);
    enter(s, DEPLOY_REPLICATING, "");
}

/* --- held, and the deadline --- */

static void step_held(struct step *s)
{
    struct deploy *d = s->d;
    int64_t until = d->held_since_ms + hold_limit_ms(d);
    const char *how = json_string_value(json_object_get(d->data, "on_hold_expired"));
    AUTO_BUF cause = BUF_INIT;

    if (s->in->now_ms < until) {
        act_wake(s, until);
        return;
    }
    d->hold_expired = d->no_input && !d->held_by_person;
    buf_printf(&cause, "held and nobody resumed it: %s", d->reason);
    if (d->held_from == DEPLOY_ROLLING_BACK || (how != NULL && strcmp(how, "fail") == 0))
        finish(s, DEPLOY_FAILED, "%s", buf_str(&cause));
    else
        start_rollback(s, false, buf_str(&cause));
}

static bool deadline_passed(struct step *s)
{
    struct deploy *d = s->d;
    int64_t left = deploy_deadline_ms(d) - deploy_elapsed_ms(d, s->in->now_ms);
    AUTO_BUF cause = BUF_INIT;

    if (d->state == DEPLOY_HELD || d->state == DEPLOY_ROLLING_BACK ||
        deploy_state_is_final(d->state) || d->blocked_since_ms != 0)
        return false;
    if (left > 0) {
        act_wake(s, s->in->now_ms + left);
        return false;
    }
    buf_printf(&cause, "the deadline of %lld s passed while it was %s%s%s",
               (long long)(deploy_deadline_ms(d) / 1000), deploy_state_name(d->state),
               d->waiting_for[0] == '\0' ? "" : ", waiting for ", d->waiting_for);
    if (d->state == DEPLOY_ROLLING)
        give_up(s, buf_str(&cause));
    else
        finish(s, DEPLOY_FAILED, "%s", buf_str(&cause));
    return true;
}

static void step_state(struct step *s)
{
    switch (s->d->state) {
    case DEPLOY_QUEUED:
        step_queued(s);
        break;
    case DEPLOY_BUILDING:
        step_building(s);
        break;
    case DEPLOY_REPLICATING:
        step_replicating(s);
        break;
    case DEPLOY_ROLLING:
        step_rolling(s);
        break;
    case DEPLOY_HELD:
        step_held(s);
        break;
    case DEPLOY_ROLLING_BACK:
        step_rolling_back(s);
        break;
    case DEPLOY_SUCCEEDED:
        if (s->d->plan != NULL) {
            tend_late(s);
            act_goals(s);
        }
        break;
    case DEPLOY_NONE:
    case DEPLOY_ROLLED_BACK:
    case DEPLOY_FAILED:
    case DEPLOY_ABORTED:
    case DEPLOY_SUPERSEDED:
        break;
    }
}

void deploy_step(struct deploy *d, const struct deploy_input *in, struct deploy_actions *out)
{
    struct step s = { d, in, out, in->answered };
    enum deploy_state before;

    *out = (struct deploy_actions){ 0 };
    take_replies(&s);
    sync_regions(&s);
    if (in->command != DEPLOY_VERB_NONE)
        obey_command(&s);
    if (in->renew && d->plan != NULL && deploy_state_is_final(d->state))
        act_goals(&s);
    tend_deltas(&s);
    watch_swarm(&s);
    do {
        before = d->state;
        if (!deadline_passed(&s))
            step_state(&s);
    } while (d->state != before && out->question == ASK_NONE && !out->sign);
}

int deploy_exit_code(const struct deploy *d)
{
    switch (d->state) {
    case DEPLOY_SUCCEEDED:
        return 0;
    case DEPLOY_ROLLED_BACK:
        return d->hold_expired ? 7 : 4;
    case DEPLOY_FAILED:
        return d->build_failed ? 11 : d->hold_expired ? 7 : 5;
    case DEPLOY_ABORTED:
    case DEPLOY_SUPERSEDED:
        return 6;
    case DEPLOY_NONE:
    case DEPLOY_QUEUED:
    case DEPLOY_BUILDING:
    case DEPLOY_REPLICATING:
    case DEPLOY_ROLLING:
    case DEPLOY_HELD:
    case DEPLOY_ROLLING_BACK:
        break;
    }
    return -1;
}
