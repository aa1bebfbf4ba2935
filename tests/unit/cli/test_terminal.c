/* Nothing that a build or a policy says commands the terminal of who reads it. */
#include "lib/check.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/terminal.h"

static void tames(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        { "plain\ttext\n", "plain\ttext\n" },
        { "a\033[31;1mred\033[0mb", "a\033[31;1mred\033[0mb" },
        { "\033[m", "\033[m" },
        { "\033]0;title\007", "?]0;title?" },
        { "\033[2J\033[1;1H", "?[2J?[1;1H" },
        { "over\rwritten", "over?written" },
        { "\033[31", "?[31" },
        { "\033", "?" },
        { "\x7f\b", "??" },
        { "\xc2\x9b"
          "31m \xc3\xbc",
          "??31m \xc3\xbc" },
        { "", "" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[64];

        snprintf(text, sizeof(text), "%s", cases[i].text);
        terminal_tame(text, strlen(text));
        assert_string_equal(text, cases[i].wanted);
    }
}

static void tames_json(void **state)
{
    json_t *o = json_pack("{s:s,s:[s,i],s:{s:s}}", "a", "\033c", "b", "x\ry", 1, "c", "d", "fine");
    char *text;

    (void)state;
    terminal_tame_json(o);
    text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "{\"a\":\"?c\",\"b\":[\"x?y\",1],\"c\":{\"d\":\"fine\"}}");
    free(text);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tames),
        cmocka_unit_test(tames_json),
    };

    return cmocka_run_group_tests_name("terminal", tests, NULL, NULL);
}
