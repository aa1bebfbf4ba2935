#include "agent.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent_internal.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "guard.h"
#include "io/files.h"

enum {
    POOL_THREADS = 2,
    TICK_MS = 10000,
    STRAY_TICKS = 6, /* between looks for packs that nobody needs */
    CLOSE_MS = 2000, /* for links to say goodbye */
    BUSY_MS = 5,     /* between looks whether our work has come back */
    KILL_SLACK_MS = 1500,
    LOCK_MS = 1000, /* that another process may have our root */
    LOCK_LOOK_MS = 20,
};

/* --- services --- */

struct service *agent_service(const struct agent *a, const char *name)
{
    return map_get(&a->services, name);
}

/* By another service than that one. */
static bool pack_is_used(void *ctx, const struct hash *pack, const char *service)
{
    const struct agent *a = ctx;
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;) {
        if (strcmp(e->key, service) != 0 && service_uses_pack(e->value, pack))
            return true;
    }
    return false;
}

/* Is another service fetching it just now? */
static bool pack_is_staged(void *ctx, const struct hash *pack, const char *service)
{
    const struct agent *a = ctx;
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;) {
        if (strcmp(e->key, service) != 0 && service_is_staging(e->value) &&
            service_uses_pack(e->value, pack))
            return true;
    }
    return false;
}

bool agent_uses_pack(struct agent *a, const struct hash *pack)
{
    return pack_is_used(a, pack, "");
}

static void release_staged(void *ctx)
{
    agent_say_progress(ctx);
}

static void pack_dropped(void *ctx, const struct hash *pack)
{
    struct agent *a = ctx;

    peers_forget(a->peers, pack);
}

static void measure(void *ctx, const struct hash *packs, size_t npacks, struct fetched *f)
{
    const struct agent *a = ctx;
    const struct fetched_rates rates = { a->o.down_bytes, a->link_rate,
                                         exchange_best_rate(a->exchange) };

    fetched_rate(f, &rates);
    for (size_t i = 0; i < npacks; i++) {
        struct peers_edges edges = peers_edges(a->peers, &packs[i]);
        const char *banned[BANNED_MAX];
        size_t n = peers_banned(a->peers, &packs[i], banned);

        f->m.edges += edges.named;
        f->m.stale += edges.stale;
        for (size_t k = 0; k < n; k++)
            fetched_banned(f, banned[k]);
    }
}

struct service *agent_make_service(struct agent *a, const char *name)
{
    struct service *s = agent_service(a, name);
    struct err err = ERR_INIT;

    if (s != NULL)
        return s;
    if (a->services.count >= AGENT_SERVICES_MAX) {
        log_error("service %s: there are %d already", name, AGENT_SERVICES_MAX);
        return NULL;
    }
    if (service_open(&s, &a->host, name, &err) < 0) {
        log_error("%s", err.text);
        return NULL;
    }
    map_put(&a->services, name, s);
    return s;
}

void agent_poke_all(struct agent *a)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;)
        service_poke(e->value);
}

static void slot_granted(void *ctx, const char *service)
{
    struct agent *a = ctx;
    struct service *s = agent_service(a, service);

    if (s != NULL)
        service_poke(s);
}

static int service_found(void *ctx, const char *name, struct err *err)
{
    (void)err;
    if (doc_check_name("service", name, NULL) == 0)
        (void)agent_make_service(ctx, name);
    return 0;
}

/* What is on disk, and what a kept goal names: a service may be new and not on disk yet. */
static int open_services(struct agent *a, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/services", a->root);
    const struct goal *g;
    int r;

    if (dir_make(path, 0755, err) < 0)
        return -(int)err->code;
    r = dir_each(path, service_found, a, err);
    for (size_t i = 0; r == 0 && (g = goals_next(a->goals, &i)) != NULL;)
        (void)agent_make_service(a, g->service);
    return r;
}

