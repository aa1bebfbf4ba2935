#include "stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "stage_internal.h"
#include "swarm/figures.h"

static void destroy(struct stage *s)
{
    assembly_free(s->assembly);
    buf_release(&s->manifest);
    buf_release(&s->object.out);
    for (size_t k = 0; k < s->npacks; k++) {
        offer_free(s->packs[k].offer);
        bitmap_release(&s->here[k]);
    }
    plan_release(&s->plan);
    bitmap_release(&s->ripe);
    free(s->o.doc.data);
    free(s->deployment);
    free(s->packs_dir);
    free(s->path);
    free(s->dir);
    free(s);
}

void stage_enter(struct stage *s, enum stage_step step)
{
    bool asks = step == STEP_MANIFEST || step == STEP_PLAN || step == STEP_FETCH;
    int64_t now_ms = loop_now_ms(s->o.loop);

    if (s->asking_ms > 0)
        s->asked_ms += now_ms - s->asking_ms;
    s->asking_ms = asks ? now_ms : 0;
    s->step = step;
}

static void finish(struct stage *s, int status)
{
    stage_enter(s, STEP_NONE);
    s->done(s->ctx, s, status, &s->err);
}

/* Puts the name of what was being done in front; disk full gets its own words, once. */
void stage_fail(struct stage *s, const char *doing)
{
    bool full = s->err.code == ERR_NO_SPACE;

    (void)!err_wrap(&s->err, "stage: %s%s", full ? "no space: " : "", doing);
    finish(s, -(int)s->err.code);
}

void stage_submit(struct stage *s, void (*run)(struct work *w), void (*done)(struct work *w))
{
    s->working = true;
    s->work.run = run;
    s->work.done = done;
    work_submit(s->o.pool, &s->work);
}

bool stage_worked(struct stage *s)
{
    s->working = false;
    if (s->dropped)
        destroy(s);
    else
        return false;
    return true;
}

/* --- what it costs --- */

uint64_t stage_fetched_bytes(struct stage *s, uint64_t *ret_seed, uint64_t *ret_peer)
{
    uint64_t seed = s->lost_seed_bytes, peer = s->lost_peer_bytes;

    for (size_t k = 0; k < s->npacks; k++) {
        struct stage_pack *p = &s->packs[k];

        /* While leaves on disk are being hashed, what was known stands. */
        (void)exchange_leaves(s->o.exchange, &p->hash, &p->seed_bytes, &p->peer_bytes);
        seed += p->seed_bytes;
        peer += p->peer_bytes;
    }
    if (ret_seed != NULL)
        *ret_seed = seed;
    if (ret_peer != NULL)
        *ret_peer = peer;
    return seed + peer;
}

void stage_forget_pack(struct stage *s, size_t k)
{
    struct stage_pack *p = &s->packs[k];

    (void)stage_fetched_bytes(s, NULL, NULL);
    s->lost_seed_bytes += p->seed_bytes;
    s->lost_peer_bytes += p->peer_bytes;
    p->seed_bytes = p->peer_bytes = 0;
    p->opened = false;
    exchange_forget(s->o.exchange, &p->hash);
}

static void measure(struct stage *s, struct fetched *f)
{
    int64_t ms = s->asked_ms;
    struct hash packs[STAGE_PACKS_MAX];

    if (s->asking_ms > 0)
        ms += loop_now_ms(s->o.loop) - s->asking_ms;
    if (ms > FIGURES_MS_MAX)
        ms = FIGURES_MS_MAX;
    fetched_set(f, &s->tally);
    f->m.ms = (uint64_t)ms;
    f->m.done = s->complete;
    for (size_t k = 0; k < s->npacks; k++)
        packs[k] = s->packs[k].hash;
    if (s->o.measure != NULL)
        s->o.measure(s->o.measure_ctx, packs, s->npacks, f);
}

bool stage_progress(struct stage *s, struct stage_progress *ret)
{
    const struct offer *full = s->npacks > 0 ? s->packs[0].offer : NULL;
    uint64_t full_bytes = full == NULL ? s->all_local : offer_bytes(full);

    *ret = (struct stage_progress){ .staged_bytes = 0 };
    if (!s->planned)
        return false;
    ret->staged_bytes = stage_fetched_bytes(s, &ret->seed_bytes, &ret->peer_bytes);
    ret->wanted_bytes = s->wanted_bytes > ret->staged_bytes ? s->wanted_bytes : ret->staged_bytes;
    if (full_bytes > ret->wanted_bytes)
        ret->saved_bytes = full_bytes - ret->wanted_bytes;
    if (s->receipt.measured) /* what is written down is what is told */
        ret->fetched = s->receipt.fetched;
    else
        measure(s, &ret->fetched);
    ret->measured = true;
    if (s->step == STEP_APPLY)
        assembly_applied(s->assembly, &ret->applied_bytes, &ret->apply_bytes);
    return true;
}

/* --- FINISH --- */

static void run_finish(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_finish(s->assembly, &s->receipt, &s->err);
}

static void finished(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (stage_worked(s))
        return;
    if (s->status < 0)
        stage_fail(s, "unpack");
    else
        finish(s, 0);
}

void stage_finish(struct stage *s)
{
    struct stage_progress p;

    if (!s->planned) /* all of it was here */
        s->all_local = assembly_local_bytes(s->assembly);
    s->planned = true;
    stage_enter(s, STEP_FINISH);
    s->complete = true;
    (void)stage_progress(s, &p);
    s->receipt = (struct receipt){ .wanted_bytes = p.wanted_bytes,
                                   .seed_bytes = p.seed_bytes,
                                   .peer_bytes = p.peer_bytes,
                                   .saved_bytes = p.saved_bytes,
                                   .measured = true,
                                   .fetched = p.fetched };
    snprintf(s->receipt.deployment, sizeof(s->receipt.deployment), "%s", s->deployment);
    stage_submit(s, run_finish, finished);
}

