/* From one release to another: verify, stop, journal, move `current`, start; and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "releases.h"
#include "service_internal.h"

/* --- verifying --- */

bool switch_is_verified(const struct service *s, const struct hash *release)
{
    for (int i = 0; i < s->nverified; i++) {
        if (hash_equal(&s->verified[i], release))
            return true;
    }
    return false;
}

void switch_mark_verified(struct service *s, const struct hash *release)
{
    if (switch_is_verified(s, release))
        return;
    if (s->nverified == SERVICE_VERIFIED_MAX)
        memmove(&s->verified[0], &s->verified[1], (size_t)--s->nverified * sizeof(s->verified[0]));
    s->verified[s->nverified++] = *release;
}

static void unmark_verified(struct service *s, const struct hash *release)
{
    for (int i = s->nverified - 1; i >= 0; i--) {
        if (hash_equal(&s->verified[i], release))
            s->verified[i] = s->verified[--s->nverified];
    }
}

static void run_verify(struct work *w)
{
    struct service *s = CONTAINER_OF(w, struct service, work);

    s->status = 0;
    if (s->kill_leftovers)
        proc_kill_tagged(s->tag);
    if (s->check_tree)
        s->status = releases_verify(s->dir, &s->checked, &s->checked_artifact, &s->err);
    /* What is not as it was signed must not be found again: it is staged anew, or stays away. */
    if (s->status == -ERR_CORRUPT || s->status == -ERR_NOT_FOUND || s->status == -ERR_INVALID)
        (void)!releases_remove(s->dir, &s->checked, NULL);
}

static void verified(struct work *w)
{
    struct service *s = CONTAINER_OF(w, struct service, work);

    s->step = STEP_REST;
    if (s->kill_leftovers)
        s->leftovers_gone = true;
    if (s->status < 0) {
        log_error("service %s: %s", s->name, s->err.text);
        unmark_verified(s, &s->checked);
        service_retry(s);
    } else if (s->check_tree) {
        switch_mark_verified(s, &s->checked);
        memset(&s->stage_failed, 0, sizeof(s->stage_failed));
    }
    service_poke(s);
}

/* The artifact that the signed release on disk names for this machine. */
static int artifact_of(struct service *s, const struct hash *release, struct hash *ret,
                       struct release **ret_doc, struct err *err)
{
    AUTO_BUF data = BUF_INIT;
    struct release *doc = NULL;
    const char *variant;
    int r = releases_read_doc(s->dir, release, &data, err);

    if (r < 0)
        return r;
    if (goals_trust(s->host.goals) == NULL)
        return err_set(err, ERR_DENIED, "there is no trust document");
    r = release_open(&doc, goals_trust(s->host.goals), data.data, data.len, err);
    if (r < 0)
        return r;
    variant = goals_variant(s->host.goals, doc);
    if (!service_artifact(doc, variant, ret))
        r = err_set(err, ERR_INVALID, "the release has no artifact for this machine");
    else if (strcmp(doc->service, s->name) != 0)
        r = err_set(err, ERR_DENIED, "the release is one of service %s", doc->service);
    if (r == 0)
        *ret_doc = doc;
    else
        release_free(doc);
    return r;
}

/* Before anything is run: is the tree what was signed, and is nothing of before still running? */
void switch_verify(struct service *s, const struct hash *release)
{
    struct release *doc = NULL;

    s->err = (struct err)ERR_INIT;
    s->checked = *release;
    s->check_tree = !switch_is_verified(s, release);
    s->kill_leftovers = !s->leftovers_gone && !run_is_up(s);
    if (s->check_tree && artifact_of(s, release, &s->checked_artifact, &doc, &s->err) < 0) {
        (void)!err_wrap(&s->err, "stage: release on disk");
        service_stage_failed(s, release, &s->err);
        if (s->err.code == ERR_CORRUPT || s->err.code == ERR_NOT_FOUND)
            (void)!releases_remove(s->dir, release, NULL);
        service_retry(s);
        return;
    }
    release_free(doc);
    s->step = STEP_VERIFY;
    s->work.run = run_verify;
    s->work.done = verified;
    work_submit(s->host.pool, &s->work);
}

