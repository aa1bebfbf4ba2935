/* What is said to the region node, and when it is said again: slots and reports. */
#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "report.h"
#include "slots.h"

struct line {
    struct loop *loop;
    int asks, frees, reports, granted;
    bool down;
    uint64_t generation; /* of the last ask or report */
    char last[64];
    struct timer guard;
    int stop_at_asks;
};

static int say(void *ctx, enum msg_type type, const void *msg, struct err *err)
{
    struct line *l = ctx;

    if (l->down)
        return err_set(err, ERR_UNREACHABLE, "down");
    l->asks += type == MSG_SLOT_ASK;
    l->frees += type == MSG_SLOT_FREE;
    l->reports += type == MSG_REPORT;
    if (type == MSG_REPORT)
        l->generation = ((const struct msg_report *)msg)->generation;
    if (type == MSG_SLOT_ASK)
        l->generation = ((const struct msg_slot_ask *)msg)->generation;
    if (l->stop_at_asks > 0 && l->asks == l->stop_at_asks)
        loop_stop(l->loop);
    return 0;
}

static void granted(void *ctx, const char *service)
{
    struct line *l = ctx;

    l->granted++;
    snprintf(l->last, sizeof(l->last), "%s", service);
}

static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static struct msg_slot_ask ask_for(const char *service, const char *deployment, uint64_t generation)
{
    return (struct msg_slot_ask){ text(service), text(deployment), { { 1 } }, generation };
}

static void guard_fired(struct timer *t)
{
    (void)t;
    fail_msg("nothing more happens");
}

static void test_slots(void **state)
{
    struct line l = { 0 };
    struct slots *s;
    struct msg_slot_ask one = ask_for("web", "d-1", 1), two = ask_for("web", "d-1", 2);
    struct msg_slot slot = { text("web"), text("d-1"), 1, 60000 };

    (void)state;
    assert_int_equal(loop_new(&l.loop, NULL), 0);
    slots_new(&s, l.loop, say, granted, &l);
    assert_false(slots_has(s, "web"));
    slots_free(s, "web"); /* none: nothing is said */
    assert_int_equal(l.frees, 0);
    slots_want(s, &one);
    slots_want(s, &one);
    assert_int_equal(l.asks, 1);
    slots_want(s, &two); /* another generation is another question */
    assert_int_equal(l.asks, 2);
    assert_int_equal(l.generation, 2);
    slot.granted = 0;
    slots_message(s, &slot);
    assert_false(slots_has(s, "web"));
    slot.granted = 1;
    slots_message(s, &slot);
    slots_message(s, &slot); /* renewed: told once */
    assert_true(slots_has(s, "web"));
    assert_int_equal(l.granted, 1);
    assert_string_equal(l.last, "web");
    slots_repeat(s);
    assert_int_equal(l.asks, 3);
    assert_true(slots_has(s, "web"));
    slots_free(s, "web");
    assert_int_equal(l.frees, 1);
    assert_false(slots_has(s, "web"));
    /* Granted when nobody wants it any more: given back. */
    slots_message(s, &slot);
    assert_int_equal(l.frees, 2);
    slot.granted = 0;
    slots_message(s, &slot);
    assert_int_equal(l.frees, 2);
    /* A lease that has run out is none. */
    slots_want(s, &one);
    slot.granted = 1;
    slot.lease_ms = 0;
    slots_message(s, &slot);
    assert_false(slots_has(s, "web"));
    slots_free_all(s);
    slots_free_all(NULL);
    loop_free(l.loop);
}

/* A held slot is asked for again at a third of its lease. */
static void test_renewal(void **state)
{
    struct line l = { .stop_at_asks = 3 };
    struct slots *s;
    struct msg_slot_ask one = ask_for("web", "d-1", 1);
    struct msg_slot slot = { text("web"), text("d-1"), 1, 30 };

    (void)state;
    assert_int_equal(loop_new(&l.loop, NULL), 0);
    slots_new(&s, l.loop, say, granted, &l);
    slots_want(s, &one);
    slots_message(s, &slot);
    timer_start(l.loop, &l.guard, 20000, 0, guard_fired);
    loop_run(l.loop);
    timer_stop(&l.guard);
    slots_free_all(s);
    loop_free(l.loop);
}

static void test_reports(void **state)
{
    struct line l = { 0 };
    struct reports *r;
    struct msg_report web = { .service = text("web"),
                              .deployment = text("d-1"),
                              .generation = 1,
                              .boot = text("b"),
                              .phase = PHASE_STAGED,
                              .reason = text("") };

    (void)state;
    reports_new(&r, say, &l);
    reports_offer(r, &web);
    web.at_ms = 5; /* the time alone is no news */
    reports_offer(r, &web);
    reports_flush(r);
    assert_int_equal(l.reports, 1);
    l.down = true;
    web.generation = 2;
    reports_offer(r, &web);
    web.generation = 3;
    reports_offer(r, &web);
    l.down = false;
    reports_flush(r); /* the latest only */
    reports_flush(r);
    assert_int_equal(l.reports, 2);
    assert_int_equal(l.generation, 3);
    web.service = text("api");
    reports_offer(r, &web);
    reports_repeat(r);
    assert_int_equal(l.reports, 5);
    reports_forget(r, "api");
    reports_forget(r, "api");
    reports_repeat(r);
    assert_int_equal(l.reports, 6);
    reports_free(r);
    reports_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_renewal),
        cmocka_unit_test(test_reports),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
