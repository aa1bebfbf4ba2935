#include "unit/io/link_ends.h"

enum { LEAVES = 40 }; /* more than fit into LINK_OUT_MAX at once, and than are kept */

static struct link_block *taken[LEAVES];

static void send_blocks(struct end *e, struct link *l)
{
    int rc = 0;

    while (e->next < LEAVES && rc == 0) {
        struct link_block *b = link_block_new(l, LEAF_BYTES);
        struct msg_leaf leaf = { .index = (uint32_t)e->next,
                                 .bytes = { link_block_bytes(b), LEAF_BYTES } };

        memset(link_block_bytes(b), (int)e->next, LEAF_BYTES);
        send_number(e, l, e->next); /* a small one between any two */
        e->in_call = true;
        rc = link_send_block(l, MSG_LEAF, &leaf, b, NULL);
        e->in_call = false;
        if (rc < 0)
            link_block_free(b);
        else
            e->next++;
    }
    assert_true(rc == 0 || rc == -ERR_AGAIN);
}

static void check_leaf(const struct msg_leaf *leaf, uint32_t index)
{
    assert_int_equal(leaf->index, index);
    assert_int_equal(leaf->bytes.len, LEAF_BYTES);
    assert_int_equal(leaf->bytes.data[0], (unsigned char)index);
    assert_int_equal(leaf->bytes.data[LEAF_BYTES - 1], (unsigned char)index);
}

static void take_blocks(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    const struct msg_leaf *leaf = msg;

    if (type != MSG_LEAF) {
        assert_null(link_take_block(l, NULL)); /* it was small */
        return;
    }
    check_leaf(leaf, (uint32_t)e->next);
    if (e->next % 2 == 0) { /* the others are not taken */
        taken[e->next] = link_take_block(l, leaf->bytes.data);
        assert_non_null(taken[e->next]);
        assert_null(link_take_block(l, leaf->bytes.data)); /* once */
        check_leaf(leaf, (uint32_t)e->next);
    }
    if (++e->next == LEAVES)
        link_close(l, ERR_NONE, "");
}

/* They are whole also when their link has gone. */
static void blocks_travel_and_may_be_kept(void **state)
{
    struct fix *f = *state;

    f->client.on_open = f->client.on_drained = send_blocks;
    f->server.on_message = take_blocks;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.next, LEAVES);
    assert_true(f->client.drained > 0);
    for (size_t i = 0; i < LEAVES; i += 2) {
        assert_int_equal(taken[i]->data[taken[i]->len - 1], i);
        link_block_free(taken[i]);
    }
    assert_int_equal(f->region->blocks->out, 0);
    assert_true(f->region->blocks->nkept <= LINK_BLOCKS_KEPT);
}

enum { SHARES = 3 };

/* The same bytes several times, interrupted by small messages after each part, and then as they were. */
static void send_shared(struct end *e, struct link *l)
{
    struct link_block *b = link_block_new(l, LEAF_BYTES);
    struct msg_leaf leaf = { .bytes = { link_block_bytes(b), LEAF_BYTES } };

    for (size_t i = 0; i < LEAF_BYTES; i++)
        link_block_bytes(b)[i] = (unsigned char)(i * 7 >> 3);
    for (size_t i = 0; i < SHARES; i++) {
        struct link_block *s = link_block_share(b);

        assert_ptr_equal(link_block_bytes(s), link_block_bytes(b));
        assert_int_equal(link_send_block(l, MSG_LEAF, &leaf, s, NULL), 0);
        send_number(e, l, i);
    }
    taken[0] = b;
}

static void check_shared(const unsigned char *bytes)
{
    for (size_t i = 0; i < LEAF_BYTES; i++)
        assert_int_equal(bytes[i], (unsigned char)(i * 7 >> 3));
}

/* Back go the bytes that came, from the block in which they came. */
static void return_shared(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    const struct msg_leaf *leaf = msg;
    struct link_block *b, *s;

    if (type != MSG_LEAF)
        return;
    check_shared(leaf->bytes.data);
    b = link_take_block(l, leaf->bytes.data);
    assert_ptr_equal(link_block_bytes(b), leaf->bytes.data);
    s = link_block_share(b);
    assert_int_equal(link_send_block(l, MSG_LEAF, leaf, s, NULL), 0);
    link_block_free(b); /* s has its bytes still */
    e->next++;
}

static void take_returned(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    const struct msg_leaf *leaf = msg;

    if (type != MSG_LEAF)
        return;
    check_shared(leaf->bytes.data);
    if (++e->next == SHARES)
        link_close(l, ERR_NONE, "");
}

