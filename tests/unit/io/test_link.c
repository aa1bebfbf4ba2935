#include "io/link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link_private.h"
#include "io/pki.h"

/* One loop carries both ends. Each end counts what it sees; a test sets what an end does. */
struct end {
    struct fix *f;
    int opened, closed, drained, messages;
    struct err why;
    struct link *link; /* the last that opened or was started */
    void (*on_open)(struct end *e, struct link *l);
    void (*on_message)(struct end *e, struct link *l, enum msg_type type, const void *msg);
    void (*on_drained)(struct end *e, struct link *l);
    uint64_t next; /* expected or next number */
    bool in_call;
};

struct fix {
    char dir[64];
    struct loop *loop;
    struct link_identity *region, *agent, *stranger, *foreign;
    struct link_listener *listener;
    struct end server, client;
    struct timer guard, beat;
    int stop_after_closed; /* loop_stop() when so many ends are closed */
    struct link *stuck;
    int raw_fd; /* of tests that speak badly */
};

static void maybe_stop(struct fix *f)
{
    if (f->server.closed + f->client.closed == f->stop_after_closed)
        loop_stop(f->loop);
}

static void opened(void *ctx, struct link *l)
{
    struct end *e = ctx;

    e->opened++;
    e->link = l;
    if (e->on_open != NULL)
        e->on_open(e, l);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct end *e = ctx;

    e->messages++;
    if (e->on_message != NULL)
        e->on_message(e, l, type, msg);
}

static void drained(void *ctx, struct link *l)
{
    struct end *e = ctx;

    assert_false(e->in_call);
    e->drained++;
    if (e->on_drained != NULL)
        e->on_drained(e, l);
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct end *e = ctx;

    (void)l;
    assert_false(e->in_call);
    e->closed++;
    e->why = *why;
    maybe_stop(e->f);
}

static const struct link_handler handler = { opened, message, drained, closed };

static void on_guard(struct timer *t)
{
    (void)t;
    fail_msg("the test hangs");
}

static struct link_identity *identity(struct fix *f, const char *ca, const char *cluster,
                                      enum link_role role, const char *id)
{
    AUTO_FREE char *ca_dir = mem_printf("%s/%s", f->dir, ca);
    AUTO_FREE char *out = mem_printf("%s/%s-%s", f->dir, ca, id);
    struct link_identity *i = NULL;

    assert_int_equal(pki_make_ca(ca_dir, cluster, NULL), 0);
    assert_int_equal(pki_issue(ca_dir, out, cluster, role, id, NULL), 0);
    assert_int_equal(link_identity_load(&i, out, "eu", NULL), 0);
    return i;
}

