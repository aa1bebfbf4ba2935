#include "stage.h"

#include <stdlib.h>
#include <string.h>

#include "assemble.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"

enum step { STEP_NONE = 0, STEP_LOOK, STEP_MANIFEST, STEP_PREPARE, STEP_FETCH, STEP_FINISH };

struct stage {
    struct stage_options o; /* dir and doc are our copies */
    char *dir;
    void (*done)(void *ctx, struct stage *s, int status, const struct err *err);
    void *ctx;
    enum step step;
    struct work work; /* under way in LOOK, PREPARE and FINISH */
    int status;
    struct err err;
    struct buf manifest;
    struct exchange_object object;
    struct exchange_fetch fetch;
    bool fetched; /* the counters of fetch are of use */
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
        exchange_forget(s->o.exchange, &s->o.pack);
    if (s->status < 0)
        fail(s, "unpack");
    else
        finish(s, 0);
}

/* --- FETCH --- */

static void fetched(struct exchange_fetch *f, int status)
{
    struct stage *s = CONTAINER_OF(f, struct stage, fetch);
    const char *path = status < 0 ? NULL : exchange_path(s->o.exchange, &s->o.pack);

    s->err = f->err;
    if (status >= 0 && path == NULL)
        status = err_set(&s->err, ERR_INTERNAL, "the pack is not there");
    if (status < 0) {
        fail(s, "fetch");
        return;
    }
    s->pack_path = mem_strdup(path);
    submit(s, STEP_FINISH, run_finish, finished);
}

static void start_fetch(struct stage *s)
{
    s->saved = assembly_local_bytes(s->assembly);
    if (assembly_needed_bytes(s->assembly) == 0) {
        submit(s, STEP_FINISH, run_finish, finished);
        return;
    }
    s->saved = 0;
    s->step = STEP_FETCH;
    s->fetched = true;
    exchange_fetch_start(s->o.exchange, &s->fetch, &s->o.pack, fetched);
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
        start_fetch(s);
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
    *ret = (struct stage_progress){ .saved_bytes = s->saved };
    if (!s->fetched)
        return;
    ret->staged_bytes = s->fetch.have_bytes;
    ret->wanted_bytes = s->fetch.total_bytes;
    ret->seed_bytes = s->fetch.seed_bytes;
    ret->peer_bytes = s->fetch.peer_bytes;
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
    if (s->step == STEP_FETCH)
        exchange_fetch_cancel(&s->fetch);
}

void stage_free(struct stage *s)
{
    if (s == NULL)
        return;
    if (s->step == STEP_LOOK || s->step == STEP_PREPARE || s->step == STEP_FINISH) {
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
