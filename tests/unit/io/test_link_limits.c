/* Who is let in: links that open, links that are resumed, names that were denied. */
#include <errno.h>

#include "unit/io/link_ends.h"

static int raw_connect(struct fix *f)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)link_listener_port(f->listener)),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void close_it(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    (void)type;
    (void)msg;
    e->messages += 1000 * link_was_resumed(l);
    link_close(l, ERR_NONE, "");
}

/* One link that opens, speaks and is closed. Was it resumed? */
static bool once(struct fix *f)
{
    int before = f->client.messages;

    f->server.on_open = count_crowd; /* says one thing: the ticket has come before it */
    f->client.on_message = close_it;
    f->stop_after_closed = f->client.closed + f->server.closed + 2;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_NONE);
    return f->client.messages - before > 1000;
}

static void second_link_is_resumed(void **state)
{
    struct fix *f = *state;

    assert_false(once(f));
    assert_true(once(f));
    assert_true(once(f));
    assert_string_equal(link_identity_id(f->agent), "m-01");
    assert_int_equal(f->server.opened, 3);
    assert_int_equal(link_listener_refused(f->listener), 0);
}

/* The names of a resumed session are judged as those of a new one. */
static void denied_does_not_resume(void **state)
{
    struct fix *f = *state;

    assert_false(once(f)); /* to another port than before */
    link_identity_deny(f->region, ROLE_AGENT, "m-01");
    f->stop_after_closed = f->client.closed + f->server.closed + 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_DENIED);
    assert_non_null(strstr(f->client.why.text, "m-01 is banned here"));
    assert_int_equal(f->server.opened, 1);
    until_refused(f);
    assert_int_equal(link_listener_refused(f->listener), 1);
    map_release(&f->region->denied); /* the group goes on with this identity */
}

static void resumed_session_of_another_role(void **state)
{
    struct fix *f = *state;

    assert_false(once(f));
    link_listener_close(f->listener);
    listen_for(f, 1U << ROLE_REGION, 1000); /* the same identity, so the same ticket keys */
    f->stop_after_closed = f->client.closed + f->server.closed + 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_DENIED);
}

/* What we deny we do not connect to either. */
static void denied_is_not_connected_to(void **state)
{
    struct fix *f = *state;

    link_identity_deny(f->agent, ROLE_AGENT, "eu"); /* of another role: not meant */
    assert_false(once(f));
    link_identity_deny(f->agent, ROLE_REGION, "eu");
    f->stop_after_closed = f->client.closed + f->server.closed + 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_DENIED);
    map_release(&f->agent->denied);
}

static void ban_it(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    (void)e;
    (void)type;
    (void)msg;
    link_ban(l, ERR_CORRUPT, "a leaf that does not match its digest");
}

static void banned_stays_out(void **state)
{
    struct fix *f = *state;

    f->client.on_open = count_crowd;
    f->server.on_message = ban_it;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_CORRUPT);
    assert_non_null(strstr(f->client.why.text, "does not match"));
    f->stop_after_closed = f->client.closed + f->server.closed + 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_non_null(strstr(f->client.why.text, "banned"));
    assert_int_equal(f->server.opened, 1);
    map_release(&f->region->denied);
}

/* A certificate that has run out, as a ticket would see it: the clock is not ours, so the session's is changed. */
static void expired_does_not_resume(void **state)
{
    struct fix *f = *state;
    SSL_SESSION *session;
    struct map_entry *e;
    size_t at = 0;

    assert_false(once(f));
    e = map_next(&f->agent->sessions, &at);
    assert_non_null(e);
    session = e->value;
    while ((e = map_next(&f->agent->sessions, &at)) != NULL)
        session = e->value; /* the last */
    assert_non_null(ASN1_TIME_set(X509_getm_notAfter(SSL_SESSION_get0_peer(session)), 1000000));
    f->stop_after_closed = f->client.closed + f->server.closed + 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_DENIED);
    assert_non_null(strstr(f->client.why.text, "expired"));
    /* That session is not tried again. */
    f->stop_after_closed = f->client.closed + f->server.closed;
    assert_false(once(f));
}

