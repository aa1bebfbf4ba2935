/* Bringing the goal's release onto the disk, and giving its pack to others meanwhile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "releases.h"
#include "service_internal.h"

static const struct sources *find_sources(const struct service *s, const struct hash *release)
{
    for (int i = 0; i < s->nsources; i++) {
        if (hash_equal(&s->sources[i].release, release))
            return &s->sources[i];
    }
    return NULL;
}

static void take_packs(struct service *s, const struct sources *src)
{
    memcpy(s->packs, src->packs, sizeof(s->packs));
    s->npacks = src->npacks;
    s->packs_ms = loop_now_ms(s->host.loop);
}

void service_sources(struct service *s, const struct msg_sources *m)
{
    const struct msg_pack *packs = m->packs.items;
    struct sources *known = NULL;

    if (m->packs.count == 0)
        return;
    for (int i = 0; i < s->nsources; i++) {
        if (hash_equal(&s->sources[i].release, &m->release))
            known = &s->sources[i];
    }
    if (known == NULL && s->nsources == SERVICE_SOURCES_MAX)
        memmove(&s->sources[0], &s->sources[1], (size_t)--s->nsources * sizeof(s->sources[0]));
    if (known == NULL)
        known = &s->sources[s->nsources++];
    *known = (struct sources){ .release = m->release, .artifact = m->artifact };
    for (size_t i = 0; i < m->packs.count && i < STAGE_PACKS_MAX; i++)
        known->packs[known->npacks++] = packs[i].pack;
    if (s->stage != NULL && hash_equal(stage_release(s->stage), &known->release) &&
        hash_equal(&known->packs[0], &s->packs[0])) {
        take_packs(s, known);
        stage_packs(s->stage, known->packs, known->npacks);
    }
    service_poke(s);
}

/* A decoding that lasts is told of now and then. */
static void tell_apply(struct service *s, const struct stage_progress *p)
{
    int64_t now_ms = loop_now_ms(s->host.loop);
    char hex[HASH_HEX];

    if (p->apply_bytes == 0) {
        s->told_apply_ms = now_ms;
        return;
    }
    if (now_ms - s->told_apply_ms < SERVICE_TELL_APPLY_MS)
        return;
    s->told_apply_ms = now_ms;
    log_info("service %s: release %.12s: %llu of %llu MB are decoded", s->name,
             hash_hex(stage_release(s->stage), hex),
             (unsigned long long)(p->applied_bytes / 1000000),
             (unsigned long long)(p->apply_bytes / 1000000));
}

void service_note_progress(struct service *s)
{
    struct stage_progress p;

    if (s->stage == NULL || !stage_progress(s->stage, &p))
        return;
    s->progress = p;
    s->progress_release = *stage_release(s->stage);
    tell_apply(s, &p);
}

void service_stage_failed(struct service *s, const struct hash *release, const struct err *err)
{
    if (!hash_equal(&s->stage_failed, release) || strcmp(s->stage_err.text, err->text) != 0)
        log_warn("service %s: %s", s->name, err->text);
    s->stage_failed = *release;
    s->stage_err = *err;
}

static void stage_again(struct timer *t)
{
    service_poke(CONTAINER_OF(t, struct service, stage_retry));
}

static void say_staged(const struct service *s, const struct hash *release)
{
    const struct stage_progress *p = &s->progress;
    char hex[HASH_HEX];

    log_info(
        "service %s: staged release %.12s: %llu bytes fetched, %llu of them from machines; %llu "
        "saved",
        s->name, hash_hex(release, hex), (unsigned long long)p->staged_bytes,
        (unsigned long long)p->peer_bytes, (unsigned long long)p->saved_bytes);
}

static void stage_worked(struct service *s, const struct stage *stage)
{
    say_staged(s, stage_release(stage));
    if (stage_is_verified(stage))
        switch_mark_verified(s, stage_release(stage));
    memset(&s->stage_failed, 0, sizeof(s->stage_failed));
    s->stage_attempt = 0;
    s->needs_space = false;
    timer_stop(&s->retry); /* of what was wrong with it before */
    service_prune(s);
    s->host.staged(s->host.ctx);
}

/* The first time that the disk is full, releases that are only spare make room, and nobody hears of
 * it. */
static void stage_did_not(struct service *s, const struct stage *stage, const struct err *err)
{
    int64_t delay = (int64_t)SERVICE_STAGE_RETRY_MIN_MS
                    << (s->stage_attempt < 8 ? s->stage_attempt : 8);

    if (err->code == ERR_NO_SPACE && !s->needs_space) {
        log_warn("service %s: %s: old releases make room", s->name, err->text);
        s->needs_space = true;
        service_prune(s);
    } else {
        service_stage_failed(s, stage_release(stage), err);
    }
    s->stage_attempt++;
    if (delay > SERVICE_STAGE_RETRY_MAX_MS)
        delay = SERVICE_STAGE_RETRY_MAX_MS;
    timer_start(s->host.loop, &s->stage_retry, delay, 0, stage_again);
}

