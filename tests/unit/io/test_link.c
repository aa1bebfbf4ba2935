#include "unit/io/link_ends.h"

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

/* Bytes that are no frame, put straight into the queue of an open link. */
static const char *bad_bytes;

static size_t bad_len;

static void send_bad(struct end *e, struct link *l)
{
    AUTO_BUF frame = BUF_INIT;

    (void)e;
    buf_append(&frame, bad_bytes, bad_len);
    link_queue(l, &frame);
    link_flush_soon(l);
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
        map_release(&f->region->offences);                 /* each case is the first one */
        if (strstr(f->server.why.text, cases[i].text) == NULL)
            fail_msg("case %zu: %s", i, f->server.why.text);
    }
    assert_int_equal(f->server.messages, 0);
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

    struct link *l = f->client.link;

    (void)SSL_write(l->ssl, "\1\0\0\0\3", 5); /* PONG */
    link_wire_sent(l, (size_t)send(l->fd, link_wire_front(l), link_wire_bytes(l), 0));
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

static void two_hundred_links(void **state)
{
    struct fix *f = *state;

    f->client.on_open = count_crowd;
    f->server.on_message = close_after_one;
    f->stop_after_closed = 2 * CROWD;
    link_listener_set_limits(f->listener, CROWD, CROWD, CROWD); /* all from here, and of one name */
    for (int i = 0; i < CROWD; i++)
        connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->client.opened, CROWD);
    assert_int_equal(f->server.opened, CROWD);
    assert_int_equal(f->server.messages, CROWD);
    assert_int_equal(f->client.closed, CROWD);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(open_and_close),
        T(many_messages_are_echoed_in_order),
        T(backpressure_then_drained),
        T(malformed_frames_close_the_link),
        T(closing_in_a_callback_ends_delivery),
        T(silence_is_noticed),
        T(stuck_output_is_noticed),
        T(slow_reader_holds_nobody_up),
        T(spoilt_stream_is_noticed),
        T(killed_peer_is_unreachable),
        T(pings_keep_an_idle_link),
        T(two_hundred_links),
        T(open_links_outlive_their_listener),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
