#include "lib/check.h"

#include <errno.h>
#include <stdio.h>

static void set_gives_the_negative_code_and_the_text(void **state)
{
    struct err err = { ERR_IO, EPERM, "old" };

    (void)state;
    assert_int_equal(err_set(&err, ERR_LIMIT, "%d of %d", 5, 4), -ERR_LIMIT);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(err.os_errno, 0);
    assert_string_equal(err.text, "5 of 4");
}

static void nobody_has_to_be_interested(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_AGAIN, "full"), -ERR_AGAIN);
    assert_int_equal(err_sys(NULL, ENOENT, "open x"), -ERR_NOT_FOUND);
    assert_int_equal(err_wrap(NULL, "stage"), -ERR_INTERNAL);
}

static void errno_becomes_what_the_caller_can_do(void **state)
{
    static const struct {
        int os_errno;
        enum err_code code;
    } cases[] = {
        { ENOSPC, ERR_NO_SPACE },
        { EDQUOT, ERR_NO_SPACE },
        { ENOENT, ERR_NOT_FOUND },
        { EEXIST, ERR_EXISTS },
        { ECONNREFUSED, ERR_UNREACHABLE },
        { EHOSTUNREACH, ERR_UNREACHABLE },
        { ENETUNREACH, ERR_UNREACHABLE },
        { ETIMEDOUT, ERR_TIMEOUT },
        { EACCES, ERR_IO },
        { EIO, ERR_IO },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = ERR_INIT;
        char expected[128];

        snprintf(expected, sizeof(expected), "open a/b: %s", strerror(cases[i].os_errno));
        assert_int_equal(err_sys(&err, cases[i].os_errno, "open %s", "a/b"), -(int)cases[i].code);
        assert_int_equal(err.code, cases[i].code);
        assert_int_equal(err.os_errno, cases[i].os_errno);
        assert_string_equal(err.text, expected);
    }
}

static void each_caller_puts_its_words_in_front(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_sys(&err, EACCES, "open bin");
    assert_int_equal(err_wrap(&err, "stage"), -ERR_IO);
    assert_int_equal(err_wrap(&err, "activate %s", "web"), -ERR_IO);
    assert_string_equal(err.text, "activate web: stage: open bin: Permission denied");
    assert_int_equal(err.os_errno, EACCES);
}

static void long_texts_are_cut_not_overrun(void **state)
{
    struct err err = ERR_INIT;
    char word[400];

    (void)state;
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    err_set(&err, ERR_IO, "%s%s", word, word);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_int_equal(err_wrap(&err, "%s%s", word, word), -ERR_IO);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_int_equal(err_sys(&err, EIO, "%s%s", word, word), -ERR_IO);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void every_code_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int a = ERR_NONE; a <= ERR_INTERNAL; a++) {
        assert_string_not_equal(err_name((enum err_code)a), "unknown");
        for (int b = ERR_NONE; b < a; b++)
            assert_string_not_equal(err_name((enum err_code)a), err_name((enum err_code)b));
    }
    assert_string_equal(err_name(ERR_NOT_FOUND), "not_found");
    assert_string_equal(err_name((enum err_code)(ERR_INTERNAL + 1)), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_gives_the_negative_code_and_the_text),
        cmocka_unit_test(nobody_has_to_be_interested),
        cmocka_unit_test(errno_becomes_what_the_caller_can_do),
        cmocka_unit_test(each_caller_puts_its_words_in_front),
        cmocka_unit_test(long_texts_are_cut_not_overrun),
        cmocka_unit_test(every_code_has_a_name_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
