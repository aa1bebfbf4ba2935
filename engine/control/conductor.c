#include "control/conductor.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "control/commit.h"
#include "control/deltas.h"
#include "control/duty.h"
#include "control/history.h"
#include "control/record.h"
#include "control/sign.h"
#include "control/verify.h"
#include "io/loop.h"
#include "policy/policy.h"

struct conductor {
    struct conductor_options o;
    struct policy_host *host;
    struct verifier *verifier;
    struct map asked;    /* deployment -> struct asked: what need not be asked again yet */
    int64_t watching_ms; /* since when the duty is ours */
    int64_t tend_at_ms;  /* when deployments that have ended are looked after again */
    pthread_t thread;
    bool threaded;
};

/* The part of struct deploy that is not saved. */
struct asked {
    char *key;
    int64_t again_ms;
};

static void asked_free(struct asked *a)
{
    if (a == NULL)
        return;
    free(a->key);
    free(a);
}

static void recall_asked(struct conductor *c, struct deploy *d)
{
    const struct asked *a = map_get(&c->asked, d->id);

    if (a == NULL)
        return;
    deploy_set_text(&d->asked, a->key);
    d->ask_again_ms = a->again_ms;
}

static void keep_asked(struct conductor *c, const struct deploy *d)
{
    struct asked *a;

    if (deploy_state_is_final(d->state)) {
        asked_free(map_remove(&c->asked, d->id));
        return;
    }
    a = mem_alloc(sizeof(*a));
    a->key = mem_strdup(d->asked);
    a->again_ms = d->ask_again_ms;
    asked_free(map_put(&c->asked, d->id, a));
}

/* --- the policy --- */

static enum policy_question question_of(enum deploy_question q)
{
    switch (q) {
    case ASK_REPLICATE:
        return POLICY_REPLICATE;
    case ASK_WAVES:
        return POLICY_WAVES;
    case ASK_ADVANCE:
        return POLICY_ADVANCE;
    case ASK_NONE:
        break;
    }
    return POLICY_NONE;
}

static int load_bundle(struct db *d, const char *hash, struct bundle **ret, struct err *err)
{
    struct db_rows *rows = NULL;
    AUTO_JSON *json = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT body FROM bundle WHERE hash = $1", db_text(hash));

    if (r == 0 && db_rows_count(rows) == 0)
        r = err_set(err, ERR_NOT_FOUND, "bundle %.12s is not in the database", hash);
    if (r == 0)
        r = json_parse(&json, db_get_text(rows, 0, 0), strlen(db_get_text(rows, 0, 0)), err);
    if (r == 0)
        r = bundle_from_json(ret, json, err);
    db_rows_free(rows);
    return r;
}

static void note_decision(struct turn *t, enum deploy_question q, const json_t *input,
                          const json_t *answer, const struct err *err)
{
    const char *action = json_string_value(json_object_get(answer, "action"));
    const char *reason = json_string_value(json_object_get(answer, "reason"));
    struct turn_decision *one;

    t->decisions = mem_realloc(t->decisions, (t->ndecisions + 1) * sizeof(*t->decisions));
    one = &t->decisions[t->ndecisions++];
    one->question = mem_strdup(deploy_question_name(q));
    one->input = json_text(input);
    if (answer == NULL) {
        one->action = mem_strdup("error");
        one->reason = mem_strdup(err->text);
        one->output = mem_strdup("null");
        return;
    }
    one->action = mem_strdup(action != NULL ? action : "answer");
    one->reason = mem_strdup(reason != NULL ? reason : "");
    one->output = json_text(answer);
}

/* An error of the policy is an answer (it means hold); only the database's is returned. */
static int ask_policy(struct conductor *c, struct db *d, struct turn *t, enum deploy_question q,
                      const json_t *input, json_t **ret, struct err *why, struct err *err)
{
    struct bundle *bundle = NULL;
    int r = load_bundle(d, t->record->bundle, &bundle, err);

    if (r < 0)
        return r;
    if (policy_call(c->host, bundle, question_of(q), input, ret, why) < 0)
        *ret = NULL;
    bundle_free(bundle);
    note_decision(t, q, input, *ret, why);
    return 0;
}

