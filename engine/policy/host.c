/* The parent side of a policy host: it starts the child, asks, and kills it past the deadline. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "policy/bundle.h"
#include "policy/frame.h"
#include "policy/types.h"

/* The deadline counts the child's processor time, so that a busy machine does not turn good
 * policies into holds; the wall clock bounds it all the same. */
enum { START_MS = 10000, CALL_WALL_MS = 2000 };

struct policy_host {
    char *engine_path;
    pid_t pid; /* 0: not running */
    int fd;
};

struct deadline {
    int64_t wall_ms, cpu_ms; /* ends at these clock values; cpu_ms < 0: only the wall clock */
    clockid_t cpu;
};

static int64_t clock_ms(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) < 0)
        return 0;
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct deadline deadline_start(pid_t pid)
{
    struct deadline d = { .wall_ms = clock_ms(CLOCK_MONOTONIC) + CALL_WALL_MS, .cpu_ms = -1 };
    if (clock_getcpuclockid(pid, &d.cpu) == 0)
        d.cpu_ms = clock_ms(d.cpu) + POLICY_CALL_MS;
    return d;
}

/* Milliseconds that may safely pass before the deadline needs another look; 0: it is over. */
static int deadline_left(const struct deadline *d)
{
    int64_t left = d->wall_ms - clock_ms(CLOCK_MONOTONIC);
    if (d->cpu_ms >= 0) {
        int64_t cpu = d->cpu_ms - clock_ms(d->cpu);
        left = cpu < left ? cpu : left;
    }
    return left > 0 ? (int)left : 0;
}

int policy_host_new(struct policy_host **ret, const char *engine_path, struct err *err)
{
    *ret = NULL;
    if (access(engine_path, X_OK) < 0)
        return err_sys(err, errno, "policy host: %s", engine_path);
    struct policy_host *h = mem_alloc(sizeof(*h));
    h->engine_path = mem_strdup(engine_path);
    h->fd = -1;
    *ret = h;
    return 0;
}

/* Ends the child; returns its wait status, or -1. */
static int host_stop(struct policy_host *h, bool force)
{
    int status = -1;
    if (h->pid <= 0)
        return status;
    if (force)
        kill(h->pid, SIGKILL);
    close(h->fd); /* a child that waits for a question ends at this */
    while (waitpid(h->pid, &status, 0) < 0) {
        if (errno != EINTR) {
            status = -1;
            break;
        }
    }
    h->pid = 0;
    h->fd = -1;
    return status;
}

void policy_host_free(struct policy_host *h)
{
    if (h == NULL)
        return;
    host_stop(h, true);
    free(h->engine_path);
    free(h);
}

static int spawn_child(struct policy_host *h, int fd)
{
    char name[] = "engine", verb[] = "policy-host", locale[] = "LC_ALL=C";
    char *argv[] = { name, verb, NULL }, *env[] = { locale, NULL };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, fd, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, fd, STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0); /* so that Ctrl-C in a terminal is the parent's alone */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    int rc = posix_spawn(&h->pid, h->engine_path, &files, &attr, argv, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return rc;
}

/* Sends or receives len bytes before the deadline. 0, or -ERR_TIMEOUT, or -ERR_UNREACHABLE when the
 * child is gone. */
static int transfer(struct policy_host *h, const struct deadline *d, bool out, void *data,
                    size_t len)
{
    for (char *at = data; len > 0;) {
        ssize_t n = out ? send(h->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT)
                        : recv(h->fd, at, len, MSG_DONTWAIT);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return -ERR_UNREACHABLE;
        int left = deadline_left(d);
        if (left == 0)
            return -ERR_TIMEOUT;
        struct pollfd p = { .fd = h->fd, .events = out ? POLLOUT : POLLIN };
        (void)poll(&p, 1, left);
    }
    return 0;
}

static int receive(struct policy_host *h, const struct deadline *d, json_t **ret)
{
    unsigned char head[FRAME_HEAD_BYTES];
    int rc = transfer(h, d, false, head, sizeof(head));
    if (rc < 0)
        return rc;
    size_t len = frame_len(head);
    if (len > FRAME_MAX_BYTES)
        return -ERR_UNREACHABLE;
    AUTO_FREE char *text = mem_alloc(len + 1);
    rc = transfer(h, d, false, text, len);
    if (rc < 0)
        return rc;
    return json_parse(ret, text, len, NULL) < 0 ? -ERR_UNREACHABLE : 0;
}

