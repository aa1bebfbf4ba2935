/* town.h - a deployment's world in one thread and in virtual time: regions of machines that obey
 * goals, a policy, a build; everything that struct deploy_input tells and deploy_actions asks.
 *
 *     struct town *t = town_new(3, 4);          three regions of four machines
 *     t->… = …;                                 what goes wrong, and when
 *     town_run(t, 3600 * 1000);                 until it has ended, at most an hour of its time
 *     … t->d->state, t->log …
 *     town_free(t); */
#ifndef TESTS_ROLLOUT_TOWN_H
#define TESTS_ROLLOUT_TOWN_H

#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rollout/deploy.h"
#include "wire/member.h"
#include "wire/predicate.h"

enum {
    TOWN_REGIONS = 8,
    TOWN_MACHINES = 64,
    TOWN_STEP_MS = 100,
    TOWN_START_MS = 1000000,
    TOWN_QUIET_MS = 40000,
    TOWN_FAR_MS = 60000
};

#define RELEASE_NEW "1111111111111111111111111111111111111111111111111111111111111111"
#define RELEASE_OLD "2222222222222222222222222222222222222222222222222222222222222222"
#define ARTIFACT "3333333333333333333333333333333333333333333333333333333333333333"
#define PACK "4444444444444444444444444444444444444444444444444444444444444444"

struct town_machine {
    char id[64];
    char staged[65], runs[65];
    bool away, moved, stopped, known_bad;
    int64_t since_ms; /* when it began to run what it runs */
};

struct town_region {
    char name[32];
    bool connected, verified;
    int64_t seen_ms;
    struct town_machine machines[TOWN_MACHINES];
    size_t nmachines;
    json_t *goal, *plan; /* bodies as published */
    int64_t counted;     /* generation that its counts answer */
};

struct town {
    struct deploy *d;
    int64_t now, watching_ms;
    struct town_region regions[TOWN_REGIONS];
    size_t nregions;
    struct wave_counts waves_of[TOWN_REGIONS][PLAN_WAVES_MAX];
    const char *job, *job_reason, *rollback_to;
    const char *waves; /* the policy's answer, JSON */
    const char *ahead, *newer;
    bool same_as_last;
    uint64_t last_healthy;
    const char *sign_error;
    int64_t pack_bytes; /* of the artifact's full pack */
    struct deploy_base bases[8];
    size_t nbases;
    struct deploy_delta deltas[8];
    size_t ndeltas;
    json_t *swarm;        /* what each region tells of its swarm (takes), or NULL */
    int64_t region_bytes; /* what the regions hold of the artifact */

    /* what goes wrong */
    int64_t verify_at_ms;                                               /* regions verify then */
    bool (*is_bad)(const struct town *t, const struct town_machine *m); /* with the new release */
    int64_t healthy_after_ms;                                           /* of an activation */
    bool stage_fails;
    const char *policy_error;                                             /* of advance */
    const char *(*advance)(const struct town *t, const json_t *snapshot); /* JSON; NULL: default */
    void (*at)(struct town *t); /* called before every step */
    enum deploy_verb command;   /* given once, at the next step */
    bool refused;

    bool restart;   /* through JSON after every step */
    struct buf log; /* events and goals, a line each */
    struct {
        char key[64], region[32];
        json_t *value;
    } replies[256];
    size_t nreplies;
    size_t max_moving_seen;
    int cancelled, planned, steps, deltas_dropped;
    struct buf wants; /* "base-1 base-2(late) " */
    struct buf packs; /* of the last "replicate" */
    int64_t wake;     /* when the last step wants to be taken again */
    size_t quiet_len;
    int64_t quiet_ms; /* since when nothing was logged */
};

static bool town_nobody(const struct town *t, const struct town_machine *m)
{
    (void)t;
    (void)m;
    return false;
}

static bool __attribute__((unused))
town_everybody(const struct town *t, const struct town_machine *m)
{
    (void)t;
    (void)m;
    return true;
}

static struct town *town_new(size_t regions, size_t machines)
{
    struct town *t = mem_alloc(sizeof(*t));