/* --- moving --- */

int switch_load_active(struct service *s)
{
    struct err err = ERR_INIT;
    struct hash artifact;

    release_free(s->active);
    s->active = NULL;
    if (hash_is_zero(&s->journal.release))
        return 0;
    if (artifact_of(s, &s->journal.release, &artifact, &s->active, &err) == 0)
        return 0;
    log_error("service %s: active release: %s", s->name, err.text);
    return -(int)err.code;
}

static void fail_switch(struct service *s, const char *doing, const struct err *err)
{
    log_error("service %s: %s: %s", s->name, doing, err->text);
    service_retry(s);
}

/* While the old one still runs, so that a full disk costs nothing. TRIAL on disk with the old
 * `current`, or with the old process, is finished or taken back at the next start. The first start
 * is counted here: one fsync less while the service is down. */
static int enter_trial(struct service *s, const struct goal *g)
{
    struct journal before = s->journal;
    struct journal *j = &s->journal;
    struct err err = ERR_INIT;

    if (j->phase == JOURNAL_COMMITTED && !hash_equal(&j->release, &g->release))
        j->previous = j->release;
    j->phase = JOURNAL_TRIAL;
    j->release = g->release;
    j->activation++;
    j->starts = 1;
    snprintf(j->deployment, sizeof(j->deployment), "%s", g->deployment);
    journal_unlatch(j, &g->release);
    if (journal_save(j, s->state_path, &err) < 0 ||
        releases_switch(s->dir, &g->release, &err) < 0) {
        *j = before;
        (void)!service_save(s);
        fail_switch(s, "activate", &err);
        return -1;
    }
    s->counted = true;
    return 0;
}

static void old_is_down(struct service *s)
{
    const struct goal *g = service_goal(s);

    if (switch_load_active(s) < 0)
        service_set_verdict(s, VERDICT_BAD, "activate: the release cannot be used");
    else if (g != NULL && hash_equal(&g->release, &s->journal.release))
        run_start(s); /* else the goal has changed meanwhile: the next step decides anew */
    service_poke(s);
}

void switch_begin(struct service *s)
{
    const struct goal *g = service_goal(s);

    if (enter_trial(s, g) < 0)
        return;
    log_info("service %s: activation %llu, deployment %s", s->name,
             (unsigned long long)s->journal.activation, g->deployment);
    s->verdict = VERDICT_NONE;
    s->reason[0] = '\0';
    s->deaths = 0;
    s->port_moved = false;
    s->idle = false;
    run_stop(s, old_is_down);
}

/* --- stopping for good --- */

static void run_remove(struct work *w)
{
    struct service *s = CONTAINER_OF(w, struct service, work);
    AUTO_FREE char *releases = mem_printf("%s/releases", s->dir);

    s->status = dir_remove(releases, &s->err);
}

static void removed(struct work *w)
{
    struct service *s = CONTAINER_OF(w, struct service, work);

    s->step = STEP_REST;
    s->nverified = 0;
    if (s->status < 0)
        fail_switch(s, "remove", &s->err);
    service_poke(s);
}

