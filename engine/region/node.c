#include "region/node.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/proc.h"

static struct state_clock clock_now(const struct region *r)
{
    return (struct state_clock){ loop_now_ms(r->loop), wall_ms() };
}

static void save_run(struct work *w)
{
    struct region *r = CONTAINER_OF(w, struct region, save_work);

    r->save_status = state_write(r->state, r->saving, &r->save_err);
}

static void save_done(struct work *w)
{
    enum { AGAIN_MS = 1000 };
    struct region *r = CONTAINER_OF(w, struct region, save_work);

    r->save_busy = false;
    if (r->save_status < 0) {
        log_error("%s", r->save_err.text);
        r->save_after_ms = loop_now_ms(r->loop) + AGAIN_MS;
    } else {
        state_batch_free(r->saving);
        r->saving = NULL;
    }
    if (r->closing)
        node_link_gone(r);
}

/* Saves what has changed, one batch at a time; one that failed is tried again before the next. */
static bool save(struct region *r)
{
    struct state_clock clock = clock_now(r);
    struct msg_counts sent;
    struct bytes doc;
    char *name;

    if (r->save_busy || clock.now_ms < r->save_after_ms)
        return r->save_busy;
    while (docs_unsaved(r->docs, &name, &doc))
        state_doc(r->state, name, &doc);
    while (sent_unsaved(r->sent, &sent)) {
        state_sent(r->state, &sent, clock.wall_ms);
        codec_release(msg_codec(MSG_COUNTS), &sent);
    }
    if (r->saving == NULL)
        r->saving = state_collect(r->state, r->machines, r->leases, &clock);
    if (r->saving == NULL)
        return false;
    r->save_busy = true;
    r->save_err = (struct err)ERR_INIT;
    r->save_work = (struct work){ .run = save_run, .done = save_done };
    work_submit(r->pool, &r->save_work);
    return true;
}

void node_save(struct region *r)
{
    (void)save(r);
}

static void tick(struct timer *t)
{
    enum { LOOK_MS = 1000 };
    struct region *r = CONTAINER_OF(t, struct region, tick);
    int64_t now_ms = loop_now_ms(r->loop);

    if (now_ms - r->ticked_ms >= LOOK_MS) {
        size_t before = r->machines->nreachable;

        r->ticked_ms = now_ms;
        machines_tick(r->machines, now_ms);
        if (r->machines->nreachable != before)
            uplink_counts_soon(r);
        uplink_runs(r);
    }
    if (leases_next_ms(r->leases) >= 0)
        agents_grant(r);
    swarms_tick(r);
    save(r);
}

static void on_progress(void *ctx, struct replica *replica)
{
    uplink_replica(ctx, replica);
}

static void on_ready(void *ctx, struct replica *replica, const struct buf *manifest,
                     const struct replica_pack *pack)
{
    struct region *r = ctx;
    struct err err = ERR_INIT;
    char hex[HASH_HEX];

    if (manifest != NULL)
        exchange_offer(r->exchange, manifest->data, manifest->len);
    if (exchange_seed(r->exchange, pack->index.data, pack->index.len, pack->path, &err) < 0)
        log_error("seed pack %.12s: %s", hash_hex(&pack->pack, hex), err.text);
    else
        log_info("seeds pack %.12s", hash_hex(&pack->pack, hex));
    relay_artifact(r, &replica->artifact);
}

/* Keeps what a goal names, and what was asked for and waits for its goal. */
static void sweep_one(void *ctx, struct replica *replica)
{
    struct region *r = ctx;
    struct hash packs[PACKS_MAX];
    char hex[HASH_HEX];
    size_t n;

    if (docs_names_artifact(r->docs, &replica->artifact)) {
        replica->named = true;
        return;
    }
    if (replica->asked && !replica->named)
        return;
    log_info("artifact %.12s is not needed any more", hash_hex(&replica->artifact, hex));
    n = replicas_packs(r->replicas, &replica->artifact, packs);
    for (size_t i = 0; i < n; i++) {
        exchange_forget(r->exchange, &packs[i]);
        exchange_withdraw(r->exchange, &packs[i]);
    }
    exchange_withdraw(r->exchange, &replica->artifact);
    state_want(r->state, &replica->artifact, NULL);
    replicas_forget(r->replicas, &replica->artifact);
}

