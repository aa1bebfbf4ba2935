#include "unit/io/link_ends.h"

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

/* What is said along with HELLO is there before the answer to that is. */
static void say_early(void *ctx, struct link *l)
{
    struct end *e = ctx;
    struct msg_leave m = { { { 1 } } };

    assert_int_equal(e->opened, 0);
    assert_int_equal(link_peer_role(l), ROLE_REGION);
    assert_int_equal(link_send(l, MSG_LEAVE, &m, NULL), 0);
    e->next++;
}

static void early_has_come(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    (void)msg;
    assert_int_equal(type, MSG_LEAVE);
    assert_int_equal(e->opened, 1);
    assert_int_equal(e->f->client.opened, 0);
    link_close(l, ERR_CANCELLED, "seen");
}

static void early_messages_come_with_hello(void **state)
{
    struct fix *f = *state;

    f->stop_after_closed = 2;
    f->server.on_message = early_has_come;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    link_set_early(f->client.link, say_early);
    loop_run(f->loop);
    assert_int_equal(f->client.next, 1);
    assert_int_equal(f->server.messages, 1);
}

/* Who may not come in has said it in vain. */
static void early_messages_of_the_refused_are_dropped(void **state)
{
    struct fix *f = *state;

    link_listener_close(f->listener);
    listen_for(f, 1U << ROLE_REGION, 1000);
    f->stop_after_closed = 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    link_set_early(f->client.link, say_early);
    loop_run(f->loop);
    assert_int_equal(f->client.next, 1);
    assert_int_equal(f->client.opened, 0);
    assert_int_equal(f->client.why.code, ERR_DENIED);
    until_refused(f);
    assert_int_equal(f->server.opened + f->server.messages, 0);
}

/* To whom is not expected nothing is said. */
static void no_early_message_to_a_stranger(void **state)
{
    struct fix *f = *state;

    f->stop_after_closed = 1;
    connect_as(f, f->agent, ROLE_REGION, "us");
    link_set_early(f->client.link, say_early);
    loop_run(f->loop);
    assert_int_equal(f->client.next, 0);
    assert_int_equal(f->client.opened, 0);
    until_refused(f);
}

static void say_much_early(void *ctx, struct link *l)
{
    link_set_low_water(l, 1);
    say_early(ctx, l);
}

static void close_when_drained(struct end *e, struct link *l)
{
    assert_int_equal(e->opened, 1);
    link_close(l, ERR_CANCELLED, "seen");
}

/* Who waits until there is room again is told, though all has gone out before the link is open. */
static void early_messages_drain(void **state)
{
    struct fix *f = *state;

    f->stop_after_closed = 2;
    f->client.on_drained = close_when_drained;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    link_set_early(f->client.link, say_much_early);
    loop_run(f->loop);
    assert_int_equal(f->client.drained, 1);
    assert_int_equal(f->server.messages, 1);
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
    until_refused(f);
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

static void backoff_grows_and_is_bounded(void **state)
{
    (void)state;
    for (int attempt = -1; attempt < 100; attempt++) {
        int64_t ms = link_backoff_ms(attempt);
        int64_t most = attempt < 0 ? 100 : attempt > 8 ? 30000 : 100 << attempt;

        assert_in_range(ms, 0, most > 30000 ? 30000 : most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(wrong_certificate_authority),
        T(early_messages_come_with_hello),
        T(early_messages_drain),
        T(early_messages_of_the_refused_are_dropped),
        T(no_early_message_to_a_stranger),
        T(wrong_role_or_id),
        T(lying_hello),
        T(cluster_mismatch),
        T(half_open_handshake_times_out),
        T(garbage_instead_of_tls_is_refused),
        T(connecting_side_times_out),
        T(nobody_listens),
        T(names_are_resolved),
        T(closed_while_resolving),
        T(wrong_addresses),
        T(address_in_use),
        T(more_links_than_allowed),
        T(out_of_descriptors),
        T(backoff_grows_and_is_bounded),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
