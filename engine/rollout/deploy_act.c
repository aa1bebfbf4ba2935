/* deploy_act.c - what a step asks the conductor to do, as data. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

void act_event(struct step *s, const char *kind, json_t *data, const char *fmt, ...)
{
    struct deploy_actions *out = s->out;
    struct buf text = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    out->events = mem_realloc(out->events, (out->nevents + 1) * sizeof(*out->events));
    out->events[out->nevents++] = (struct deploy_event){
        .kind = mem_strdup(kind),
        .text = buf_steal(&text),
        .data = data != NULL ? data : json_object(),
    };
}

void act_ask(struct step *s, const char *region, const char *kind, int64_t wave, json_t *ranks,
             json_t *request)
{
    struct deploy *d = s->d;
    struct deploy_actions *out = s->out;
    char *key = mem_printf("%s-%lld", kind, (long long)++d->ask_count);

    d->pending = mem_realloc(d->pending, (d->npending + 1) * sizeof(*d->pending));
    d->pending[d->npending++] = (struct deploy_pending){
        .key = key,
        .region = mem_strdup(region),
        .kind = mem_strdup(kind),
        .wave = wave,
        .ranks = ranks != NULL ? ranks : json_array(),
        .at_ms = s->in->now_ms,
    };
    out->asks = mem_realloc(out->asks, (out->nasks + 1) * sizeof(*out->asks));
    out->asks[out->nasks++] = (struct deploy_ask){
        .key = mem_strdup(key),
        .region = mem_strdup(region),
        .kind = mem_strdup(strcmp(kind, "fleet") == 0 ? "fleet" : "quantile"),
        .request = request,
    };
}

void act_relay(struct step *s, const char *region, const char *kind, json_t *body)
{
    struct deploy_actions *out = s->out;

    out->relays = mem_realloc(out->relays, (out->nrelays + 1) * sizeof(*out->relays));
    out->relays[out->nrelays++] = (struct deploy_relay){
        .region = mem_strdup(region),
        .kind = mem_strdup(kind),
        .body = body,
    };
}

void act_wake(struct step *s, int64_t at_ms)
{
    if (s->out->wake_ms == 0 || at_ms < s->out->wake_ms)
        s->out->wake_ms = at_ms;
}

void act_waiting(struct step *s, const char *fmt, ...)
{
    AUTO_BUF text = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    deploy_set_text(&s->d->waiting_for, buf_str(&text));
}

bool act_question(struct step *s, enum deploy_question q, json_t *input, const char *key)
{
    struct deploy *d = s->d;

    if (d->asked != NULL && strcmp(d->asked, key) == 0 && s->in->now_ms < d->ask_again_ms) {
        act_wake(s, d->ask_again_ms);
        json_decref(input);
        return false;
    }
    deploy_set_text(&d->asked, key);
    d->ask_again_ms = s->in->now_ms + 1000; /* until the answer says better */
    s->out->question = q;
    s->out->question_input = input;
    return true;
}

/* --- goals --- */

static json_t *everybody(void)
{
    return json_pack("[{s:{},s:s}]", "where", "threshold", "ffffffffffffffff");
}

static json_t *hash_or_null(const char *hex)
{
    return hex[0] == '\0' ? json_null() : json_string(hex);
}

static size_t opened(const struct deploy *d)
{
    return (size_t)d->wave + (d->wave_open ? 1 : 0);
}

static json_t *content_back(const struct deploy *d, size_t region)
{
    json_t *select = json_loads(d->plan->select, 0, NULL);
    json_t *moving = json_integer((json_int_t)plan_max_moving_back(d->plan, region));

    if (d->rollback_to[0] == '\0')
        return json_pack("{s:s,s:n,s:o,s:[],s:o,s:o,s:s,s:b}", "release", d->release, "rollback_to",
                         "select", select, "stage", "activate",
                         plan_goal_rules(d->plan, region, opened(d)), "max_moving", moving,
                         "action", "stop", "urgent", 1);
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:s,s:b}", "release", d->rollback_to, "rollback_to",
                     d->rollback_to, "select", select, "stage", everybody(), "activate",
                     everybody(), "max_moving", moving, "action", "run", "urgent", 1);
}

/* Forward, and when it stopped for good: then only what already moved is staged and run. */
static json_t *content_forward(const struct deploy *d, size_t region, bool stopped)
{
    size_t upto = opened(d), wave = upto == 0 ? 0 : upto - 1;

    return json_pack("{s:s,s:o,s:o,s:o,s:o,s:o,s:s,s:b}", "release", d->release, "rollback_to",
                     hash_or_null(d->rollback_to), "select", json_loads(d->plan->select, 0, NULL),
                     "stage", stopped ? plan_goal_rules(d->plan, region, upto) : everybody(),
                     "activate", plan_goal_rules(d->plan, region, upto), "max_moving",
                     json_integer((json_int_t)plan_max_moving(d->plan, region, wave)), "action",
                     "run", "urgent", 0);
}

static json_t *content(const struct deploy *d, size_t region)
{
    bool back = d->state == DEPLOY_ROLLING_BACK || d->state == DEPLOY_ROLLED_BACK ||
                (d->rollback_ms != 0 && d->state != DEPLOY_ROLLING);
    bool stopped = d->state == DEPLOY_FAILED || d->state == DEPLOY_ABORTED;

    return back ? content_back(d, region) : content_forward(d, region, stopped);
}

