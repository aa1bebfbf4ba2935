#include "region/replicas.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/dir.h"

struct fetch {
    struct replica replica; /* first */
    struct replicas *rs;
    struct list node; /* in waiting */
    struct work work;
    struct timer retry;
    bool running, verified;
    bool dropped;  /* being forgotten */
    bool deleting; /* in the pool just now */
    bool again;    /* but wanted again meanwhile */
    int attempts, status;
    struct err err;
    struct hash *more; /* packs that were wanted during a step */
    size_t nmore, more_cap;
    struct hash done[PACKS_MAX]; /* complete, and told */
    uint64_t done_bytes[PACKS_MAX];
    size_t ndone, nlost;
    /* what the step in hand found to be complete */
    struct buf manifest;
    struct replica_pack ready;
    bool has_ready;
};

struct replicas {
    struct replicas_options o;
    char *partial;
    struct map by_artifact; /* hex -> struct fetch */
    struct map packs;       /* hex of complete packs -> uint64_t * in a fetch */
    struct list waiting;
    size_t running;
    bool stopped;
};

int replicas_new(struct replicas **ret, const struct replicas_options *o, struct err *err)
{
    struct replicas *rs = mem_alloc(sizeof(*rs));

    (void)err;
    rs->o = *o;
    rs->partial = mem_strdup(o->partial);
    list_init(&rs->waiting);
    *ret = rs;
    return 0;
}

static void release_ready(struct fetch *f)
{
    buf_release(&f->manifest);
    buf_release(&f->ready.index);
    free(f->ready.path);
    f->ready = (struct replica_pack){ .path = NULL };
    f->has_ready = false;
}

static void fetch_free(struct fetch *f)
{
    release_ready(f);
    replication_free(f->replica.r);
    free(f->replica.reason);
    free(f->more);
    free(f);
}

void replicas_stop(struct replicas *rs)
{
    struct map_entry *e;

    rs->stopped = true;
    for (size_t i = 0; (e = map_next(&rs->by_artifact, &i)) != NULL;)
        timer_stop(&((struct fetch *)e->value)->retry);
}

void replicas_free(struct replicas *rs)
{
    struct map_entry *e;

    if (rs == NULL)
        return;
    for (size_t i = 0; (e = map_next(&rs->by_artifact, &i)) != NULL;)
        fetch_free(e->value);
    map_release(&rs->by_artifact);
    map_release(&rs->packs);
    free(rs->partial);
    free(rs);
}

static bool is_told(const struct fetch *f, const struct hash *pack)
{
    for (size_t i = 0; i < f->ndone; i++) {
        if (hash_equal(&f->done[i], pack))
            return true;
    }
    return false;
}

/* In the pool: reads what is needed to seed the next pack that has become complete. */
static int load_ready(struct fetch *f)
{
    struct replication *r = f->replica.r;

    for (size_t i = 0; i < r->npacks && !f->has_ready; i++) {
        AUTO_BUF path = BUF_INIT;
        int status = 0;

        if (!r->packs[i].complete || is_told(f, &r->packs[i].hash))
            continue;
        if (f->ndone == 0)
            status = store_get(f->rs->o.own, OBJECT_MANIFEST, &f->replica.artifact, &f->manifest,
                               &f->err);
        if (status == 0)
            status =
                store_get(f->rs->o.own, OBJECT_INDEX, &r->packs[i].hash, &f->ready.index, &f->err);
        if (status < 0) {
            release_ready(f);
            return status;
        }
        dir_store_path(f->rs->o.own, OBJECT_PACK, &r->packs[i].hash, &path);
        f->ready.path = buf_steal(&path);
        f->ready.pack = r->packs[i].hash;
        f->done_bytes[f->ndone] = r->packs[i].bytes;
        f->has_ready = true;
    }
    return 0;
}

static void run(struct work *w)
{
    struct fetch *f = CONTAINER_OF(w, struct fetch, work);
    int status;

    if (f->deleting) {
        f->status = replication_delete(f->replica.r, &f->err);
        return;
    }

    f->status = replication_step(f->replica.r, &f->err);
    if (f->status < 0)
        return;
    status = load_ready(f);
    if (status < 0)
        f->status = status;
    else if (f->has_ready)
        f->status = 1; /* look again: more may be complete */
}

static void next(struct replicas *rs);

static void set_reason(struct fetch *f, const char *text)
{
    free(f->replica.reason);
    f->replica.reason = text == NULL ? NULL : mem_strdup(text);
}

static bool is_final(enum err_code code)
{
    return code == ERR_CORRUPT || code == ERR_INVALID || code == ERR_LIMIT || code == ERR_NO_SPACE;
}

