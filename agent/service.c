#include "service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "guard.h"
#include "io/files.h"
#include "log_file.h"
#include "releases.h"
#include "service_internal.h"

/* --- what is wanted --- */

const struct goal *service_goal(const struct service *s)
{
    return goals_of(s->host.goals, s->name);
}

bool service_goal_is_live(const struct service *s, const struct goal *g)
{
    return goals_is_live(s->host.goals, g, wall_ms());
}

bool service_artifact(const struct release *r, const char *variant, struct hash *ret)
{
    for (size_t i = 0; variant != NULL && i < r->nartifacts; i++) {
        if (strcmp(r->artifacts[i].variant, variant) == 0) {
            *ret = r->artifacts[i].artifact;
            return true;
        }
    }
    return false;
}

/* The active release failed under the deployment that brought it; another one asks for it again. */
static bool is_second_chance(const struct service *s, const struct goal *g)
{
    const struct journal *j = &s->journal;

    return strcmp(j->deployment, g->deployment) != 0 &&
           journal_bad_reason(j, &j->release, j->deployment) != NULL;
}

const struct hash *service_wanted(const struct service *s)
{
    const struct goal *g = service_goal(s);

    if (g == NULL || g->action != GOAL_RUN || hash_is_zero(&g->release) ||
        !service_goal_is_live(s, g) || !goals_activates(s->host.goals, g) ||
        !releases_has(s->dir, &g->release) ||
        journal_bad_reason(&s->journal, &g->release, g->deployment) != NULL)
        return NULL;
    if (hash_equal(&s->journal.release, &g->release) && !is_second_chance(s, g) && !s->idle)
        return NULL;
    return &g->release;
}

/* Does a live goal want the active release gone? */
static bool is_unwanted(const struct service *s, const struct goal *g)
{
    const struct journal *j = &s->journal;

    if (g == NULL || !service_goal_is_live(s, g))
        return false;
    if (g->action == GOAL_ABSENT)
        return j->phase != JOURNAL_STOPPED;
    return g->action == GOAL_STOP && !hash_is_zero(&j->release) &&
           (hash_is_zero(&g->release) || hash_equal(&g->release, &j->release));
}

/* --- keeping --- */

int service_save(struct service *s)
{
    struct err err = ERR_INIT;
    int r = journal_save(&s->journal, s->state_path, &err);

    s->unsaved = r < 0;
    if (r < 0) {
        log_error("service %s: %s", s->name, err.text);
        service_retry(s);
    }
    return r;
}

static void retry_now(struct timer *t)
{
    service_poke(CONTAINER_OF(t, struct service, retry));
}

void service_retry(struct service *s)
{
    if (!s->retry.active)
        timer_start(s->host.loop, &s->retry, SERVICE_RETRY_MS, 0, retry_now);
}

void service_set_verdict(struct service *s, enum verdict verdict, const char *reason)
{
    struct journal *j = &s->journal;

    if (s->verdict == VERDICT_BAD)
        return;
    s->verdict = verdict;
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
    if (verdict == VERDICT_GOOD && j->phase == JOURNAL_TRIAL) {
        j->phase = JOURNAL_COMMITTED;
        j->starts = 0;
        (void)!service_save(s);
        service_prune(s);
    }
    if (verdict == VERDICT_BAD) {
        journal_latch_bad(j, &j->release, j->deployment, s->reason);
        (void)!service_save(s);
    }
    log_info("service %s: activation %llu is %s: %s", s->name, (unsigned long long)j->activation,
             verdict == VERDICT_GOOD  ? "good"
             : verdict == VERDICT_BAD ? "bad"
                                      : "unknown",
             s->reason);
    slots_free(s->host.slots, s->name);
    service_poke(s);
}

static void run_prune(struct work *w)
{
    struct service *s = CONTAINER_OF(w, struct service, prune);
    struct err err = ERR_INIT;

    if (releases_prune(s->dir, s->prune_keep, COUNT_OF(s->prune_keep), s->prune_spare, &err) < 0)
        log_warn("service %s: %s", s->name, err.text);
}

static void pruned(struct work *w)
{
    struct service *s = CONTAINER_OF(w, struct service, prune);

    s->pruning = false;
    if (s->prune_again)
        service_prune(s);
}