static void sweep(struct timer *t)
{
    struct region *r = CONTAINER_OF(t, struct region, sweep);

    if (r->up_open && loop_now_ms(r->loop) - r->up_since_ms >= r->sweep_ms)
        replicas_each(r->replicas, sweep_one, r);
}

static int read_pin(struct public_key *pin, const char *identity, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    AUTO_BUF path = BUF_INIT;

    buf_printf(&path, "%s/root.pub", identity);
    if (file_read(&text, path.data, 256, err) < 0)
        return err_wrap(err, "root key");
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL)
        text.data[--text.len] = '\0';
    if (!hex_decode(pin->b, sizeof(pin->b), buf_str(&text)))
        return err_set(err, ERR_INVALID, "%s: not a key of 64 hex digits", path.data);
    return 0;
}

static int open_identity(struct region *r, const struct region_options *o, struct err *err)
{
    struct public_key pin;
    int status = link_identity_load(&r->identity, o->identity, o->name, err);

    if (status < 0)
        return status;
    if (strcmp(link_identity_id(r->identity), o->name) != 0)
        return err_set(err, ERR_DENIED, "%s is the identity of %s, not of region %s", o->identity,
                       link_identity_id(r->identity), o->name);
    status = read_pin(&pin, o->identity, err);
    if (status == 0)
        r->docs = docs_new(o->name, &pin);
    return status;
}

static int open_stores(struct region *r, const struct region_options *o, struct err *err)
{
    AUTO_BUF own = BUF_INIT;
    AUTO_BUF partial = BUF_INIT;
    AUTO_BUF fetched = BUF_INIT;
    int status = store_open(&r->origin, o->store, err);

    buf_printf(&own, "dir:%s/store", o->data);
    buf_printf(&partial, "%s/partial", o->data);
    buf_printf(&fetched, "%s/exchange", o->data);
    if (status == 0)
        status = store_open(&r->own, own.data, err);
    if (status == 0) {
        struct exchange_options x = {
            .loop = r->loop, .pool = r->pool, .dir = fetched.data, .seed = r->seed
        };

        status = exchange_new(&r->exchange, &x, err);
    }
    if (status == 0) {
        struct replicas_options ro = { .loop = r->loop,
                                       .pool = r->pool,
                                       .origin = r->origin,
                                       .own = r->own,
                                       .partial = partial.data,
                                       .at_once = REGION_REPLICATIONS,
                                       .progress = on_progress,
                                       .ready = on_ready,
                                       .ctx = r };

        status = replicas_new(&r->replicas, &ro, err);
    }
    return status;
}

static void load_doc(void *ctx, const struct msg_doc *doc)
{
    struct region *r = ctx;
    struct docs_change change;
    struct err err = ERR_INIT;

    if (docs_accept(r->docs, doc, false, &change, &err) < 0)
        log_warn("a saved document is left out: %s", err.text);
    else if (change.goal != NULL)
        leases_goal(r->leases, change.goal->goal->service, change.goal->goal->generation,
                    change.goal->goal->max_moving, change.goal->goal->urgent);
}

static void load_wanted(void *ctx, const struct msg_artifact *artifact)
{
    struct region *r = ctx;
    struct replica *replica = NULL;
    struct err err = ERR_INIT;

    if (replicas_want(r->replicas, artifact, &replica, &err) < 0)
        log_warn("%s", err.text);
}

static void load_sent(void *ctx, const struct msg_counts *sent)
{
    sent_restore(((struct region *)ctx)->sent, sent);
}