static int group_setup(void **state)
{
    struct fix *f = mem_alloc(sizeof(*f));

    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    snprintf(f->dir, sizeof(f->dir), "/tmp/test_link.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->region = identity(f, "ca", "c", ROLE_REGION, "eu");
    f->agent = identity(f, "ca", "c", ROLE_AGENT, "m-01");
    f->stranger = identity(f, "other-ca", "c", ROLE_AGENT, "m-01");
    f->foreign = identity(f, "foreign-ca", "d", ROLE_AGENT, "m-01");
    *state = f;
    return 0;
}

static int group_teardown(void **state)
{
    struct fix *f = *state;

    link_identity_free(f->region);
    link_identity_free(f->agent);
    link_identity_free(f->stranger);
    link_identity_free(f->foreign);
    assert_int_equal(dir_remove(f->dir, NULL), 0);
    free(f);
    return 0;
}

static void listen_for(struct fix *f, unsigned roles, size_t max_links)
{
    assert_int_equal(link_listen(&f->listener, f->loop, f->region, "127.0.0.1:0", roles, max_links,
                                 &handler, &f->server, NULL),
                     0);
}

static int setup(void **state)
{
    struct fix *f = *state;

    memset(&f->server, 0, sizeof(f->server));
    memset(&f->client, 0, sizeof(f->client));
    f->server.f = f->client.f = f;
    f->stop_after_closed = 2;
    f->raw_fd = -1;
    link_identity_set_times(f->region, LINK_OPEN_MS, LINK_PING_MS, LINK_SILENT_MS);
    link_identity_set_times(f->agent, LINK_OPEN_MS, LINK_PING_MS, LINK_SILENT_MS);
    assert_int_equal(loop_new(&f->loop, NULL), 0);
    timer_start(f->loop, &f->guard, 30000, 0, on_guard);
    listen_for(f, 1U << ROLE_AGENT, 1000);
    return 0;
}

static void stop(void *loop)
{
    loop_stop(loop);
}

static int teardown(void **state)
{
    struct fix *f = *state;

    link_listener_close(f->listener);
    timer_stop(&f->guard);
    /* What the listener ended is freed by posts: let them run. */
    loop_post(f->loop, stop, f->loop);
    loop_run(f->loop);
    if (f->raw_fd >= 0)
        close(f->raw_fd);
    loop_free(f->loop);
    return 0;
}

/* One end as the agent `self`, towards the listener. */
static void connect_as(struct fix *f, struct link_identity *self, enum link_role role,
                       const char *id)
{
    f->client.in_call = true;
    assert_int_equal(link_connect(&f->client.link, f->loop, self, "127.0.0.1",
                                  link_listener_port(f->listener), role, id, &handler, &f->client,
                                  NULL),
                     0);
    f->client.in_call = false;
}

static void send_number(struct end *e, struct link *l, uint64_t n)
{
    struct msg_number *numbers = mem_calloc(1, sizeof(*numbers));
    struct msg_quantile q = { .ask = n, .matching = 7, .thresholds = { numbers, 1 } };

    numbers->value = n;
    e->in_call = true;
    assert_int_equal(link_send(l, MSG_QUANTILE, &q, NULL), 0);
    e->in_call = false;
    free(numbers);
}

static void close_on_open(struct end *e, struct link *l)
{
    e->in_call = true;
    link_close(l, ERR_CANCELLED, "enough");
    link_close(l, ERR_INTERNAL, "twice is harmless");
    e->in_call = false;
}

static void opens_and_tells_who(struct end *e, struct link *l)
{
    assert_int_equal(link_peer_role(l), ROLE_REGION);
    assert_string_equal(link_peer_id(l), "eu");
    assert_string_equal(link_peer_region(l), "eu");
    assert_string_equal(link_peer_host(l), "127.0.0.1");
    link_set_user(l, e);
    assert_ptr_equal(link_user(l), e);
    close_on_open(e, l);
    assert_int_equal(link_send(l, MSG_PING, "", NULL), -ERR_CANCELLED);
}

static void open_and_close(void **state)
{
    struct fix *f = *state;

    f->client.on_open = opens_and_tells_who;
    connect_as(f, f->agent, ROLE_REGION, "eu");
    assert_int_equal(link_send(f->client.link, MSG_PING, "", NULL), -ERR_CANCELLED);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, 1);
    assert_int_equal(f->server.opened, 1);
    assert_int_equal(f->client.closed, 1);
    assert_int_equal(f->server.closed, 1);
    assert_int_equal(f->client.why.code, ERR_CANCELLED);
    assert_string_equal(f->client.why.text, "enough");
    assert_int_equal(f->server.why.code, ERR_CANCELLED);
    assert_string_equal(f->server.why.text, "peer: enough");
    assert_int_equal(link_listener_refused(f->listener), 0);
}

enum { ECHOES = 20000 };

static void send_all(struct end *e, struct link *l)
{
    for (uint64_t n = 0; n < ECHOES; n++)
        send_number(e, l, n);
}

static void check_and_echo(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    const struct msg_quantile *q = msg;

    assert_int_equal(type, MSG_QUANTILE);
    assert_int_equal(q->ask, e->next++);
    assert_int_equal(((const struct msg_number *)q->thresholds.items)->value, q->ask);
    if (e == &e->f->server)
        send_number(e, l, q->ask);
    else if (e->next == ECHOES)
        link_close(l, ERR_NONE, "");
}

static void many_messages_are_echoed_in_order(void **state)
{
    struct fix *f = *state;

    f->client.on_open = send_all;
    f->client.on_message = f->server.on_message = check_and_echo;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.messages, ECHOES);
    assert_int_equal(f->server.messages, ECHOES);
    assert_int_equal(f->client.why.code, ERR_NONE);
}

