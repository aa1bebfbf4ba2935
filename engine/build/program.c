#include "build/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/proc.h"

enum { CHUNK = 64 * 1024 };

struct running {
    const struct program *p;
    pid_t pid;
    int pidfd, out_fd; /* out_fd -1: at its end */
    int64_t started_ms, last_output_ms;
    uint64_t output_bytes;
};

/* Takes what the pipe holds: 0 when it is empty or at its end. */
static int drain(struct running *r, struct err *err)
{
    char chunk[CHUNK];

    while (r->out_fd >= 0) {
        ssize_t n = read(r->out_fd, chunk, sizeof(chunk));
        uint64_t room = r->p->max_output - r->output_bytes;
        bool over = n > 0 && r->p->max_output > 0 && (uint64_t)n > room;
        int failed;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0) {
            close(r->out_fd);
            r->out_fd = -1;
            return 0;
        }
        r->last_output_ms = monotonic_ms();
        if (over)
            n = (ssize_t)room;
        r->output_bytes += (uint64_t)n;
        if (r->p->output != NULL && n > 0)
            r->p->output(r->p->ctx, chunk, (size_t)n);
        if (over)
            return err_set(err, ERR_LIMIT, "log over %llu %s",
                           (unsigned long long)(r->p->max_output >= 1 << 20 ? r->p->max_output >> 20
                                                                            : r->p->max_output),
                           r->p->max_output >= 1 << 20 ? "MiB" : "bytes");
        failed = lease_check(r->p->lease, err);
        if (failed < 0)
            return failed;
    }
    return 0;
}

static int check_time(const struct running *r, struct err *err)
{
    int64_t now = monotonic_ms();

    if (r->p->timeout_ms > 0 && now - r->started_ms >= r->p->timeout_ms)
        return err_set(err, ERR_TIMEOUT, "ran longer than %lld s",
                       (long long)(r->p->timeout_ms / 1000));
    if (r->p->silence_ms > 0 && now - r->last_output_ms >= r->p->silence_ms)
        return err_set(err, ERR_TIMEOUT, "no output for %lld s",
                       (long long)(r->p->silence_ms / 1000));
    return lease_check(r->p->lease, err);
}

/* Until the program has ended; 0, or why it is to be killed. */
static int follow(struct running *r, struct err *err)
{
    for (;;) {
        struct pollfd fds[] = { { r->pidfd, POLLIN, 0 },
                                { r->out_fd, POLLIN, 0 },
                                { lease_fd(r->p->lease), POLLIN, 0 } };
        int failed;

        if (poll(fds, 3, LEASE_TICK_MS) < 0 && errno != EINTR)
            return err_sys(err, errno, "poll");
        failed = drain(r, err); /* the end was seen before this: its output is all there */
        if (failed == 0 && fds[0].revents == 0)
            failed = check_time(r, err);
        if (failed < 0 || fds[0].revents != 0)
            return failed;
    }
}

static void end_tree(const struct running *r, bool by_force)
{
    struct pollfd fd = { r->pidfd, POLLIN, 0 };

    if (by_force && r->p->grace_ms > 0) {
        proc_kill_group(r->pid, SIGTERM);
        (void)poll(&fd, 1, (int)r->p->grace_ms);
    }
    proc_kill_group(r->pid, SIGKILL);
    if (by_force)
        (void)kill(r->pid, SIGKILL);
    if (r->p->tag != NULL)
        proc_kill_tagged(r->p->tag);
}

static int run(struct running *r, int *ret_status, struct err *err)
{
    int failed;

    r->pidfd = pidfd_open(r->pid, 0);
    if (r->pidfd < 0)
        failed = err_sys(err, errno, "pidfd");
    else
        failed = follow(r, err);
    /* The child is not reaped yet: its number, and its group's, cannot be somebody else's. */
    end_tree(r, failed < 0);
    while (waitpid(r->pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    if (r->pidfd >= 0)
        close(r->pidfd);
    return failed;
}

int program_run(const struct program *p, int *ret_status, struct err *err)
{
    struct running r = { .p = p, .pidfd = -1 };
    struct proc_options o = { .argv = p->argv,
                              .env = p->env,
                              .dir = p->dir,
                              .stdin_fd = -1,
                              .keep_fd = -1,
                              .die_with_parent = true,
                              .max_file_bytes = p->max_file_bytes,
                              .tag = p->tag };
    int fds[2];
    int failed = lease_check(p->lease, err);

    if (failed < 0)
        return failed;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, errno, "pipe");
    (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
    o.stdout_fd = o.stderr_fd = fds[1];
    r.started_ms = r.last_output_ms = monotonic_ms();
    r.out_fd = fds[0];
    failed = proc_spawn(&r.pid, &o, err);
    close(fds[1]);
    if (failed == 0)
        failed = run(&r, ret_status, err);
    if (r.out_fd >= 0)
        close(r.out_fd);
    return failed;
}