static void staged(void *ctx, struct stage *stage, int status, const struct err *err)
{
    struct service *s = ctx;

    service_note_progress(s);
    s->stage = NULL;
    if (status == 0)
        stage_worked(s, stage);
    else
        stage_did_not(s, stage, err);
    stage_free(stage);
    service_poke(s);
}

static void drop_pack(struct service *s)
{
    if (s->reseeding)
        exchange_fetch_cancel(&s->reseed);
    s->reseeding = false;
    for (size_t i = 0; i < s->npacks; i++) {
        if (s->host.pack_is_used(s->host.ctx, &s->packs[i], s->name))
            continue;
        s->host.pack_dropped(s->host.ctx, &s->packs[i]);
        exchange_forget(s->host.exchange, &s->packs[i]);
    }
    s->npacks = 0;
}

static void reseed_next(struct service *s);

static void reseeded(struct exchange_fetch *f, int status)
{
    struct service *s = CONTAINER_OF(f, struct service, reseed);

    s->reseeding = false;
    if (status < 0)
        log_debug("service %s: give the pack again: %s", s->name, f->err.text);
    s->reseed_at++;
    reseed_next(s);
}

/* Of what is not there of it, nothing is fetched. */
static void reseed_next(struct service *s)
{
    const struct bitmap nothing = { NULL, 0, 0 };

    for (; s->reseed_at < s->npacks; s->reseed_at++) {
        const struct hash *pack = &s->packs[s->reseed_at];
        char hex[HASH_HEX];
        AUTO_FREE char *path = mem_printf("%s/packs/%s.pack", s->host.root, hash_hex(pack, hex));

        if (!path_exists(path) || s->host.pack_is_used(s->host.ctx, pack, s->name))
            continue;
        s->reseeding = true;
        exchange_fetch_some(s->host.exchange, &s->reseed, pack, &nothing, reseeded);
        return;
    }
}

/* Staged by an agent before us, and its packs are still here: others may need them. */
static void reseed(struct service *s, const struct sources *src)
{
    if (s->npacks > 0 || s->stage != NULL || hash_equal(&s->packs_freed, &src->release))
        return;
    take_packs(s, src);
    s->reseed_at = 0;
    reseed_next(s);
}

void service_free_packs(struct service *s)
{
    const struct goal *g = service_goal(s);
    int64_t wanted_ms = s->packs_ms;

    if (s->npacks == 0 || s->stage != NULL || s->reseeding || g == NULL ||
        s->verdict != VERDICT_GOOD || !hash_equal(&s->journal.release, &g->release))
        return;
    for (size_t i = 0; i < s->npacks; i++) {
        int64_t given_ms = exchange_given_ms(s->host.exchange, &s->packs[i]);

        wanted_ms = given_ms > wanted_ms ? given_ms : wanted_ms;
    }
    if (loop_now_ms(s->host.loop) - wanted_ms < s->host.keep_packs_ms)
        return;
    log_info("service %s: nobody wants its packs any more: they are deleted", s->name);
    s->packs_freed = g->release;
    drop_pack(s);
}

static unsigned weight_of(const struct goal *g)
{
    if (g->urgent)
        return STAGE_ROLLBACK;
    return g->nactivate > 0 ? STAGE_DEPLOY : STAGE_PREFETCH;
}

static void begin_stage(struct service *s, const struct goal *g, const struct sources *src,
                        const struct release *release)
{
    AUTO_FREE char *packs_dir = mem_printf("%s/packs", s->host.root);
    struct stage_options o = { .loop = s->host.loop,
                               .pool = s->host.pool,
                               .exchange = s->host.exchange,
                               .dir = s->dir,
                               .packs_dir = packs_dir,
                               .deployment = g->deployment,
                               .release = g->release,
                               .base = s->journal.release,
                               .doc = *goals_release_doc(s->host.goals, &g->release),
                               .npacks = src->npacks,
                               .measure = s->host.measure,
                               .measure_ctx = s->host.ctx,
                               .weight = weight_of(g) };
    struct err err = ERR_INIT;

    if (!service_artifact(release, goals_variant(s->host.goals, release), &o.artifact)) {
        (void)!err_set(&err, ERR_NOT_FOUND, "stage: the release has no artifact for this machine");
        service_stage_failed(s, &g->release, &err);
        return;
    }
    if (!hash_equal(&o.artifact, &src->artifact)) {
        (void)!err_set(&err, ERR_INVALID, "stage: the region node offers another artifact");
        service_stage_failed(s, &g->release, &err);
        return;
    }
    if (!releases_has(s->dir, &o.base))
        memset(&o.base, 0, sizeof(o.base));
    memcpy(o.packs, src->packs, sizeof(o.packs));
    take_packs(s, src);
    memset(&s->progress_release, 0, sizeof(s->progress_release));
    memset(&s->packs_freed, 0, sizeof(s->packs_freed));
    snprintf(s->progress_deployment, sizeof(s->progress_deployment), "%s", g->deployment);
    s->receipt_release = g->release;
    stage_start(&s->stage, &o, staged, s);
}

