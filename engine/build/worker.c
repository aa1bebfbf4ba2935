#include "build/worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "build/job.h"
#include "io/files.h"
#include "io/proc.h"

enum { POLL_MS = 1000, SLICE_MS = 100, TROUBLE_MS = 1000, TOKEN_BYTES = 12, HOST_MAX = 64 };

struct worker {
    struct worker_options o;
    struct job_site site;
    char *id, *work;
    char **hidden; /* what site.sandbox.hide borrows */
    int lock_fd;
    atomic_bool stopping;
};

static char *random_text(size_t bytes)
{
    unsigned char raw[32];
    char hex[2 * sizeof(raw) + 1];

    random_bytes(raw, bytes);
    hex_encode(hex, raw, bytes);
    return mem_strdup(hex);
}

/* host/boot/random: a worker that comes back is another one. */
static char *make_id(const struct worker_options *o)
{
    AUTO_FREE char *random = random_text(4);
    char host[HOST_MAX + 1] = "host";

    if (o->name == NULL && gethostname(host, HOST_MAX) < 0)
        snprintf(host, sizeof(host), "host");
    return mem_printf("%s/%.8s/%s", o->name == NULL ? host : o->name, proc_boot_id(), random);
}

/* A pause that ends early when the worker is told to stop. */
static void pause_for(struct worker *w, int64_t ms)
{
    for (; ms > 0 && !atomic_load(&w->stopping); ms -= SLICE_MS)
        (void)poll(NULL, 0, (int)(ms < SLICE_MS ? ms : SLICE_MS));
}

/* Until a job may be there. Polling is the truth; a hint only shortens it. */
static void wait_for_job(struct worker *w, struct db *d)
{
    unsigned char random;
    int64_t ms = w->o.poll_ms;

    random_bytes(&random, 1);
    if (ms == 0)
        ms = POLL_MS + random * POLL_MS / 256;
    for (; ms > 0 && !atomic_load(&w->stopping); ms -= SLICE_MS) {
        if (db_wait(d, QUEUE_CHANNEL, ms < SLICE_MS ? ms : SLICE_MS))
            return;
    }
}

/* Claims and builds one job. False: there is none, or trouble. */
static bool work_once(struct worker *w, struct db *d, char **token, bool *warned)
{
    struct err err = ERR_INIT;
    int64_t asked = monotonic_ms();
    struct job *job;

    if (*token == NULL)
        *token = random_text(TOKEN_BYTES);
    if (queue_claim(d, w->id, *token, &job, &err) < 0) {
        if (!*warned)
            log_warn("%s; trying again", err.text);
        *warned = true;
        pause_for(w, TROUBLE_MS);
        return false;
    }
    *warned = false;
    if (job == NULL)
        return false;
    free(*token);
    *token = NULL;
    job_build(&w->site, d, job, asked, &w->stopping);
    job_free(job);
    return true;
}

static void *slot_main(void *arg)
{
    struct worker *w = arg;
    struct err err = ERR_INIT;
    struct db *d = NULL;
    char *token = NULL;
    bool warned = false;

    while (!atomic_load(&w->stopping)) {
        if (d == NULL && db_open(&d, w->o.db_url, &err) < 0) {
            log_warn("%s; trying again", err.text);
            d = NULL;
            pause_for(w, TROUBLE_MS);
        } else if (!work_once(w, d, &token, &warned)) {
            wait_for_job(w, d);
        }
    }
    free(token);
    db_close(d);
    return NULL;
}

static void wait_for_stop(struct worker *w)
{
    struct pollfd fd = { w->o.stop_fd, POLLIN, 0 };

    while (poll(&fd, 1, -1) < 0 && errno == EINTR)
        ;
    atomic_store(&w->stopping, true);
}

static int run_slots(struct worker *w, struct err *err)
{
    pthread_t threads[WORKER_SLOTS_MAX];
    int n = 0, failed = 0;

    for (; n < w->o.slots && failed == 0; n++)
        failed = pthread_create(&threads[n], NULL, slot_main, w);
    if (failed != 0) {
        n--;
        atomic_store(&w->stopping, true);
    } else {
        if (w->o.ready != NULL)
            w->o.ready(w->o.ctx);
        wait_for_stop(w);
    }
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    return failed == 0 ? 0 : err_sys(err, failed, "thread");
}

struct sweep {
    struct db *db;
    const char *builds;
};

/* The job of a build that a killed worker left behind: tried again at once, not when the monitor finds
 * it silent. Whoever has taken it meanwhile keeps it. */
static int give_back(struct sweep *s, const char *name, struct err *err)
{
    char *end;
    int64_t id = strtoll(name, &end, 10), attempt = *end == '-' ? strtoll(end + 1, NULL, 10) : 0;
    int r;

    if (id <= 0 || attempt <= 0)
        return 0;
    r = queue_finish(s->db, id, attempt, JOB_FAILED, NULL, "infra", "its worker was killed", err);
    return r == -(int)ERR_FENCED || r == -(int)ERR_NOT_FOUND ? 0 : r;
}

