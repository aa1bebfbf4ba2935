#include "control/serve.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/api.h"
#include "control/auth.h"
#include "control/conductor.h"
#include "control/db_pool.h"
#include "control/keys.h"
#include "control/link_side.h"
#include "control/monitor.h"
#include "control/scrubber.h"
#include "control/wake.h"
#include "io/files.h"
#include "io/loop.h"
#include "io/proc.h"
#include "io/work.h"
#include "store/store.h"

enum { POOL_THREADS = 2 };

struct serve {
    char *db_url, *store_dir, *keys_dir, *identity_dir, *token_file, *holder;
    const char *engine_path;
    struct loop *loop;
    struct work_pool *pool;
    struct keys *keys;
    struct link_identity *identity;
    struct store *store;
    struct db_pool *db;
    struct wake *wake;
    struct link_side *links;
    struct conductor *conductor;
    struct monitor *monitor;
    struct scrubber *scrubber;
    struct api *api;
    int name_fd; /* the lock on our name; -1: the name is random */
    bool stopping;
};

static char *place(const char *given, const char *dir, const char *name)
{
    if (given != NULL)
        return mem_strdup(given);
    return dir == NULL ? NULL : mem_printf("%s/%s", dir, name);
}

static int find_places(struct serve *s, const struct serve_options *o, struct err *err)
{
    s->keys_dir = place(o->keys, o->state, "keys");
    s->store_dir = place(o->store, o->state, "store");
    s->db_url = o->db != NULL
                    ? mem_strdup(o->db)
                    : (o->state == NULL ? NULL : mem_printf("sqlite:%s/db.sqlite", o->state));
    s->token_file = place(o->token_file, o->state != NULL ? o->state : s->keys_dir, "admin.token");
    s->identity_dir =
        place(o->identity, o->state != NULL ? o->state : s->keys_dir, "identity/control");
    s->engine_path = o->engine_path != NULL ? o->engine_path : "/proc/self/exe";
    if (s->keys_dir == NULL || s->store_dir == NULL || s->db_url == NULL)
        return err_set(err, ERR_INVALID, "either --state, or --db, --store and --keys are needed");
    return o->state == NULL ? 0 : dir_make(o->state, 0700, err);
}

/* Our name in duty and region rows, no other's. Who serves a state directory alone has the same name after
 * a restart: its duties are its own again at once. */
static int make_holder(struct serve *s, const struct serve_options *o, struct err *err)
{
    AUTO_FREE char *lock = o->state == NULL ? NULL : mem_printf("%s/serve.lock", o->state);
    AUTO_BUF path = BUF_INIT;
    char host[256] = "localhost", hex[17];
    unsigned char random[8];
    int r = lock == NULL ? -(int)ERR_EXISTS : file_lock(&s->name_fd, lock, err);

    if (gethostname(host, sizeof(host) - 1) != 0)
        host[0] = '\0';
    if (r == 0)
        r = path_real(&path, o->state, err);
    if (r < 0 && r != -(int)ERR_EXISTS)
        return r;
    random_bytes(random, sizeof(random));
    hex_encode(hex, random, sizeof(random));
    s->holder = mem_printf("%s %.8s %s", host, proc_boot_id(), r == 0 ? buf_str(&path) : hex);
    return 0;
}

static int open_database(struct serve *s, struct err *err)
{
    struct db *d = NULL;
    AUTO_BUF token = BUF_INIT;
    int r;

    s->db = db_pool_new(s->db_url);
    r = db_pool_take(s->db, &d, err);
    if (r == 0)
        r = db_migrate(d, err);
    if (r == 0)
        r = token_admin_file(d, s->token_file, &token, err);
    db_pool_give(s->db, d);
    return r;
}

static int open_all(struct serve *s, const struct serve_options *o, struct err *err)
{
    int r = keys_open(&s->keys, s->keys_dir, o->cluster, err);

    if (r == 0)
        r = keys_issue(s->keys, s->identity_dir, ROLE_CONTROL, "control", err);
    if (r == 0)
        r = link_identity_load(&s->identity, s->identity_dir, "", err);
    if (r == 0)
        r = store_open(&s->store, s->store_dir, err);
    if (r == 0)
        r = open_database(s, err);
    if (r == 0)
        r = loop_new(&s->loop, err);
    if (r == 0)
        r = work_pool_new(&s->pool, s->loop, POOL_THREADS, err);
    s->wake = wake_new();
    return r;
}

