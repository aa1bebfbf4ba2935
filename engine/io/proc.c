#include "io/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"

enum {
    ENVIRON_MAX = 8 << 20,
    KILL_ROUNDS = 200, /* of at most KILL_WAIT_MS: a process stuck in the kernel must not hold us */
    KILL_WAIT_MS = 50,
    EXEC_LOOKS = 20, /* 1 ms apart */
    OUTPUT_CHUNK = 32 * 1024,
};

void proc_kill_group(pid_t pid, int signo)
{
    if (pid > 1)
        (void)kill(-pid, signo);
}

/* The environment of a process that is just executing another program reads as empty for a moment;
 * that of a kernel thread, which has no program, always does. */
static bool read_environ(struct buf *env, pid_t pid)
{
    char environ_path[64], exe_path[64], exe[8];

    snprintf(environ_path, sizeof(environ_path), "/proc/%d/environ", (int)pid);
    snprintf(exe_path, sizeof(exe_path), "/proc/%d/exe", (int)pid);
    for (int i = 0; i < EXEC_LOOKS; i++) {
        if (file_read(env, environ_path, ENVIRON_MAX, NULL) < 0)
            return false;
        if (env->len > 0)
            return true;
        if (readlink(exe_path, exe, sizeof(exe)) < 0)
            return false;
        (void)poll(NULL, 0, 1);
    }
    return false;
}

static bool has_tag(pid_t pid, const char *tag)
{
    AUTO_BUF env = BUF_INIT;
    size_t len = strlen(tag);

    if (!read_environ(&env, pid))
        return false;
    for (size_t at = 0; at < env.len;) {
        size_t n = strlen(env.data + at);

        if (n == len && memcmp(env.data + at, tag, len) == 0)
            return true;
        at += n + 1;
    }
    return false;
}

/* Kills pid if it still has the tag when we hold it by a pidfd, so that a reused number is safe.
 * True if it did. */
static bool kill_if_tagged(pid_t pid, const char *tag)
{
    struct pollfd wait;
    int fd;

    if (!has_tag(pid, tag))
        return false;
    fd = pidfd_open(pid, 0);
    if (fd < 0)
        return false;
    if (has_tag(pid, tag) && pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0) {
        wait = (struct pollfd){ .fd = fd, .events = POLLIN };
        (void)poll(&wait, 1, KILL_WAIT_MS);
    }
    close(fd);
    return true;
}

static bool kill_round(const char *tag)
{
    DIR *dir = opendir("/proc");
    struct dirent *e;
    bool found = false;

    if (dir == NULL)
        return false;
    while ((e = readdir(dir)) != NULL) {
        pid_t pid = isdigit((unsigned char)e->d_name[0]) ? (pid_t)atoi(e->d_name) : 0;

        if (pid > 1 && pid != getpid() && kill_if_tagged(pid, tag))
            found = true;
    }
    closedir(dir);
    return found;
}

void proc_kill_tagged(const char *tag)
{
    /* A round that finds none ends it: whatever forks while being killed is found by the next. */
    for (int i = 0; i < KILL_ROUNDS && kill_round(tag); i++)
        ;
}

static void kill_tree(const struct proc_options *o, pid_t pid)
{
    proc_kill_group(pid, SIGKILL);
    (void)kill(pid, SIGKILL);
    if (o->tag != NULL)
        proc_kill_tagged(o->tag);
}

/* Appends what the pipe holds. 0: it is empty for now or at its end; -ERR_LIMIT. */
static int drain(int fd, bool *ret_eof, size_t max, size_t start, struct buf *out,
                 const char *program, struct err *err)
{
    for (;;) {
        char chunk[OUTPUT_CHUNK];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        size_t room = max - (out->len - start);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *ret_eof = n == 0;
            return n == 0 || errno == EAGAIN ? 0 : err_sys(err, errno, "%s: read output", program);
        }
        buf_append(out, chunk, (size_t)n < room ? (size_t)n : room);
        if ((size_t)n > room)
            return err_set(err, ERR_LIMIT, "%s: more than %zu bytes of output", program, max);
    }
}

struct run {
    const struct proc_options *o;
    int out_fd, pidfd;
    int64_t timeout_ms, deadline;
};

/* Until the child has ended; 0, or why it is to be killed. */
static int follow(const struct run *r, size_t max, struct buf *out, struct err *err)
{
    size_t start = out->len;
    bool eof = false;

    for (;;) {
        struct pollfd fds[2] = { { .fd = r->pidfd, .events = POLLIN },
                                 { .fd = eof ? -1 : r->out_fd, .events = POLLIN } };
        int64_t left = r->timeout_ms > 0 ? r->deadline - monotonic_ms() : 60000;
        int n, rc;

        if (left <= 0)
            return err_set(err, ERR_TIMEOUT, "%s: not finished after %lld ms", r->o->argv[0],
                           (long long)r->timeout_ms);
        n = poll(fds, 2, left > 60000 ? 60000 : (int)left);
        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "%s: poll", r->o->argv[0]);
        if (n <= 0)
            continue;
        /* The child's end was seen before the pipe is read: its output is all there then. */
        rc = eof ? 0 : drain(r->out_fd, &eof, max, start, out, r->o->argv[0], err);
        if (rc < 0 || fds[0].revents != 0)
            return rc;
    }
}