/* --- signing --- */

struct signing {
    enum verify_state state;
    struct err why;
    char release[HASH_HEX];
    char *rollback_to, *previous;
};

static const char *artifact_of(const struct deploy *deploy, const char *variant)
{
    json_t *a;
    size_t i;

    json_array_foreach(deploy->artifacts, i, a)
    {
        const char *name = json_string_value(json_object_get(a, "variant"));

        if (name != NULL && strcmp(name, variant) == 0)
            return json_string_value(json_object_get(a, "artifact"));
    }
    return NULL;
}

/* The same sources may have been built again, to other bytes, after the artifacts were collected. */
static bool is_of_artifacts(const void *doc, size_t len, const struct deploy *deploy)
{
    struct hash id = sha256_of(doc, len);
    struct release *rel = NULL;
    struct bytes body;
    bool same = doc_body(doc, len, DOC_RELEASE, &body, NULL) == 0 &&
                release_parse(&rel, &id, &body, NULL) == 0 &&
                rel->nartifacts == json_array_size(deploy->artifacts);

    for (size_t i = 0; same && i < rel->nartifacts; i++) {
        const char *wanted = artifact_of(deploy, rel->artifacts[i].variant);
        char hex[HASH_HEX];

        same = wanted != NULL && strcmp(wanted, hash_hex(&rel->artifacts[i].artifact, hex)) == 0;
    }
    release_free(rel);
    return same;
}

/* A release of the same recipe that was good is used again: its machines need not change. */
static int reuse_release(struct db *d, struct turn *t, bool *ret_found, struct err *err)
{
    const struct deploy *deploy = t->record->deploy;
    struct db_rows *rows = NULL;
    const void *doc = NULL;
    size_t len = 0;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT hash, doc FROM release WHERE service = $1 AND recipe = $2 "
                    "AND good = 1 ORDER BY created_at DESC LIMIT 1",
                    db_text(deploy->service), db_text(deploy->recipe));

    *ret_found =
        r == 0 && db_rows_count(rows) > 0 && strlen(db_get_text(rows, 0, 0)) == HASH_HEX - 1;
    if (*ret_found) {
        doc = db_get_blob(rows, 0, 1, &len);
        *ret_found = is_of_artifacts(doc, len, deploy);
    }
    if (*ret_found)
        memcpy(t->release_id, db_get_text(rows, 0, 0), HASH_HEX);
    db_rows_free(rows);
    return r;
}

static int find_good(struct db *d, const char *service, struct signing *s, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT good_release, good_commit FROM service WHERE name = $1",
                    db_text(service));
    bool found = r == 0 && db_rows_count(rows) > 0;

    s->rollback_to = mem_strdup(found ? db_get_text(rows, 0, 0) : "");
    s->previous = mem_strdup(found ? db_get_text(rows, 0, 1) : "");
    db_rows_free(rows);
    return r;
}

static int sign(struct conductor *c, struct db *d, struct turn *t, struct signing *s,
                struct err *err)
{
    const struct deploy *deploy = t->record->deploy;
    struct hash id;
    bool found = false;
    int r;

    s->state = verify_ask(c->verifier, deploy->id, deploy->artifacts, wall_ms(), &s->why);
    if (s->state == VERIFY_BAD) {
        (void)err_wrap(&s->why, "the artifact cannot be used; trigger it again to build it anew");
        return queue_forget(d, t->record->job, err);
    }
    if (s->state != VERIFY_GOOD)
        return 0;
    r = find_good(d, deploy->service, s, err);
    if (r == 0)
        r = reuse_release(d, t, &found, err);
    buf_reset(&t->release_doc);
    if (r == 0 && !found) {
        r = sign_release(c->o.keys, deploy, wall_ms(), &t->release_doc, &id, &s->why);
        if (r < 0) {
            s->state = VERIFY_BAD;
            return 0;
        }
        hash_hex(&id, t->release_id);
    }
    t->signed_now = true;
    memcpy(s->release, t->release_id, HASH_HEX);
    return r;
}

