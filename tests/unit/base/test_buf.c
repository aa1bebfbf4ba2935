#include "lib/check.h"

#include <stdlib.h>

#include "base/buf.h"

static void an_empty_one_reads_as_empty_text(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    assert_string_equal(buf_str(&b), "");
    buf_append(&b, NULL, 0);
    assert_string_equal(b.data, "");
    assert_int_equal(b.len, 0);
    buf_release(&b);
}

static void appends_are_always_ended_by_a_nul(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    buf_str_append(&b, "ab");
    buf_char(&b, 'c');
    buf_append(&b, "d\0e", 3);
    buf_printf(&b, "-%d-%s", 42, "x");
    assert_int_equal(b.len, 11);
    assert_memory_equal(b.data, "abcd\0e-42-x", 12);
    buf_release(&b);
    assert_null(b.data);
}

static void growth_keeps_what_was_there(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "%04d", i);
    assert_int_equal(b.len, 40000);
    assert_true(b.cap > b.len);
    assert_memory_equal(b.data, "0000000100020003", 16);
    assert_string_equal(b.data + 39996, "9999");
    buf_release(&b);
}

static void printf_writes_texts_longer_than_any_stack_buffer(void **state)
{
    AUTO_BUF long_text = BUF_INIT;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    for (int i = 0; i < 100000; i++)
        buf_char(&long_text, 'y');
    buf_printf(&b, "<%s>", long_text.data);
    assert_int_equal(b.len, 100002);
    assert_int_equal(b.data[b.len - 1], '>');
}

static void consume_drops_from_the_front(void **state)
{
    static const struct {
        size_t drop;
        const char *left;
    } cases[] = { { 0, "abcdef" }, { 1, "bcdef" }, { 5, "f" }, { 6, "" }, { 99, "" } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO_BUF b = BUF_INIT;

        buf_str_append(&b, "abcdef");
        buf_consume(&b, cases[i].drop);
        assert_string_equal(b.data, cases[i].left);
        assert_int_equal(b.len, strlen(cases[i].left));
    }
}

static void reset_keeps_the_memory(void **state)
{
    AUTO_BUF b = BUF_INIT;
    char *before;

    (void)state;
    buf_str_append(&b, "something");
    before = b.data;
    buf_reset(&b);
    assert_string_equal(buf_str(&b), "");
    buf_str_append(&b, "else");
    assert_ptr_equal(b.data, before);
    assert_string_equal(b.data, "else");
}

static void steal_gives_the_memory_away(void **state)
{
    struct buf b = BUF_INIT;
    AUTO_FREE char *text = NULL;
    AUTO_FREE char *none = buf_steal(&b);

    (void)state;
    assert_string_equal(none, "");
    buf_str_append(&b, "mine");
    text = buf_steal(&b);
    assert_string_equal(text, "mine");
    assert_null(b.data);
    assert_int_equal(b.len, 0);
}

static void reserve_makes_room_without_changing_the_text(void **state)
{
    AUTO_BUF b = BUF_INIT;

    (void)state;
    buf_str_append(&b, "ab");
    buf_reserve(&b, 5000);
    assert_true(b.cap >= 5003);
    assert_string_equal(b.data, "ab");
    memset(b.data + b.len, 'z', 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_reads_as_empty_text),
        cmocka_unit_test(appends_are_always_ended_by_a_nul),
        cmocka_unit_test(growth_keeps_what_was_there),
        cmocka_unit_test(printf_writes_texts_longer_than_any_stack_buffer),
        cmocka_unit_test(consume_drops_from_the_front),
        cmocka_unit_test(reset_keeps_the_memory),
        cmocka_unit_test(steal_gives_the_memory_away),
        cmocka_unit_test(reserve_makes_room_without_changing_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