static void is_off(struct service *s)
{
    const struct goal *g = service_goal(s);
    struct journal *j = &s->journal;
    struct err err = ERR_INIT;

    slots_free(s->host.slots, s->name);
    j->phase = JOURNAL_STOPPED;
    memset(&j->release, 0, sizeof(j->release));
    memset(&j->previous, 0, sizeof(j->previous));
    if (g != NULL)
        snprintf(j->deployment, sizeof(j->deployment), "%s", g->deployment);
    release_free(s->active);
    s->active = NULL;
    s->verdict = VERDICT_NONE;
    s->reason[0] = '\0';
    if (service_save(s) < 0 || releases_switch(s->dir, &j->release, &err) < 0) {
        service_retry(s);
        return;
    }
    log_info("service %s: stopped", s->name);
    if (g == NULL || g->action != GOAL_ABSENT) {
        service_poke(s);
        return;
    }
    s->step = STEP_REMOVE;
    s->err = (struct err)ERR_INIT;
    s->work.run = run_remove;
    s->work.done = removed;
    work_submit(s->host.pool, &s->work);
}

void switch_off(struct service *s)
{
    run_stop(s, is_off);
}

/* --- after a restart --- */

void switch_back(struct service *s)
{
    struct journal *j = &s->journal;
    struct err err = ERR_INIT;

    log_warn("service %s: back to the release before", s->name);
    j->release = j->previous;
    memset(&j->previous, 0, sizeof(j->previous));
    j->phase = hash_is_zero(&j->release) ? JOURNAL_STOPPED : JOURNAL_COMMITTED;
    s->verdict = VERDICT_NONE;
    s->reason[0] = '\0';
    if (service_save(s) < 0 || releases_switch(s->dir, &j->release, &err) < 0)
        service_retry(s);
    (void)!switch_load_active(s);
}

/* The journal is the truth; `current` follows it. */
static void repair_current(struct service *s)
{
    struct err err = ERR_INIT;
    struct hash current;

    if (releases_current(s->dir, &current, &err) < 0) {
        log_warn("service %s: %s", s->name, err.text);
        memset(&current, 0, sizeof(current));
    }
    if (s->journal.phase == JOURNAL_NONE && !hash_is_zero(&current)) {
        /* The journal was lost; what is current was committed, or on its way to be. */
        s->journal.phase = JOURNAL_COMMITTED;
        s->journal.release = current;
    }
    if (!hash_equal(&current, &s->journal.release) &&
        releases_switch(s->dir, &s->journal.release, &err) < 0)
        log_error("service %s: %s", s->name, err.text);
}

/* A trial that nothing runs of goes on only if it may still become good. */
static bool trial_may_go_on(struct service *s)
{
    const struct goal *g = service_goal(s);
    const struct journal *j = &s->journal;

    return g != NULL && service_goal_is_live(s, g) && hash_equal(&g->release, &j->release) &&
           goals_activates(s->host.goals, g) && j->starts < JOURNAL_STARTS_MAX &&
           journal_bad_reason(j, &j->release, j->deployment) == NULL;
}

static void latch_trial(struct service *s)
{
    struct journal *j = &s->journal;

    if (j->starts >= JOURNAL_STARTS_MAX &&
        journal_bad_reason(j, &j->release, j->deployment) == NULL)
        journal_latch_bad(j, &j->release, j->deployment,
                          "activate: started too often without a verdict");
}

void switch_recover(struct service *s)
{
    struct journal *j = &s->journal;
    const char *bad;
    struct run run;
    bool found = false;

    repair_current(s);
    (void)!switch_load_active(s);
    if (run_adopt(s)) {
        s->leftovers_gone = true;
    } else if (j->phase == JOURNAL_TRIAL && !trial_may_go_on(s)) {
        latch_trial(s);
        s->idle = hash_is_zero(&j->previous);
        if (!s->idle)
            switch_back(s);
    }
    /* A committed release that was sick is given a new chance by a new boot of the machine. */
    if (j->phase == JOURNAL_COMMITTED && run_load(&run, s->run_path, &found, NULL) == 0 && found &&
        !run_is_of_this_boot(&run))
        journal_unlatch(j, &j->release);
    bad = journal_bad_reason(j, &j->release, j->deployment);
    if (bad != NULL)
        service_set_verdict(s, VERDICT_BAD, bad);
    if (run_is_up(s) && bad == NULL)
        run_watch_health(s);
}