enum { LEAVES = 64 };

static void send_leaves(struct end *e, struct link *l)
{
    struct msg_leaf leaf = { .bytes = { mem_alloc(LEAF_BYTES), LEAF_BYTES } };
    int rc = 0;

    memset(leaf.bytes.data, 'x', LEAF_BYTES);
    e->in_call = true;
    while (e->next < LEAVES && rc == 0) {
        leaf.index = (uint32_t)e->next;
        leaf.bytes.data[0] = (unsigned char)e->next;
        rc = link_send(l, MSG_LEAF, &leaf, NULL);
        if (rc == 0)
            e->next++;
    }
    e->in_call = false;
    free(leaf.bytes.data);
    assert_true(rc == 0 || rc == -ERR_AGAIN);
    assert_true(link_out_bytes(l) <= LINK_OUT_MAX);
    if (rc == -ERR_AGAIN)
        assert_true(link_out_bytes(l) > LINK_OUT_MAX - FRAME_MAX - 5);
}

static void take_leaf(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    const struct msg_leaf *leaf = msg;

    assert_int_equal(type, MSG_LEAF);
    assert_int_equal(leaf->index, e->next);
    assert_int_equal(leaf->bytes.len, LEAF_BYTES);
    assert_int_equal(leaf->bytes.data[0], (unsigned char)e->next);
    assert_int_equal(leaf->bytes.data[LEAF_BYTES - 1], 'x');
    if (++e->next == LEAVES) {
        assert_true(link_received_bytes(l) > (uint64_t)LEAVES * LEAF_BYTES);
        link_close(l, ERR_NONE, "");
    }
}

/* 16 MiB against a queue of 4: the sender is refused, told when there is room, and goes on. */
static void backpressure_then_drained(void **state)
{
    struct fix *f = *state;

    f->client.on_open = send_leaves;
    f->client.on_drained = send_leaves;
    f->server.on_message = take_leaf;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.messages, LEAVES);
    assert_true(f->client.drained >= 3);
    assert_int_equal(f->client.why.code, ERR_NONE);
}

static void wrong_certificate_authority(void **state)
{
    struct fix *f = *state;

    f->stop_after_closed = 1;
    connect_as(f, f->stranger, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, 0);
    assert_int_equal(f->client.why.code, ERR_DENIED);
    assert_int_equal(f->server.opened, 0);
    assert_int_equal(f->server.closed, 0); /* it never opened */
    while (link_listener_refused(f->listener) == 0) {
        loop_post(f->loop, stop, f->loop);
        loop_run(f->loop);
    }
    assert_int_equal(link_listener_refused(f->listener), 1);
}

struct refusal {
    enum link_role expect;
    const char *id;
    unsigned roles;
    const char *text;
};

static void refuse_case(struct fix *f, const struct refusal *r)
{
    link_listener_close(f->listener);
    listen_for(f, r->roles, 1000);
    f->stop_after_closed = f->client.closed + 1;
    connect_as(f, f->agent, r->expect, r->id);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, 0);
    assert_int_equal(f->client.why.code, ERR_DENIED);
    assert_non_null(strstr(f->client.why.text, r->text));
    assert_int_equal(f->server.opened, 0);
    assert_int_equal(link_listener_refused(f->listener), 1);
}

