#include "health.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "expand.h"

struct health {
    struct health_options o; /* url, argv, env, dir are our copies */
    void (*changed)(void *ctx, enum verdict verdict, const char *reason);
    void *ctx;
    struct judge judge;
    struct timer next, deadline, limit;
    struct http_get get;
    struct proc_watch watch;
    pid_t pid;
    bool getting, running, late;
    bool seen; /* it has passed once */
    int asked; /* checks that have ended */
    char reason[HEALTH_REASON_MAX];
};

void judge_init(struct judge *j, int64_t passes, int64_t deadline_ms)
{
    *j = (struct judge){ .passes = passes < 1 ? 1 : passes, .deadline_ms = deadline_ms };
}

bool judge_step(struct judge *j, enum health_result result, int64_t now_ms)
{
    enum verdict before = j->verdict;
    int64_t fails = j->passes < HEALTH_FAILS_MIN ? HEALTH_FAILS_MIN : j->passes;

    if (j->verdict == VERDICT_BAD)
        return false;
    j->answered = j->answered || result == HEALTH_PASS || result == HEALTH_FAIL;
    j->passed = result == HEALTH_PASS ? j->passed + 1 : result == HEALTH_NONE ? j->passed : 0;
    j->failed = result == HEALTH_FAIL ? j->failed + 1 : result == HEALTH_PASS ? 0 : j->failed;
    if (j->passed >= j->passes)
        j->verdict = VERDICT_GOOD;
    else if (j->verdict == VERDICT_GOOD && j->failed >= fails)
        j->verdict = VERDICT_BAD;
    else if (j->verdict != VERDICT_GOOD && now_ms >= j->deadline_ms)
        j->verdict = j->answered ? VERDICT_BAD : VERDICT_UNKNOWN;
    return j->verdict != before;
}

static void start_check(struct health *h);

static void next_check(struct timer *t)
{
    start_check(CONTAINER_OF(t, struct health, next));
}

/* A service that is still starting is asked sooner, so that it need not wait for a whole interval
 * to be seen. */
static int64_t next_delay(struct health *h, enum health_result r)
{
    int64_t soon = HEALTH_EAGER_MS << (h->asked < 16 ? h->asked : 16);

    h->asked++;
    h->seen = h->seen || r == HEALTH_PASS;
    return !h->seen && soon < h->o.interval_ms ? soon : h->o.interval_ms;
}

/* Last in its callers: changed() may free h. */
static void result(struct health *h, enum health_result r)
{
    timer_start(h->o.loop, &h->next, next_delay(h, r), 0, next_check);
    if (judge_step(&h->judge, r, loop_now_ms(h->o.loop)))
        h->changed(h->ctx, h->judge.verdict, h->reason);
}

static void got(struct http_get *g, int status)
{
    struct health *h = CONTAINER_OF(g, struct health, get);
    bool good = status >= 200 && status < 300;

    h->getting = false;
    if (status < 0)
        snprintf(h->reason, sizeof(h->reason), "%.380s", g->err.text);
    else
        snprintf(h->reason, sizeof(h->reason), "%.300s: status %d", h->o.url, status);
    buf_release(&g->body);
    result(h, good ? HEALTH_PASS : HEALTH_FAIL);
}

static void check_http(struct health *h)
{
    memset(&h->get, 0, sizeof(h->get));
    if (http_get_start(h->o.http, &h->get, h->o.url, h->o.timeout_ms, got) < 0) {
        snprintf(h->reason, sizeof(h->reason), "%.380s", h->get.err.text);
        result(h, HEALTH_CANNOT);
        return;
    }
    h->getting = true;
}

static void command_late(struct timer *t)
{
    struct health *h = CONTAINER_OF(t, struct health, limit);

    h->late = true;
    proc_kill_group(h->pid, SIGKILL);
}

static void command_ended(struct proc_watch *w, int status)
{
    struct health *h = CONTAINER_OF(w, struct health, watch);
    AUTO_BUF text = BUF_INIT;
    bool good = !h->late && WIFEXITED(status) && WEXITSTATUS(status) == 0;

    h->running = false;
    timer_stop(&h->limit);
    proc_kill_group(h->pid, SIGKILL);
    proc_status_text(&text, status);
    if (h->late)
        snprintf(h->reason, sizeof(h->reason), "%.300s: no answer in %lld ms", h->o.argv[0],
                 (long long)h->o.timeout_ms);
    else
        snprintf(h->reason, sizeof(h->reason), "%.300s: %.80s", h->o.argv[0], buf_str(&text));
    result(h, good ? HEALTH_PASS : HEALTH_FAIL);
}