static void send_bad(struct end *e, struct link *l)
{
    AUTO_BUF frame = BUF_INIT;

    (void)e;
    buf_append(&frame, "\1\0\0\0\x7f", 5);
    link_queue(l, &frame);
    link_flush_soon(l);
}

/* Who sends what is no message is heard LINK_MALFORMED_MAX times. */
static void malformed_is_banned(void **state)
{
    struct fix *f = *state;
    struct link_counts before = link_identity_counts(f->region), after;

    f->client.on_open = send_bad;
    for (int i = 0; i < LINK_MALFORMED_MAX; i++) {
        f->stop_after_closed = f->client.closed + f->server.closed + 2;
        connect_as(f, f->agent, ROLE_REGION, NULL);
        loop_run(f->loop);
        assert_int_equal(f->client.why.code, ERR_INVALID);
    }
    f->stop_after_closed = f->client.closed + f->server.closed + 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_DENIED);
    after = link_identity_counts(f->region);
    assert_int_equal(after.malformed - before.malformed, LINK_MALFORMED_MAX);
    assert_int_equal(after.denied - before.denied, 1);
    map_release(&f->region->denied);
}

enum { IDLE = 5 };

/* Silent strangers fill their places; who has a certificate gets one as soon as the oldest has had its time. */
static void silent_strangers_keep_nobody_out(void **state)
{
    struct fix *f = *state;
    int fds[IDLE];

    link_listener_set_limits(f->listener, IDLE, IDLE, 16);
    for (int i = 0; i < IDLE; i++)
        fds[i] = raw_connect(f);
    assert_false(once(f));
    assert_int_equal(f->server.opened, 1);
    assert_true(link_listener_refused(f->listener) >= 1);
    assert_true(link_listener_refused(f->listener) < IDLE);
    for (int i = 0; i < IDLE; i++)
        close(fds[i]);
}

/* From one address, fewer: what is over is refused at once, and links that are open are not touched. */
static void one_address_has_its_share(void **state)
{
    struct fix *f = *state;
    int fds[IDLE];
    char c;

    link_listener_set_limits(f->listener, 2 * IDLE, IDLE - 1, 16);
    for (int i = 0; i < IDLE; i++)
        fds[i] = raw_connect(f);
    until_refused(f);
    assert_int_equal(link_listener_refused(f->listener), 1);
    assert_true(recv(fds[IDLE - 1], &c, 1, 0) <= 0); /* the last one */
    assert_int_equal(recv(fds[0], &c, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    for (int i = 0; i < IDLE; i++)
        close(fds[i]);
}

static void remember_first(struct end *e, struct link *l)
{
    if (e->opened == 1)
        e->f->stuck = l;
}

/* One name does not fill the listener, however many links it opens. */
static void one_name_has_its_share(void **state)
{
    struct fix *f = *state;

    link_listener_set_limits(f->listener, 100, 100, 2);
    f->server.on_open = remember_first;
    f->stop_after_closed = 3;
    for (int i = 0; i < 5; i++)
        connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.opened, 2);
    assert_int_equal(f->client.why.code, ERR_AGAIN);
    assert_non_null(strstr(f->client.why.text, "m-01 has 2 links here"));
    f->stop_after_closed = f->client.closed + f->server.closed + 2;
    link_close(f->server.link, ERR_NONE, "");
    loop_run(f->loop);
    f->server.on_open = count_crowd; /* a place is free again */
    f->client.on_message = close_after_one;
    f->stop_after_closed = f->client.closed + f->server.closed + 2;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.opened, 3);
    f->stop_after_closed = f->client.closed + f->server.closed + 2;
    link_close(f->stuck, ERR_NONE, "");
    loop_run(f->loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(second_link_is_resumed),
        T(denied_does_not_resume),
        T(resumed_session_of_another_role),
        T(denied_is_not_connected_to),
        T(banned_stays_out),
        T(expired_does_not_resume),
        T(malformed_is_banned),
        T(silent_strangers_keep_nobody_out),
        T(one_address_has_its_share),
        T(one_name_has_its_share),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