static void wrong_role_or_id(void **state)
{
    static const struct refusal cases[] = {
        { ROLE_CONTROL, NULL, 1U << ROLE_AGENT, "eu is a region, not a control" },
        { ROLE_REGION, "us", 1U << ROLE_AGENT, "it is eu, not us" },
        { ROLE_REGION, NULL, 1U << ROLE_REGION, "peer: no agent may connect here" },
        { ROLE_REGION, NULL, 0, "peer: no agent may connect here" },
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        refuse_case(*state, &cases[i]);
}

/* A client whose code is wrong: its HELLO says what its certificate does not. The identity's own
 * words are changed behind its back. */
static void lying_hello(void **state)
{
    struct fix *f = *state;
    struct tls_name honest = f->agent->name;

    for (int i = 0; i < 3; i++) {
        f->agent->name = honest;
        if (i == 0)
            snprintf(f->agent->name.id, sizeof(f->agent->name.id), "m-02");
        else if (i == 1)
            f->agent->name.role = ROLE_REGION;
        else
            f->region->name.cluster[0] = 'd';
        f->stop_after_closed = f->client.closed + 1;
        connect_as(f, f->agent, ROLE_REGION, NULL);
        loop_run(f->loop);
        assert_int_equal(f->client.opened, 0);
        assert_int_equal(f->server.opened, 0);
        assert_int_equal(f->client.why.code, ERR_DENIED);
    }
    f->agent->name = honest;
    f->region->name.cluster[0] = 'c';
    assert_non_null(strstr(f->client.why.text, "cluster c is not d"));
}

static void cluster_mismatch(void **state)
{
    struct fix *f = *state;

    f->stop_after_closed = 1;
    connect_as(f, f->foreign, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, 0);
    assert_int_equal(f->client.why.code, ERR_DENIED);
}

/* Bytes that are no frame, put straight into the queue of an open link. */
static const char *bad_bytes;
static size_t bad_len;

static void send_bad(struct end *e, struct link *l)
{
    (void)e;
    buf_append(&l->out, bad_bytes, bad_len);
    link_update_watch(l);
}

static void malformed_frames_close_the_link(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *text;
    } cases[] = {
        { "\0\0\0\0", 4, "frame of 0 bytes" },
        { "\1\0\10\0", 4, "frame of 524289 bytes" }, /* FRAME_MAX + 1 */
        { "\xff\xff\xff\xff", 4, "frame of 4294967295 bytes" },
        { "\1\0\0\0\x7f", 5, "unknown message type" },
        { "\2\0\0\0\2x", 6, "decode ping" },
        { "\3\0\0\0\x21xx", 7, "decode replica" },
        { "\x15\0\0\0\1\1\0\1\0\0\0c\3\4\0\0\0m-01\0\0\0\0", 25, "hello after HELLO" },
    };
    struct fix *f = *state;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bad_bytes = cases[i].bytes;
        bad_len = cases[i].len;
        f->stop_after_closed = f->client.closed + f->server.closed + 2;
        f->client.on_open = send_bad;
        connect_as(f, f->agent, ROLE_REGION, NULL);
        loop_run(f->loop);
        assert_int_equal(f->server.why.code, ERR_INVALID);
        assert_int_equal(f->client.why.code, ERR_INVALID); /* BYE told it */
        if (strstr(f->server.why.text, cases[i].text) == NULL)
            fail_msg("case %zu: %s", i, f->server.why.text);
    }
    assert_int_equal(f->server.messages, 0);
}

static int raw_connect(struct fix *f)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)link_listener_port(f->listener)),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void on_poll_refused(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, guard);

    if (link_listener_refused(f->listener) > 0)
        loop_stop(f->loop);
}

/* Runs until the listener has refused somebody. */
static void run_until_refused(struct fix *f)
{
    timer_start(f->loop, &f->guard, 1, 1, on_poll_refused);
    loop_run(f->loop);
    timer_start(f->loop, &f->guard, 30000, 0, on_guard);
}

static void half_open_handshake_times_out(void **state)
{
    struct fix *f = *state;
    char c;

    link_identity_set_times(f->region, 50, LINK_PING_MS, LINK_SILENT_MS);
    f->raw_fd = raw_connect(f);
    run_until_refused(f);
    assert_int_equal(link_listener_refused(f->listener), 1);
    assert_int_equal(recv(f->raw_fd, &c, 1, 0), 0);
}

static void garbage_instead_of_tls_is_refused(void **state)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct fix *f = *state;

    f->raw_fd = raw_connect(f);
    assert_int_equal(send(f->raw_fd, http, sizeof(http), 0), sizeof(http));
    run_until_refused(f);
    assert_int_equal(link_listener_refused(f->listener), 1);
}

/* The connecting side against a server that accepts and says nothing. */
static void connecting_side_times_out(void **state)
{
    struct fix *f = *state;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(at);

    f->raw_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->raw_fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(f->raw_fd, 1), 0);
    assert_int_equal(getsockname(f->raw_fd, (struct sockaddr *)&at, &len), 0);
    link_identity_set_times(f->agent, 50, LINK_PING_MS, LINK_SILENT_MS);
    f->stop_after_closed = 1;
    assert_int_equal(link_connect(&f->client.link, f->loop, f->agent, "127.0.0.1",
                                  ntohs(at.sin_port), ROLE_REGION, NULL, &handler, &f->client,
                                  NULL),
                     0);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_TIMEOUT);
    assert_non_null(strstr(f->client.why.text, "TLS is not done"));
    assert_int_equal(f->client.opened, 0);
}

