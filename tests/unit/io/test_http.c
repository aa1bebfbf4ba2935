#include "io/http.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

/* A server in a thread, one request a connection. What the request said is kept; its path says
 * what to answer:
 *   /ok      200, {"ok":true}          /big    200, 100,000 bytes
 *   /teapot  418                       /redirect 302 to /ok
 *   /hang    nothing, until the peer is gone        /cut  half a header, then the end */
struct server {
    int fd, port;
    pthread_t thread;
    char request[4096];
    _Atomic int hanging;
};

struct fix {
    struct server server;
    struct loop *loop;
    struct http_client *client;
    struct http_get get;
    struct timer timer;
    int calls, status;
    char url[128];
};

static void read_request(struct server *s, int fd)
{
    size_t len = 0, want = 0;
    char *end = NULL;

    memset(s->request, 0, sizeof(s->request));
    while (len < sizeof(s->request) - 1 && (end == NULL || len < want)) {
        ssize_t n = recv(fd, s->request + len, sizeof(s->request) - 1 - len, 0);
        const char *length;

        if (n <= 0)
            return;
        len += (size_t)n;
        end = strstr(s->request, "\r\n\r\n");
        length = strstr(s->request, "Content-Length: ");
        if (end != NULL)
            want = (size_t)(end + 4 - s->request) +
                   (length == NULL ? 0 : strtoul(length + 16, NULL, 10));
    }
}