/* --- a turn --- */

static struct deploy_actions *next_actions(struct turn *t)
{
    t->actions = mem_realloc(t->actions, (t->nactions + 1) * sizeof(*t->actions));
    t->actions[t->nactions] = (struct deploy_actions){ 0 };
    return &t->actions[t->nactions++];
}

/* Answers to one step, borrowed by the input of the next. */
struct answers {
    json_t *policy;
    struct err policy_err;
    struct signing signing;
};

static void answers_clear(struct answers *a, struct deploy_input *in)
{
    json_decref(a->policy);
    free(a->signing.rollback_to);
    free(a->signing.previous);
    *a = (struct answers){ 0 };
    in->answered = ASK_NONE;
    in->answer = NULL;
    in->answer_error = in->signed_release = in->sign_error = NULL;
}

static void give_answers(const struct answers *a, enum deploy_question q, struct deploy_input *in)
{
    in->answered = q;
    in->answer = a->policy;
    in->answer_error = a->policy_err.text;
    if (a->signing.state == VERIFY_BAD)
        in->sign_error = a->signing.why.text;
    if (a->signing.state != VERIFY_GOOD)
        return;
    in->signed_release = a->signing.release;
    in->rollback_to = a->signing.rollback_to;
    in->previous = a->signing.previous;
}

/* Steps until nothing is asked any more. *ret_wake: when to look again. */
static int run_steps(struct conductor *c, struct db *d, struct turn *t, struct deploy_input *in,
                     int64_t *ret_wake, struct err *err)
{
    struct answers a = { 0 };
    bool again = true;
    int r = 0;

    for (int i = 0; r == 0 && again && i < CONDUCTOR_STEPS_MAX; i++) {
        struct deploy_actions *out = next_actions(t);

        deploy_step(t->record->deploy, in, out);
        answers_clear(&a, in);
        in->nreplies = 0; /* taken up by the first step */
        in->command = DEPLOY_VERB_NONE;
        if (out->question != ASK_NONE)
            r = ask_policy(c, d, t, out->question, out->question_input, &a.policy, &a.policy_err,
                           err);
        else if (out->sign)
            r = sign(c, d, t, &a.signing, err);
        give_answers(&a, out->question, in);
        again = out->question != ASK_NONE || a.signing.state == VERIFY_GOOD ||
                a.signing.state == VERIFY_BAD;
        *ret_wake = out->wake_ms;
    }
    answers_clear(&a, in);
    return r;
}

static bool is_tending(const struct deploy *d)
{
    if (d->state != DEPLOY_SUCCEEDED || d->plan == NULL)
        return false;
    for (size_t i = 0; i < d->nregions; i++)
        if (d->regions[i].late && d->regions[i].generation == 0)
            return true;
    return false;
}

static bool has_actions(const struct turn *t, size_t nreplies)
{
    if (t->ndecisions > 0 || t->world->command != 0 || nreplies > 0)
        return true;
    for (size_t i = 0; i < t->nactions; i++) {
        const struct deploy_actions *a = &t->actions[i];

        if (a->nevents + a->nasks + a->ngoals + a->nrelays > 0)
            return true;
    }
    return false;
}

/* Is it still the deployment whose goals the machines have? */
static int is_last_planned(struct db *d, const struct deploy *deploy, bool *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT last_planned FROM service WHERE name = $1",
                    db_text(deploy->service));

    *ret = r == 0 && db_rows_count(rows) > 0 && strcmp(db_get_text(rows, 0, 0), deploy->id) == 0;
    db_rows_free(rows);
    return r;
}

static char *detail_of(const struct deploy *d)
{
    AUTO_JSON *json = deploy_to_json(d);

    return json_text(json);
}

