/* process.h - one process of a service: started in its own session, watched, stopped as a whole.
 *
 *     process_init(&p, loop, pool, exited, user)
 *     process_start(&p, &spec, &err)  or  process_adopt(&p, &id, tag, &err)
 *     process_stop(&p, grace_ms)          SIGTERM to the session, then SIGKILL
 *     exited(&p, status)                  once for each start or adoption
 *
 * A service outlives its agent: it has its own session, no pipe to us, and its output goes to a
 * file. When its first process has ended, whatever is left of it is killed before exited() fires:
 * the process group, and everything that carries its tag in the environment (spec.keep_children:
 * nothing is, because a command may leave its daemons running). */
#ifndef AGENT_PROCESS_H
#define AGENT_PROCESS_H

#include "io/proc.h"
#include "io/work.h"

enum { PROCESS_LOG_MAX = 16 << 20 }; /* a longer log is put aside before a start */

struct process_spec {
    char *const *argv;
    char *const *env;
    const char *dir;
    const char *log; /* appended to; made if missing */
    const char *tag; /* "NAME=value", copied */
    bool keep_children;
};

enum process_state { PROCESS_NONE = 0, PROCESS_RUNNING, PROCESS_STOPPING, PROCESS_CLEANING };

struct process {
    enum process_state state;
    struct proc_id id;
    void *user;
    void (*exited)(struct process *p, int status); /* wait status; -1: adopted, unknown */
    struct loop *loop;                             /* private from here on */
    struct work_pool *pool;
    struct proc_watch watch;
    struct timer kill;
    struct work clean;
    char *tag;
    int status;
    bool keep_children;
};

void process_init(struct process *p, struct loop *loop, struct work_pool *pool,
                  void (*exited)(struct process *p, int status), void *user);

/* -ERR_NOT_FOUND: no such program; -ERR_IO: log or process cannot be made. */
MUST_CHECK int process_start(struct process *p, const struct process_spec *spec, struct err *err);
/* -ERR_NOT_FOUND: it is not that process any more. */
MUST_CHECK int process_adopt(struct process *p, const struct proc_id *id, const char *tag,
                             struct err *err);
bool process_is_up(const struct process *p); /* running or stopping */
/* Harmless if it is not up; a second call may only shorten the grace. */
void process_stop(struct process *p, int64_t grace_ms);
/* Stops watching and leaves it running; no callback. */
void process_release(struct process *p);

#endif
