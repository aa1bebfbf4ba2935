#include <linux/tcp.h>

#include "unit/io/link_ends.h"

enum { SEGMENT = 1448, BURST = 32 << 10 };

/* Two ends of a connection over loopback; what is sent goes in segments of that size, 0: as large as there. */
struct ends {
    int listener, client, server;
};

static int socket_with(int segment)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (segment > 0)
        assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)), 0);
    return fd;
}

static struct ends connected(int segment)
{
    struct ends e = { socket_with(segment), socket_with(segment), -1 };
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);

    assert_int_equal(bind(e.listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(e.listener, 1), 0);
    assert_int_equal(getsockname(e.listener, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(connect(e.client, (struct sockaddr *)&at, sizeof(at)), 0);
    e.server = accept4(e.listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(e.server >= 0);
    return e;
}

static void disconnect(struct ends *e)
{
    close(e->client);
    close(e->server);
    close(e->listener);
}

static size_t option(int fd, int level, int name)
{
    int n = 0;
    socklen_t len = sizeof(n);

    assert_int_equal(getsockopt(fd, level, name, &n, &len), 0);
    return (size_t)n;
}

/* What may stand in the kernel, sent or not, is little more than two bursts, however long the peer does not read. */
static void near_path_is_held(void **state)
{
    struct ends e = connected(SEGMENT);
    struct link l = { .fd = e.client };

    (void)state;
    link_tune(l.fd);
    link_socket_look(&l);
    assert_int_equal(l.burst, BURST);
    assert_true(l.held_bytes > BURST && l.held_bytes < 2 * BURST);
    assert_true(option(l.fd, SOL_SOCKET, SO_SNDBUF) >= l.held_bytes);
    assert_true(option(l.fd, SOL_SOCKET, SO_SNDBUF) < 2 * l.held_bytes);
    assert_int_equal(option(l.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), l.held_bytes);
    assert_true(l.look_at > 0 && l.look_at < UINT64_MAX); /* it may become faster */
    disconnect(&e);
}

/* A buffer of less than a few segments would wait for the peer's delayed acknowledgements. */
static void large_segments_are_not_held(void **state)
{
    struct ends e = connected(0);
    struct link l = { .fd = e.client };
    size_t before = option(l.fd, SOL_SOCKET, SO_SNDBUF);
    size_t segment = option(l.fd, IPPROTO_TCP, TCP_MAXSEG);

    (void)state;
    assert_true(segment > BURST / 2); /* loopback's */
    link_tune(l.fd);
    link_socket_look(&l);
    assert_int_equal(l.burst, 2 * segment);
    assert_int_equal(l.held_bytes, 0);
    assert_int_equal(option(l.fd, SOL_SOCKET, SO_SNDBUF), before);
    assert_int_equal(l.look_at, UINT64_MAX);
    disconnect(&e);
}

/* What has been held, and needs more than a link is held to, is the kernel's again. */
static void fast_path_is_let_go(void **state)
{
    struct ends e = connected(SEGMENT);
    struct link l = { .fd = e.client };
    size_t held, buffer;

    (void)state;
    link_tune(l.fd);
    link_socket_look(&l);
    held = l.held_bytes;
    buffer = option(l.fd, SOL_SOCKET, SO_SNDBUF);
    link_socket_let_go(&l);
    assert_int_equal(l.held_bytes, 0);
    assert_true(option(l.fd, SOL_SOCKET, SO_SNDBUF) > 2 * buffer);
    assert_true(option(l.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT) < held);
    assert_int_equal(l.look_at, UINT64_MAX);
    disconnect(&e);
}

/* Whatever the descriptor is, it can be written to. */
static void no_tcp_is_no_harm(void **state)
{
    int pair[2];
    struct link l = { .held_bytes = 0 };

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    l.fd = pair[0];
    link_tune(l.fd);
    link_socket_look(&l);
    assert_int_equal(l.burst, BURST);
    assert_int_equal(l.held_bytes, 0);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_path_is_held),
        cmocka_unit_test(large_segments_are_not_held),
        cmocka_unit_test(fast_path_is_let_go),
        cmocka_unit_test(no_tcp_is_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