void service_prune(struct service *s)
{
    const struct goal *g = service_goal(s);

    s->prune_again = s->pruning;
    if (s->pruning)
        return;
    memset(s->prune_keep, 0, sizeof(s->prune_keep));
    s->prune_keep[0] = s->journal.release;
    s->prune_keep[1] = s->journal.previous;
    if (g != NULL) {
        s->prune_keep[2] = g->release;
        s->prune_keep[3] = g->rollback_to;
    }
    if (s->stage != NULL)
        s->prune_keep[4] = *stage_release(s->stage);
    s->prune_spare = s->needs_space ? 0 : RELEASES_SPARE;
    s->pruning = true;
    s->prune.run = run_prune;
    s->prune.done = pruned;
    work_submit(s->host.pool, &s->prune);
}

/* --- reporting --- */

/* What is true of the active release, which is the goal's. */
static void say_active(struct service *s, struct msg_report *r)
{
    r->verdict = (uint8_t)s->verdict;
    r->reason = s->reason;
    if (s->verdict == VERDICT_GOOD)
        r->phase = PHASE_HEALTHY;
    else
        r->phase = s->verdict == VERDICT_NONE ? PHASE_ACTIVATED : PHASE_FAILED;
}

/* False: there is nothing to say of this goal yet. */
static bool say(struct service *s, const struct goal *g, struct msg_report *r)
{
    const char *bad = journal_bad_reason(&s->journal, &g->release, g->deployment);

    r->release = g->release;
    if (g->action != GOAL_RUN) {
        r->phase = PHASE_STOPPED;
        return s->journal.phase == JOURNAL_STOPPED && s->step == STEP_REST;
    }
    if (hash_is_zero(&g->release))
        return false;
    if (hash_equal(&s->journal.release, &g->release) && !s->idle) {
        say_active(s, r);
        return true;
    }
    if (bad != NULL) {
        r->phase = PHASE_FAILED;
        r->verdict = VERDICT_BAD;
        r->reason = (char *)(uintptr_t)bad;
        return true;
    }
    if (hash_equal(&s->stage_failed, &g->release)) {
        r->phase = PHASE_FAILED;
        r->verdict = VERDICT_UNKNOWN;
        r->reason = s->stage_err.text;
        return true;
    }
    r->phase = PHASE_STAGED;
    return releases_has(s->dir, &g->release) && switch_is_verified(s, &g->release);
}

static void report(struct service *s, const struct goal *g)
{
    struct msg_report r = { .service = s->name,
                            .activation = s->journal.activation,
                            .boot = (char *)(uintptr_t)proc_boot_id(),
                            .at_ms = (uint64_t)wall_ms(),
                            .reason = (char *)(uintptr_t) "" };
    const char *refusal = goals_last_refusal(s->host.goals, s->name);

    if (g == NULL)
        return;
    r.deployment = g->deployment;
    r.generation = g->generation;
    if (!say(s, g, &r))
        return;
    if (r.reason[0] == '\0' || r.verdict == VERDICT_GOOD)
        r.reason = (char *)(uintptr_t)refusal;
    reports_offer(s->host.reports, &r);
}

void service_describe(const struct service *s, struct msg_service *ret)
{
    *ret = (struct msg_service){ .service = s->name,
                                 .release = s->journal.release,
                                 .generation = goals_floor(s->host.goals, s->name),
                                 .verdict = (uint8_t)s->verdict };
}

/* --- the step --- */

/* A switch is wanted and could be begun. Returns true if something was begun. */
static bool keep_switching(struct service *s, const struct goal *g, const struct hash *wanted)
{
    struct msg_slot_ask ask = { .service = s->name,
                                .deployment = g->deployment,
                                .release = *wanted,
                                .generation = g->generation };

    if (!switch_is_verified(s, wanted)) {
        if (!s->retry.active)
            switch_verify(s, wanted);
        return true;
    }
    slots_want(s->host.slots, &ask);
    if (!slots_has(s->host.slots, s->name) || s->retry.active)
        return false;
    switch_begin(s);
    return s->step != STEP_REST;
}

static bool keep_running(struct service *s)
{
    if (s->active == NULL || s->idle || run_is_up(s) || s->restart.active ||
        !releases_has(s->dir, &s->journal.release))
        return false;
    if (!s->leftovers_gone || !switch_is_verified(s, &s->journal.release)) {
        if (!s->retry.active)
            switch_verify(s, &s->journal.release);
        return true;
    }
    run_start(s);
    return s->step != STEP_REST;
}

/* A staged release that no agent of this life has looked at: it is reported only after that. */
static bool keep_verified(struct service *s, const struct goal *g)
{
    if (g == NULL || g->action != GOAL_RUN || s->retry.active ||
        hash_equal(&g->release, &s->journal.release) || !releases_has(s->dir, &g->release) ||
        switch_is_verified(s, &g->release) || !goals_stages(s->host.goals, g))
        return false;
    switch_verify(s, &g->release);
    return true;
}