static void wait_in_line(struct fetch *f)
{
    list_remove(&f->node);
    list_push(&f->rs->waiting, &f->node);
    next(f->rs);
}

static void try_again(struct timer *t)
{
    wait_in_line(CONTAINER_OF(t, struct fetch, retry));
}

static void failed(struct fetch *f)
{
    int64_t delay = 250LL << (f->attempts < 7 ? f->attempts : 7);

    f->attempts++;
    if (!f->verified && (is_final(f->err.code) || f->attempts >= REPLICA_PATIENCE))
        f->replica.state = REPLICA_FAILED;
    if (f->replica.reason == NULL || strcmp(f->replica.reason, f->err.text) != 0)
        log_warn("replicate: %s", f->err.text);
    set_reason(f, f->err.text);
    timer_start(f->rs->o.loop, &f->retry, delay < 30000 ? delay : 30000, 0, try_again);
}

static void pack_is_ready(struct fetch *f)
{
    struct replicas *rs = f->rs;
    char hex[HASH_HEX];

    f->done[f->ndone++] = f->ready.pack;
    map_put(&rs->packs, hash_hex(&f->ready.pack, hex), &f->done_bytes[f->ndone - 1]);
    if (hash_equal(&f->ready.pack, &f->replica.r->packs[0].hash)) {
        f->verified = true;
        f->replica.state = REPLICA_VERIFIED;
    }
    rs->o.ready(rs->o.ctx, &f->replica, f->manifest.len > 0 ? &f->manifest : NULL, &f->ready);
    release_ready(f);
}

static bool has_work(const struct fetch *f)
{
    const struct replication *r = f->replica.r;
    size_t lost = 0;

    for (size_t i = 0; i < r->npacks; i++)
        lost += r->packs[i].lost;
    return f->ndone + lost < r->npacks;
}

/* Said once for each pack that the origin has no more. */
static void note_lost(struct fetch *f)
{
    const struct replication *r = f->replica.r;
    size_t lost = 0;

    for (size_t i = 0; i < r->npacks; i++) {
        char hex[HASH_HEX];

        if (r->packs[i].lost && ++lost > f->nlost)
            log_info("pack %.12s is not in the origin store any more: left out",
                     hash_hex(&r->packs[i].hash, hex));
    }
    f->nlost = lost;
}

/* Packs that were wanted while a step was running. */
static void take_more(struct fetch *f)
{
    for (size_t i = 0; i < f->nmore; i++) {
        struct err err = ERR_INIT;

        if (replication_want(f->replica.r, &f->more[i], &err) < 0)
            log_warn("replicate: %s", err.text);
    }
    f->nmore = 0;
}

/* What is here of it has been deleted, or cannot be. If it has been wanted since, it begins anew. */
static void forgotten(struct fetch *f)
{
    struct replicas *rs = f->rs;
    struct hash artifact = f->replica.artifact;
    char hex[HASH_HEX];

    if (f->status < 0)
        log_warn("artifact %.12s: %s", hash_hex(&artifact, hex), f->err.text);
    replication_free(f->replica.r);
    f->replica.r = NULL;
    if (f->again && replication_new(&f->replica.r, rs->o.origin, rs->o.own, rs->partial, &artifact,
                                    &f->err) == 0) {
        f->dropped = f->again = f->verified = false;
        f->replica.state = REPLICA_FETCHING;
        take_more(f);
        wait_in_line(f);
        return;
    }
    map_remove(&rs->by_artifact, hash_hex(&artifact, hex));
    fetch_free(f);
}

static void done(struct work *w)
{
    struct fetch *f = CONTAINER_OF(w, struct fetch, work);
    struct replicas *rs = f->rs;
    bool was_deleting = f->deleting;

    f->running = f->deleting = false;
    rs->running--;
    if (rs->stopped)
        return;
    if (was_deleting) {
        forgotten(f);
        next(rs);
        return;
    }
    if (f->dropped) { /* it was being fetched when it was forgotten */
        release_ready(f);
        wait_in_line(f);
        return;
    }
    f->replica.bytes = f->replica.r->bytes;
    f->replica.total = f->replica.r->total;
    f->replica.origin_bytes = f->replica.r->origin_bytes;
    if (f->has_ready)
        pack_is_ready(f);
    note_lost(f);
    take_more(f);
    if (f->status < 0) {
        failed(f);
    } else {
        f->attempts = 0;
        set_reason(f, NULL);
        if (!f->verified)
            f->replica.state = REPLICA_FETCHING;
        if (f->status > 0 || has_work(f)) /* those that have begun go on before others begin */
            list_push(rs->waiting.next, &f->node);
    }
    rs->o.progress(rs->o.ctx, &f->replica);
    next(rs);
}