static void nobody_listens(void **state)
{
    struct fix *f = *state;
    int port = link_listener_port(f->listener);

    link_listener_close(f->listener);
    f->listener = NULL;
    f->stop_after_closed = 1;
    f->client.in_call = true;
    assert_int_equal(link_connect(&f->client.link, f->loop, f->agent, "127.0.0.1", port,
                                  ROLE_REGION, NULL, &handler, &f->client, NULL),
                     0);
    f->client.in_call = false;
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_UNREACHABLE);
    assert_non_null(strstr(f->client.why.text, "Connection refused"));
}

static void names_are_resolved(void **state)
{
    struct fix *f = *state;

    f->client.on_open = close_on_open;
    assert_int_equal(link_connect(&f->client.link, f->loop, f->agent, "localhost",
                                  link_listener_port(f->listener), ROLE_REGION, NULL, &handler,
                                  &f->client, NULL),
                     0);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, 1);
}

static void closed_while_resolving(void **state)
{
    struct fix *f = *state;

    f->stop_after_closed = 1;
    assert_int_equal(link_connect(&f->client.link, f->loop, f->agent, "localhost", 1, ROLE_REGION,
                                  NULL, &handler, &f->client, NULL),
                     0);
    f->client.in_call = true;
    link_close(f->client.link, ERR_CANCELLED, "changed my mind");
    f->client.in_call = false;
    loop_run(f->loop);
    assert_int_equal(f->client.closed, 1);
    assert_int_equal(f->client.why.code, ERR_CANCELLED);
}

static void wrong_addresses(void **state)
{
    static const char *const bad[] = { "",      ":",           "127.0.0.1",        "127.0.0.1:",
                                       ":7000", "localhost:1", "127.0.0.1:70000x", "[::1:5" };
    struct fix *f = *state;
    struct link_listener *s = NULL;
    struct err err = ERR_INIT;

    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(
            link_listen(&s, f->loop, f->region, bad[i], 1, 1, &handler, &f->server, &err),
            -ERR_INVALID);
    assert_int_equal(link_connect(&f->client.link, f->loop, f->agent, "", 1, ROLE_REGION, NULL,
                                  &handler, &f->client, &err),
                     -ERR_INVALID);
    assert_int_equal(link_connect(&f->client.link, f->loop, f->agent, "127.0.0.1", 0, ROLE_REGION,
                                  NULL, &handler, &f->client, &err),
                     -ERR_INVALID);
}

static void address_in_use(void **state)
{
    struct fix *f = *state;
    struct link_listener *s = NULL;
    struct err err = ERR_INIT;
    AUTO_FREE char *addr = mem_printf("127.0.0.1:%d", link_listener_port(f->listener));

    assert_int_equal(link_listen(&s, f->loop, f->region, addr, 1, 1, &handler, &f->server, &err),
                     -ERR_IO);
    assert_non_null(strstr(err.text, "in use"));
}

static void close_in_message(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    (void)type;
    (void)msg;
    e->in_call = true;
    link_close(l, ERR_FENCED, "go away");
    e->in_call = false;
}

/* Of many messages in one read, the first makes the server close: no other is delivered. */
static void closing_in_a_callback_ends_delivery(void **state)
{
    struct fix *f = *state;

    f->client.on_open = send_all;
    f->server.on_message = close_in_message;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.messages, 1);
    assert_int_equal(f->client.why.code, ERR_FENCED);
    assert_string_equal(f->client.why.text, "peer: go away");
    assert_int_equal(f->server.why.code, ERR_FENCED);
}

/* As a process that is stopped: posted, because link looks after its watch when a callback ends. */
static void halt(void *arg)
{
    struct link *l = arg;

    watch_stop(&l->watch);
    timer_stop(&l->timer);
}

static void halt_on_open(struct end *e, struct link *l)
{
    loop_post(e->f->loop, halt, l);
}

