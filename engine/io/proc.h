/* proc.h - other programs: started in their own process group, watched, killed as a whole tree.
 *
 * A child is started with exactly the file descriptors, environment and directory that are named.
 * Killing means the group and every descendant that can be found (a process that called setsid is
 * found by the environment tag, when one is given). Children of a local fleet get the read end of a
 * pipe that their parent keeps open: on its EOF they exit (proc_exit_with_parent()). */
#ifndef IO_PROC_H
#define IO_PROC_H

#include <sys/types.h>

#include "base/buf.h"
#include "io/loop.h"

struct proc_options {
    char *const *argv; /* NULL-ended; argv[0] is looked up in PATH of env */
    char *const *env;  /* NULL-ended; NULL: inherit */
    const char *dir;   /* working directory; NULL: inherit */
    int stdin_fd;      /* -1: /dev/null */
    int stdout_fd;     /* -1: /dev/null */
    int stderr_fd;     /* -1: /dev/null */
    int keep_fd;      /* -1, or one more descriptor that the child inherits under the same number */
    bool new_session; /* setsid: outlives us; else a new process group */
    bool die_with_parent;    /* PR_SET_PDEATHSIG SIGKILL: when the thread that spawned it ends */
    uint64_t max_file_bytes; /* RLIMIT_FSIZE, 0: none */
    const char *tag; /* NULL, or "NAME=value" that is put into the environment: proc_run() then
                        also kills what left the group, see proc_kill_tagged() */
};

/* What a process is across pid reuse: pid and start time (field 22 of /proc/PID/stat). */
struct proc_id {
    pid_t pid;
    uint64_t start_ticks;
};

/* Starts; *ret_pid is the child and its process group. argv[0] that cannot be executed is an error
 * here (-ERR_NOT_FOUND, "…: no such program"). */
MUST_CHECK int proc_spawn(pid_t *ret_pid, const struct proc_options *o, struct err *err);

/* Runs to its end, captures at most max bytes of stdout and stderr together (stdout_fd and
 * stderr_fd are not used), kills the tree at the deadline (timeout_ms > 0) and when there is more
 * output. What a program leaves running when it ends in time is not touched. Blocks: for the work
 * pool. *ret_status as of waitpid(2). -ERR_TIMEOUT, -ERR_LIMIT; out holds what was captured also
 * then. */
MUST_CHECK int proc_run(const struct proc_options *o, int64_t timeout_ms, size_t max,
                        struct buf *out, int *ret_status, struct err *err);

void proc_kill_group(pid_t pid, int signo);
/* SIGKILL to every process whose environment holds tag ("NAME=value"). Repeats until none is left.
 */
void proc_kill_tagged(const char *tag);

/* Watches for the end of a child or of an adopted process (pidfd). fn is called once, a child has
 * been reaped then; status is -1 for an adopted process (not our child). -ERR_NOT_FOUND: no such
 * process (any more). Whoever stops the watch of a child reaps it himself. */
struct proc_watch {
    void (*fn)(struct proc_watch *w, int status);
    pid_t pid; /* private from here on */
    int pidfd;
    struct watch watch;
};

MUST_CHECK int proc_watch_start(struct loop *l, struct proc_watch *w, pid_t pid,
                                void (*fn)(struct proc_watch *w, int status), struct err *err);
void proc_watch_stop(struct proc_watch *w);

MUST_CHECK int proc_identify(struct proc_id *ret, pid_t pid, struct err *err);
bool proc_is_alive(const struct proc_id *id); /* and is still the same process, and no zombie */

/* Exits this process (status 0) when fd, the read end of the parent's pipe, reaches EOF. */
MUST_CHECK int proc_exit_with_parent(struct loop *l, int fd, struct err *err);

/* Raises a failing wait status to words: "exit status 3", "killed by signal 9 (Killed)". */
void proc_status_text(struct buf *out, int status);

const char *proc_boot_id(void); /* the kernel's, or "" */

#endif