/* It was staged by an agent before us: what that cost is told again, as it was. */
static void take_receipt(struct service *s, const struct goal *g)
{
    AUTO_FREE char *path = releases_path(s->dir, &g->release);
    struct receipt r;

    if (hash_equal(&s->receipt_release, &g->release))
        return;
    s->receipt_release = g->release;
    if (receipt_load(&r, path, NULL) < 0)
        return;
    s->progress = (struct stage_progress){ .staged_bytes = r.wanted_bytes,
                                           .wanted_bytes = r.wanted_bytes,
                                           .seed_bytes = r.seed_bytes,
                                           .peer_bytes = r.peer_bytes,
                                           .saved_bytes = r.saved_bytes,
                                           .measured = r.measured,
                                           .fetched = r.fetched };
    s->progress_release = g->release;
    snprintf(s->progress_deployment, sizeof(s->progress_deployment), "%s", r.deployment);
    s->host.staged(s->host.ctx);
}

void service_stage_step(struct service *s, const struct goal *g)
{
    bool wanted = g != NULL && g->action == GOAL_RUN && !hash_is_zero(&g->release) &&
                  service_goal_is_live(s, g) && goals_stages(s->host.goals, g);
    const struct sources *src = wanted ? find_sources(s, &g->release) : NULL;
    const struct release *release = wanted ? goals_release(s->host.goals, &g->release) : NULL;

    if (s->stage != NULL && (!wanted || !hash_equal(stage_release(s->stage), &g->release))) {
        stage_free(s->stage);
        s->stage = NULL;
        s->stage_attempt = 0;
        s->needs_space = false;
        timer_stop(&s->stage_retry);
    }
    if (s->npacks > 0 && (src == NULL || !hash_equal(&s->packs[0], &src->packs[0])) &&
        (g == NULL || service_goal_is_live(s, g)) && s->stage == NULL)
        drop_pack(s);
    if (wanted && s->stage == NULL && releases_has(s->dir, &g->release))
        take_receipt(s, g);
    if (src == NULL || s->stage != NULL || s->reseeding)
        return;
    if (releases_has(s->dir, &g->release))
        reseed(s, src);
    else if (release == NULL || s->stage_retry.active)
        return;
    else if (s->host.pack_is_staged(s->host.ctx, &src->packs[0],
                                    s->name)) /* its bytes are ours, too */
        timer_start(s->host.loop, &s->stage_retry, SERVICE_STAGE_RETRY_MIN_MS, 0, stage_again);
    else
        begin_stage(s, g, src, release);
}

bool service_progress(const struct service *s, struct fetched_room *room, struct msg_progress *ret)
{
    struct stage_progress p = s->progress;

    if (s->stage != NULL ? !stage_progress(s->stage, &p) : hash_is_zero(&s->progress_release))
        return false;
    *ret = (struct msg_progress){ .service = s->name,
                                  .deployment = (char *)(uintptr_t)s->progress_deployment,
                                  .release = s->stage != NULL ? *stage_release(s->stage)
                                                              : s->progress_release,
                                  .staged_bytes = p.staged_bytes,
                                  .wanted_bytes = p.wanted_bytes,
                                  .seed_bytes = p.seed_bytes,
                                  .peer_bytes = p.peer_bytes,
                                  .saved_bytes = p.saved_bytes };
    if (p.measured)
        fetched_tell(&p.fetched, room, ret);
    return true;
}

bool service_is_staging(const struct service *s)
{
    return s->stage != NULL;
}

bool service_uses_pack(const struct service *s, const struct hash *pack)
{
    for (size_t i = 0; i < s->npacks; i++) {
        if (hash_equal(&s->packs[i], pack))
            return true;
    }
    return false;
}

bool service_is_settled(const struct service *s)
{
    const struct goal *g = service_goal(s);

    return g == NULL || g->action != GOAL_RUN || hash_is_zero(&g->release) ||
           !service_goal_is_live(s, g) || find_sources(s, &g->release) != NULL;
}