static void answer(struct server *s, int fd)
{
    AUTO_BUF out = BUF_INIT;
    const char *path = strchr(s->request, ' ');
    char c;

    if (path == NULL)
        return;
    if (strncmp(path, " /hang", 6) == 0) {
        s->hanging++;
        (void)recv(fd, &c, 1, 0);
        return;
    }
    if (strncmp(path, " /cut", 5) == 0)
        buf_str_append(&out, "HTTP/1.1 2");
    else if (strncmp(path, " /teapot", 8) == 0)
        buf_str_append(&out, "HTTP/1.1 418 I\r\nContent-Length: 3\r\n\r\nno\n");
    else if (strncmp(path, " /redirect", 10) == 0)
        buf_str_append(&out, "HTTP/1.1 302 F\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n");
    else if (strncmp(path, " /big", 5) == 0)
        buf_printf(&out, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n%0100000d", 7);
    else
        buf_str_append(&out, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}");
    for (size_t at = 0; at < out.len;) {
        ssize_t n = send(fd, out.data + at, out.len - at, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        at += (size_t)n;
    }
}

static void *serve(void *arg)
{
    struct server *s = arg;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        read_request(s, fd);
        answer(s, fd);
        close(fd);
    }
    return NULL;
}

static void server_start(struct server *s)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(at);

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static int setup(void **state)
{
    struct fix *f = mem_alloc(sizeof(*f));

    server_start(&f->server);
    assert_int_equal(loop_new(&f->loop, NULL), 0);
    f->client = http_client_new(f->loop);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;

    http_client_free(f->client);
    buf_release(&f->get.body);
    timer_stop(&f->timer);
    loop_free(f->loop);
    shutdown(f->server.fd, SHUT_RDWR);
    pthread_join(f->server.thread, NULL);
    close(f->server.fd);
    free(f);
    return 0;
}

static const char *url_of(struct fix *f, const char *path)
{
    snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%d%s", f->server.port, path);
    return f->url;
}

static void call_sends_method_token_and_body(void **state)
{
    struct fix *f = *state;
    struct http_request r = { "PUT", url_of(f, "/ok"), "s3cret", "{\"a\":1}", 10000, 1000 };
    AUTO_BUF out = BUF_INIT;
    int status = 0;

    buf_str_append(&out, "before ");
    assert_int_equal(http_call(&r, &status, &out, NULL), 0);
    assert_int_equal(status, 200);
    assert_string_equal(buf_str(&out), "before {\"ok\":true}");
    assert_int_equal(strncmp(f->server.request, "PUT /ok HTTP/1.1\r\n", 18), 0);
    assert_non_null(strstr(f->server.request, "\r\nAuthorization: Bearer s3cret\r\n"));
    assert_non_null(strstr(f->server.request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(f->server.request, "\r\n\r\n{\"a\":1}"));
}

static void call_ignores_a_proxy_for_this_host(void **state)
{
    struct fix *f = *state;
    struct http_request r = { "GET", url_of(f, "/ok"), NULL, NULL, 10000, 1000 };
    AUTO_BUF out = BUF_INIT;
    int status = 0;

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    assert_int_equal(http_call(&r, &status, &out, NULL), 0);
    unsetenv("http_proxy");
    assert_int_equal(status, 200);
}

static void call_results(void **state)
{
    static const struct {
        const char *method, *path, *token;
        int64_t timeout_ms;
        size_t max;
        int rc, status;
    } cases[] = {
        { "GET", "/ok", NULL, 10000, 11, 0, 200 },
        { "POST", "/ok", NULL, 10000, 11, 0, 200 },
        { "DELETE", "/ok", NULL, 10000, 11, 0, 200 },
        { "GET", "/ok", NULL, 10000, 10, -ERR_LIMIT, 0 },
        { "GET", "/big", NULL, 10000, 100000, 0, 200 },
        { "GET", "/big", NULL, 10000, 99999, -ERR_LIMIT, 0 },
        { "GET", "/teapot", NULL, 10000, 1000, 0, 418 },
        { "GET", "/redirect", NULL, 10000, 1000, 0, 302 },
        { "GET", "/hang", NULL, 50, 1000, -ERR_TIMEOUT, 0 },
        { "GET", "/cut", NULL, 10000, 1000, -ERR_UNREACHABLE, 0 },
        { "GET", "/ok", "a\r\nX: y", 10000, 1000, -ERR_INVALID, 0 },
        { "GET /x", "/ok", NULL, 10000, 1000, -ERR_INVALID, 0 },
    };
    struct fix *f = *state;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct http_request r = { cases[i].method,     url_of(f, cases[i].path),
                                  cases[i].token,      NULL,
                                  cases[i].timeout_ms, cases[i].max };
        AUTO_BUF out = BUF_INIT;
        struct err err = ERR_INIT;
        int status = 0;

        assert_int_equal(http_call(&r, &status, &out, &err), cases[i].rc);
        assert_int_equal(status, cases[i].status);
        assert_int_equal(-(int)err.code, cases[i].rc);
        if (cases[i].rc < 0)
            assert_int_equal(out.len, 0);
    }
}

static void call_refuses_other_urls(void **state)
{
    static const struct {
        const char *url;
        int rc;
    } cases[] = {
        { "file:///etc/passwd", -ERR_INVALID },
        { "ftp://127.0.0.1/", -ERR_INVALID },
        { "http://", -ERR_INVALID },
        { "http://127.0.0.1:1/", -ERR_UNREACHABLE },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct http_request r = { "GET", cases[i].url, NULL, NULL, 10000, 1000 };
        AUTO_BUF out = BUF_INIT;
        int status = 0;

        assert_int_equal(http_call(&r, &status, &out, NULL), cases[i].rc);
    }
}

static void on_done(struct http_get *g, int status)
{
    struct fix *f = CONTAINER_OF(g, struct fix, get);

    f->calls++;
    f->status = status;
    loop_stop(f->loop);
}

static void get_results(void **state)
{
    static const struct {
        const char *path;
        int64_t timeout_ms;
        int status;
        size_t body;
    } cases[] = {
        { "/ok", 10000, 200, 11 },        { "/teapot", 10000, 418, 3 },
        { "/redirect", 10000, 302, 0 },   { "/big", 10000, 200, 65536 },
        { "/hang", 50, -ERR_TIMEOUT, 0 }, { "/cut", 10000, -ERR_UNREACHABLE, 0 },
    };
    struct fix *f = *state;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(http_get_start(f->client, &f->get, url_of(f, cases[i].path),
                                        cases[i].timeout_ms, on_done),
                         0);
        assert_int_equal(f->calls, (int)i); /* never from inside start */
        loop_run(f->loop);
        assert_int_equal(f->calls, (int)i + 1);
        assert_int_equal(f->status, cases[i].status);
        assert_int_equal(f->get.body.len, cases[i].body);
        if (f->status < 0)
            assert_int_equal(-(int)f->get.err.code, f->status);
        buf_release(&f->get.body);
    }
}

