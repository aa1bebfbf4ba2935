#include "cli/fleet.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/fleet_child.h"
#include "control/keys.h"
#include "io/files.h"
#include "wire/json.h"

enum {
    START_MS = 30000,
    STOP_MS = 15000,
    POLL_MS = 5,
    TOKEN_MAX_BYTES = 256,
    LOCAL_MAX_BYTES = 8192
};

struct fleet {
    char *dir; /* absolute */
    char *db;
    char *engine, *agent; /* programs */
    struct fleet_options o;
    int lock_fd;
    int pipe_fds[2]; /* children hold [0]; nobody else holds [1] */
    struct child **children;
    size_t count, cap;
    struct child *serve;
    char *url, *token;
};

static void nap(int64_t ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

/* The program that runs now, and the agent beside it. */
static int find_programs(struct fleet *f, struct err *err)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    char *slash;

    if (n < 0)
        return err_sys(err, errno, "readlink /proc/self/exe");
    path[n] = '\0';
    f->engine = mem_strdup(path);
    slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
    f->agent = mem_printf("%s/engine-agent", path);
    if (!path_exists(f->agent))
        return err_set(err, ERR_NOT_FOUND, "%s is missing: it is installed beside engine",
                       f->agent);
    return 0;
}

static int make_dirs(struct fleet *f, struct err *err)
{
    static const char *const names[] = { "logs", "run", "store", "work" };
    AUTO_FREE char *lock = mem_printf("%s/lock", f->dir);
    int rv = 0;

    for (size_t i = 0; i < COUNT_OF(names) && rv == 0; i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", f->dir, names[i]);

        rv = dir_make(path, 0700, err);
    }
    if (rv < 0)
        return rv;
    rv = file_lock(&f->lock_fd, lock, err);
    if (rv == -ERR_EXISTS)
        return err_set(
            err, ERR_EXISTS,
            "another engine runs on %s: wait for it, or name another directory by --state", f->dir);
    return rv;
}

static struct child *add_child(struct fleet *f, const char *program, const char *name,
                               struct child *after)
{
    struct child *c = child_new(f->dir, name, after);

    child_arg(c, "%s", program);
    VEC_GROW(f->children, f->count, f->cap);
    f->children[f->count++] = c;
    return c;
}

/* What every child is told: where to say that it is ready, and whose death is its own. */
static void common_args(struct fleet *f, struct child *c)
{
    child_arg(c, "--ready-file");
    child_arg(c, "%s", child_ready_path(c));
    child_arg(c, "--parent-fd");
    child_arg(c, "%d", f->pipe_fds[0]);
    child_keep_fd(c, f->pipe_fds[0]);
}

static void add_serve(struct fleet *f)
{
    struct child *c = add_child(f, f->engine, "serve", NULL);

    child_arg(c, "serve");
    child_arg(c, "--state");
    child_arg(c, "%s", f->dir);
    child_arg(c, "--db");
    child_arg(c, "%s", f->db);
    child_arg(c, "--http");
    child_port_arg(c, "127.0.0.1:%d", c, "http");
    child_arg(c, "--link");
    child_port_arg(c, "127.0.0.1:%d", c, "link");
    for (int r = 1; r <= f->o.regions && !f->o.control_only; r++) {
        child_arg(c, "--heal-from");
        child_arg(c, "%s/regions/r%d/data/store", f->dir, r);
    }
    common_args(f, c);
    f->serve = c;
}

static void add_worker(struct fleet *f)
{
    struct child *c = add_child(f, f->engine, "worker", f->serve);

    child_arg(c, "worker");
    child_arg(c, "--db");
    child_arg(c, "%s", f->db);
    child_arg(c, "--store");
    child_arg(c, "%s/store", f->dir);
    child_arg(c, "--work");
    child_arg(c, "%s/work", f->dir);
    child_arg(c, "--slots"); /* a delta in the making keeps no build waiting */
    child_arg(c, "2");
    child_arg(c, "--hide"); /* keys, tokens, other builds: a build sees its own folder only */
    child_arg(c, "%s", f->dir);
    if (f->o.sandbox != NULL) {
        child_arg(c, "--sandbox");
        child_arg(c, "%s", f->o.sandbox);
    }
    common_args(f, c);
}

static struct child *add_region(struct fleet *f, const char *name)
{
    struct child *c = add_child(f, f->engine, name, f->serve);