static int run_turn(struct conductor *c, struct db *d, struct turn *t, bool renew, bool *ret_moved,
                    int64_t *ret_wake, struct err *err)
{
    struct record *rec = t->record;
    AUTO_FREE char *before = detail_of(rec->deploy);
    struct world *w = NULL;
    bool current = true, was_live = rec->live, was_tending = rec->tending;
    enum deploy_verb command;
    size_t nreplies;
    int r = world_load(d, rec, wall_ms(), &w, err);

    if (r == 0 && !rec->live)
        r = is_last_planned(d, rec->deploy, &current, err);
    if (r < 0) {
        world_free(w);
        return r;
    }
    t->world = w;
    w->in.watching_ms = c->watching_ms;
    w->in.renew = renew;
    nreplies = w->in.nreplies;
    command = w->in.command;
    recall_asked(c, rec->deploy);
    if (current)
        r = run_steps(c, d, t, &w->in, ret_wake, err);
    rec->live = !deploy_state_is_final(rec->deploy->state);
    rec->tending = current && is_tending(rec->deploy);
    t->detail = detail_of(rec->deploy);
    w->in.nreplies = nreplies; /* the rows to delete */
    w->in.command = command;
    if (r == 0 && (strcmp(before, t->detail) != 0 || was_live != rec->live ||
                   was_tending != rec->tending || has_actions(t, nreplies))) {
        r = turn_commit(d, t, err);
        *ret_moved = r == 0;
    }
    if (r == 0)
        keep_asked(c, rec->deploy);
    world_free(w);
    return r;
}

static int conduct(struct conductor *c, struct db *d, const char *id, int64_t fence, bool renew,
                   bool *ret_moved, int64_t *ret_wake, struct err *err)
{
    struct turn t = { .fence = fence, .keys = c->o.keys };
    int r = record_load(d, id, &t.record, err);

    if (r == 0)
        r = run_turn(c, d, &t, renew, ret_moved, ret_wake, err);
    record_free(t.record);
    turn_release(&t);
    return r;
}

/* Conducts each deployment that the query names. One that cannot go on must not stop the others. */
static int conduct_each(struct conductor *c, struct db *d, const char *sql, int64_t param,
                        int64_t fence, bool renew, bool *ret_moved, int64_t *ret_wake,
                        struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, sql, db_int(param));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct err why = ERR_INIT;
        bool moved = false;
        int64_t wake = 0;
        int one = conduct(c, d, db_get_text(rows, i, 0), fence, renew, &moved, &wake, &why);

        *ret_moved = *ret_moved || moved;
        if (wake != 0 && (*ret_wake == 0 || wake < *ret_wake))
            *ret_wake = wake;
        if (one == -ERR_FENCED || one == -ERR_UNREACHABLE)
            r = err_set(err, why.code, "%s", why.text);
        else if (one < 0)
            log_warn("conductor: %s", why.text);
    }
    db_rows_free(rows);
    return r;
}

static const char live_sql[] = "SELECT id FROM deployment WHERE (live = 1 OR tending = 1) "
                               "AND number > $1 ORDER BY number";

/* A region that came after a deployment had succeeded gets its goal too. */
static const char unserved_sql[] =
    "SELECT DISTINCT s.last_planned FROM service s JOIN deployment d ON d.id = s.last_planned "
    "JOIN region r ON r.machines > $1 WHERE d.state = 'succeeded' AND d.tending = 0 "
    "AND NOT EXISTS (SELECT 1 FROM goal g WHERE g.service = s.name AND g.region = r.name)";

/* A generation is the time of its issue, or a little above. */
static const char expiring_sql[] = "SELECT DISTINCT s.last_planned FROM service s "
                                   "JOIN deployment d ON d.id = s.last_planned AND d.live = 0 "
                                   "JOIN goal g ON g.deployment = d.id WHERE g.generation < $1";

static int turn_all(struct conductor *c, struct db *d, int64_t fence, bool *ret_moved,
                    int64_t *ret_wake, struct err *err)
{
    int64_t now = wall_ms(), age = INT64_C(86400000) * DEPLOY_GOAL_DAYS / 2;
    int r = conduct_each(c, d, live_sql, 0, fence, false, ret_moved, ret_wake, err);

    if (r < 0 || now < c->tend_at_ms)
        return r;
    c->tend_at_ms = now + CONDUCTOR_TEND_MS;
    r = conduct_each(c, d, unserved_sql, 0, fence, false, ret_moved, ret_wake, err);
    if (r == 0)
        r = conduct_each(c, d, expiring_sql, now - age, fence, true, ret_moved, ret_wake, err);
    return r;
}