static void get_nobody_listens(void **state)
{
    struct fix *f = *state;

    assert_int_equal(http_get_start(f->client, &f->get, "http://127.0.0.1:1/", 10000, on_done), 0);
    loop_run(f->loop);
    assert_int_equal(f->status, -ERR_UNREACHABLE);
}

static void get_refuses_other_urls(void **state)
{
    struct fix *f = *state;

    assert_int_equal(http_get_start(f->client, &f->get, "file:///etc/passwd", 10000, on_done),
                     -ERR_INVALID);
    assert_int_equal(http_get_start(f->client, &f->get, "nonsense::", 10000, on_done),
                     -ERR_INVALID);
    assert_int_equal(f->get.err.code, ERR_INVALID);
    http_get_cancel(&f->get); /* harmless */
}

static void on_check_hanging(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, timer);

    if (f->server.hanging > 0)
        loop_stop(f->loop);
}

static void run_until_it_hangs(struct fix *f)
{
    assert_int_equal(http_get_start(f->client, &f->get, url_of(f, "/hang"), 0, on_done), 0);
    timer_start(f->loop, &f->timer, 1, 1, on_check_hanging);
    loop_run(f->loop);
}

static void cancelled_get_is_silent(void **state)
{
    struct fix *f = *state;

    run_until_it_hangs(f);
    http_get_cancel(&f->get);
    http_get_cancel(&f->get);
    loop_run(f->loop); /* the timer stops it at once */
    assert_int_equal(f->calls, 0);
}

static void freed_client_is_silent(void **state)
{
    struct fix *f = *state;

    run_until_it_hangs(f);
    http_client_free(f->client);
    f->client = NULL;
    loop_run(f->loop);
    assert_int_equal(f->calls, 0);
}

static void on_done_free(struct http_get *g, int status)
{
    struct fix *f = CONTAINER_OF(g, struct fix, get);

    http_client_free(f->client);
    f->client = NULL;
    on_done(g, status);
}

static void client_may_be_freed_from_done(void **state)
{
    struct fix *f = *state;

    assert_int_equal(http_get_start(f->client, &f->get, url_of(f, "/ok"), 10000, on_done_free), 0);
    loop_run(f->loop);
    assert_int_equal(f->status, 200);
}

static void on_done_again(struct http_get *g, int status)
{
    struct fix *f = CONTAINER_OF(g, struct fix, get);

    assert_int_equal(status, 200);
    buf_release(&g->body);
    if (++f->calls < 5)
        assert_int_equal(http_get_start(f->client, g, f->url, 10000, on_done_again), 0);
    else
        loop_stop(f->loop);
}

static void get_may_be_started_again_from_done(void **state)
{
    struct fix *f = *state;

    assert_int_equal(http_get_start(f->client, &f->get, url_of(f, "/ok"), 10000, on_done_again), 0);
    loop_run(f->loop);
    assert_int_equal(f->calls, 5);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(call_sends_method_token_and_body),
        T(call_ignores_a_proxy_for_this_host),
        T(call_results),
        T(call_refuses_other_urls),
        T(get_results),
        T(get_nobody_listens),
        T(get_refuses_other_urls),
        T(cancelled_get_is_silent),
        T(freed_client_is_silent),
        T(client_may_be_freed_from_done),
        T(get_may_be_started_again_from_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