/* The peer is there, but its process does not run: pings stay unanswered. */
static void silence_is_noticed(void **state)
{
    struct fix *f = *state;

    link_identity_set_times(f->region, LINK_OPEN_MS, 10, 50);
    f->client.on_open = halt_on_open;
    f->stop_after_closed = 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.closed, 1);
    assert_int_equal(f->server.why.code, ERR_TIMEOUT);
    assert_non_null(strstr(f->server.why.text, "silent"));
    f->stop_after_closed = 2;
    link_close(f->client.link, ERR_CANCELLED, "");
    loop_run(f->loop);
}

static void on_beat(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, beat);

    (void)SSL_write(f->client.link->ssl, "\1\0\0\0\3", 5); /* PONG */
}

static void halt_and_beat(struct end *e, struct link *l)
{
    loop_post(e->f->loop, halt, l);
    timer_start(e->f->loop, &e->f->beat, 5, 5, on_beat);
}

static void flood(struct end *e, struct link *l)
{
    struct msg_leaf leaf = { .bytes = { mem_alloc(LEAF_BYTES), LEAF_BYTES } };

    (void)e;
    while (link_send(l, MSG_LEAF, &leaf, NULL) == 0)
        ;
    free(leaf.bytes.data);
}

/* The peer sends, and reads nothing: what waits for it does not wait for ever. */
static void stuck_output_is_noticed(void **state)
{
    struct fix *f = *state;

    link_identity_set_times(f->region, LINK_OPEN_MS, 10, 100);
    f->client.on_open = halt_and_beat;
    f->server.on_open = flood;
    f->server.on_drained = flood;
    f->stop_after_closed = 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    timer_stop(&f->beat);
    assert_int_equal(f->server.why.code, ERR_TIMEOUT);
    assert_non_null(strstr(f->server.why.text, "takes nothing"));
    f->stop_after_closed = 2;
    link_close(f->client.link, ERR_CANCELLED, "");
    loop_run(f->loop);
}

static void on_server_open(struct end *e, struct link *l)
{
    if (e->opened == 1)
        flood(e, l); /* the first client never reads */
}

static void on_client_open(struct end *e, struct link *l)
{
    if (e->opened == 1) {
        e->f->stuck = l;
        loop_post(e->f->loop, halt, l);
        connect_as(e->f, e->f->agent, ROLE_REGION, NULL);
    } else {
        send_all(e, l);
    }
}

/* A leaf may reach the first client before it halts. */
static void check_numbers(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    if (type != MSG_LEAF)
        check_and_echo(e, l, type, msg);
}

/* While megabytes wait for one client that does not read, another is served as if alone. */
static void slow_reader_holds_nobody_up(void **state)
{
    struct fix *f = *state;

    f->client.on_open = on_client_open;
    f->server.on_open = on_server_open;
    f->client.on_message = f->server.on_message = check_numbers;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop); /* until both ends of the second are closed */
    assert_int_equal(f->client.next, ECHOES);
    assert_true(link_received_bytes(f->stuck) < LINK_OUT_MAX);
    assert_int_equal(f->client.why.code, ERR_NONE);
    f->stop_after_closed = 4;
    link_close(f->stuck, ERR_CANCELLED, "");
    loop_run(f->loop);
}

static void spoil_the_stream(struct end *e, struct link *l)
{
    (void)e;
    assert_int_equal(send(l->fd, "not TLS at all", 14, MSG_NOSIGNAL), 14);
}

static void spoilt_stream_is_noticed(void **state)
{
    struct fix *f = *state;

    f->client.on_open = spoil_the_stream;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.messages, 0);
    assert_int_equal(f->server.why.code, ERR_CORRUPT);
    assert_int_equal(f->client.closed, 1);
}

static void reset_the_connection(struct end *e, struct link *l)
{
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };

    (void)e;
    assert_int_equal(setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    link_end(l); /* as a process that is killed: no BYE */
}

static void killed_peer_is_unreachable(void **state)
{
    struct fix *f = *state;

    f->client.on_open = reset_the_connection;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.why.code, ERR_UNREACHABLE);
}

static void on_quiet_time_over(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, guard);

    link_close(f->client.link, ERR_NONE, "");
}