    child_arg(c, "region");
    child_arg(c, "--name");
    child_arg(c, "%s", name);
    child_arg(c, "--identity");
    child_arg(c, "%s/regions/%s/identity", f->dir, name);
    child_arg(c, "--control");
    child_port_arg(c, "127.0.0.1:%d", f->serve, "link");
    child_arg(c, "--store");
    child_arg(c, "%s/store", f->dir);
    child_arg(c, "--data");
    child_arg(c, "%s/regions/%s/data", f->dir, name);
    child_arg(c, "--listen");
    child_port_arg(c, "127.0.0.1:%d", c, "link");
    common_args(f, c);
    return c;
}

static void add_agent(struct fleet *f, struct child *region, const char *name, int number)
{
    struct child *c = add_child(f, f->agent, name, region);
    struct utsname host;

    uname(&host);
    child_arg(c, "run");
    child_arg(c, "--region");
    child_port_arg(c, "127.0.0.1:%d", region, "link");
    child_arg(c, "--identity");
    child_arg(c, "%s/machines/%s/identity", f->dir, name);
    child_arg(c, "--root");
    child_arg(c, "%s/machines/%s/root", f->dir, name);
    child_arg(c, "--listen");
    child_port_arg(c, "127.0.0.1:%d", c, "link");
    child_arg(c, "--label");
    child_arg(c, "arch=%s", host.machine);
    child_arg(c, "--label");
    child_arg(c, "rack=%c", 'a' + number % 2);
    child_arg(c, "--stop-services-with-parent");
    common_args(f, c);
}

/* Certificates for everybody; those that are there and valid are kept. */
static int issue(struct fleet *f, struct keys *keys, enum link_role role, const char *folder,
                 const char *name, struct err *err)
{
    AUTO_FREE char *dir = mem_printf("%s/%s/%s/identity", f->dir, folder, name);
    int rv = dir_make(dir, 0700, err);

    return rv < 0 ? rv : keys_issue(keys, dir, role, name, err);
}

static int add_all(struct fleet *f, struct keys *keys, struct err *err)
{
    int rv = 0;

    add_serve(f);
    if (f->o.control_only)
        return 0;
    add_worker(f);
    for (int r = 1; r <= f->o.regions && rv == 0; r++) {
        AUTO_FREE char *region = mem_printf("r%d", r);
        struct child *c = add_region(f, region);

        rv = issue(f, keys, ROLE_REGION, "regions", region, err);
        for (int m = 1; m <= f->o.agents && rv == 0; m++) {
            AUTO_FREE char *machine = mem_printf("r%d-m%d", r, m);

            add_agent(f, c, machine, m);
            rv = issue(f, keys, ROLE_AGENT, "machines", machine, err);
        }
    }
    return rv;
}

static int prepare(struct fleet *f, struct err *err)
{
    AUTO_FREE char *keys_dir = mem_printf("%s/keys", f->dir);
    struct keys *keys;
    int rv = keys_open(&keys, keys_dir, NULL, err);

    if (rv < 0)
        return err_wrap(err, "keys");
    rv = add_all(f, keys, err);
    keys_free(keys);
    return rv;
}

static int publish_engine_json(struct fleet *f, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/engine.json", f->dir);
    AUTO_FREE char *token_path = mem_printf("%s/admin.token", f->dir);
    AUTO_BUF token = BUF_INIT, text = BUF_INIT;
    int rv = file_read(&token, token_path, TOKEN_MAX_BYTES, err);

    if (rv < 0)
        return err_wrap(err, "the control plane's token");
    while (token.len > 0 && token.data[token.len - 1] == '\n')
        token.data[--token.len] = '\0';
    f->token = mem_strdup(buf_str(&token));
    f->url = mem_printf("http://127.0.0.1:%d", child_port(f->serve, "http"));
    buf_printf(&text, "{\"url\":\"%s\",\"token\":\"%s\",\"pid\":%d}\n", f->url, f->token,
               (int)getpid());
    return file_publish(path, text.data, text.len, 0600, err);
}

static int wait_for_serve(struct fleet *f, struct err *err)
{
    AUTO_BUF why = BUF_INIT;

    for (int64_t waited = 0; waited < START_MS; waited += POLL_MS) {
        fleet_tend(f);
        if (child_is_ready(f->serve))
            return publish_engine_json(f, err);
        if (child_restarts(f->serve) >= 3)
            break;
        nap(POLL_MS);
    }
    child_last_words(f->serve, &why);
    return err_set(err, ERR_UNREACHABLE, "the control plane does not start: %s (log: %s)",
                   buf_str(&why), child_log_path(f->serve));
}