    t->now = TOWN_START_MS;
    t->nregions = regions;
    t->job = "succeeded";
    t->job_reason = "";
    t->rollback_to = RELEASE_OLD;
    t->waves = "[{\"name\":\"one\",\"count\":1,\"bake\":10},{\"name\":\"half\",\"percent\":50},"
               "{\"name\":\"rest\",\"percent\":100}]";
    t->is_bad = town_nobody;
    t->healthy_after_ms = 500;
    t->verify_at_ms = t->now + 2000;
    for (size_t i = 0; i < regions; i++) {
        struct town_region *r = &t->regions[i];

        snprintf(r->name, sizeof(r->name), "r%zu", i + 1);
        r->connected = true;
        r->nmachines = machines;
        for (size_t k = 0; k < machines; k++) {
            snprintf(r->machines[k].id, sizeof(r->machines[k].id), "r%zu-m%zu", i + 1, k + 1);
            snprintf(r->machines[k].runs, sizeof(r->machines[k].runs), "%s", RELEASE_OLD);
        }
    }
    t->d = deploy_new("d-abcdefgh", "test", "web", "c0ffee", t->now);
    deploy_set_text(&t->d->actor, "ann");
    t->d->params = json_object();
    t->d->data = json_loads("{\"select\":{},\"variant\":{},\"deadline\":1800,\"hold_for\":3600,"
                            "\"on_failure\":\"rollback\",\"on_hold_expired\":\"rollback\"}",
                            0, NULL);
    return t;
}

static void town_free(struct town *t)
{
    for (size_t i = 0; i < t->nregions; i++) {
        json_decref(t->regions[i].goal);
        json_decref(t->regions[i].plan);
    }
    for (size_t i = 0; i < t->nreplies; i++)
        json_decref(t->replies[i].value);
    deploy_free(t->d);
    json_decref(t->swarm);
    buf_release(&t->log);
    buf_release(&t->wants);
    buf_release(&t->packs);
    free(t);
}

static void __attribute__((unused)) town_data(struct town *t, const char *key, json_t *value)
{
    json_object_set_new(t->d->data, key, value);
}

/* --- machines --- */

static bool town_takes(const json_t *rules, const char *deployment, const struct town_region *r,
                       const struct town_machine *m, int64_t *ret_wave)
{
    struct label labels[] = { { "machine", m->id }, { "region", r->name } };
    size_t i;
    json_t *rule;

    json_array_foreach(rules, i, rule)
    {
        struct predicate *where = NULL;
        uint64_t threshold = 0;
        bool takes;

        assert_int_equal(predicate_from_json(&where, json_object_get(rule, "where"), NULL), 0);
        assert_true(
            threshold_parse(&threshold, json_string_value(json_object_get(rule, "threshold"))));
        takes = predicate_match(where, labels, 2) && wave_hash(deployment, m->id) < threshold;
        predicate_free(where);
        if (ret_wave != NULL)
            *ret_wave = json_integer_value(json_object_get(rule, "wave"));
        if (takes)
            return true;
    }
    return false;
}

static void town_obey(struct town *t, struct town_region *r, struct town_machine *m)
{
    const char *release = json_string_value(json_object_get(r->goal, "release"));
    const char *action = json_string_value(json_object_get(r->goal, "action"));
    bool activates = town_takes(json_object_get(r->goal, "activate"), t->d->id, r, m, NULL);

    if (strcmp(action, "stop") == 0) {
        if (m->moved && activates && !m->stopped) {
            m->stopped = true;
            m->runs[0] = '\0';
        }
        return;
    }
    if (!t->stage_fails && town_takes(json_object_get(r->goal, "stage"), t->d->id, r, m, NULL))
        snprintf(m->staged, sizeof(m->staged), "%s", release);
    if (!activates || strcmp(m->staged, release) != 0 || strcmp(m->runs, release) == 0)
        return;
    snprintf(m->runs, sizeof(m->runs), "%s", release);
    m->since_ms = t->now;
    m->moved = m->moved || strcmp(release, t->d->release) == 0;
}

static void town_count(struct town *t, struct town_region *r)
{
    struct wave_counts *waves_of = t->waves_of[r - t->regions];
    const json_t *rules = json_object_get(r->plan, "rules");
    int64_t waves = json_integer_value(json_object_get(r->plan, "waves"));

    memset(waves_of, 0, sizeof(t->waves_of[0]));
    for (size_t i = 0; i < r->nmachines; i++) {
        struct town_machine *m = &r->machines[i];
        int64_t wave = waves;
        struct wave_counts *c;
        bool new, settled = t->now - m->since_ms >= t->healthy_after_ms;

        if (!town_takes(rules, t->d->id, r, m, &wave))
            wave = waves;
        c = &waves_of[wave];
        new = strcmp(m->runs, t->d->release) == 0;
        c->total++;
        c->reachable += !m->away;
        c->staged += !m->away && (strcmp(m->staged, t->d->release) == 0 || new);
        c->activated += new;
        c->bad += t->stage_fails || (new &&settled && t->is_bad(t, m));
        c->healthy += !m->away && new &&settled && !t->is_bad(t, m);
        c->unknown += new && !settled;
        c->previous += !m->away && settled && strcmp(m->runs, RELEASE_OLD) == 0;
        c->rolled_back +=
            m->moved && (m->stopped || (strcmp(m->runs, RELEASE_OLD) == 0 && settled));
    }
}