/* A file of a pack that no service uses: the goal has moved on while no agent was here. */
static int drop_stray_pack(void *ctx, const char *name, struct err *err)
{
    struct agent *a = ctx;
    AUTO_FREE char *path = mem_printf("%s/packs/%s", a->root, name);
    char hex[HASH_HEX];
    struct hash pack;

    (void)err;
    if (strlen(name) < HASH_HEX || name[HASH_HEX - 1] != '.')
        return 0;
    memcpy(hex, name, HASH_HEX - 1);
    hex[HASH_HEX - 1] = '\0';
    if (hash_parse(&pack, hex) && !agent_uses_pack(a, &pack))
        (void)unlink(path);
    return 0;
}

static void drop_stray_packs(struct agent *a)
{
    AUTO_FREE char *path = mem_printf("%s/packs", a->root);
    struct err err = ERR_INIT;
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;) {
        if (!service_is_settled(e->value))
            return;
    }
    if (dir_each(path, drop_stray_pack, a, &err) < 0)
        log_warn("packs: %s", err.text);
}

static void on_tick(struct timer *t)
{
    struct agent *a = CONTAINER_OF(t, struct agent, tick);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;)
        service_tick(e->value);
    if (++a->ticks % STRAY_TICKS == 0)
        drop_stray_packs(a);
}

/* --- stopping --- */

/* What the exchange has in the pool comes back to it before it is freed. */
static void when_idle(struct timer *t)
{
    struct agent *a = CONTAINER_OF(t, struct agent, give_up);

    if (!exchange_is_busy(a->exchange))
        loop_stop(a->loop);
}

static void all_closed(struct agent *a)
{
    if (a->stop == STOP_DONE)
        return;
    a->stop = STOP_DONE;
    timer_start(a->loop, &a->give_up, 0, BUSY_MS, when_idle);
}

static void links_late(struct timer *t)
{
    all_closed(CONTAINER_OF(t, struct agent, give_up));
}

static void link_gone(void *ctx)
{
    struct agent *a = ctx;

    if (--a->links_left == 0)
        all_closed(a);
}

static void stop_links(struct agent *a)
{
    if (a->stop >= STOP_LINKS)
        return;
    a->stop = STOP_LINKS;
    a->links_left = 2;
    timer_start(a->loop, &a->give_up, CLOSE_MS, 0, links_late);
    uplink_close(a->uplink, link_gone);
    peers_close(a->peers, link_gone, a);
}

static void services_late(struct timer *t)
{
    log_error("services did not stop in time");
    stop_links(CONTAINER_OF(t, struct agent, give_up));
}

static void service_stopped(void *ctx)
{
    struct agent *a = ctx;
    struct map_entry *e;

    if (a->stop != STOP_SERVICES)
        return;
    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;) {
        if (!service_is_down(e->value))
            return;
    }
    stop_links(a);
}

static void stop(struct agent *a)
{
    struct map_entry *e;

    if (a->stop != STOP_NONE)
        return;
    timer_stop(&a->progress);
    timer_stop(&a->tick);
    watch_stop(&a->parent);
    if (!a->o.stop_services) {
        stop_links(a);
        return;
    }
    a->stop = STOP_SERVICES;
    timer_start(a->loop, &a->give_up, AGENT_STOP_MS + KILL_SLACK_MS, 0, services_late);
    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;)
        service_stop(e->value, AGENT_STOP_MS);
    service_stopped(a);
}

static void on_signal(void *arg, int signo)
{
    (void)signo;
    stop(arg);
}

static void on_parent(struct watch *w, int events)
{
    struct agent *a = CONTAINER_OF(w, struct agent, parent);
    char byte;

    (void)events;
    if (read(w->fd, &byte, 1) <= 0)
        stop(a);
}

/* --- life --- */

static int read_pin(const char *dir, struct public_key *ret, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/root.pub", dir);
    AUTO_BUF text = BUF_INIT;

    if (file_read(&text, path, REGION_FILE_MAX, err) < 0)
        return err_wrap(err, "the pinned root key");
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    if (!hex_decode(ret->b, KEY_BYTES, buf_str(&text)))
        return err_set(err, ERR_INVALID, "%s: not a key (64 hex digits)", path);
    return 0;
}