static void bytes_can_be_shared(void **state)
{
    struct fix *f = *state;

    f->client.on_open = send_shared;
    f->client.on_message = take_returned;
    f->server.on_message = return_shared;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.next, SHARES);
    check_shared(link_block_bytes(taken[0]));
    link_block_free(taken[0]);
    assert_int_equal(f->agent->blocks->out, 0);
    assert_int_equal(f->region->blocks->out, 0);
}

static void block_outlives_identity(void **state)
{
    struct fix *f = *state;
    struct link_identity *i = identity(f, "ca", "c", ROLE_AGENT, "m-02");
    struct link_block *b;

    f->client.on_open = close_on_open;
    connect_as(f, i, ROLE_REGION, NULL);
    b = link_block_new(f->client.link, 10);
    loop_run(f->loop);
    link_identity_free(i);
    memset(link_block_bytes(b), 1, 10);
    link_block_free(b);
}

static void send_too_much(struct end *e, struct link *l)
{
    struct link_block *b = link_block_new(l, LEAF_BYTES);
    struct msg_leaf over = { .bytes = { link_block_bytes(b), LEAF_BYTES + 1 } };
    struct err err = ERR_INIT;

    (void)e;
    assert_null(link_take_block(l, NULL)); /* this is not message() */
    assert_int_equal(link_send_block(l, MSG_LEAF, &over, b, &err), -ERR_LIMIT);
    assert_int_equal(link_send_block(l, MSG_HELLO, &(struct msg_hello){ 0 }, b, &err),
                     -ERR_INTERNAL);
    assert_int_equal(link_out_bytes(l), 0);
    link_close(l, ERR_NONE, "");
    assert_int_equal(link_send_block(l, MSG_LEAF, &over, b, &err), -ERR_CANCELLED);
    link_block_free(b);
}

static void what_does_not_fit_is_not_taken(void **state)
{
    struct fix *f = *state;

    f->client.on_open = send_too_much;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->agent->blocks->out, 0);
}

static void close_and_read_on(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    if (type != MSG_LEAF)
        return;
    link_close(l, ERR_NONE, "");
    check_leaf(msg, 0);
    e->next++;
}

static void end_and_read_on(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    if (type != MSG_LEAF)
        return;
    link_end(l); /* as when a send of the handler finds the connection dead */
    check_leaf(msg, 0);
    e->next++;
}

static void message_stays_when_its_link_is_closed(void **state)
{
    struct fix *f = *state;

    f->client.on_open = send_blocks;
    f->server.on_message = close_and_read_on;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.next, 1);
    f->client.next = 0;
    f->stop_after_closed += 2;
    f->server.on_message = end_and_read_on;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.next, 2);
    assert_int_equal(f->region->blocks->out, 0);
}

/* The head of a LEAF, and then a byte now and then: neither silent nor ever whole. */
static const char leaf_head[] = "\x2d\0\4\0\x63";

static void queue_raw(struct link *l, const char *bytes, size_t len)
{
    AUTO_BUF frame = BUF_INIT;

    buf_append(&frame, bytes, len);
    link_queue(l, &frame);
    link_flush_soon(l);
}

static void on_drip(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, beat);

    queue_raw(f->client.link, "x", 1);
}

static void begin_to_drip(struct end *e, struct link *l)
{
    queue_raw(l, leaf_head, sizeof(leaf_head) - 1);
    timer_start(e->f->loop, &e->f->beat, 3, 3, on_drip);
}

static void frame_must_be_whole_in_time(void **state)
{
    struct fix *f = *state;

    link_identity_set_times(f->region, LINK_OPEN_MS, 10, 100);
    f->client.on_open = begin_to_drip;
    f->stop_after_closed = 1;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    timer_stop(&f->beat);
    assert_int_equal(f->server.why.code, ERR_TIMEOUT);
    assert_non_null(strstr(f->server.why.text, "not whole"));
    f->stop_after_closed = 2;
    if (f->client.closed == 0)
        loop_run(f->loop);
    assert_int_equal(f->region->blocks->out, 0);
}

/* Who is not known yet gets no memory for large frames. */
static void large_frame_before_hello(void **state)
{
    struct fix *f = *state;

    connect_as(f, f->agent, ROLE_REGION, NULL);
    queue_raw(f->client.link, leaf_head, sizeof(leaf_head) - 1);
    f->stop_after_closed = 1;
    loop_run(f->loop);
    assert_int_equal(f->server.opened, 0);
    assert_int_equal(f->client.why.code, ERR_INVALID);
    assert_non_null(strstr(f->client.why.text, "before HELLO"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(blocks_travel_and_may_be_kept),
        T(bytes_can_be_shared),
        T(block_outlives_identity),
        T(what_does_not_fit_is_not_taken),
        T(message_stays_when_its_link_is_closed),
        T(frame_must_be_whole_in_time),
        T(large_frame_before_hello),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