static void next(struct replicas *rs)
{
    while (!rs->stopped && rs->running < rs->o.at_once && !list_empty(&rs->waiting)) {
        struct fetch *f = CONTAINER_OF(rs->waiting.next, struct fetch, node);

        list_remove(&f->node);
        f->running = true;
        f->deleting = f->dropped;
        rs->running++;
        f->err = (struct err)ERR_INIT;
        f->work = (struct work){ .run = run, .done = done };
        work_submit(rs->o.pool, &f->work);
    }
}

static struct fetch *find(const struct replicas *rs, const struct hash *artifact)
{
    char hex[HASH_HEX];

    return map_get(&rs->by_artifact, hash_hex(artifact, hex));
}

static int make(struct replicas *rs, const struct hash *artifact, struct fetch **ret,
                struct err *err)
{
    struct fetch *f;
    char hex[HASH_HEX];
    int status;

    if (rs->by_artifact.count >= REPLICAS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d artifacts", REPLICAS_MAX);
    f = mem_alloc(sizeof(*f));
    status = replication_new(&f->replica.r, rs->o.origin, rs->o.own, rs->partial, artifact, err);
    if (status < 0) {
        free(f);
        return status;
    }
    f->rs = rs;
    f->replica.artifact = *artifact;
    f->replica.state = REPLICA_FETCHING;
    list_init(&f->node);
    map_put(&rs->by_artifact, hash_hex(artifact, hex), f);
    *ret = f;
    return 0;
}

static int want_pack(struct fetch *f, const struct hash *pack, struct err *err)
{
    f->again = f->dropped;
    if (!f->running && !f->dropped)
        return replication_want(f->replica.r, pack, err);
    if (f->nmore >= PACKS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d packs of one artifact", PACKS_MAX);
    VEC_GROW(f->more, f->nmore, f->more_cap);
    f->more[f->nmore++] = *pack;
    return 0;
}

int replicas_want(struct replicas *rs, const struct msg_artifact *artifact, struct replica **ret,
                  struct err *err)
{
    const struct msg_pack *packs = artifact->packs.items;
    struct fetch *f = find(rs, &artifact->artifact);
    int status = 0;

    if (f == NULL)
        status = make(rs, &artifact->artifact, &f, err);
    for (size_t i = 0; status == 0 && i < artifact->packs.count; i++)
        status = want_pack(f, &packs[i].pack, err);
    if (status < 0)
        return err_wrap(err, "replicate");
    *ret = &f->replica;
    if (!f->running && !f->dropped && has_work(f) && !f->retry.active)
        wait_in_line(f);
    return 0;
}

struct replica *replicas_find(const struct replicas *rs, const struct hash *artifact)
{
    struct fetch *f = find(rs, artifact);

    return f == NULL ? NULL : &f->replica;
}

void replicas_forget(struct replicas *rs, const struct hash *artifact)
{
    struct fetch *f = find(rs, artifact);
    char hex[HASH_HEX];

    if (f == NULL || f->dropped)
        return;
    f->dropped = true;
    f->nmore = 0;
    timer_stop(&f->retry);
    for (size_t i = 0; i < f->ndone; i++)
        map_remove(&rs->packs, hash_hex(&f->done[i], hex));
    f->ndone = 0;
    f->replica.bytes = f->replica.total = f->replica.origin_bytes = 0;
    f->replica.asked = f->replica.named = false;
    f->replica.state = REPLICA_NONE;
    if (!f->running)
        wait_in_line(f);
}

void replicas_each(struct replicas *rs, void (*fn)(void *ctx, struct replica *replica), void *ctx)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&rs->by_artifact, &i)) != NULL;) {
        struct fetch *f = e->value;

        if (!f->dropped)
            fn(ctx, &f->replica);
    }
}

size_t replicas_packs(const struct replicas *rs, const struct hash *artifact,
                      struct hash out[PACKS_MAX])
{
    const struct fetch *f = find(rs, artifact);

    if (f == NULL)
        return 0;
    memcpy(out, f->done, f->ndone * sizeof(*out));
    return f->ndone;
}

uint64_t replicas_pack_bytes(const struct replicas *rs, const struct hash *pack)
{
    char hex[HASH_HEX];
    const uint64_t *bytes = map_get(&rs->packs, hash_hex(pack, hex));

    return bytes == NULL ? 0 : *bytes;
}
