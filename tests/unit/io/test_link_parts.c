/* Large messages in parts: what the writer makes of them, and what the reader takes and does not take. */
#include <sys/eventfd.h>

#include "unit/io/link_ends.h"

enum { LEAF_DATA = 40000, WANTS = 8 };

/* ---- writing ---- */

static void queue_leaf(struct link *l, uint32_t index, size_t len)
{
    struct link_block *b = link_block_new(l, len);
    struct msg_leaf m = { .index = index, .bytes = { link_block_bytes(b), len } };

    for (size_t i = 0; i < len; i++)
        link_block_bytes(b)[i] = (unsigned char)(i * 7 + index);
    assert_int_equal(link_send_block(l, MSG_LEAF, &m, b, NULL), 0);
}

static void queue_want(struct link *l, uint32_t first)
{
    struct msg_want m = { .first = first, .count = 1 };

    assert_int_equal(link_send(l, MSG_WANT, &m, NULL), 0);
}

/* The next record of l, which goes; what it is. */
static enum msg_type next_record(struct link *l, struct buf *stream)
{
    size_t len = 0;
    const unsigned char *record = link_queue_front(l, &len);
    enum msg_type type;

    if (record == NULL)
        return MSG_NONE;
    type = record[4];
    assert_true(len <= LINK_RECORD_BYTES);
    buf_append(stream, record, len);
    link_queue_sent(l, len);
    return type;
}

/* A link without a peer: what it would send is taken from its queue, what it gets is put into it. */
static struct link *lone_link(struct fix *f)
{
    struct link *l = link_new(f->loop, f->agent, &handler, &f->client);

    l->state = LINK_OPEN;
    l->fd = eventfd(0, EFD_CLOEXEC);
    l->flush_posted = true; /* by hand here */
    return l;
}

static void end_lone(struct fix *f, struct link *l)
{
    f->stop_after_closed = f->client.closed + 1;
    link_end(l);
    loop_run(f->loop);
    assert_int_equal(f->agent->blocks->out, 0);
}

static void small_ones_go_between_parts(void **state)
{
    struct fix *f = *state;
    struct link *l = lone_link(f);
    AUTO_BUF stream = BUF_INIT;

    queue_leaf(l, 1, LEAF_DATA);
    queue_leaf(l, 2, 10);
    assert_int_equal(next_record(l, &stream), MSG_PART);
    queue_want(l, 1);
    queue_want(l, 2);
    assert_int_equal(next_record(l, &stream), MSG_WANT); /* both */
    assert_int_equal(next_record(l, &stream), MSG_PART);
    assert_int_equal(next_record(l, &stream), MSG_PART);
    assert_int_equal(next_record(l, &stream), MSG_PART); /* the other leaf */
    assert_int_equal(next_record(l, &stream), MSG_NONE);
    assert_int_equal(link_pending(l), 0);
    end_lone(f, l);
}

/* ---- reading ---- */

static void count_and_check(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    const struct msg_leaf *leaf = msg;

    (void)l;
    if (type == MSG_WANT) {
        e->next++;
        return;
    }
    assert_int_equal(type, MSG_LEAF);
    assert_int_equal(leaf->bytes.len, LEAF_DATA);
    for (size_t i = 0; i < LEAF_DATA; i++)
        assert_int_equal(leaf->bytes.data[i], (unsigned char)(i * 7 + leaf->index));
    e->next += 100;
}

static void feed(struct link *l, const char *data, size_t size, size_t most)
{
    while (size > 0 && l->state == LINK_OPEN) {
        size_t room = 0, len = most < size ? most : size;
        unsigned char *to = link_in_room(l, &room);

        len = len < room ? len : room;
        memcpy(to, data, len);
        link_in_got(l, len);
        data += len;
        size -= len;
    }
}

static void read_in_any_cuts(void **state)
{
    static const size_t cuts[] = { 1, 2, 3, 7, 9, 10, 14, 100, 16383, 16384, 1 << 20 };
    struct fix *f = *state;
    struct link *l = lone_link(f);
    AUTO_BUF stream = BUF_INIT;

    queue_want(l, 0);
    for (uint32_t i = 0; i < 2; i++) {
        enum msg_type type;

        queue_leaf(l, i, LEAF_DATA);
        while ((type = next_record(l, &stream)) != MSG_NONE)
            if (type == MSG_PART)
                queue_want(l, i);
    }
    f->client.on_message = count_and_check;
    for (size_t i = 0; i < COUNT_OF(cuts); i++) {
        f->client.next = 0;
        feed(l, stream.data, stream.len, cuts[i]);
        assert_int_equal(f->client.next / 100, 2);
        assert_true(f->client.next % 100 > 1);
        assert_null(l->part_block);
        assert_int_equal(l->in.len, 0);
    }
    end_lone(f, l);
}

static void part(struct buf *out, size_t frame, size_t bytes, const char *data, size_t len)
{
    unsigned char head[PART_HEAD_BYTES] = {
        (unsigned char)frame, (unsigned char)(frame >> 8), 0, 0, MSG_PART,
        (unsigned char)bytes, (unsigned char)(bytes >> 8)
    };

    buf_append(out, head, sizeof(head));
    buf_append(out, data, len);
}

static void refuses(struct fix *f, const struct buf *stream, const char *why)
{
    struct link_counts before = link_identity_counts(f->agent);

    for (size_t cut = 1; cut < 30; cut += 4) {
        struct link *l = lone_link(f);

        f->client.messages = 0;
        feed(l, stream->data, stream->len, cut);
        assert_int_equal(l->state, LINK_CLOSING);
        assert_int_equal(l->why.code, ERR_INVALID);
        if (strstr(l->why.text, why) == NULL)
            fail_msg("'%s' and not '%s'", l->why.text, why);
        assert_int_equal(f->client.messages, 0);
        end_lone(f, l);
    }
    assert_true(link_identity_counts(f->agent).malformed > before.malformed);
}

