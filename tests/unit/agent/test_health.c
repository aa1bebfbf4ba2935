#include "lib/check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "health.h"
#include "lib/tmpdir.h"

/* --- the judge --- */

/* p pass, f fail, c cannot be carried out, . time passes; each 100 ms after the one before. The
 * verdicts: - none, G good, B bad, U unknown. */
static void test_judge(void **state)
{
    static const struct {
        const char *results, *verdicts;
        int64_t passes, within;
    } cases[] = {
        { "pp", "-G", 2, 1000 },
        { "pfpp", "---G", 2, 1000 },
        { "pcpp", "---G", 2, 1000 },
        { "fff.", "---B", 1, 400 },
        { "fffp", "---G", 1, 400 }, /* the last result counts, even at the deadline */
        { "ccc.", "---U", 1, 400 },
        { "ccc.p", "---UG", 1, 400 },
        { "ccc.f", "---UB", 1, 400 },
        { "ccf.", "---B", 1, 400 },
        { "pffpfff", "GGGGGGB", 1, 400 },
        { "pccccc", "GGGGGG", 1, 400 }, /* what cannot be asked proves nothing */
        { "pfffppp", "GGGBBBB", 1, 400 },
        { "pppppfffff", "----GGGGGB", 5, 1000 },
        { "p", "G", 0, 1000 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct judge j;
        int64_t now = 0;

        judge_init(&j, cases[i].passes, cases[i].within);
        for (size_t k = 0; cases[i].results[k] != '\0'; k++) {
            enum health_result r = cases[i].results[k] == 'p'   ? HEALTH_PASS
                                   : cases[i].results[k] == 'f' ? HEALTH_FAIL
                                   : cases[i].results[k] == 'c' ? HEALTH_CANNOT
                                                                : HEALTH_NONE;
            enum verdict before = j.verdict;
            bool changed = judge_step(&j, r, now += 100);

            assert_int_equal("-GBU"[j.verdict], cases[i].verdicts[k]);
            assert_int_equal(changed, before != j.verdict);
        }
    }
}

/* --- the checks, on a loop --- */

struct watcher {
    struct loop *loop;
    struct http_client *http;
    struct health *health;
    struct timer guard;
    enum verdict verdict, want;
    char reason[HEALTH_REASON_MAX];
};

static void guard_fired(struct timer *t)
{
    (void)t;
    fail_msg("no verdict");
}

static void changed(void *ctx, enum verdict verdict, const char *reason)
{
    struct watcher *w = ctx;

    w->verdict = verdict;
    snprintf(w->reason, sizeof(w->reason), "%s", reason);
    if (verdict == w->want)
        loop_stop(w->loop);
}

static enum verdict judged(struct watcher *w, struct health_options *o, enum verdict want)
{
    o->loop = w->loop;
    o->http = w->http;
    w->verdict = VERDICT_NONE;
    w->want = want;
    health_new(&w->health, o, changed, w);
    assert_int_equal(health_verdict(w->health), VERDICT_NONE);
    timer_start(w->loop, &w->guard, 20000, 0, guard_fired);
    loop_run(w->loop);
    timer_stop(&w->guard);
    assert_int_equal(health_verdict(w->health), want);
    health_free(w->health);
    return w->verdict;
}

static int setup(void **state)
{
    struct watcher *w = mem_alloc(sizeof(*w));

    assert_int_equal(loop_new(&w->loop, NULL), 0);
    w->http = http_client_new(w->loop);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct watcher *w = *state;

    http_client_free(w->http);
    loop_free(w->loop);
    free(w);
    return 0;
}

static void test_commands(void **state)
{
    static const char *const hangs[] = { "/bin/sleep", "1000", NULL };
    static const char *const passes[] = { "/bin/sh", "-c", "test $X = 1 && test -d .", NULL };
    static const char *const fails[] = { "/bin/sh", "-c", "exit 7", NULL };
    static const char *const missing[] = { "/nonexistent/check", NULL };
    static const char *const env[] = { "X=1", NULL };
    struct health_options o = { .env = (char *const *)(uintptr_t)env,
                                .interval_ms = 10,
                                .timeout_ms = 5000,
                                .within_ms = 10000,
                                .passes = 2 };
    struct watcher *w = *state;

    o.dir = tmpdir();
    o.argv = (char *const *)(uintptr_t)passes;
    judged(w, &o, VERDICT_GOOD);
    o.within_ms = 300;
    o.argv = (char *const *)(uintptr_t)fails;
    judged(w, &o, VERDICT_BAD);
    assert_string_equal(w->reason, "/bin/sh: exit status 7");
    o.argv = (char *const *)(uintptr_t)missing;
    judged(w, &o, VERDICT_UNKNOWN);
    assert_non_null(strstr(w->reason, "no such program"));
    o.timeout_ms = 50;
    o.argv = (char *const *)(uintptr_t)hangs;
    judged(w, &o, VERDICT_BAD);
    assert_string_equal(w->reason, "/bin/sleep: no answer in 50 ms");
}

static void test_staying_up(void **state)
{
    struct health_options o = { .interval_ms = 10, .within_ms = 50, .passes = 9 };
    struct watcher *w = *state;

    judged(w, &o, VERDICT_GOOD);
}

/* A server that answers every request with one status line. */
struct server {
    struct watch watch;
    int port;
    const char *answer;
};

static void serve(struct watch *watch, int events)
{
    struct server *s = CONTAINER_OF(watch, struct server, watch);
    int fd = accept(watch->fd, NULL, NULL);
    char request[1024];

    (void)events;
    assert_true(fd >= 0);
    assert_true(read(fd, request, sizeof(request)) > 0);
    assert_true(write(fd, s->answer, strlen(s->answer)) > 0);
    close(fd);
}

static void server_start(struct server *s, struct loop *loop)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    s->port = ntohs(addr.sin_port);
    watch_start(loop, &s->watch, fd, WATCH_READ, serve);
}

static void test_http(void **state)
{
    struct health_options o = {
        .interval_ms = 10, .timeout_ms = 5000, .within_ms = 10000, .passes = 3
    };
    struct watcher *w = *state;
    struct server s = { .answer = "HTTP/1.0 204 Fine\r\n\r\n" };
    char url[64];

    server_start(&s, w->loop);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/health", s.port);
    o.url = url;
    judged(w, &o, VERDICT_GOOD);
    s.answer = "HTTP/1.0 503 Not yet\r\n\r\n";
    o.within_ms = 300;
    judged(w, &o, VERDICT_BAD);
    assert_non_null(strstr(w->reason, "/health: status 503"));
    watch_stop(&s.watch);
    close(s.watch.fd);
    judged(w, &o, VERDICT_BAD);
    assert_null(strstr(w->reason, "status"));
}

/* Freed while a check is under way: nothing of it is left. */
static void test_free_midway(void **state)
{
    static const char *const hangs[] = { "/bin/sleep", "1000", NULL };
    struct watcher *w = *state;
    struct health_options o = { .loop = w->loop,
                                .http = w->http,
                                .argv = (char *const *)(uintptr_t)hangs,
                                .interval_ms = 10,
                                .timeout_ms = 5000,
                                .within_ms = 100,
                                .passes = 1 };

    w->want = VERDICT_UNKNOWN;
    health_new(&w->health, &o, changed, w);
    timer_start(w->loop, &w->guard, 20000, 0, guard_fired);
    loop_run(w->loop); /* the deadline comes while the first check still runs */
    timer_stop(&w->guard);
    health_free(w->health);
    health_free(NULL);
    assert_int_equal(health_verdict(NULL), VERDICT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_staying_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_http, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_midway, setup, teardown),
    };

    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
