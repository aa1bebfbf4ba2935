#include "stage.h"

#include <stdlib.h>
#include <string.h>

#include "assemble.h"
#include "base/log.h"
#include "base/mem.h"
#include "delta/full.h"
#include "io/files.h"

enum step {
    STEP_NONE = 0,
    STEP_LOOK,
    STEP_MANIFEST,
    STEP_PREPARE,
    STEP_INDEX,
    STEP_DELTA,
    STEP_APPLY,
    STEP_HEADER,
    STEP_CHOOSE, /* between HEADER and FETCH */
    STEP_FETCH,
    STEP_FINISH,
};

struct stage {
    struct stage_options o; /* dir and doc are our copies */
    char *dir;
    void (*done)(void *ctx, struct stage *s, int status, const struct err *err);
    void *ctx;
    enum step step;
    struct work work; /* under way in LOOK, PREPARE, APPLY, CHOOSE and FINISH */
    int status;
    struct err err;
    struct buf manifest;
    struct exchange_object object;
    struct exchange_fetch fetch;
    bool fetching;                /* the counters of fetch are not in `before` yet */
    struct stage_progress before; /* of what was fetched earlier */
    uint64_t full_bytes;          /* of the full pack; 0: not known */
    size_t at;                    /* INDEX: which pack */
    size_t delta;                 /* the best so far; 0: none */
    uint64_t delta_bytes;
    bool tried_delta;
    struct bitmap leaves; /* of the full pack, that are wanted */
    struct assembly *assembly;
    char *pack_path;
    uint64_t saved;
    bool dropped; /* free it when the work pool is done */
};

static void destroy(struct stage *s)
{
    assembly_free(s->assembly);
    buf_release(&s->manifest);
    buf_release(&s->object.out);
    bitmap_release(&s->leaves);
    free(s->o.doc.data);
    free(s->pack_path);
    free(s->dir);
    free(s);
}

static void finish(struct stage *s, int status)
{
    s->step = STEP_NONE;
    s->done(s->ctx, s, status, &s->err);
}

/* Puts the name of what was being done in front; disk full gets its own words, once. */
static void fail(struct stage *s, const char *doing)
{
    bool full = s->err.code == ERR_NO_SPACE;

    (void)!err_wrap(&s->err, "stage: %s%s", full ? "no space: " : "", doing);
    finish(s, -(int)s->err.code);
}

static void submit(struct stage *s, enum step step, void (*run)(struct work *w),
                   void (*done)(struct work *w))
{
    s->step = step;
    s->work.run = run;
    s->work.done = done;
    work_submit(s->o.pool, &s->work);
}

/* --- FINISH --- */

static void run_finish(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_finish(s->assembly, s->pack_path, &s->err);
}

static void finished(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (s->dropped) {
        destroy(s);
        return;
    }
    if (s->status == -ERR_CORRUPT && s->pack_path != NULL)
        exchange_forget(s->o.exchange, &s->o.packs[0]);
    if (s->status < 0)
        fail(s, "unpack");
    else
        finish(s, 0);
}

/* --- packs --- */

static void add_fetch(const struct exchange_fetch *f, struct stage_progress *ret)
{
    ret->staged_bytes += f->have_bytes;
    ret->wanted_bytes += f->total_bytes;
    ret->seed_bytes += f->seed_bytes;
    ret->peer_bytes += f->peer_bytes;
}

static void end_fetch(struct stage *s)
{
    if (s->fetching)
        add_fetch(&s->fetch, &s->before);
    s->fetching = false;
}

/* some: NULL for the whole pack. */
static void start_fetch(struct stage *s, enum step step, size_t pack, const struct bitmap *some,
                        void (*done)(struct exchange_fetch *f, int status))
{
    s->step = step;
    s->fetching = true;
    if (some == NULL)
        exchange_fetch_start(s->o.exchange, &s->fetch, &s->o.packs[pack], done);
    else
        exchange_fetch_some(s->o.exchange, &s->fetch, &s->o.packs[pack], some, done);
}

/* False: it has failed, and s may be gone. */
static bool take_path(struct stage *s, struct exchange_fetch *f, size_t pack, int status)
{
    const char *path = status < 0 ? NULL : exchange_path(s->o.exchange, &s->o.packs[pack]);

    end_fetch(s);
    s->err = f->err;
    if (status >= 0 && path == NULL)
        status = err_set(&s->err, ERR_INTERNAL, "the pack is not there");
    if (status < 0) {
        fail(s, "fetch");
        return false;
    }
    free(s->pack_path);
    s->pack_path = mem_strdup(path);
    return true;
}