static void publish(struct step *s, struct deploy_region *r, size_t region, int64_t generation)
{
    struct deploy *d = s->d;
    struct deploy_actions *out = s->out;
    json_t *body = content(d, region);
    char *text = json_text(body);

    if (strcmp(text, r->goal) == 0 && !s->in->renew) {
        free(text);
        json_decref(body);
        return;
    }
    deploy_set_text(&r->goal, text);
    free(text);
    r->generation = generation > r->generation ? generation : r->generation + 1;
    json_object_set_new(body, "v", json_integer(1));
    json_object_set_new(body, "cluster", json_string(d->cluster));
    json_object_set_new(body, "region", json_string(r->name));
    json_object_set_new(body, "service", json_string(d->service));
    json_object_set_new(body, "generation", json_integer(r->generation));
    json_object_set_new(body, "issued", json_integer(s->in->now_ms));
    json_object_set_new(body, "expires",
                        json_integer(s->in->now_ms + INT64_C(86400000) * DEPLOY_GOAL_DAYS));
    json_object_set_new(body, "deployment", json_string(d->id));
    out->goals = mem_realloc(out->goals, (out->ngoals + 1) * sizeof(*out->goals));
    out->goals[out->ngoals++] = (struct deploy_goal){
        .region = mem_strdup(r->name),
        .generation = r->generation,
        .release = mem_strdup(json_string_value(json_object_get(body, "release"))),
        .rollback_to = mem_strdup(d->rollback_to),
        .body = body,
    };
}

void act_goals(struct step *s)
{
    struct deploy *d = s->d;
    int64_t generation = s->in->now_ms;
    bool forward =
        d->rollback_ms == 0 && !(deploy_state_is_final(d->state) && d->state != DEPLOY_SUCCEEDED);

    if (generation <= s->in->generation_floor)
        generation = s->in->generation_floor + 1;
    for (size_t i = 0; d->plan != NULL && i < d->plan->nregions; i++) {
        struct deploy_region *r = deploy_find_region(d, d->plan->regions[i].name);

        /* Who never had a goal of this deployment has nothing to take back. */
        if (r == NULL || !plan_is_frozen(d->plan, i) || (r->generation == 0 && !forward))
            continue;
        if (r->verified || r->generation != 0)
            publish(s, r, i, generation);
    }
}

/* --- relays --- */

void act_plan(struct step *s, size_t region)
{
    const struct deploy *d = s->d;
    const json_t *variant = json_object_get(d->data, "variant");
    struct deploy_region *r = deploy_find_region(d, d->plan->regions[region].name);

    if (r == NULL || r->told)
        return;
    r->told = true;

    act_relay(s, d->plan->regions[region].name, "plan",
              json_pack("{s:s,s:s,s:o,s:o,s:s,s:o,s:o,s:o}", "deployment", d->id, "service",
                        d->service, "select", json_loads(d->plan->select, 0, NULL), "variant",
                        json_is_object(variant) ? json_deep_copy(variant) : json_object(),
                        "release", d->release, "rollback_to", hash_or_null(d->rollback_to), "waves",
                        json_integer((json_int_t)d->plan->nwaves), "rules",
                        plan_count_rules(d->plan, region)));
}

void act_replicate(struct step *s)
{
    const struct deploy *d = s->d;
    json_t *artifacts = json_array(), *a;
    size_t i;

    json_array_foreach(d->artifacts, i, a)
    {
        const char *digest = json_string_value(json_object_get(a, "artifact"));
        json_t *packs = json_pack("[O]", json_object_get(a, "pack"));

        deltas_append(d, digest, packs);
        json_array_append_new(artifacts, json_pack("{s:O,s:O,s:o}", "variant",
                                                   json_object_get(a, "variant"), "artifact",
                                                   json_object_get(a, "artifact"), "packs", packs));
    }
    act_relay(s, "*", "replicate",
              json_pack("{s:s,s:o}", "deployment", d->id, "artifacts", artifacts));
}

void deploy_actions_release(struct deploy_actions *out)
{
    for (size_t i = 0; i < out->nevents; i++) {
        free(out->events[i].kind);
        free(out->events[i].text);
        json_decref(out->events[i].data);
    }
    for (size_t i = 0; i < out->nasks; i++) {
        free(out->asks[i].key);
        free(out->asks[i].region);
        free(out->asks[i].kind);
        json_decref(out->asks[i].request);
    }
    for (size_t i = 0; i < out->ngoals; i++) {
        free(out->goals[i].region);
        free(out->goals[i].release);
        free(out->goals[i].rollback_to);
        json_decref(out->goals[i].body);
    }
    for (size_t i = 0; i < out->nrelays; i++) {
        free(out->relays[i].region);
        free(out->relays[i].kind);
        json_decref(out->relays[i].body);
    }
    for (size_t i = 0; i < out->nwants; i++) {
        free(out->wants[i].artifact);
        free(out->wants[i].base);
    }
    free(out->events);
    free(out->wants);
    free(out->asks);
    free(out->goals);
    free(out->relays);
    free(out->refused);
    json_decref(out->question_input);
    *out = (struct deploy_actions){ 0 };
}