static void town_live(struct town *t)
{
    for (size_t i = 0; i < t->nregions; i++) {
        struct town_region *r = &t->regions[i];

        if (r->connected)
            r->seen_ms = t->now;
        if (r->connected && t->now >= t->verify_at_ms)
            r->verified = true;
        if (r->goal != NULL)
            for (size_t k = 0; k < r->nmachines; k++)
                if (!r->machines[k].away)
                    town_obey(t, r, &r->machines[k]);
        if (!r->connected || r->plan == NULL)
            continue;
        town_count(t, r);
        r->counted = json_integer_value(json_object_get(r->goal, "generation"));
    }
}

/* --- answers --- */

static int town_by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static json_t *town_quantile(const struct town *t, const struct town_region *r,
                             const json_t *request)
{
    uint64_t hashes[TOWN_MACHINES];
    json_t *thresholds = json_array(), *rank;
    struct predicate *where = NULL;
    char text[17];
    size_t n = 0, i;

    assert_int_equal(predicate_from_json(&where, json_object_get(request, "where"), NULL), 0);
    for (i = 0; i < r->nmachines; i++) {
        struct label labels[] = { { "machine", r->machines[i].id }, { "region", r->name } };

        if (predicate_match(where, labels, 2))
            hashes[n++] = wave_hash(t->d->id, r->machines[i].id);
    }
    predicate_free(where);
    qsort(hashes, n, sizeof(hashes[0]), town_by_hash);
    json_array_foreach(json_object_get(request, "ranks"), i, rank)
    {
        size_t k = (size_t)json_integer_value(rank);

        threshold_text(text, k >= n ? UINT64_MAX : hashes[k - 1] + 1);
        json_array_append_new(thresholds, json_string(text));
    }
    return json_pack("{s:I,s:o}", "matching", (json_int_t)n, "thresholds", thresholds);
}

static void town_asked(struct town *t, const struct deploy_ask *ask)
{
    for (size_t i = 0; i < t->nregions; i++) {
        struct town_region *r = &t->regions[i];
        json_int_t n = (json_int_t)r->nmachines;

        if (strcmp(r->name, ask->region) != 0 || t->nreplies >= COUNT_OF(t->replies))
            continue;
        snprintf(t->replies[t->nreplies].key, sizeof(t->replies[0].key), "%s", ask->key);
        snprintf(t->replies[t->nreplies].region, sizeof(t->replies[0].region), "%s", r->name);
        t->replies[t->nreplies++].value = strcmp(ask->kind, "fleet") == 0
                                              ? json_pack("{s:I,s:I,s:{s:I}}", "total", n,
                                                          "reachable", n, "variants", "default", n)
                                              : town_quantile(t, r, ask->request);
    }
}

static json_t *town_decide(const struct town *t, enum deploy_question q, const json_t *input)
{
    const json_t *w = json_object_get(input, "wave");
    int64_t bad, healthy, reachable;
    const char *special;

    if (q == ASK_WAVES)
        return json_loads(t->waves, 0, NULL);
    if (q == ASK_REPLICATE)
        return json_integer_value(json_object_get(input, "verified")) ==
                       json_integer_value(json_object_get(input, "total"))
                   ? json_pack("{s:s,s:s}", "action", "go", "reason", "")
                   : json_pack("{s:s,s:s}", "action", "wait", "reason", "regions");
    special = t->advance == NULL ? NULL : t->advance(t, input);
    if (special != NULL)
        return json_loads(special, 0, NULL);
    bad = json_integer_value(json_object_get(w, "bad"));
    healthy = json_integer_value(json_object_get(w, "healthy"));
    reachable = json_integer_value(json_object_get(w, "reachable"));
    if (bad > json_integer_value(json_object_get(w, "max_failed")))
        return json_pack("{s:s,s:s}", "action", "rollback", "reason", "bad machines");
    if (healthy == 0 || healthy + bad < reachable)
        return json_pack("{s:s,s:s}", "action", "wait", "reason", "not healthy yet");
    if (json_integer_value(json_object_get(w, "baked")) <
        json_integer_value(json_object_get(w, "bake")))
        return json_pack("{s:s,s:s,s:i}", "action", "wait", "reason", "baking", "after", 1);
    return json_pack("{s:s}", "action", "go");
}

/* --- steps --- */