/* One PART with these numbers and bytes, at the beginning of a link. */
static void refuses_part(struct fix *f, size_t frame, size_t bytes, const char *data, size_t len,
                         const char *why)
{
    AUTO_BUF stream = BUF_INIT;

    part(&stream, frame, bytes, data, len);
    refuses(f, &stream, why);
}

#define WANT_FRAME "\x29\0\0\0\x62"
#define LARGE_FRAME "\x29\x20\0\0\x63" /* 8237 bytes */

static void malformed_parts(void **state)
{
    struct fix *f = *state;
    char first[PART_MIN_BYTES] = { 0 };
    AUTO_BUF beyond = BUF_INIT;
    AUTO_BUF small = BUF_INIT;
    AUTO_BUF whole = BUF_INIT;

    refuses_part(f, 5, 0, "", 0, "a frame of 9 bytes");
    refuses_part(f, 3, 0, "", 0, "a frame of 7 bytes");
    refuses_part(f, 5 + PART_MAX_BYTES + 1, PART_MAX_BYTES + 1, "", 0, "a frame of 16385 bytes");
    refuses_part(f, 5 + 40, 41, WANT_FRAME, 5, "a part of 41 bytes in a frame of 49");
    refuses_part(f, 5 + 4, 4, "\x29\0\0\0", 4, "a first part of 4 bytes");
    refuses_part(f, 5 + 5, 5, "\1\0\0\0\2", 5, "ping in parts");
    refuses_part(f, 5 + 5, 5, "\x20\0\0\0\7", 5, "part in parts");
    refuses_part(f, 5 + 5, 5, "\0\0\0\0\x62", 5, "frame of 0 bytes");
    refuses_part(f, 5 + 5, 5, "\1\0\x08\0\x62", 5, "frame of 524289 bytes");
    refuses_part(f, 5 + 5, 5, "\x29\0\0\0\x7f", 5, "unknown message type");
    refuses_part(f, 5 + 46, 46, WANT_FRAME, 5, "beyond its message");
    refuses_part(f, 5 + 5, 5, WANT_FRAME, 5, "a part of 5 bytes");
    refuses_part(f, 5 + PART_MIN_BYTES - 1, PART_MIN_BYTES - 1, LARGE_FRAME, 5,
                 "a part of 4095 bytes, at least 4096");
    memcpy(first, LARGE_FRAME, 5);
    part(&beyond, 5 + PART_MIN_BYTES, PART_MIN_BYTES, first, PART_MIN_BYTES);
    part(&small, 5 + PART_MIN_BYTES, PART_MIN_BYTES, first, PART_MIN_BYTES);
    part(&beyond, 5 + 4142, 4142, "", 0);
    refuses(f, &beyond, "beyond its message");
    part(&small, 5 + 1, 1, "", 0);
    refuses(f, &small, "a part of 1 bytes");
    part(&whole, 5 + 6, 6, "\2\0\0\0\x62x", 6); /* a WANT must have more */
    refuses(f, &whole, "want");
    map_release(&f->agent->offences);
    map_release(&f->agent->denied);
}

static void part_before_hello(void **state)
{
    struct fix *f = *state;
    struct link *l = lone_link(f);
    AUTO_BUF stream = BUF_INIT;

    part(&stream, 5 + 5, 5, WANT_FRAME, 5);
    l->state = LINK_HELLO;
    for (size_t i = 0; i < stream.len && l->state == LINK_HELLO; i++) {
        size_t room = 0;

        *link_in_room(l, &room) = (unsigned char)stream.data[i];
        link_in_got(l, 1);
    }
    assert_string_equal(l->why.text, "a part before HELLO");
    end_lone(f, l);
}

/* Half a leaf, and then other messages for ever: the link is neither silent nor is the leaf ever whole. */
static void on_more_wants(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, beat);

    queue_want(f->client.link, 1);
}

static void begin_leaf(struct end *e, struct link *l)
{
    char first[PART_MIN_BYTES] = "\x2d\0\4\0\x63";
    AUTO_BUF frame = BUF_INIT;

    part(&frame, 5 + PART_MIN_BYTES, PART_MIN_BYTES, first, PART_MIN_BYTES);
    link_queue(l, &frame);
    link_flush_soon(l);
    timer_start(e->f->loop, &e->f->beat, 3, 3, on_more_wants);
}

static void large_message_must_be_whole_in_time(void **state)
{
    struct fix *f = *state;

    link_identity_set_times(f->region, LINK_OPEN_MS, 10, 100);
    f->client.on_open = begin_leaf;
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

/* ---- both ends ---- */

static void send_leaves_and_wants(struct end *e, struct link *l)
{
    (void)e;
    for (uint32_t i = 0; i < WANTS; i++)
        queue_leaf(l, i, LEAF_DATA);
    for (uint32_t i = 0; i < WANTS; i++)
        queue_want(l, i);
}

static void wants_first(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    assert_int_equal(type, e->messages <= WANTS ? MSG_WANT : MSG_LEAF);
    count_and_check(e, l, type, msg);
    if (e->messages == 2 * WANTS)
        link_close(l, ERR_NONE, "");
}

static void small_ones_overtake(void **state)
{
    struct fix *f = *state;

    f->client.on_open = send_leaves_and_wants;
    f->server.on_message = wants_first;
    connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
    assert_int_equal(f->server.next, 101 * WANTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(small_ones_go_between_parts),
        T(read_in_any_cuts),
        T(malformed_parts),
        T(part_before_hello),
        T(small_ones_overtake),
        T(large_message_must_be_whole_in_time),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