static int read_region(struct agent *a, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/region", a->root);
    AUTO_BUF text = BUF_INIT;

    if (!path_exists(path))
        return 0;
    if (file_read(&text, path, REGION_FILE_MAX, err) < 0 ||
        doc_check_name("region", buf_str(&text), err) < 0)
        return err_wrap(err, "%s", path);
    a->region = buf_steal(&text);
    return 0;
}

/* A guard has the lock for as long as it takes to end what is left (guard.h). */
static int lock_root(struct agent *a, const char *path, struct err *err)
{
    struct timespec pause = { 0, LOCK_LOOK_MS * 1000000L };
    int64_t end_ms = monotonic_ms() + LOCK_MS;
    int r;

    while ((r = file_lock(&a->lock_fd, path, err)) == -ERR_EXISTS && monotonic_ms() < end_ms)
        nanosleep(&pause, NULL);
    return r < 0 ? err_wrap(err, "another agent has %s", a->root) : 0;
}

static int open_root(struct agent *a, struct err *err)
{
    AUTO_BUF real = BUF_INIT;
    AUTO_FREE char *lock = NULL;

    if (dir_make(a->o.root, 0755, err) < 0 || path_real(&real, a->o.root, err) < 0)
        return err_wrap(err, "root directory");
    a->root = buf_steal(&real);
    lock = mem_printf("%s/lock", a->root);
    if (lock_root(a, lock, err) < 0)
        return -(int)err->code;
    return read_region(a, err);
}

static int open_goals(struct agent *a, struct err *err)
{
    struct public_key pin;
    struct goals_options o = { .root = a->root,
                               .pin = &pin,
                               .machine = link_identity_id(a->self),
                               .region = a->region,
                               .labels = a->o.labels,
                               .nlabels = a->o.nlabels };

    if (read_pin(a->o.identity_dir, &pin, err) < 0)
        return -(int)err->code;
    return goals_open(&a->goals, &o, err);
}

static int open_exchange(struct agent *a, struct err *err)
{
    AUTO_FREE char *dir = mem_printf("%s/packs", a->root);
    struct exchange_options o = { .loop = a->loop,
                                  .pool = a->pool,
                                  .dir = dir,
                                  .join = agent_join,
                                  .leave = agent_leave,
                                  .ctx = a };
    random_bytes(&o.seed, sizeof(o.seed));
    if (dir_make(dir, 0700, err) < 0)
        return -(int)err->code;
    if (exchange_new(&a->exchange, &o, err) < 0)
        return -(int)err->code;
    exchange_limit(a->exchange, a->o.up_bytes, a->o.down_bytes);
    return 0;
}

static int open_peers(struct agent *a, struct err *err)
{
    struct peers_options o = { a->loop, a->self, a->exchange, a->o.listen, a->goals };

    if (strrchr(a->o.listen, ':') == NULL)
        return err_set(err, ERR_INVALID, "--listen %s: not ADDR:PORT", a->o.listen);
    a->listen_host = peers_host(a->o.listen);
    return peers_new(&a->peers, &o, err);
}

static void make_host(struct agent *a)
{
    a->host =
        (struct service_host){ .loop = a->loop,
                               .pool = a->pool,
                               .http = a->http,
                               .exchange = a->exchange,
                               .goals = a->goals,
                               .slots = a->slots,
                               .reports = a->reports,
                               .root = a->root,
                               .machine = link_identity_id(a->self),
                               .region = a->region == NULL ? "" : a->region,
                               .keep_packs_ms = a->o.keep_packs_ms > 0 ? a->o.keep_packs_ms
                                                                       : SERVICE_KEEP_PACKS_MS,
                               .pack_is_used = pack_is_used,
                               .pack_is_staged = pack_is_staged,
                               .pack_dropped = pack_dropped,
                               .measure = measure,
                               .staged = release_staged,
                               .stopped = service_stopped,
                               .ctx = a };
}

