#include "process.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"

void process_init(struct process *p, struct loop *loop, struct work_pool *pool,
                  void (*exited)(struct process *p, int status), void *user)
{
    memset(p, 0, sizeof(*p));
    p->loop = loop;
    p->pool = pool;
    p->exited = exited;
    p->user = user;
}

static void run_clean(struct work *w)
{
    const struct process *p = CONTAINER_OF(w, struct process, clean);

    proc_kill_tagged(p->tag);
}

static void cleaned(struct work *w)
{
    struct process *p = CONTAINER_OF(w, struct process, clean);

    p->state = PROCESS_NONE;
    p->exited(p, p->status);
}

static void ended(struct proc_watch *w, int status)
{
    struct process *p = CONTAINER_OF(w, struct process, watch);

    timer_stop(&p->kill);
    p->status = status;
    if (p->keep_children) {
        p->state = PROCESS_NONE;
        p->exited(p, status);
        return;
    }
    proc_kill_group(p->id.pid, SIGKILL);
    p->state = PROCESS_CLEANING;
    p->clean.run = run_clean;
    p->clean.done = cleaned;
    work_submit(p->pool, &p->clean);
}

static void watched(struct process *p, const char *tag, bool keep_children)
{
    free(p->tag);
    p->tag = mem_strdup(tag);
    p->keep_children = keep_children;
    p->state = PROCESS_RUNNING;
}

static int spawn(struct process *p, const struct process_spec *spec, int log_fd, struct err *err)
{
    struct proc_options o = {
        .argv = spec->argv,
        .env = spec->env,
        .dir = spec->dir,
        .stdin_fd = -1,
        .stdout_fd = log_fd,
        .stderr_fd = log_fd,
        .keep_fd = -1,
        .new_session = true,
        .tag = spec->tag,
    };
    pid_t pid;

    if (proc_spawn(&pid, &o, err) < 0)
        return -(int)err->code;
    /* It is our child and not reaped yet, so that its pid is its own; only its start time could be
     * unreadable, if it has ended already. */
    p->id = (struct proc_id){ pid, 0 };
    (void)!proc_identify(&p->id, pid, NULL);
    p->id.pid = pid;
    if (proc_watch_start(p->loop, &p->watch, pid, ended, err) < 0) {
        proc_kill_group(pid, SIGKILL);
        return -(int)err->code;
    }
    return 0;
}

int process_start(struct process *p, const struct process_spec *spec, struct err *err)
{
    struct err own = ERR_INIT;
    int fd, r;

    if (err == NULL)
        err = &own;
    if (p->state != PROCESS_NONE)
        return err_set(err, ERR_INTERNAL, "start: it is up already");
    if (file_open_log(&fd, spec->log, PROCESS_LOG_MAX, err) < 0)
        return -(int)err->code;
    r = spawn(p, spec, fd, err);
    close(fd);
    if (r < 0)
        return r;
    watched(p, spec->tag, spec->keep_children);
    return 0;
}

int process_adopt(struct process *p, const struct proc_id *id, const char *tag, struct err *err)
{
    if (p->state != PROCESS_NONE)
        return err_set(err, ERR_INTERNAL, "adopt: one is up already");
    if (!proc_is_alive(id))
        return err_set(err, ERR_NOT_FOUND, "process %d is gone", (int)id->pid);
    if (proc_watch_start(p->loop, &p->watch, id->pid, ended, err) < 0)
        return err == NULL ? -ERR_NOT_FOUND : -(int)err->code;
    /* The pidfd holds the process now; was it still the one? */
    if (!proc_is_alive(id)) {
        proc_watch_stop(&p->watch);
        return err_set(err, ERR_NOT_FOUND, "process %d is gone", (int)id->pid);
    }
    p->id = *id;
    watched(p, tag, false);
    return 0;
}

bool process_is_up(const struct process *p)
{
    return p->state != PROCESS_NONE;
}

static void kill_now(struct timer *t)
{
    struct process *p = CONTAINER_OF(t, struct process, kill);

    log_warn("process %d did not end in time: killed", (int)p->id.pid);
    proc_kill_group(p->id.pid, SIGKILL);
}

void process_stop(struct process *p, int64_t grace_ms)
{
    if (p->state != PROCESS_RUNNING && p->state != PROCESS_STOPPING)
        return;
    if (p->state == PROCESS_RUNNING)
        proc_kill_group(p->id.pid, SIGTERM);
    p->state = PROCESS_STOPPING;
    timer_start(p->loop, &p->kill, grace_ms, 0, kill_now);
}

void process_release(struct process *p)
{
    timer_stop(&p->kill);
    if (p->state == PROCESS_RUNNING || p->state == PROCESS_STOPPING)
        proc_watch_stop(&p->watch);
    free(p->tag);
    p->tag = NULL;
    p->state = PROCESS_NONE;
}