static int reap(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int run_child(const struct proc_options *o, int64_t timeout_ms, size_t max, int out_fd,
                     pid_t pid, struct buf *out, int *ret_status, struct err *err)
{
    struct run r = { .o = o, .out_fd = out_fd, .timeout_ms = timeout_ms };
    int rc;

    r.deadline = monotonic_ms() + timeout_ms;
    r.pidfd = pidfd_open(pid, 0);
    if (r.pidfd < 0)
        rc = err_sys(err, errno, "%s: pidfd", o->argv[0]);
    else
        rc = follow(&r, max, out, err);
    if (rc < 0)
        kill_tree(o, pid);
    *ret_status = reap(pid);
    if (r.pidfd >= 0)
        close(r.pidfd);
    return rc;
}

int proc_run(const struct proc_options *o, int64_t timeout_ms, size_t max, struct buf *out,
             int *ret_status, struct err *err)
{
    struct proc_options mine = *o;
    int fds[2];
    pid_t pid;
    int rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "pipe");
    (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
    mine.stdout_fd = mine.stderr_fd = fds[1];
    rc = proc_spawn(&pid, &mine, err);
    close(fds[1]);
    if (rc == 0)
        rc = run_child(&mine, timeout_ms, max, fds[0], pid, out, ret_status, err);
    close(fds[0]);
    return rc;
}

static void on_pidfd(struct watch *watch, int events)
{
    struct proc_watch *w = CONTAINER_OF(watch, struct proc_watch, watch);
    int status = -1;
    pid_t got;

    (void)events;
    got = waitpid(w->pid, &status, WNOHANG);
    if (got == 0)
        return;
    proc_watch_stop(w);
    w->fn(w, got == w->pid ? status : -1);
}

int proc_watch_start(struct loop *l, struct proc_watch *w, pid_t pid,
                     void (*fn)(struct proc_watch *w, int status), struct err *err)
{
    int fd = pidfd_open(pid, 0);

    if (fd < 0 && errno == ESRCH)
        return err_set(err, ERR_NOT_FOUND, "watch process %d: no such process", (int)pid);
    if (fd < 0)
        return err_sys(err, errno, "watch process %d", (int)pid);
    w->fn = fn;
    w->pid = pid;
    w->pidfd = fd;
    w->watch.active = false;
    watch_start(l, &w->watch, fd, WATCH_READ, on_pidfd);
    return 0;
}

void proc_watch_stop(struct proc_watch *w)
{
    if (!w->watch.active)
        return;
    watch_stop(&w->watch);
    close(w->pidfd);
    w->pidfd = -1;
}

/* Reads /proc/PID/stat: *ret_state is field 3. */
static int read_stat(struct proc_id *ret, char *ret_state, pid_t pid, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    char path[64];
    char *at;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (file_read(&text, path, 4096, err) < 0)
        return err_set(err, ERR_NOT_FOUND, "process %d: no such process", (int)pid);
    at = strrchr(text.data, ')'); /* the name before it may hold anything */
    if (at == NULL || at[1] != ' ' || at[2] == '\0')
        return err_set(err, ERR_INTERNAL, "%s is malformed", path);
    *ret_state = at[2];
    at += 2;
    for (int field = 3; field < 22; field++) {
        at = strchr(at, ' ');
        if (at == NULL)
            return err_set(err, ERR_INTERNAL, "%s is malformed", path);
        at++;
    }
    ret->pid = pid;
    ret->start_ticks = strtoull(at, NULL, 10);
    return 0;
}

int proc_identify(struct proc_id *ret, pid_t pid, struct err *err)
{
    char state;

    return read_stat(ret, &state, pid, err);
}

bool proc_is_alive(const struct proc_id *id)
{
    struct proc_id now;
    char state;

    if (id->pid <= 0 || read_stat(&now, &state, id->pid, NULL) < 0)
        return false;
    return now.start_ticks == id->start_ticks && state != 'Z' && state != 'X';
}

static void on_parent(struct watch *w, int events)
{
    char byte[64];
    ssize_t n = read(w->fd, byte, sizeof(byte));

    (void)events;
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        _exit(0); /* crash-only: what must survive is on disk already */
}

int proc_exit_with_parent(struct loop *l, int fd, struct err *err)
{
    struct watch *w;

    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_sys(err, errno, "parent's pipe, descriptor %d", fd);
    w = mem_alloc(sizeof(*w));
    loop_keep(l, w);
    watch_start(l, w, fd, WATCH_READ, on_parent);
    return 0;
}

void proc_status_text(struct buf *out, int status)
{
    if (WIFEXITED(status)) {
        buf_printf(out, "exit status %d", WEXITSTATUS(status));
    } else if (WIFSIGNALED(status)) {
        const char *name = sigdescr_np(WTERMSIG(status));

        buf_printf(out, "killed by signal %d (%s)", WTERMSIG(status),
                   name == NULL ? "unknown" : name);
    } else {
        buf_printf(out, "wait status %d", status);
    }
}

static char boot_id[64];

static void read_boot_id(void)
{
    AUTO_BUF text = BUF_INIT;

    if (file_read(&text, "/proc/sys/kernel/random/boot_id", sizeof(boot_id) - 1, NULL) < 0)
        return;
    while (text.len > 0 && isspace((unsigned char)text.data[text.len - 1]))
        text.data[--text.len] = '\0';
    memcpy(boot_id, buf_str(&text), text.len + 1);
}

const char *proc_boot_id(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, read_boot_id); /* written once: it cannot change while we run */
    return boot_id;
}