/* A trial that an agent before us began: its slot is ours, and is to be renewed. */
static void keep_slot(struct service *s, const struct goal *g)
{
    struct msg_slot_ask ask = { .service = s->name,
                                .deployment = s->journal.deployment,
                                .release = s->journal.release };

    if (g == NULL || !hash_equal(&g->release, &s->journal.release))
        return;
    ask.generation = g->generation;
    slots_want(s->host.slots, &ask);
}

static bool act(struct service *s, const struct goal *g)
{
    const struct hash *wanted = service_wanted(s);

    if (is_unwanted(s, g)) {
        switch_off(s);
        return true;
    }
    if (wanted != NULL) {
        if (keep_switching(s, g, wanted))
            return true;
    } else if (s->journal.phase != JOURNAL_TRIAL || s->verdict != VERDICT_NONE) {
        slots_free(s->host.slots, s->name);
    } else {
        keep_slot(s, g);
    }
    return keep_running(s) || keep_verified(s, g);
}

static void step(struct timer *t)
{
    struct service *s = CONTAINER_OF(t, struct service, poke);
    const struct goal *g = service_goal(s);

    if (s->stopping)
        return;
    if (s->unsaved && !s->retry.active)
        (void)!service_save(s);
    service_stage_step(s, g);
    if (s->step == STEP_REST)
        (void)act(s, g);
    service_note_progress(s);
    report(s, g);
}

void service_poke(struct service *s)
{
    if (!s->poke.active)
        timer_start(s->host.loop, &s->poke, 0, 0, step);
}

void service_tick(struct service *s)
{
    struct err err = ERR_INIT;

    if (log_file_bound(s->log_path, &err) < 0)
        log_warn("service %s: %s", s->name, err.text);
    service_free_packs(s);
    service_poke(s);
}

/* --- life --- */

static void load_journal(struct service *s)
{
    AUTO_FREE char *aside = mem_printf("%s.unreadable", s->state_path);
    struct err err = ERR_INIT;

    if (journal_load(&s->journal, s->state_path, &err) == 0)
        return;
    log_error("service %s: %s: starting from what is current", s->name, err.text);
    (void)rename(s->state_path, aside);
}

int service_open(struct service **ret, const struct service_host *host, const char *name,
                 struct err *err)
{
    AUTO_FREE char *logs = mem_printf("%s/logs", host->root);
    AUTO_FREE char *dir = mem_printf("%s/services/%s", host->root, name);
    AUTO_FREE char *releases = mem_printf("%s/releases", dir);
    struct service *s;

    if (dir_make(releases, 0755, err) < 0 || dir_make(logs, 0755, err) < 0)
        return err_wrap(err, "service %s", name);
    s = mem_alloc(sizeof(*s));
    s->host = *host;
    s->name = mem_strdup(name);
    s->dir = mem_strdup(dir);
    s->state_path = mem_printf("%s/state.json", dir);
    s->run_path = mem_printf("%s/run", dir);
    s->log_path = mem_printf("%s/%s.log", logs, name);
    s->tag = guard_tag(dir);
    run_init(s);
    load_journal(s);
    switch_recover(s);
    service_poke(s);
    *ret = s;
    return 0;
}

void service_stop(struct service *s, int64_t grace_ms)
{
    s->stopping = true;
    health_free(s->health);
    s->health = NULL;
    timer_stop(&s->poke);
    timer_stop(&s->restart);
    timer_stop(&s->retry);
    run_shut_down(s, grace_ms);
}

bool service_is_down(const struct service *s)
{
    return !process_is_up(&s->main) && !process_is_up(&s->helper);
}

void service_free(struct service *s)
{
    if (s == NULL)
        return;
    timer_stop(&s->poke);
    timer_stop(&s->retry);
    timer_stop(&s->restart);
    timer_stop(&s->helper_limit);
    timer_stop(&s->stage_retry);
    health_free(s->health);
    if (s->reseeding)
        exchange_fetch_cancel(&s->reseed);
    stage_abandon(s->stage);
    process_release(&s->main);
    process_release(&s->helper);
    release_free(s->active);
    free(s->port_text);
    free(s->tag);
    free(s->log_path);
    free(s->run_path);
    free(s->state_path);
    free(s->dir);
    free(s->name);
    free(s);
}
