#include "lib/check.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/port.h"

static int listen_on(int port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((unsigned short)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void test_keeps_its_port_unless_taken(void **state)
{
    struct err err = ERR_INIT;
    int port, again, fd;

    (void)state;
    assert_ok(port_choose(0, "a machine", &port, &err), &err);
    assert_in_range(port, PORT_FIRST, PORT_LAST);
    assert_true(port_is_free(port));
    assert_ok(port_choose(port, "another machine", &again, &err), &err);
    assert_int_equal(again, port);
    fd = listen_on(port);
    assert_false(port_is_free(port));
    assert_ok(port_choose(port, "a machine", &again, &err), &err);
    assert_int_not_equal(again, port);
    close(fd);
    assert_true(port_is_free(port));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_keeps_its_port_unless_taken) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
