/* A child that answers in frames: this program, started again with the child's part as its word. */
#include "io/channel.h"
#include "lib/check.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX = 1 << 20 };

static const struct channel_limits limits = { .wall_ms = 30000, .max_bytes = MAX };

static int child_main(const char *part)
{
    AUTO_BUF frame = BUF_INIT;
    if (strcmp(part, "dies") == 0)
        raise(SIGKILL);
    if (strcmp(part, "speaks") == 0 && !channel_write(1, "unasked", 7))
        return 1;
    while (channel_read(0, &frame, MAX)) {
        if (strcmp(part, "sleeps") == 0)
            pause();
        if (strcmp(part, "loops") == 0)
            for (volatile int i = 0;; i++)
                ;
        if (strcmp(part, "leaves") == 0)
            return 3;
        if (!channel_write(1, frame.data, frame.len))
            return 1;
    }
    return 0;
}

static struct channel start(const char *part)
{
    struct channel c;
    struct err err = ERR_INIT;
    char self[] = "/proc/self/exe", word[16];
    char *argv[] = { self, word, NULL };
    memcpy(word, part, strlen(part) + 1);
    assert_ok(channel_start(&c, argv, &err), &err);
    return c;
}

static void frames_come_back(void **state)
{
    (void)state;
    struct channel c = start("echoes");
    AUTO_BUF request = BUF_INIT, answer = BUF_INIT;
    struct err err = ERR_INIT;
    static const size_t sizes[] = { 0, 1, 4095, 300000, MAX };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        buf_reset(&request);
        while (request.len < sizes[i])
            buf_char(&request, (char)('a' + request.len % 26));
        assert_true(channel_is_idle(&c));
        assert_ok(channel_exchange(&c, &request, &answer, &limits, &err), &err);
        assert_int_equal(answer.len, request.len);
        if (request.len > 0)
            assert_memory_equal(answer.data, request.data, request.len);
        assert_int_equal(answer.data[answer.len], 0);
    }
    assert_true(WIFSIGNALED(channel_stop(&c)));
    assert_int_equal(channel_stop(&c), -1);
    assert_false(channel_is_idle(&c));
}

static void limits_hold(void **state)
{
    (void)state;
    AUTO_BUF request = BUF_INIT, answer = BUF_INIT;
    struct err err = ERR_INIT;
    buf_str_append(&request, "hello");
    struct channel c = start("sleeps");
    struct channel_limits wall = { .wall_ms = 50, .max_bytes = MAX };
    assert_error(channel_exchange(&c, &request, &answer, &wall, &err), ERR_TIMEOUT, &err, "answer");
    channel_stop(&c);
    c = start("loops");
    struct channel_limits cpu = { .wall_ms = 60000, .cpu_ms = 20, .max_bytes = MAX };
    assert_error(channel_exchange(&c, &request, &answer, &cpu, &err), ERR_TIMEOUT, &err, "answer");
    channel_stop(&c);
    c = start("echoes");
    struct channel_limits small = { .wall_ms = 30000, .max_bytes = 4 };
    assert_error(channel_exchange(&c, &request, &answer, &small, &err), ERR_LIMIT, &err, "4 bytes");
    channel_stop(&c);
}

static void a_child_that_ends_is_noticed(void **state)
{
    (void)state;
    AUTO_BUF request = BUF_INIT, answer = BUF_INIT;
    struct err err = ERR_INIT;
    struct channel c = start("leaves");
    assert_error(channel_exchange(&c, &request, &answer, &limits, &err), ERR_UNREACHABLE, &err,
                 "gone");
    channel_stop(&c);
    c = start("dies");
    assert_error(channel_exchange(&c, NULL, &answer, &limits, &err), ERR_UNREACHABLE, &err, "gone");
    assert_false(channel_is_idle(&c));
    assert_int_equal(WTERMSIG(channel_stop(&c)), SIGKILL);
    c = start("speaks");
    assert_ok(channel_exchange(&c, NULL, &answer, &limits, &err), &err);
    assert_string_equal(answer.data, "unasked");
    channel_stop(&c);
}

static void what_cannot_start_is_an_error(void **state)
{
    (void)state;
    struct channel c;
    struct err err = ERR_INIT;
    char no[] = "/nonexistent/program";
    char *argv[] = { no, NULL };
    assert_error(channel_start(&c, argv, &err), ERR_NOT_FOUND, &err, "no such program");
    assert_int_equal(channel_stop(&c), -1);
}

static void the_child_refuses_long_and_broken_frames(void **state)
{
    (void)state;
    AUTO_BUF frame = BUF_INIT;
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = { { "", 0 }, { "\1\0", 2 }, { "\5\0\0\0abc", 7 }, { "\xff\xff\xff\xff", 4 } };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(write(fds[1], cases[i].bytes, cases[i].len), (ssize_t)cases[i].len);
        close(fds[1]);
        assert_false(channel_read(fds[0], &frame, 100));
        close(fds[0]);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return child_main(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_child_that_ends_is_noticed),
        cmocka_unit_test(what_cannot_start_is_an_error),
        cmocka_unit_test(the_child_refuses_long_and_broken_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