/* --- HEADER, CHOOSE, FETCH: the full pack --- */

static void fetched(struct exchange_fetch *f, int status)
{
    struct stage *s = CONTAINER_OF(f, struct stage, fetch);

    if (take_path(s, f, 0, status))
        submit(s, STEP_FINISH, run_finish, finished);
}

static void run_choose(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    bitmap_release(&s->leaves);
    s->status = assembly_leaves(s->assembly, s->pack_path, s->full_bytes, &s->leaves, &s->err);
}

static void chosen(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (s->dropped) {
        destroy(s);
        return;
    }
    if (s->status == -ERR_CORRUPT)
        exchange_forget(s->o.exchange, &s->o.packs[0]);
    if (s->status < 0)
        fail(s, "plan");
    else
        start_fetch(s, STEP_FETCH, 0, &s->leaves, fetched);
}

static void header_came(struct exchange_fetch *f, int status)
{
    struct stage *s = CONTAINER_OF(f, struct stage, fetch);

    s->fetching = false; /* FETCH wants these leaves, too, and counts them */
    if (take_path(s, f, 0, status))
        submit(s, STEP_CHOOSE, run_choose, chosen);
}

static void start_full(struct stage *s)
{
    size_t segments = assembly_segments(s->assembly);
    size_t header = (full_header_bytes(segments) + LEAF_BYTES - 1) / LEAF_BYTES;

    if (s->full_bytes == 0 || assembly_needs_all(s->assembly)) {
        start_fetch(s, STEP_FETCH, 0, NULL, fetched);
        return;
    }
    bitmap_release(&s->leaves);
    bitmap_init(&s->leaves, header);
    for (size_t i = 0; i < header; i++)
        bitmap_put(&s->leaves, i, true);
    start_fetch(s, STEP_HEADER, 0, &s->leaves, header_came);
}

/* --- DELTA, APPLY --- */

static void run_apply(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_apply_delta(s->assembly, s->pack_path, &s->err);
}

static void applied(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (s->dropped) {
        destroy(s);
        return;
    }
    if (s->status == -ERR_CORRUPT) {
        log_warn("the delta is not used: %s", s->err.text);
        exchange_forget(s->o.exchange, &s->o.packs[s->delta]);
    }
    if (s->status < 0 && s->status != -ERR_CORRUPT)
        fail(s, "apply");
    else if (assembly_needed_bytes(s->assembly) == 0)
        submit(s, STEP_FINISH, run_finish, finished);
    else
        start_full(s);
}

static void delta_came(struct exchange_fetch *f, int status)
{
    struct stage *s = CONTAINER_OF(f, struct stage, fetch);

    if (take_path(s, f, s->delta, status))
        submit(s, STEP_APPLY, run_apply, applied);
}

/* --- INDEX --- */

static void next_index(struct stage *s);

static void take_index(struct stage *s, const struct pack_index *x)
{
    struct hash base;

    if (s->at == 0) {
        s->full_bytes = x->bytes;
        return;
    }
    if (x->kind != PACK_DELTA || !hash_equal(&x->target, &s->o.artifact) ||
        !assembly_base(s->assembly, &base) || !hash_equal(&x->base, &base) ||
        x->bytes >= s->full_bytes || (s->delta != 0 && x->bytes >= s->delta_bytes))
        return;
    s->delta = s->at;
    s->delta_bytes = x->bytes;
}

static void index_came(struct exchange_object *o, int status)
{
    struct stage *s = CONTAINER_OF(o, struct stage, object);
    struct pack_index *x = NULL;

    s->err = o->err;
    if (status >= 0)
        status = pack_index_parse(&x, o->out.data, o->out.len, &s->err);
    if (status < 0) {
        fail(s, "pack index");
        return;
    }
    take_index(s, x);
    pack_index_free(x);
    s->at++;
    next_index(s);
}

static void next_index(struct stage *s)
{
    struct hash base;

    if (s->at < s->o.npacks && (s->at == 0 || assembly_base(s->assembly, &base))) {
        s->step = STEP_INDEX;
        exchange_object_start(s->o.exchange, &s->object, &s->o.packs[s->at],
                              (size_t)LEAVES_MAX * HASH_BYTES + 128, index_came);
    } else if (s->delta != 0) {
        s->tried_delta = true;
        start_fetch(s, STEP_DELTA, s->delta, NULL, delta_came);
    } else {
        start_full(s);
    }
}