static uint64_t given_of(void *ctx, const struct hash *pack)
{
    return exchange_given_bytes(((const struct region *)ctx)->exchange, pack);
}

static uint64_t bytes_of(void *ctx, const struct hash *pack)
{
    return replicas_pack_bytes(((const struct region *)ctx)->replicas, pack);
}

/* Releases that were saved before their goal came are dropped; they come again with it. */
static void drop_unnamed(struct region *r)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->docs->releases, &i)) != NULL;) {
        const struct hash id = ((const struct doc_release *)e->value)->release->id;

        docs_drop_release(r->docs, &id);
    }
}

static int load(struct region *r, struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    struct state_clock clock = clock_now(r);
    int status;

    buf_printf(&path, "%s/region.db", r->data);
    status = state_open(&r->state, path.data, err);
    if (status == 0)
        status = state_load_docs(r->state, load_doc, r, err);
    if (status == 0)
        status = state_load(r->state, r->machines, r->leases, &clock, load_wanted, r, err);
    if (status == 0)
        status = state_load_sent(r->state, clock.wall_ms, load_sent, r, err);
    if (status == 0)
        drop_unnamed(r);
    return status;
}

static int lock_data(struct region *r, struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    int status = dir_make(r->data, 0700, err);

    buf_printf(&path, "%s/lock", r->data);
    if (status == 0)
        status = file_lock(&r->lock_fd, path.data, err);
    return status;
}

static int publish_ready(const struct region *r, const char *path, struct err *err)
{
    AUTO_BUF text = BUF_INIT;

    if (path == NULL)
        return 0;
    buf_printf(&text, "{\"link\":%d,\"pid\":%d}\n", region_port(r), (int)getpid());
    return file_publish(path, text.data, text.len, 0644, err);
}

static int start(struct region *r, const struct region_options *o, struct err *err)
{
    int status = lock_data(r, err);

    if (status == 0)
        status = work_pool_new(&r->pool, r->loop, REGION_THREADS, err);
    if (status == 0)
        status = open_identity(r, o, err);
    if (status == 0)
        status = open_stores(r, o, err);
    if (status == 0)
        status = load(r, err);
    if (status == 0)
        status = link_listen(&r->listener, r->loop, r->identity, o->listen, 1U << ROLE_AGENT,
                             REGION_LINKS_MAX, &agents_handler, r, err);
    if (status == 0)
        status = publish_ready(r, o->ready_file, err);
    return status;
}

int region_new(struct region **ret, struct loop *loop, const struct region_options *o,
               struct err *err)
{
    struct region *r = mem_alloc(sizeof(*r));

    r->loop = loop;
    r->lock_fd = -1;
    r->name = mem_strdup(o->name);
    r->data = mem_strdup(o->data);
    r->control_host = o->control_host == NULL ? NULL : mem_strdup(o->control_host);
    r->control_port = o->control_port;
    list_init(&r->sessions);
    random_bytes(&r->seed, sizeof(r->seed));
    r->machines = machines_new(o->name);
    r->leases = leases_new();
    r->sent = sent_new(&(struct sent_counter){ given_of, bytes_of, r });
    if (doc_check_name("region", o->name, err) < 0 || start(r, o, err) < 0) {
        if (r->replicas != NULL)
            replicas_stop(r->replicas);
        region_free(r);
        return err_wrap(err, "region %s", o->name);
    }
    r->sweep_ms = o->sweep_ms > 0 ? o->sweep_ms : REGION_SWEEP_MS;
    timer_start(loop, &r->sweep, r->sweep_ms, r->sweep_ms, sweep);
    timer_start(loop, &r->tick, REGION_TICK_MS, REGION_TICK_MS, tick);
    uplink_start(r);
    *ret = r;
    return 0;
}

int region_port(const struct region *r)
{
    return link_listener_port(r->listener);
}

