#include "io/channel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/proc.h"

enum { HEAD_BYTES = 4 };

/* Until when, on two clocks. */
struct deadline {
    int64_t wall_ms, cpu_ms;
    clockid_t cpu;
    bool has_cpu;
};

static void head_write(unsigned char head[HEAD_BYTES], size_t len)
{
    for (int i = 0; i < HEAD_BYTES; i++)
        head[i] = (unsigned char)(len >> (8 * i));
}

static size_t head_read(const unsigned char head[HEAD_BYTES])
{
    size_t len = 0;
    for (int i = 0; i < HEAD_BYTES; i++)
        len |= (size_t)head[i] << (8 * i);
    return len;
}

static int64_t cpu_ms(clockid_t clock)
{
    struct timespec t;
    return clock_gettime(clock, &t) < 0 ? 0 : (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct deadline deadline_start(pid_t pid, const struct channel_limits *limits)
{
    struct deadline d = { .wall_ms = monotonic_ms() + limits->wall_ms };
    d.has_cpu = limits->cpu_ms > 0 && clock_getcpuclockid(pid, &d.cpu) == 0;
    if (d.has_cpu)
        d.cpu_ms = cpu_ms(d.cpu) + limits->cpu_ms;
    return d;
}

/* Milliseconds that may pass before the deadline needs another look: a child cannot use up more
 * processor time than passes. 0: it is over. */
static int deadline_left(const struct deadline *d)
{
    int64_t left = d->wall_ms - monotonic_ms();
    if (d->has_cpu && d->cpu_ms - cpu_ms(d->cpu) < left)
        left = d->cpu_ms - cpu_ms(d->cpu);
    return left <= 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

int channel_start(struct channel *c, char *const *argv, struct err *err)
{
    int pair[2];
    c->pid = 0;
    c->fd = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "start %s: socketpair", argv[0]);
    char *env[] = { NULL };
    struct proc_options o = { .argv = argv,
                              .env = env,
                              .stdin_fd = pair[1],
                              .stdout_fd = pair[1],
                              .stderr_fd = STDERR_FILENO,
                              .keep_fd = -1,
                              .die_with_parent = true };
    int rc = proc_spawn(&c->pid, &o, err);
    close(pair[1]);
    if (rc < 0) {
        close(pair[0]);
        c->pid = 0;
        return rc;
    }
    c->fd = pair[0];
    return 0;
}

bool channel_is_idle(const struct channel *c)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };
    return c->pid > 0 && poll(&p, 1, 0) == 0;
}

/* Sends or receives len bytes before the deadline. */
static int transfer(const struct channel *c, const struct deadline *d, bool out, char *at,
                    size_t len, struct err *err)
{
    while (len > 0) {
        ssize_t n = out ? send(c->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT)
                        : recv(c->fd, at, len, MSG_DONTWAIT);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return err_set(err, ERR_UNREACHABLE, "the child is gone");
        int left = deadline_left(d);
        if (left == 0)
            return err_set(err, ERR_TIMEOUT, "the child gives no answer");
        struct pollfd p = { .fd = c->fd, .events = out ? POLLOUT : POLLIN };
        (void)poll(&p, 1, left);
    }
    return 0;
}

static int receive(const struct channel *c, const struct deadline *d, size_t max,
                   struct buf *answer, struct err *err)
{
    unsigned char head[HEAD_BYTES];
    int rc = transfer(c, d, false, (char *)head, sizeof(head), err);
    if (rc < 0)
        return rc;
    size_t len = head_read(head);
    if (len > max)
        return err_set(err, ERR_LIMIT, "the child's answer is longer than %zu bytes", max);
    buf_reset(answer);
    buf_reserve(answer, len);
    rc = transfer(c, d, false, answer->data, len, err);
    if (rc < 0)
        return rc;
    answer->len = len;
    answer->data[len] = 0;
    return 0;
}

int channel_exchange(struct channel *c, const struct buf *request, struct buf *answer,
                     const struct channel_limits *limits, struct err *err)
{
    struct deadline d = deadline_start(c->pid, limits);
    if (request != NULL) {
        unsigned char head[HEAD_BYTES];
        head_write(head, request->len);
        int rc = transfer(c, &d, true, (char *)head, sizeof(head), err);
        if (rc == 0)
            rc = transfer(c, &d, true, request->data, request->len, err);
        if (rc < 0)
            return rc;
    }
    return receive(c, &d, limits->max_bytes, answer, err);
}

int channel_stop(struct channel *c)
{
    int status = -1;
    if (c->pid <= 0)
        return status;
    kill(c->pid, SIGKILL);
    close(c->fd);
    while (waitpid(c->pid, &status, 0) < 0) {
        if (errno != EINTR) {
            status = -1;
            break;
        }
    }
    c->pid = 0;
    c->fd = -1;
    return status;
}

static bool read_all(int fd, void *data, size_t len)
{
    for (char *at = data; len > 0;) {
        ssize_t n = read(fd, at, len);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return true;
}

bool channel_read(int fd, struct buf *frame, size_t max)
{
    unsigned char head[HEAD_BYTES];
    if (!read_all(fd, head, sizeof(head)))
        return false;
    size_t len = head_read(head);
    if (len > max)
        return false;
    buf_reset(frame);
    buf_reserve(frame, len);
    if (!read_all(fd, frame->data, len))
        return false;
    frame->len = len;
    frame->data[len] = 0;
    return true;
}

bool channel_write(int fd, const void *data, size_t len)
{
    AUTO_BUF out = BUF_INIT;
    unsigned char head[HEAD_BYTES];
    head_write(head, len);
    buf_append(&out, head, sizeof(head));
    buf_append(&out, data, len);
    for (size_t at = 0; at < out.len;) {
        ssize_t n = write(fd, out.data + at, out.len - at);
        if (n < 0 && errno != EINTR)
            return false;
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}