/* The same whoever serves: one scrubs at a time. */
static int start_scrubber(struct serve *s, const struct serve_options *o, struct err *err)
{
    const char *dir = strncmp(s->store_dir, "dir:", 4) == 0 ? s->store_dir + 4 : s->store_dir;
    AUTO_FREE char *work = mem_printf("%s/tmp/scrub", dir);
    struct scrubber_options scrub = { .db = s->db_url,
                                      .holder = s->holder,
                                      .store = s->store,
                                      .work = work,
                                      .from = o->heal_from,
                                      .nfrom = o->nheal_from,
                                      .every_ms = o->scrub_every_ms,
                                      .bytes_per_s = o->scrub_bytes_per_s,
                                      .wake = s->wake };

    return scrubber_start(&s->scrubber, &scrub, err);
}

static int start_all(struct serve *s, const struct serve_options *o, struct err *err)
{
    const char *any = "127.0.0.1:0";
    struct link_side_options links = { .loop = s->loop,
                                       .pool = s->pool,
                                       .db = s->db,
                                       .wake = s->wake,
                                       .keys = s->keys,
                                       .identity = s->identity,
                                       .listen = o->link != NULL ? o->link : any,
                                       .holder = s->holder };
    struct conductor_options conductor = { .db = s->db_url,
                                           .engine_path = s->engine_path,
                                           .holder = s->holder,
                                           .keys = s->keys,
                                           .store = s->store,
                                           .wake = s->wake };
    struct api_options api = { .listen = o->http != NULL ? o->http : any,
                               .cluster = s->keys->cluster,
                               .engine_path = s->engine_path,
                               .db = s->db,
                               .wake = s->wake };
    int r = link_side_start(&s->links, &links, err);

    if (r == 0)
        r = conductor_start(&s->conductor, &conductor, err);
    if (r == 0)
        r = monitor_start(&s->monitor, s->db_url, s->holder, s->wake, err);
    if (r == 0)
        r = start_scrubber(s, o, err);
    if (r == 0)
        r = api_start(&s->api, &api, err);
    return r;
}

static int tell_ready(const struct serve *s, const struct serve_options *o, struct err *err)
{
    AUTO_JSON *ready =
        json_pack("{s:i,s:i,s:i,s:s}", "pid", (int)getpid(), "http", api_port(s->api), "link",
                  link_side_port(s->links), "cluster", s->keys->cluster);
    AUTO_FREE char *text = json_text(ready);

    log_info("serving http on port %d, link on port %d", api_port(s->api),
             link_side_port(s->links));
    return o->ready_file == NULL ? 0 : file_publish(o->ready_file, text, strlen(text), 0600, err);
}

static void on_links_stopped(void *arg)
{
    struct serve *s = arg;

    loop_stop(s->loop);
}

static void on_signal(void *arg, int signo)
{
    struct serve *s = arg;

    if (s->stopping)
        return;
    s->stopping = true;
    log_info("stopping on signal %d", signo);
    link_side_stop(s->links, on_links_stopped, s);
}

static void close_all(struct serve *s)
{
    if (s->wake != NULL)
        wake_stop(s->wake);
    api_free(s->api);
    conductor_free(s->conductor);
    monitor_free(s->monitor);
    scrubber_free(s->scrubber);
    if (s->pool != NULL)
        work_pool_free(s->pool);
    link_side_free(s->links);
    db_pool_free(s->db);
    if (s->store != NULL)
        store_close(s->store);
    if (s->identity != NULL)
        link_identity_free(s->identity);
    if (s->loop != NULL)
        loop_free(s->loop);
    wake_free(s->wake);
    keys_free(s->keys);
    free(s->db_url);
    free(s->store_dir);
    free(s->keys_dir);
    free(s->identity_dir);
    free(s->token_file);
    free(s->holder);
    if (s->name_fd >= 0)
        close(s->name_fd);
}

int serve_main_loop(const struct serve_options *o, struct err *err)
{
    struct serve s = { .name_fd = -1 };
    int r = find_places(&s, o, err);

    if (r == 0)
        r = make_holder(&s, o, err);
    if (r == 0)
        r = open_all(&s, o, err);
    if (r == 0)
        r = start_all(&s, o, err);
    if (r == 0)
        r = loop_on_signal(s.loop, SIGTERM, on_signal, &s, err);
    if (r == 0)
        r = loop_on_signal(s.loop, SIGINT, on_signal, &s, err);
    if (r == 0 && o->parent_fd >= 0)
        r = proc_exit_with_parent(s.loop, o->parent_fd, err);
    if (r == 0)
        r = tell_ready(&s, o, err);
    if (r == 0)
        loop_run(s.loop);
    close_all(&s);
    return r < 0 ? err_wrap(err, "serve") : 0;
}