/* --- packs --- */

static size_t find_pack(const struct stage *s, const struct hash *pack)
{
    size_t k = 0;

    while (k < s->npacks && !hash_equal(&s->packs[k].hash, pack))
        k++;
    return k;
}

static bool add_packs(struct stage *s, const struct hash *packs, size_t n)
{
    bool more = false;

    for (size_t i = 0; i < n; i++) {
        size_t k = find_pack(s, &packs[i]);

        if (k < s->npacks) {
            s->packs[k].withdrawn = false;
        } else if (k < STAGE_PACKS_MAX) {
            s->packs[k] = (struct stage_pack){ .hash = packs[i] };
            s->npacks++;
            more = true;
        }
    }
    return more;
}

static bool is_among(const struct hash *pack, const struct hash *packs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (hash_equal(pack, &packs[i]))
            return true;
    }
    return false;
}

void stage_packs(struct stage *s, const struct hash *packs, size_t n)
{
    bool more;

    if (n == 0 || !hash_equal(&packs[0], &s->packs[0].hash))
        return;
    more = add_packs(s, packs, n);
    for (size_t k = 1; k < s->npacks; k++)
        s->packs[k].withdrawn = !is_among(&s->packs[k].hash, packs, n);
    if (s->look != LOOK_NONE && s->look != LOOK_TABLE && s->packs[s->looking].withdrawn) {
        stage_stop_look(s);
        more = true;
        if (s->step == STEP_PLAN) {
            stage_advance(s);
            return;
        }
    }
    if (s->step != STEP_FETCH || s->working)
        return; /* it is seen when the next plan is made */
    if (s->packs[s->part].withdrawn)
        stage_leave_withdrawn(s);
    else if (more)
        (void)stage_look(s);
}

/* --- PREPARE --- */

static void run_prepare(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_prepare(s->assembly, &s->err);
}

static void prepared(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (stage_worked(s))
        return;
    if (s->status < 0) {
        stage_fail(s, "prepare");
        return;
    }
    stage_enter(s, STEP_PLAN);
    stage_advance(s);
}

static void start_prepare(struct stage *s)
{
    struct assembly_spec spec = {
        .dir = s->dir,
        .release = s->o.release,
        .artifact = s->o.artifact,
        .doc = s->o.doc,
        .manifest = { (unsigned char *)s->manifest.data, s->manifest.len },
        .base = s->o.base,
    };

    if (s->manifest.len <= STAGE_OFFER_MAX)
        exchange_offer(s->o.exchange, s->manifest.data, s->manifest.len);
    assembly_new(&s->assembly, &spec);
    buf_release(&s->manifest);
    stage_enter(s, STEP_PREPARE);
    stage_submit(s, run_prepare, prepared);
}

/* --- LOOK and MANIFEST --- */

static void manifest_came(struct exchange_object *o, int status)
{
    struct stage *s = CONTAINER_OF(o, struct stage, object);

    if (status < 0) {
        s->err = o->err;
        stage_fail(s, "manifest");
        return;
    }
    s->manifest = o->out;
    o->out = (struct buf)BUF_INIT;
    start_prepare(s);
}

static void run_look(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_kept_manifest(s->dir, &s->o.release, &s->o.artifact, &s->manifest);
}

static void looked(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (stage_worked(s))
        return;
    if (s->status > 0) {
        start_prepare(s);
        return;
    }
    buf_release(&s->manifest);
    stage_enter(s, STEP_MANIFEST);
    exchange_object_start(s->o.exchange, &s->object, &s->o.artifact, MANIFEST_MAX_BYTES,
                          manifest_came);
}

/* --- life --- */

void stage_start(struct stage **ret, const struct stage_options *o,
                 void (*done)(void *ctx, struct stage *s, int status, const struct err *err),
                 void *ctx)
{
    struct stage *s = mem_alloc(sizeof(*s));

    s->o = *o;
    s->dir = mem_strdup(o->dir);
    s->o.packs_dir = s->packs_dir = mem_strdup(o->packs_dir);
    s->deployment = mem_strdup(o->deployment);
    s->o.doc.data = mem_dup(o->doc.data, o->doc.len);
    s->done = done;
    s->ctx = ctx;
    (void)add_packs(s, o->packs, o->npacks);
    *ret = s;
    stage_enter(s, STEP_LOOK);
    stage_submit(s, run_look, looked);
}

bool stage_is_verified(const struct stage *s)
{
    return s->assembly != NULL && !assembly_is_resumed(s->assembly);
}

const struct hash *stage_release(const struct stage *s)
{
    return &s->o.release;
}

static void leave_exchange(struct stage *s)
{
    if (s->step == STEP_MANIFEST)
        exchange_object_cancel(&s->object);
    stage_stop_look(s);
    if (s->step == STEP_FETCH)
        stage_stop_fetch(s);
}

void stage_free(struct stage *s)
{
    if (s == NULL)
        return;
    leave_exchange(s);
    if (!s->working) {
        destroy(s);
        return;
    }
    s->dropped = true;
    if (s->assembly != NULL)
        assembly_cancel(s->assembly);
}

void stage_abandon(struct stage *s)
{
    if (s == NULL)
        return;
    leave_exchange(s);
    destroy(s);
}