static int sweep_one(void *sweep, const char *name, struct err *err)
{
    struct sweep *s = sweep;
    AUTO_FREE char *folder = mem_printf("%s/%s", s->builds, name);
    AUTO_FREE char *tag = build_tag(folder);
    struct err why = ERR_INIT;
    int r;

    log_info("removing %s, which an earlier run left behind", folder);
    proc_kill_tagged(tag);
    r = give_back(s, name, err);
    if (r == 0 && dir_remove(folder, &why) < 0)
        log_warn("%s", why.text); /* it is in nobody's way: the next attempt has another number */
    return r;
}

static int open_folder(struct worker *w, struct err *err)
{
    AUTO_FREE char *lock = NULL;
    AUTO_BUF real = BUF_INIT;
    int r = dir_make(w->o.work, 0700, err);

    if (r == 0)
        r = path_real(&real, w->o.work, err);
    if (r < 0)
        return r;
    w->work = buf_steal(&real);
    lock = mem_printf("%s/lock", w->work);
    w->site.mirrors = mem_printf("%s/mirrors", w->work);
    w->site.builds = mem_printf("%s/builds", w->work);
    r = file_lock(&w->lock_fd, lock, err);
    if (r == -(int)ERR_EXISTS)
        return err_set(err, ERR_EXISTS, "another worker runs in %s", w->work);
    return r < 0 ? r : dir_make(w->site.builds, 0700, err);
}

/* The folder is ours: what is in it is nobody's any more. */
static int sweep_folder(struct worker *w, struct err *err)
{
    struct sweep s = { .builds = w->site.builds };
    int r = db_open(&s.db, w->o.db_url, err);

    if (r < 0)
        return r;
    r = dir_each(w->site.builds, sweep_one, &s, err);
    db_close(s.db);
    return r;
}

/* What the operator names, and the store: it holds the artifacts of every service. */
static void collect_hidden(struct worker *w)
{
    AUTO_BUF store = BUF_INIT;

    w->hidden = mem_calloc(w->o.nhide + 1, sizeof(*w->hidden));
    for (; w->site.sandbox.nhide < w->o.nhide; w->site.sandbox.nhide++)
        w->hidden[w->site.sandbox.nhide] = mem_strdup(w->o.hide[w->site.sandbox.nhide]);
    if (path_real(&store, w->o.store, NULL) == 0)
        w->hidden[w->site.sandbox.nhide++] = buf_steal(&store);
    w->site.sandbox.hide = (const char *const *)w->hidden;
}

static void open_sandbox(struct worker *w)
{
    struct err err = ERR_INIT;

    w->site.sandbox = (struct sandbox){ .kind = w->o.sandbox, .work = w->work };
    collect_hidden(w);
    if (sandbox_probe(&w->site.sandbox, &err) == 0)
        return;
    log_warn("%s", err.text);
    w->site.no_sandbox = mem_strdup(err.text);
}

static void set_defaults(struct worker *w, const struct worker_options *o)
{
    w->o = *o;
    w->lock_fd = -1;
    if (w->o.sandbox == SANDBOX_NONE)
        w->o.sandbox = SANDBOX_BWRAP;
    if (w->o.slots <= 0)
        w->o.slots = 1;
    if (w->o.slots > WORKER_SLOTS_MAX)
        w->o.slots = WORKER_SLOTS_MAX;
    w->site.beat_ms = o->beat_ms > 0 ? o->beat_ms : QUEUE_BEAT_MS;
    w->site.lost_ms = o->lost_ms > 0 ? o->lost_ms : QUEUE_LOST_MS;
    w->site.db_url = o->db_url;
    w->id = make_id(o);
}

static void release(struct worker *w)
{
    if (w->site.store != NULL)
        store_close(w->site.store);
    if (w->lock_fd >= 0)
        close(w->lock_fd);
    free(w->site.mirrors);
    free(w->site.builds);
    free(w->site.no_sandbox);
    for (size_t i = 0; i < w->site.sandbox.nhide; i++)
        free(w->hidden[i]);
    free(w->hidden);
    free(w->work);
    free(w->id);
}

int worker_main_loop(const struct worker_options *o, struct err *err)
{
    struct worker w = { .lock_fd = -1 };
    int r;

    set_defaults(&w, o);
    r = open_folder(&w, err);
    if (r == 0)
        r = store_open(&w.site.store, o->store, err);
    if (r == 0)
        r = sweep_folder(&w, err);
    if (r == 0) {
        open_sandbox(&w);
        log_info("worker %s takes jobs", w.id);
        r = run_slots(&w, err);
    }
    release(&w);
    return r < 0 ? err_wrap(err, "worker") : 0;
}
