#include "lib/check.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"

struct job {
    int number;
    struct list node;
};

static void push_keeps_the_order(void **state)
{
    struct list jobs;
    struct job all[5];
    int expected = 0;

    (void)state;
    list_init(&jobs);
    assert_true(list_empty(&jobs));
    for (int i = 0; i < 5; i++) {
        all[i].number = i;
        list_push(&jobs, &all[i].node);
    }
    assert_false(list_empty(&jobs));
    LIST_EACH (&jobs, n)
        assert_int_equal(CONTAINER_OF(n, struct job, node)->number, expected++);
    assert_int_equal(expected, 5);
}

static void removing_twice_is_harmless(void **state)
{
    struct list jobs;
    struct job a, b;

    (void)state;
    list_init(&jobs);
    list_push(&jobs, &a.node);
    list_push(&jobs, &b.node);
    list_remove(&a.node);
    list_remove(&a.node);
    assert_ptr_equal(jobs.next, &b.node);
    assert_ptr_equal(jobs.prev, &b.node);
    list_remove(&b.node);
    assert_true(list_empty(&jobs));
}

static void the_current_node_may_be_freed(void **state)
{
    struct list jobs;
    int seen = 0;

    (void)state;
    list_init(&jobs);
    for (int i = 0; i < 10; i++) {
        struct job *j = mem_alloc(sizeof(*j));

        list_push(&jobs, &j->node);
    }
    LIST_EACH (&jobs, n) {
        list_remove(n);
        free(CONTAINER_OF(n, struct job, node));
        seen++;
    }
    assert_int_equal(seen, 10);
    assert_true(list_empty(&jobs));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(push_keeps_the_order),
        cmocka_unit_test(removing_twice_is_harmless),
        cmocka_unit_test(the_current_node_may_be_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
