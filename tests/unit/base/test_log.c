#include "lib/check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

/* What came out of a pipe since the last look, with a NUL behind it. */
static void read_all(int fd, char *out, size_t size)
{
    ssize_t got = read(fd, out, size - 1);

    out[got < 0 ? 0 : got] = '\0';
}

static void a_line_has_time_level_and_who(void **state)
{
    char line[4096];
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    unsetenv("ENGINE_LOG");
    log_setup("region/eu", ends[1]);
    log_warn("%d of %s", 3, "four");
    read_all(ends[0], line, sizeof(line));
    assert_int_equal(strlen(line), strlen("2026-11-22T08:00:00.123Z warn region/eu: 3 of four\n"));
    assert_string_equal(line + 24, " warn region/eu: 3 of four\n");
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[23], 'Z');
    close(ends[0]);
    close(ends[1]);
}

static void a_text_from_outside_stays_on_one_line(void **state)
{
    char line[4096], text[3000];
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    log_setup("x", ends[1]);
    log_error("one\ntwo\rthree");
    read_all(ends[0], line, sizeof(line));
    assert_string_equal(line + 24, " error x: one two three\n");
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_error("%s", text);
    read_all(ends[0], line, sizeof(line));
    assert_true(strlen(line) <= 2048);
    assert_int_equal(line[strlen(line) - 1], '\n');
    close(ends[0]);
    close(ends[1]);
}

static void the_environment_chooses_the_level(void **state)
{
    static const struct {
        const char *level;
        int lines;
    } cases[] = { { "error", 1 }, { "warn", 2 }, { "info", 3 }, { "debug", 4 } };
    char out[4096];
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    for (size_t i = 0; i < 4; i++) {
        int lines = 0;

        setenv("ENGINE_LOG", cases[i].level, 1);
        log_setup("x", ends[1]);
        log_error("a");
        log_warn("b");
        log_info("c");
        log_debug("d");
        read_all(ends[0], out, sizeof(out));
        for (const char *p = out; *p != '\0'; p++)
            lines += *p == '\n';
        assert_int_equal(lines, cases[i].lines);
    }
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_and_who),
        cmocka_unit_test(a_text_from_outside_stays_on_one_line),
        cmocka_unit_test(the_environment_chooses_the_level),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