static void guard_ended(struct proc_watch *w, int status)
{
    (void)w;
    (void)status; /* it ends with the fleet; while that lives, another one of this root is there */
}

static int start_guard(struct agent *a, struct err *err)
{
    pid_t pid;

    if (a->o.parent_fd < 0 || !a->o.stop_services)
        return 0;
    if (guard_start(&pid, a->root, a->o.parent_fd, err) < 0)
        return -(int)err->code;
    return proc_watch_start(a->loop, &a->guard, pid, guard_ended, err);
}

static int watch_ends(struct agent *a, struct err *err)
{
    if (loop_on_signal(a->loop, SIGTERM, on_signal, a, err) < 0 ||
        loop_on_signal(a->loop, SIGINT, on_signal, a, err) < 0)
        return -(int)err->code;
    if (a->o.parent_fd >= 0)
        watch_start(a->loop, &a->parent, a->o.parent_fd, WATCH_READ, on_parent);
    return 0;
}

static int say_ready(struct agent *a, struct err *err)
{
    AUTO_BUF text = BUF_INIT;

    if (a->o.ready_file == NULL)
        return 0;
    buf_printf(&text, "{\"pid\":%d,\"link\":%d}\n", (int)getpid(), peers_port(a->peers));
    return file_publish(a->o.ready_file, text.data, text.len, 0644, err);
}

static void name_log(const struct agent *a)
{
    AUTO_FREE char *who = mem_printf("agent/%s", link_identity_id(a->self));

    log_setup(who, STDERR_FILENO);
}

static int open_all(struct agent *a, struct err *err)
{
    if (open_root(a, err) < 0 || loop_new(&a->loop, err) < 0 ||
        work_pool_new(&a->pool, a->loop, POOL_THREADS, err) < 0 ||
        link_identity_load(&a->self, a->o.identity_dir, a->region, err) < 0)
        return -(int)err->code;
    a->http = http_client_new(a->loop);
    name_log(a);
    if (open_goals(a, err) < 0 || open_exchange(a, err) < 0 || open_peers(a, err) < 0)
        return -(int)err->code;
    reports_new(&a->reports, agent_send, a);
    slots_new(&a->slots, a->loop, agent_send, slot_granted, a);
    make_host(a);
    if (start_guard(a, err) < 0 || open_services(a, err) < 0 || watch_ends(a, err) < 0)
        return -(int)err->code;
    return say_ready(a, err);
}

/* In the order in which nothing is used after it is gone: first the pool, so that no job runs. */
static void close_all(struct agent *a)
{
    struct map_entry *e;

    if (a->pool != NULL)
        work_pool_free(a->pool);
    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;)
        service_free(e->value);
    map_release(&a->services);
    agent_hush(a);
    uplink_free(a->uplink);
    peers_free(a->peers);
    if (a->exchange != NULL)
        exchange_free(a->exchange);
    slots_free_all(a->slots);
    reports_free(a->reports);
    goals_free(a->goals);
    if (a->guard.fn != NULL)
        proc_watch_stop(&a->guard);
    if (a->http != NULL)
        http_client_free(a->http);
    link_identity_free(a->self);
    if (a->loop != NULL)
        loop_free(a->loop);
    if (a->lock_fd >= 0)
        close(a->lock_fd);
    free(a->listen_host);
    free(a->region);
    free(a->root);
}

int agent_main_loop(const struct agent_options *options, struct err *err)
{
    struct agent a = { .o = *options, .lock_fd = -1 };
    int r;

    list_init(&a.early);
    r = open_all(&a, err);
    if (r == 0) {
        agent_talk(&a);
        timer_start(a.loop, &a.tick, TICK_MS, TICK_MS, on_tick);
        loop_run(a.loop);
    }
    close_all(&a);
    return r < 0 ? err_wrap(err, "agent") : 0;
}