/* What the last fleet here was like, as far as the options leave it open. */
static void recall(struct fleet *f)
{
    AUTO_FREE char *path = mem_printf("%s/local.json", f->dir);
    AUTO_BUF text = BUF_INIT;
    AUTO_JSON *o = NULL;
    int64_t regions = 3, agents = 4;
    const char *db = NULL;

    if (file_read(&text, path, LOCAL_MAX_BYTES, NULL) == 0 &&
        json_parse(&o, text.data, text.len, NULL) == 0 &&
        (json_get_int(o, "regions", 1, FLEET_REGIONS_MAX, &regions, NULL) < 0 ||
         json_get_int(o, "agents", 1, FLEET_AGENTS_MAX, &agents, NULL) < 0 ||
         json_get_text_or(o, "db", LOCAL_MAX_BYTES, NULL, &db, NULL) < 0))
        log_warn("%s is malformed", path);
    if (f->o.regions == FLEET_AS_BEFORE)
        f->o.regions = (int)regions;
    if (f->o.agents == FLEET_AS_BEFORE)
        f->o.agents = (int)agents;
    f->db = f->o.db != NULL ? mem_strdup(f->o.db)
            : db != NULL    ? mem_strdup(db)
                            : mem_printf("sqlite:%s/db.sqlite", f->dir);
}

/* The database's URL may hold a password: 0600. One in the directory itself may move with it. */
static int remember(const struct fleet *f, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/local.json", f->dir);
    AUTO_FREE char *own = mem_printf("sqlite:%s/", f->dir);
    AUTO_JSON *o = json_pack("{s:i,s:i}", "regions", f->o.regions, "agents", f->o.agents);
    AUTO_FREE char *text = NULL;

    if (strncmp(f->db, own, strlen(own)) != 0)
        json_object_set_new(o, "db", json_string(f->db));
    text = json_text(o);
    return file_publish(path, text, strlen(text), 0600, err);
}

int fleet_open(struct fleet **ret, const struct fleet_options *o, struct err *err)
{
    struct fleet *f = mem_alloc(sizeof(*f));
    AUTO_BUF dir = BUF_INIT;
    int rv = dir_make(o->state_dir, 0700, err);

    f->o = *o;
    f->lock_fd = f->pipe_fds[0] = f->pipe_fds[1] = -1;
    if (rv == 0)
        rv = path_real(&dir, o->state_dir, err);
    f->dir = rv == 0 ? buf_steal(&dir) : mem_strdup(o->state_dir);
    if (rv == 0)
        rv = find_programs(f, err);
    if (rv == 0)
        rv = make_dirs(f, err);
    if (rv < 0) {
        fleet_stop(f);
        return rv;
    }
    recall(f);
    *ret = f;
    return 0;
}

int fleet_start(struct fleet *f, struct err *err)
{
    int rv = children_end_earlier(f->dir, err);

    if (rv == 0 && pipe2(f->pipe_fds, O_CLOEXEC) < 0)
        rv = err_sys(err, errno, "pipe");
    if (rv == 0)
        rv = prepare(f, err);
    if (rv == 0)
        rv = wait_for_serve(f, err);
    /* Only what works: a mistyped --db must not be the next run's. */
    return rv < 0 || f->o.control_only ? rv : remember(f, err);
}

int fleet_regions(const struct fleet *f)
{
    return f->o.regions;
}

int fleet_agents(const struct fleet *f)
{
    return f->o.agents;
}

void fleet_tend(struct fleet *f)
{
    bool changed = false;

    for (size_t i = 0; i < f->count; i++)
        changed |= child_tend(f->children[i]);
    if (changed)
        children_publish(f->dir, f->children, f->count);
}

const char *fleet_url(const struct fleet *f)
{
    return f->url;
}

const char *fleet_token(const struct fleet *f)
{
    return f->token;
}

int fleet_restarts(const struct fleet *f)
{
    int restarts = 0;

    for (size_t i = 0; i < f->count; i++)
        restarts += child_restarts(f->children[i]);
    return restarts;
}

static size_t count_running(struct fleet *f)
{
    size_t running = 0;

    for (size_t i = 0; i < f->count; i++)
        running += child_is_running(f->children[i]);
    return running;
}

void fleet_stop(struct fleet *f)
{
    AUTO_FREE char *path = mem_printf("%s/engine.json", f->dir);

    if (f->pipe_fds[1] >= 0)
        close(f->pipe_fds[1]); /* every child exits on this EOF */
    for (int64_t waited = 0; waited < STOP_MS && count_running(f) > 0; waited += POLL_MS)
        nap(POLL_MS);
    for (size_t i = 0; i < f->count; i++)
        child_free(f->children[i]);
    if (f->pipe_fds[0] >= 0)
        close(f->pipe_fds[0]);
    if (f->url != NULL)
        unlink(path);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    free(f->children);
    free(f->dir);
    free(f->db);
    free(f->engine);
    free(f->agent);
    free(f->url);
    free(f->token);
    free(f);
}