static void check_command(struct health *h)
{
    struct proc_options o = { .argv = h->o.argv,
                              .env = h->o.env,
                              .dir = h->o.dir,
                              .stdin_fd = -1,
                              .stdout_fd = -1,
                              .stderr_fd = -1,
                              .keep_fd = -1 };
    struct err err = ERR_INIT;

    h->late = false;
    if (proc_spawn(&h->pid, &o, &err) < 0) {
        snprintf(h->reason, sizeof(h->reason), "%.380s", err.text);
        result(h, HEALTH_CANNOT);
        return;
    }
    if (proc_watch_start(h->o.loop, &h->watch, h->pid, command_ended, &err) < 0) {
        proc_kill_group(h->pid, SIGKILL);
        (void)waitpid(h->pid, NULL, 0);
        snprintf(h->reason, sizeof(h->reason), "%.380s", err.text);
        result(h, HEALTH_CANNOT);
        return;
    }
    h->running = true;
    timer_start(h->o.loop, &h->limit, h->o.timeout_ms, 0, command_late);
}

static void start_check(struct health *h)
{
    if (h->o.url != NULL)
        check_http(h);
    else if (h->o.argv != NULL)
        check_command(h);
}

/* Without a check, having stayed up until now is the pass. */
static void at_deadline(struct timer *t)
{
    struct health *h = CONTAINER_OF(t, struct health, deadline);
    bool plain = h->o.url == NULL && h->o.argv == NULL;

    if (plain)
        snprintf(h->reason, sizeof(h->reason), "has run for %lld ms", (long long)h->o.within_ms);
    if (judge_step(&h->judge, plain ? HEALTH_PASS : HEALTH_NONE, loop_now_ms(h->o.loop)))
        h->changed(h->ctx, h->judge.verdict, h->reason);
}

static char **copy_list(char *const *list)
{
    char **copy = NULL;

    if (list != NULL)
        (void)!expand_argv(&copy, list, NULL, 0, NULL);
    return copy;
}

void health_new(struct health **ret, const struct health_options *o,
                void (*changed)(void *ctx, enum verdict verdict, const char *reason), void *ctx)
{
    struct health *h = mem_alloc(sizeof(*h));
    bool plain = o->url == NULL && o->argv == NULL;

    h->o = *o;
    h->o.url = o->url == NULL ? NULL : mem_strdup(o->url);
    h->o.dir = o->dir == NULL ? NULL : mem_strdup(o->dir);
    h->o.argv = copy_list(o->argv);
    h->o.env = copy_list(o->env);
    h->changed = changed;
    h->ctx = ctx;
    snprintf(h->reason, sizeof(h->reason), "no check has ended yet");
    judge_init(&h->judge, plain ? 1 : o->passes, loop_now_ms(o->loop) + o->within_ms);
    timer_start(o->loop, &h->deadline, o->within_ms, 0, at_deadline);
    if (!plain)
        timer_start(o->loop, &h->next, 0, 0, next_check);
    *ret = h;
}

static void free_list(char *const *list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free((void *)(uintptr_t)list);
}

void health_free(struct health *h)
{
    if (h == NULL)
        return;
    timer_stop(&h->next);
    timer_stop(&h->deadline);
    timer_stop(&h->limit);
    if (h->getting)
        http_get_cancel(&h->get);
    if (h->running) {
        proc_watch_stop(&h->watch);
        proc_kill_group(h->pid, SIGKILL);
        (void)waitpid(h->pid, NULL, 0);
    }
    free((void *)(uintptr_t)h->o.url);
    free((void *)(uintptr_t)h->o.dir);
    free_list(h->o.argv);
    free_list(h->o.env);
    free(h);
}

enum verdict health_verdict(const struct health *h)
{
    return h == NULL ? VERDICT_NONE : h->judge.verdict;
}
