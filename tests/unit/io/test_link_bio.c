/* Between TLS and the socket: what is read ahead, and when the socket wakes the watch. */
#include <poll.h>

#include "unit/io/link_ends.h"

enum { RECORD = 10000, REST = 6000, ALL_READY_MS = 20000 };

/* A link without TLS: what the test sends on the other socket comes through its BIO. */
struct pipe_end {
    struct link *l;
    BIO *bio;
    int other;
};

static void connect_pair(int fds[2])
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&at, sizeof(at)), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(fds[1] >= 0);
    close(listener);
    link_tune(fds[0]);
}

static struct pipe_end pipe_end(struct fix *f)
{
    struct pipe_end e = { .l = link_new(f->loop, f->agent, &handler, &f->client) };
    int fds[2];

    connect_pair(fds);
    e.l->state = LINK_OPEN;
    e.l->fd = fds[1];
    e.other = fds[0];
    e.bio = BIO_new(f->agent->bio);
    BIO_set_data(e.bio, e.l);
    BIO_set_init(e.bio, 1);
    return e;
}

static void end(struct fix *f, struct pipe_end *e)
{
    f->stop_after_closed = f->client.closed + 1;
    BIO_free(e->bio);
    close(e->other);
    link_end(e->l);
    loop_run(f->loop);
}

/* size bytes of a stream of records of RECORD bytes with their heads, from its at-th byte. */
static void say(const struct pipe_end *e, size_t at, size_t size)
{
    static const unsigned char head[LINK_RECORD_HEAD] = { 23, 3, 3, RECORD >> 8, RECORD & 255 };

    unsigned char *data = mem_alloc(size);

    for (size_t i = at; i < at + size; i++) {
        size_t in = i % (RECORD + LINK_RECORD_HEAD);

        data[i - at] = in < LINK_RECORD_HEAD ? head[in] : (unsigned char)i;
    }
    assert_int_equal(send(e->other, data, size, MSG_NOSIGNAL), size);
    free(data);
}

/* Reads all that is there, a little at a time; how many bytes. */
static size_t hear(const struct pipe_end *e, size_t at)
{
    unsigned char data[777];
    size_t all = 0;
    int n;

    link_bio_turn(e->l);
    while ((n = BIO_read(e->bio, data, sizeof(data))) > 0) {
        for (size_t i = at + all; i < at + all + (size_t)n; i++)
            if (i % (RECORD + LINK_RECORD_HEAD) >= LINK_RECORD_HEAD)
                assert_int_equal(data[i - at - all], (unsigned char)i);
        all += (size_t)n;
    }
    assert_true(BIO_should_retry(e->bio));
    link_bio_rest(e->l);
    return all;
}

static void until_readable(const struct pipe_end *e)
{
    assert_int_equal(poll(&(struct pollfd){ e->l->fd, POLLIN, 0 }, 1, ALL_READY_MS), 1);
}

/* All bytes of the stream from `from` to `to`, which have been sent. */
static void hear_all(const struct pipe_end *e, size_t from, size_t to)
{
    while (from < to) {
        if (e->l->ahead == NULL)
            until_readable(e);
        from += hear(e, from);
    }
    assert_int_equal(from, to);
}

static bool is_readable(const struct pipe_end *e)
{
    return poll(&(struct pollfd){ e->l->fd, POLLIN, 0 }, 1, 0) == 1;
}

static int low_mark(const struct pipe_end *e)
{
    socklen_t len = sizeof(int);
    int mark = 0;

    assert_int_equal(getsockopt(e->l->fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &len), 0);
    return mark;
}

static void a_record_wakes_when_it_is_whole(void **state)
{
    struct pipe_end e = pipe_end(*state);
    size_t at = LINK_RECORD_HEAD + RECORD - REST;

    say(&e, 0, at);
    hear_all(&e, 0, at);
    assert_int_equal(low_mark(&e), REST);
    say(&e, at, REST - 1);
    assert_false(is_readable(&e));
    say(&e, at + REST - 1, 1);
    until_readable(&e);
    assert_int_equal(hear(&e, at), REST);
    assert_int_equal(low_mark(&e), 1); /* whatever comes next, it is heard at once */
    assert_true(link_bio_between_records(e.l));
    say(&e, at + REST, 1);
    until_readable(&e);
    assert_int_equal(hear(&e, at + REST), 1);
    assert_false(link_bio_between_records(e.l));
    end(*state, &e);
}

static void little_of_a_record_is_not_waited_for(void **state)
{
    struct pipe_end e = pipe_end(*state);
    size_t at = LINK_RECORD_HEAD + RECORD - LINK_MARK_MIN + 1;

    say(&e, 0, at);
    hear_all(&e, 0, at);
    assert_int_equal(low_mark(&e), 1);
    end(*state, &e);
}

/* The other side goes in the middle of a record. */
static void the_end_wakes(void **state)
{
    struct pipe_end e = pipe_end(*state);
    char c;

    say(&e, 0, 100);
    hear_all(&e, 0, 100);
    shutdown(e.other, SHUT_WR);
    until_readable(&e);
    link_bio_turn(e.l);
    assert_int_equal(BIO_read(e.bio, &c, 1), 0);
    assert_true(BIO_eof(e.bio));
    end(*state, &e);
}

/* A link that stops reading in the middle keeps what was read ahead, and another one does not get it. */
static void read_ahead_stays_with_its_link(void **state)
{
    struct fix *f = *state;
    struct pipe_end a = pipe_end(f), b = pipe_end(f);
    unsigned char data[10];

    say(&a, 0, 3 * RECORD);
    say(&b, 0, 3 * RECORD);
    until_readable(&a);
    link_bio_turn(a.l);
    assert_int_equal(BIO_read(a.bio, data, sizeof(data)), sizeof(data));
    link_bio_rest(a.l);
    assert_false(link_bio_between_records(a.l));
    assert_int_equal(low_mark(&a), 1);
    hear_all(&b, 0, 3 * RECORD);
    hear_all(&a, sizeof(data), 3 * RECORD);
    assert_null(a.l->ahead);
    assert_int_equal(BIO_read(a.bio, data, sizeof(data)), -1);
    say(&a, 3 * RECORD, 3 * RECORD); /* and one that ends with some */
    until_readable(&a);
    link_bio_turn(a.l);
    assert_int_equal(BIO_read(a.bio, data, sizeof(data)), sizeof(data));
    link_bio_rest(a.l);
    end(f, &b);
    end(f, &a);
    assert_int_equal(f->agent->blocks->out, 0);
}

/* Whoever sends without end, and whatever TLS makes of it: the others have their turn. */
static void a_turn_ends(void **state)
{
    enum { TURN = 5000 };
    struct pipe_end e = pipe_end(*state);
    size_t at = 0;
    unsigned char data[777];
    int n;

    say(&e, 0, 3 * RECORD);
    until_readable(&e);
    link_bio_turn(e.l);
    assert_int_equal(e.l->in_left, LINK_TURN_BYTES);
    e.l->in_left = TURN;
    while ((n = BIO_read(e.bio, data, sizeof(data))) > 0)
        at += (size_t)n;
    assert_int_equal(at, TURN);
    assert_true(BIO_should_retry(e.bio));
    link_bio_rest(e.l);
    hear_all(&e, TURN, 3 * RECORD);
    end(*state, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_record_wakes_when_it_is_whole),
        T(little_of_a_record_is_not_waited_for),
        T(the_end_wakes),
        T(read_ahead_stays_with_its_link),
        T(a_turn_ends),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