static void town_take(struct town *t, struct deploy_actions *out)
{
    for (size_t i = 0; i < out->nevents; i++)
        buf_printf(&t->log, "%lld %s: %s\n", (long long)(t->now - TOWN_START_MS),
                   out->events[i].kind, out->events[i].text);
    for (size_t i = 0; i < out->nasks; i++)
        town_asked(t, &out->asks[i]);
    for (size_t i = 0; i < out->ngoals; i++) {
        AUTO_FREE char *text = json_text(out->goals[i].body);

        buf_printf(&t->log, "goal %s\n", text);
        for (size_t k = 0; k < t->nregions; k++) {
            if (strcmp(t->regions[k].name, out->goals[i].region) != 0)
                continue;
            if (t->regions[k].goal != NULL)
                assert_true(out->goals[i].generation >
                            json_integer_value(json_object_get(t->regions[k].goal, "generation")));
            json_decref(t->regions[k].goal);
            t->regions[k].goal = json_incref(out->goals[i].body);
        }
    }
    for (size_t i = 0; i < out->nwants; i++)
        buf_printf(&t->wants, "%s%s ", out->wants[i].base, out->wants[i].late ? "(late)" : "");
    t->deltas_dropped += out->drop_deltas;
    for (size_t i = 0; i < out->nrelays; i++) {
        const json_t *first = json_array_get(json_object_get(out->relays[i].body, "artifacts"), 0);

        if (strcmp(out->relays[i].kind, "replicate") == 0) {
            AUTO_FREE char *packs = json_text(json_object_get(first, "packs"));

            buf_reset(&t->packs);
            buf_str_append(&t->packs, packs);
        }
        for (size_t k = 0; k < t->nregions; k++) {
            if (strcmp(out->relays[i].kind, "plan") != 0 ||
                strcmp(t->regions[k].name, out->relays[i].region) != 0)
                continue;
            json_decref(t->regions[k].plan);
            t->regions[k].plan = json_incref(out->relays[i].body);
        }
    }
    t->cancelled += out->cancel_job;
    t->planned += out->planned;
    t->refused = t->refused || out->refused != NULL;
}

static void town_restart(struct town *t)
{
    AUTO_JSON *json = deploy_to_json(t->d);
    AUTO_FREE char *text = json_text(json);
    AUTO_JSON *again = json_loads(text, 0, NULL);
    struct deploy *d = NULL;
    struct err err = ERR_INIT;

    assert_ok(deploy_from_json(&d, again, &err), &err);
    deploy_free(t->d);
    t->d = d;
}

static void town_regions(struct town *t, struct deploy_region_input *regions,
                         struct deploy_replica *replicas)
{
    for (size_t i = 0; i < t->nregions; i++) {
        const struct town_region *r = &t->regions[i];

        int64_t bytes = t->region_bytes > 0 ? t->region_bytes : 10;

        replicas[i] = (struct deploy_replica){ ARTIFACT, r->verified ? "verified" : "fetching",
                                               "",       r->verified ? bytes : 5,
                                               bytes,    5 };
        regions[i] = (struct deploy_region_input){ .name = r->name,
                                                   .connected = r->connected,
                                                   .seen_ms = r->seen_ms,
                                                   .machines = (int64_t)r->nmachines,
                                                   .reachable = (int64_t)r->nmachines,
                                                   .replicas = &replicas[i],
                                                   .nreplicas = 1,
                                                   .counted = r->plan != NULL,
                                                   .counts_generation = r->counted,
                                                   .waves = t->waves_of[i],
                                                   .swarm = t->swarm,
                                                   .nwaves = r->plan == NULL ? 0 : 20 };
    }
}

static size_t town_replies(const struct town *t, struct deploy_reply *replies)
{
    size_t n = 0;

    for (size_t i = 0; i < t->nreplies; i++) {
        bool up = false;

        for (size_t k = 0; k < t->nregions; k++)
            up = up ||
                 (strcmp(t->regions[k].name, t->replies[i].region) == 0 && t->regions[k].connected);
        if (up)
            replies[n++] = (struct deploy_reply){ t->replies[i].key, t->replies[i].value };
    }
    return n;
}

/* Fills in what the step before has asked. True: there was something. */
static bool town_answer(const struct town *t, const struct deploy_actions *out,
                        struct deploy_input *in, json_t **answer)
{
    json_decref(*answer);
    *answer = NULL;
    in->nreplies = 0;
    in->command = DEPLOY_VERB_NONE;
    in->answered = out->question;
    in->signed_release = in->sign_error = NULL;
    if (out->question == ASK_ADVANCE && t->policy_error != NULL)
        in->answer_error = t->policy_error;
    else if (out->question != ASK_NONE)
        *answer = town_decide(t, out->question, out->question_input);
    in->answer = *answer;
    if (out->sign) {
        in->signed_release = t->sign_error == NULL ? RELEASE_NEW : NULL;
        in->sign_error = t->sign_error;
        in->rollback_to = t->rollback_to;
        in->previous = "old";
    }
    return out->question != ASK_NONE || out->sign;
}