/* Pings keep an idle link open for many times the silence limit. */
static void pings_keep_an_idle_link(void **state)
{
    struct fix *f = *state;

    link_identity_set_times(f->region, LINK_OPEN_MS, 10, 60);
    link_identity_set_times(f->agent, LINK_OPEN_MS, 10, 60);
    timer_start(f->loop, &f->guard, 500, 0, on_quiet_time_over);
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_NONE);
    assert_int_equal(f->client.messages, 0);
}

enum { CROWD = 200 };

static void count_crowd(struct end *e, struct link *l)
{
    send_number(e, l, 1);
}

static void close_after_one(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    (void)e;
    (void)type;
    (void)msg;
    link_close(l, ERR_NONE, "");
}

static void two_hundred_links(void **state)
{
    struct fix *f = *state;

    f->client.on_open = count_crowd;
    f->server.on_message = close_after_one;
    f->stop_after_closed = 2 * CROWD;
    for (int i = 0; i < CROWD; i++)
        connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, CROWD);
    assert_int_equal(f->server.opened, CROWD);
    assert_int_equal(f->server.messages, CROWD);
    assert_int_equal(f->client.closed, CROWD);
}

static void more_links_than_allowed(void **state)
{
    struct fix *f = *state;

    link_listener_close(f->listener);
    listen_for(f, 1U << ROLE_AGENT, 3);
    f->server.on_open = count_crowd;
    f->client.on_message = close_after_one;
    f->stop_after_closed = 5 + 3;
    for (int i = 0; i < 5; i++)
        connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, 3);
    assert_int_equal(f->server.opened, 3);
    assert_int_equal(link_listener_refused(f->listener), 2);
}

/* Without descriptors, accept() pauses, and goes on when there are some. */
static void out_of_descriptors(void **state)
{
    struct fix *f = *state;
    struct rlimit old, tight;
    int highest = dup(2);

    f->client.on_open = close_on_open;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    f->raw_fd = raw_connect(f); /* takes the last descriptor below the limit; then accept() fails */
    close(highest);
    tight = old;
    tight.rlim_cur = (rlim_t)highest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    loop_post(f->loop, stop, f->loop);
    for (int i = 0; i < 3; i++) {
        loop_post(f->loop, stop, f->loop);
        loop_run(f->loop);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, 1);
}

static void listener_closed_while_links_live(struct end *e, struct link *l)
{
    link_listener_close(e->f->listener);
    e->f->listener = NULL;
    send_number(e, l, 5);
}

static void open_links_outlive_their_listener(void **state)
{
    struct fix *f = *state;

    f->server.on_open = listener_closed_while_links_live;
    f->client.on_message = close_after_one;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.messages, 1);
    assert_int_equal(f->server.why.code, ERR_NONE);
}

static void backoff_grows_and_is_bounded(void **state)
{
    (void)state;
    for (int attempt = -1; attempt < 100; attempt++) {
        int64_t ms = link_backoff_ms(attempt);
        int64_t most = attempt < 0 ? 100 : attempt > 8 ? 30000 : 100 << attempt;

        assert_in_range(ms, 0, most > 30000 ? 30000 : most);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(open_and_close),
        T(many_messages_are_echoed_in_order),
        T(backpressure_then_drained),
        T(wrong_certificate_authority),
        T(wrong_role_or_id),
        T(lying_hello),
        T(cluster_mismatch),
        T(malformed_frames_close_the_link),
        T(half_open_handshake_times_out),
        T(garbage_instead_of_tls_is_refused),
        T(connecting_side_times_out),
        T(nobody_listens),
        T(names_are_resolved),
        T(closed_while_resolving),
        T(wrong_addresses),
        T(address_in_use),
        T(closing_in_a_callback_ends_delivery),
        T(silence_is_noticed),
        T(stuck_output_is_noticed),
        T(slow_reader_holds_nobody_up),
        T(spoilt_stream_is_noticed),
        T(killed_peer_is_unreachable),
        T(pings_keep_an_idle_link),
        T(two_hundred_links),
        T(more_links_than_allowed),
        T(out_of_descriptors),
        T(open_links_outlive_their_listener),
        T(backoff_grows_and_is_bounded),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