/* The last link is gone: saves once more, then it is closed. */
void node_link_gone(struct region *r)
{
    void (*closed)(void *arg) = r->closed;

    if (!r->closing || r->closing_posted || r->up != NULL || !list_empty(&r->sessions) ||
        r->save_busy || closed == NULL)
        return;
    if (!r->saved_last) {
        r->saved_last = true;
        r->save_after_ms = 0;
        if (save(r))
            return;
    }
    timer_stop(&r->tick);
    r->closed = NULL;
    closed(r->closed_arg); /* may free r */
}

static void maybe_closed(void *arg)
{
    struct region *r = arg;

    r->closing_posted = false;
    node_link_gone(r);
}

void region_close(struct region *r, void (*closed)(void *arg), void *arg)
{
    if (r->closing)
        return;
    r->closing = true;
    r->closed = closed;
    r->closed_arg = arg;
    timer_stop(&r->tick);
    timer_stop(&r->sweep);
    timer_stop(&r->peers_timer);
    replicas_stop(r->replicas);
    link_listener_close(r->listener);
    r->listener = NULL;
    uplink_stop(r);
    agents_close(r, ERR_CANCELLED, "this region node is stopping");
    r->closing_posted = true; /* never from inside this call */
    loop_post(r->loop, maybe_closed, r);
}

void region_free(struct region *r)
{
    if (r == NULL)
        return;
    timer_stop(&r->tick);
    if (r->listener != NULL)
        link_listener_close(r->listener);
    if (r->pool != NULL)
        work_pool_free(r->pool);
    replicas_free(r->replicas);
    exchange_free(r->exchange);
    swarms_free(r);
    state_batch_free(r->saving);
    state_close(r->state);
    if (r->own != NULL)
        store_close(r->own);
    if (r->origin != NULL)
        store_close(r->origin);
    docs_free(r->docs);
    leases_free(r->leases);
    sent_free(r->sent);
    machines_free(r->machines);
    if (r->identity != NULL)
        link_identity_free(r->identity);
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    free(r->name);
    free(r->data);
    free(r->control_host);
    free(r);
}

/* One link a machine: as many descriptors as we may have. */
static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            log_warn("cannot raise the limit of open files");
    }
}

struct process {
    struct loop *loop;
    struct region *region;
    struct timer patience;
    bool closed;
};

static void process_closed(void *arg)
{
    struct process *p = arg;

    p->closed = true;
    timer_stop(&p->patience);
    loop_stop(p->loop);
}

static void out_of_patience(struct timer *t)
{
    loop_stop(CONTAINER_OF(t, struct process, patience)->loop);
}

static void on_signal(void *arg, int signo)
{
    struct process *p = arg;

    log_info("stopping on signal %d", signo);
    if (!p->patience.active)
        timer_start(p->loop, &p->patience, REGION_STOP_MS, 0, out_of_patience);
    region_close(p->region, process_closed, p);
}

static int run(struct process *p, const struct region_options *o, struct err *err)
{
    int status = o->parent_fd < 0 ? 0 : proc_exit_with_parent(p->loop, o->parent_fd, err);

    if (status == 0)
        status = region_new(&p->region, p->loop, o, err);
    if (status == 0)
        status = loop_on_signal(p->loop, SIGTERM, on_signal, p, err);
    if (status == 0)
        status = loop_on_signal(p->loop, SIGINT, on_signal, p, err);
    if (status < 0)
        return status;
    log_info("serves on port %d", region_port(p->region));
    loop_run(p->loop);
    return 0;
}

int region_main_loop(const struct region_options *o, struct err *err)
{
    struct process p = { .loop = NULL };
    int status;

    raise_limits();
    status = loop_new(&p.loop, err);
    if (status < 0)
        return status;
    status = run(&p, o, err);
    if (status < 0 || !p.closed) /* the process ends now: nothing is left to be saved */
        return status;
    region_free(p.region);
    loop_free(p.loop);
    return 0;
}
