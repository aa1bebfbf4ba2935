#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "region/leases.h"

static void at_most_max_moving_and_in_order(void **state)
{
    struct leases *s = leases_new();
    struct slot_grant g[8];

    (void)state;
    leases_goal(s, "web", 1, 2, false);
    assert_true(leases_ask(s, "web", "a", 1, 0));
    assert_true(leases_ask(s, "web", "b", 1, 0));
    assert_false(leases_ask(s, "web", "c", 1, 0));
    assert_false(leases_ask(s, "web", "d", 1, 0));
    assert_false(leases_ask(s, "web", "c", 1, 1)); /* asking again keeps its place */
    assert_int_equal(leases_used(s, "web"), 2);
    assert_int_equal(leases_waiting(s, "web"), 2);
    assert_int_equal(leases_step(s, 1, g, 8), 0);
    assert_true(leases_give(s, "web", "a"));
    assert_false(leases_ask(s, "web", "d", 1, 2)); /* not before c */
    assert_int_equal(leases_step(s, 2, g, 8), 1);
    assert_string_equal(g[0].service, "web");
    assert_string_equal(g[0].machine, "c");
    assert_false(leases_give(s, "web", "a"));
    assert_false(leases_give(s, "web", "d")); /* waits no longer */
    leases_give(s, "web", "b");
    assert_int_equal(leases_step(s, 2, g, 8), 0);
    assert_int_equal(leases_used(s, "web"), 1);
    leases_free(s);
}

static void a_lease_runs_out_unless_renewed(void **state)
{
    struct leases *s = leases_new();
    struct slot_grant g[8];

    (void)state;
    assert_int_equal(leases_next_ms(s), -1);
    leases_goal(s, "web", 1, 1, false);
    assert_true(leases_ask(s, "web", "a", 1, 0));
    assert_int_equal(leases_next_ms(s), SLOT_LEASE_MS);
    assert_false(leases_ask(s, "web", "b", 1, 0));
    assert_true(leases_ask(s, "web", "a", 1, 1000));
    assert_int_equal(leases_next_ms(s), SLOT_LEASE_MS + 1000);
    assert_int_equal(leases_step(s, SLOT_LEASE_MS + 999, g, 8), 0);
    assert_int_equal(leases_step(s, SLOT_LEASE_MS + 1000, g, 8), 1);
    assert_string_equal(g[0].machine, "b");
    assert_false(leases_ask(s, "web", "a", 1, SLOT_LEASE_MS + 1000));
    /* b's own lease is over, a waits: b goes behind a */
    assert_false(leases_ask(s, "web", "b", 1, 3 * SLOT_LEASE_MS));
    assert_int_equal(leases_step(s, 3 * SLOT_LEASE_MS, g, 8), 1);
    assert_string_equal(g[0].machine, "a");
    leases_free(s);
}

static void a_lost_link_leaves_the_queue_but_keeps_the_slot(void **state)
{
    struct leases *s = leases_new();
    struct slot_grant g[8];

    (void)state;
    leases_goal(s, "web", 1, 1, false);
    assert_true(leases_ask(s, "web", "a", 1, 0));
    assert_false(leases_ask(s, "web", "b", 1, 0));
    assert_false(leases_ask(s, "web", "c", 1, 0));
    leases_drop(s, "a");
    leases_drop(s, "b");
    assert_true(leases_holds(s, "web", "a"));
    assert_false(leases_holds(s, "web", "c"));
    leases_give(s, "web", "a");
    assert_int_equal(leases_step(s, 0, g, 8), 1);
    assert_string_equal(g[0].machine, "c");
    leases_free(s);
}

static void goals_change_the_rules(void **state)
{
    struct leases *s = leases_new();
    struct slot_grant g[8];

    (void)state;
    assert_false(leases_ask(s, "web", "a", 0, 0)); /* no goal yet */
    assert_false(leases_ask(s, "web", "a", 1, 0));
    assert_int_equal(leases_waiting(s, "web"), 0);
    leases_goal(s, "web", 5, 0, false);
    assert_false(leases_ask(s, "web", "a", 5, 0)); /* 0: nobody may */
    assert_int_equal(leases_step(s, 0, g, 8), 0);
    leases_goal(s, "web", 5, 2, false); /* the limit is raised: those who wait go on */
    assert_int_equal(leases_step(s, 0, g, 8), 1);
    assert_false(leases_ask(s, "web", "b", 4, 0)); /* another generation: must ask again */
    assert_true(leases_ask(s, "web", "b", 5, 0));
    assert_false(leases_ask(s, "web", "c", 5, 0));
    leases_goal(s, "web", 4, 9, false); /* older: nothing changes */
    assert_int_equal(leases_step(s, 0, g, 8), 0);
    leases_goal(s, "web", 6, 1, true); /* newer: the queue is empty, what moves moves */
    assert_int_equal(leases_waiting(s, "web"), 0);
    assert_int_equal(leases_used(s, "web"), 2);
    assert_true(leases_ask(s, "web", "a", 6, 1)); /* renews */
    assert_false(leases_ask(s, "web", "c", 6, 1));
    leases_give(s, "web", "b");
    assert_int_equal(leases_step(s, 1, g, 8), 0); /* still one too many for a limit of 1 */
    leases_give(s, "web", "a");
    assert_int_equal(leases_step(s, 1, g, 8), 1);
    leases_free(s);
}

static void urgent_services_come_first(void **state)
{
    struct leases *s = leases_new();
    struct slot_grant g[8];

    (void)state;
    leases_goal(s, "web", 1, 0, false);
    leases_goal(s, "db", 1, 0, true);
    leases_ask(s, "web", "a", 1, 0);
    leases_ask(s, "db", "a", 1, 0);
    leases_goal(s, "web", 1, 1, false);
    leases_goal(s, "db", 1, 1, true);
    assert_int_equal(leases_step(s, 0, g, 1), 1); /* room for one answer only */
    assert_string_equal(g[0].service, "db");
    assert_int_equal(leases_step(s, 0, g, 8), 1);
    assert_string_equal(g[0].service, "web");
    leases_free(s);
}

static void restored_leases_count(void **state)
{
    struct leases *s = leases_new();
    struct slot_grant g[8];

    (void)state;
    leases_restore(s, "web", "a", 500);
    leases_restore(s, "web", "a", 900); /* known already */
    leases_goal(s, "web", 1, 1, false);
    assert_false(leases_ask(s, "web", "b", 1, 0));
    assert_int_equal(leases_step(s, 499, g, 8), 0);
    assert_int_equal(leases_step(s, 500, g, 8), 1);
    assert_string_equal(g[0].machine, "b");
    leases_free(s);
}

static void the_queue_has_an_end(void **state)
{
    struct leases *s = leases_new();
    char name[32];

    (void)state;
    leases_goal(s, "web", 1, 0, false);
    for (int i = 0; i < LEASES_QUEUE_MAX + 3; i++) {
        snprintf(name, sizeof(name), "m%d", i);
        assert_false(leases_ask(s, "web", name, 1, 0));
    }
    assert_int_equal(leases_waiting(s, "web"), LEASES_QUEUE_MAX);
    leases_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_most_max_moving_and_in_order),
        cmocka_unit_test(a_lease_runs_out_unless_renewed),
        cmocka_unit_test(a_lost_link_leaves_the_queue_but_keeps_the_slot),
        cmocka_unit_test(goals_change_the_rules),
        cmocka_unit_test(urgent_services_come_first),
        cmocka_unit_test(restored_leases_count),
        cmocka_unit_test(the_queue_has_an_end),
    };

    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