static void start_packs(struct stage *s)
{
    s->saved = assembly_local_bytes(s->assembly);
    if (assembly_needed_bytes(s->assembly) == 0) {
        submit(s, STEP_FINISH, run_finish, finished);
        return;
    }
    s->saved = 0;
    s->at = 0;
    if (s->o.npacks == 1 && (assembly_needs_all(s->assembly) ||
                             assembly_stream_bytes(s->assembly) <= STAGE_SMALL_BYTES))
        start_full(s);
    else
        next_index(s);
}

void stage_packs(struct stage *s, const struct hash *packs, size_t n)
{
    bool is_more = n > s->o.npacks;

    if (n == 0 || n > STAGE_PACKS_MAX || !hash_equal(&packs[0], &s->o.packs[0]))
        return;
    if (s->step >= STEP_INDEX && s->step != STEP_FETCH)
        return; /* it is late for another plan */
    memcpy(s->o.packs, packs, n * sizeof(*packs));
    s->o.npacks = n;
    if (s->step != STEP_FETCH || !is_more || s->tried_delta ||
        s->fetch.have_bytes > s->fetch.total_bytes / 2)
        return;
    s->before.seed_bytes += s->fetch.seed_bytes;
    s->before.peer_bytes += s->fetch.peer_bytes;
    s->fetching = false;
    exchange_fetch_cancel(&s->fetch);
    s->at = 0;
    next_index(s);
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

    if (s->dropped)
        destroy(s);
    else if (s->status < 0)
        fail(s, "prepare");
    else
        start_packs(s);
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
    submit(s, STEP_PREPARE, run_prepare, prepared);
}

/* --- LOOK and MANIFEST --- */

static void manifest_came(struct exchange_object *o, int status)
{
    struct stage *s = CONTAINER_OF(o, struct stage, object);

    if (status < 0) {
        s->err = o->err;
        fail(s, "manifest");
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

    if (s->dropped) {
        destroy(s);
        return;
    }
    if (s->status > 0) {
        start_prepare(s);
        return;
    }
    buf_release(&s->manifest);
    s->step = STEP_MANIFEST;
    exchange_object_start(s->o.exchange, &s->object, &s->o.artifact, MANIFEST_MAX_BYTES,
                          manifest_came);
}

void stage_start(struct stage **ret, const struct stage_options *o,
                 void (*done)(void *ctx, struct stage *s, int status, const struct err *err),
                 void *ctx)
{
    struct stage *s = mem_alloc(sizeof(*s));

    s->o = *o;
    s->dir = mem_strdup(o->dir);
    s->o.doc.data = mem_dup(o->doc.data, o->doc.len);
    s->done = done;
    s->ctx = ctx;
    *ret = s;
    submit(s, STEP_LOOK, run_look, looked);
}

void stage_progress(const struct stage *s, struct stage_progress *ret)
{
    *ret = s->before;
    if (s->fetching)
        add_fetch(&s->fetch, ret);
    ret->saved_bytes = s->saved;
    /* The plan may still grow while the header is awaited, or a delta applied. */
    if (s->full_bytes > ret->wanted_bytes && ret->wanted_bytes > 0)
        ret->saved_bytes = s->full_bytes - ret->wanted_bytes;
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
    if (s->step == STEP_MANIFEST || s->step == STEP_INDEX)
        exchange_object_cancel(&s->object);
    if (s->step == STEP_DELTA || s->step == STEP_HEADER || s->step == STEP_FETCH)
        exchange_fetch_cancel(&s->fetch);
}

void stage_free(struct stage *s)
{
    if (s == NULL)
        return;
    if (s->step == STEP_LOOK || s->step == STEP_PREPARE || s->step == STEP_APPLY ||
        s->step == STEP_CHOOSE || s->step == STEP_FINISH) {
        s->dropped = true;
        if (s->assembly != NULL)
            assembly_cancel(s->assembly);
        return;
    }
    leave_exchange(s);
    destroy(s);
}

void stage_abandon(struct stage *s)
{
    if (s == NULL)
        return;
    leave_exchange(s);
    destroy(s);
}