int conductor_turn(struct conductor *c, struct db *d, int64_t fence, bool *ret_moved,
                   struct err *err)
{
    int64_t wake = 0;
    int r;

    *ret_moved = false;
    r = deltas_tend(d, c->verifier, wall_ms(), ret_moved, err);
    return r < 0 ? r : turn_all(c, d, fence, ret_moved, &wake, err);
}

/* --- the thread --- */

struct post {
    struct db *db;
    int64_t fence;
    int64_t checked_ms; /* when the duty was last prolonged */
};

static int hold_duty(struct conductor *c, struct post *p, struct err *err)
{
    int r = 0;

    if (p->db == NULL)
        r = db_open(&p->db, c->o.db, err);
    if (r == 0 && p->fence == 0) {
        r = duty_claim(p->db, "conductor", c->o.holder, &p->fence, err);
        c->watching_ms = wall_ms();
    } else if (r == 0 && monotonic_ms() - p->checked_ms > DUTY_MS / 4) {
        r = duty_check(p->db, "conductor", p->fence, err);
    } else {
        return r;
    }
    p->checked_ms = monotonic_ms();
    return r;
}

static int64_t pause_for(int64_t wake)
{
    int64_t left = wake == 0 ? CONDUCTOR_POLL_MS : wake - wall_ms();

    /* A time that has passed without anything to do must not become a busy loop. */
    return left < 1 ? CONDUCTOR_PASSED_MS : left > CONDUCTOR_POLL_MS ? CONDUCTOR_POLL_MS : left;
}

static void *run_thread(void *arg)
{
    struct conductor *c = arg;
    struct post p = { 0 };
    uint64_t seen = 0;

    while (!wake_stopped(c->o.wake)) {
        struct err err = ERR_INIT;
        bool moved = false;
        int64_t wake = 0;
        int r = hold_duty(c, &p, &err);

        if (r == 0 && p.fence != 0)
            r = deltas_tend(p.db, c->verifier, wall_ms(), &moved, &err);
        if (r == 0 && p.fence != 0)
            r = turn_all(c, p.db, p.fence, &moved, &wake, &err);
        if (r < 0) {
            log_warn("conductor: %s", err.text);
            p.fence = r == -ERR_FENCED ? 0 : p.fence;
        }
        if (moved)
            wake_all(c->o.wake);
        wake_wait(c->o.wake, &seen, r < 0 ? 5 * CONDUCTOR_POLL_MS : pause_for(wake));
    }
    if (p.fence != 0)
        duty_leave(p.db, "conductor", p.fence);
    db_close(p.db);
    return NULL;
}

int conductor_new(struct conductor **ret, const struct conductor_options *o, struct err *err)
{
    struct conductor *c = mem_alloc(sizeof(*c));
    int r = policy_host_new(&c->host, o->engine_path, err);

    c->o = *o;
    if (r < 0) {
        free(c);
        return r;
    }
    c->verifier = verifier_new(o->store, o->wake, CONDUCTOR_VERIFY_MAX, CONDUCTOR_VERIFY_RETRY_MS);
    *ret = c;
    return 0;
}

int conductor_start(struct conductor **ret, const struct conductor_options *o, struct err *err)
{
    struct conductor *c = NULL;
    int r = conductor_new(&c, o, err);

    if (r < 0)
        return r;
    r = pthread_create(&c->thread, NULL, run_thread, c);
    if (r != 0) {
        conductor_free(c);
        return err_sys(err, r, "start the conductor");
    }
    c->threaded = true;
    *ret = c;
    return 0;
}

void conductor_free(struct conductor *c)
{
    struct map_entry *e;

    if (c == NULL)
        return;
    if (c->threaded)
        pthread_join(c->thread, NULL);
    for (size_t i = 0; (e = map_next(&c->asked, &i)) != NULL;)
        asked_free(e->value);
    map_release(&c->asked);
    verifier_free(c->verifier);
    policy_host_free(c->host);
    free(c);
}
