#include "lib/check.h"

#include <stdio.h>

#include "base/map.h"

static void an_empty_one_has_nothing(void **state)
{
    struct map m = MAP_INIT;
    size_t i = 0;

    (void)state;
    assert_null(map_get(&m, "a"));
    assert_null(map_remove(&m, "a"));
    assert_null(map_next(&m, &i));
    map_release(&m);
}

static void put_replaces_and_gives_the_old_value(void **state)
{
    struct map m = MAP_INIT;
    int one = 1, two = 2;
    char key[] = "key";

    (void)state;
    assert_null(map_put(&m, key, &one));
    key[0] = 'X'; /* keys are copied */
    assert_ptr_equal(map_get(&m, "key"), &one);
    assert_ptr_equal(map_put(&m, "key", &two), &one);
    assert_ptr_equal(map_get(&m, "key"), &two);
    assert_int_equal(m.count, 1);
    assert_null(map_put(&m, "", &one));
    assert_ptr_equal(map_get(&m, ""), &one);
    map_release(&m);
}

static void what_was_removed_is_gone_and_can_come_back(void **state)
{
    struct map m = MAP_INIT;
    int one = 1, two = 2;

    (void)state;
    map_put(&m, "a", &one);
    map_put(&m, "b", &two);
    assert_ptr_equal(map_remove(&m, "a"), &one);
    assert_null(map_remove(&m, "a"));
    assert_null(map_get(&m, "a"));
    assert_int_equal(m.count, 1);
    assert_null(map_put(&m, "a", &two));
    assert_ptr_equal(map_get(&m, "a"), &two);
    assert_int_equal(m.count, 2);
    map_release(&m);
}

static void thousands_are_found_again(void **state)
{
    enum { N = 20000 };
    static int values[N];
    struct map m = MAP_INIT;
    char key[16];

    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_null(map_put(&m, key, &values[i]));
    }
    for (int i = 0; i < N; i += 2) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_ptr_equal(map_remove(&m, key), &values[i]);
    }
    assert_int_equal(m.count, N / 2);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_ptr_equal(map_get(&m, key), i % 2 == 0 ? NULL : &values[i]);
    }
    map_release(&m);
}

static void coming_and_going_does_not_grow_the_table(void **state)
{
    struct map m = MAP_INIT;
    int value;
    char key[16];

    (void)state;
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        map_put(&m, key, &value);
        map_remove(&m, key);
    }
    assert_int_equal(m.count, 0);
    assert_true(m.cap <= 16);
    map_release(&m);
}

static void iteration_is_in_insertion_order(void **state)
{
    static const char *const keys[] = { "pear", "apple", "fig", "date" };
    struct map m = MAP_INIT;
    struct map_entry *e;
    size_t n = 0;
    int value;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        map_put(&m, keys[i], &value);
    for (size_t i = 0; (e = map_next(&m, &i)) != NULL; n++)
        assert_string_equal(e->key, keys[n]);
    assert_int_equal(n, 4);
    map_release(&m);
}

static void the_current_entry_may_be_removed(void **state)
{
    struct map m = MAP_INIT;
    struct map_entry *e;
    int value, seen = 0;
    char key[16];

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        map_put(&m, key, &value);
    }
    for (size_t i = 0; (e = map_next(&m, &i)) != NULL; seen++)
        map_remove(&m, e->key);
    assert_int_equal(seen, 100);
    assert_int_equal(m.count, 0);
    map_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_has_nothing),
        cmocka_unit_test(put_replaces_and_gives_the_old_value),
        cmocka_unit_test(what_was_removed_is_gone_and_can_come_back),
        cmocka_unit_test(thousands_are_found_again),
        cmocka_unit_test(coming_and_going_does_not_grow_the_table),
        cmocka_unit_test(iteration_is_in_insertion_order),
        cmocka_unit_test(the_current_entry_may_be_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