static int host_start(struct policy_host *h, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, errno, "policy host: socketpair");
    int rc = spawn_child(h, pair[1]);
    close(pair[1]);
    h->fd = pair[0];
    if (rc != 0) {
        close(h->fd);
        h->fd = -1;
        h->pid = 0;
        return err_sys(err, rc, "policy host: start %s", h->engine_path);
    }
    struct deadline d = { .wall_ms = clock_ms(CLOCK_MONOTONIC) + START_MS, .cpu_ms = -1 };
    json_t *ready = NULL;
    rc = receive(h, &d, &ready);
    bool good = rc == 0 && json_is_true(json_object_get(ready, "ready"));
    json_decref(ready);
    if (good)
        return 0;
    host_stop(h, true);
    return err_set(err, ERR_INTERNAL, "policy host: %s does not start", h->engine_path);
}

/* A child that died while nobody asked is started again. */
static int host_ensure(struct policy_host *h, struct err *err)
{
    if (h->pid > 0) {
        struct pollfd p = { .fd = h->fd, .events = POLLIN };
        if (poll(&p, 1, 0) == 0)
            return 0;
        host_stop(h, true); /* it has hung up, or says what nobody asked for */
    }
    return host_start(h, err);
}

static int fail(struct policy_host *h, int rc, const struct bundle *b, const char *question,
                struct err *err)
{
    int status = host_stop(h, true);
    if (rc == -ERR_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, "%s: %s: ran longer than %d ms", bundle_main(b), question,
                       POLICY_CALL_MS);
    if (status >= 0 && WIFSIGNALED(status))
        return err_set(err, ERR_POLICY, "%s: %s: the policy host was killed by signal %d",
                       bundle_main(b), question, WTERMSIG(status));
    return err_set(err, ERR_POLICY, "%s: %s: the policy host ended without an answer",
                   bundle_main(b), question);
}

/* One question; *ret is what the child made of it, unchecked. Gives *ret. */
static int host_ask(struct policy_host *h, const struct bundle *b, const char *question,
                    const json_t *input, json_t **ret, struct err *err)
{
    json_t *copy = input ? json_deep_copy(input) : json_null();
    json_t *request = json_pack("{s:o,s:s,s:o}", "bundle", bundle_to_json(b), "question", question,
                                "input", copy);
    AUTO_FREE char *text = json_text(request);
    json_decref(request);
    size_t len = strlen(text);
    if (len > FRAME_MAX_BYTES - POLICY_INPUT_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "%s: %s: bundle and input are too large", bundle_main(b),
                       question);
    int rc = host_ensure(h, err);
    if (rc < 0)
        return rc;
    unsigned char head[FRAME_HEAD_BYTES];
    frame_head(head, len);
    struct deadline d = deadline_start(h->pid);
    json_t *answer = NULL;
    rc = transfer(h, &d, true, head, sizeof(head));
    if (rc == 0)
        rc = transfer(h, &d, true, text, len);
    if (rc == 0)
        rc = receive(h, &d, &answer);
    if (rc < 0)
        return fail(h, rc, b, question, err);
    const char *why = json_string_value(json_object_get(answer, "error"));
    *ret = json_incref(json_object_get(answer, "ok"));
    if (*ret == NULL)
        rc = err_set(err, ERR_POLICY, "%s", why ? why : "the policy host gave no answer");
    json_decref(answer);
    return rc;
}

int policy_data(struct policy_host *h, const struct bundle *b, json_t **ret, struct err *err)
{
    json_t *raw = NULL;
    *ret = NULL;
    int rc = host_ask(h, b, "data", NULL, &raw, err);
    if (rc == 0)
        rc = types_policy(ret, bundle_main(b), raw, err);
    json_decref(raw);
    return rc;
}

int policy_call(struct policy_host *h, const struct bundle *b, enum policy_question q,
                const json_t *input, json_t **ret, struct err *err)
{
    static const char *const names[] = { NULL, "build", "replicate", "waves", "advance" };
    json_t *raw = NULL;
    *ret = NULL;
    int rc = host_ask(h, b, names[q], input, &raw, err);
    if (rc == 0)
        rc = types_answer(ret, bundle_main(b), q, raw, err);
    json_decref(raw);
    return rc;
}