static void town_step(struct town *t)
{
    struct deploy_region_input regions[TOWN_REGIONS] = { 0 };
    struct deploy_replica replicas[TOWN_REGIONS];
    struct deploy_reply replies[COUNT_OF(t->replies)];
    AUTO_JSON *result = json_pack("{s:[{s:s,s:s,s:s,s:i,s:I,s:i}]}", "artifacts", "variant",
                                  "default", "artifact", ARTIFACT, "pack", PACK, "bytes", 10,
                                  "pack_bytes", (json_int_t)t->pack_bytes, "files", 1);
    struct deploy_input in = { .now_ms = t->now,
                               .watching_ms = t->watching_ms,
                               .regions = regions,
                               .nregions = t->nregions,
                               .job_status = t->job,
                               .job_id = 7,
                               .job_reason = t->job_reason,
                               .job_result = result,
                               .ahead = t->ahead,
                               .newer = t->newer,
                               .same_as_last = t->same_as_last,
                               .last_total = 12,
                               .last_healthy = t->last_healthy,
                               .last_settled = true,
                               .last_release = RELEASE_OLD,
                               .replies = replies,
                               .nreplies = town_replies(t, replies),
                               .deltas = t->deltas,
                               .ndeltas = t->ndeltas,
                               .bases = t->bases,
                               .nbases = t->nbases,
                               .command = t->command,
                               .command_actor = "bob",
                               .command_reason = "because" };
    json_t *answer = NULL;
    bool again = true;

    town_regions(t, regions, replicas);
    t->command = DEPLOY_VERB_NONE;
    while (again) {
        struct deploy_actions out;

        t->steps++;
        deploy_step(t->d, &in, &out);
        again = town_answer(t, &out, &in, &answer);
        town_take(t, &out);
        t->wake = out.wake_ms;
        deploy_actions_release(&out);
        /* A crash loses answers, never what was committed: here between two turns. */
        if (t->restart && !again)
            town_restart(t);
    }
    json_decref(answer);
}

/* What was answered once is forgotten. */
static void town_forget_replies(struct town *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_decref(t->replies[i].value);
    memmove(t->replies, t->replies + n, (t->nreplies - n) * sizeof(t->replies[0]));
    t->nreplies -= n;
}

/* Faster through long quiet times, but never past the moment that the deployment waits for, nor past an
 * answer that is on its way. */
static void town_advance(struct town *t)
{
    int64_t next = t->now + TOWN_STEP_MS, far = t->now + TOWN_FAR_MS;

    if (t->log.len != t->quiet_len)
        t->quiet_ms = t->now;
    t->quiet_len = t->log.len;
    if (t->now - t->quiet_ms > TOWN_QUIET_MS && t->nreplies == 0 && t->wake > next)
        next = t->wake < far ? t->wake : far;
    t->now = next;
}

static void town_run(struct town *t, int64_t most_ms)
{
    int64_t until = t->now + most_ms;

    while (!deploy_state_is_final(t->d->state) && t->now < until) {
        size_t before = t->nreplies;

        town_live(t);
        if (t->at != NULL)
            t->at(t);
        town_step(t);
        if (before <= t->nreplies)
            town_forget_replies(t, before);
        town_advance(t);
    }
}

static size_t __attribute__((unused)) town_running(const struct town *t, const char *release)
{
    size_t n = 0;

    for (size_t i = 0; i < t->nregions; i++)
        for (size_t k = 0; k < t->regions[i].nmachines; k++)
            n += strcmp(t->regions[i].machines[k].runs, release) == 0;
    return n;
}

static void __attribute__((unused))
town_ends_as(struct town *t, enum deploy_state state, int code, const char *reason)
{
    if (t->d->state != state || strstr(t->d->reason, reason) == NULL)
        print_error("%s\nreason: %s\nwaiting for: %s\n", buf_str(&t->log), t->d->reason,
                    t->d->waiting_for);
    assert_string_equal(deploy_state_name(t->d->state), deploy_state_name(state));
    assert_int_equal(deploy_exit_code(t->d), code);
    assert_non_null(strstr(t->d->reason, reason));
}

static bool __attribute__((unused)) town_logged(const struct town *t, const char *text)
{
    return strstr(buf_str(&t->log), text) != NULL;
}

#endif
