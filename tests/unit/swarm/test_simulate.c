#include "lib/check.h"

#include <math.h>
#include <string.h>

#include "swarm/simulate.h"

enum { MB = 1000000 };

static const int64_t S = 1000000000;

/* 64 MB in 64 pieces at 8 MB/s: size/rate is 8 s; a seed that is no faster than the others. */
static struct simulate_options small(uint32_t machines)
{
    struct simulate_options o = simulate_defaults();

    o.machines = machines;
    o.bytes = 64 * MB;
    o.pieces = 64;
    o.up = o.down = o.node_up = 8 * MB;
    o.rack = 8;
    o.join_ns = S / 100;
    return o;
}

static double bound_s(const struct simulate_options *o, uint32_t machines)
{
    return 8 * (1 + log2(machines) / o->pieces);
}

static struct simulate_result run(const struct simulate_options *o)
{
    struct simulate_result r;

    simulate_swarm(o, NULL, NULL, &r);
    assert_int_equal(r.stranded, 0);
    return r;
}

static void one_machine_takes_size_over_rate(void **state)
{
    struct simulate_options o = small(1);
    struct simulate_result r = run(&o);

    (void)state;
    assert_int_equal(r.healthy, 1);
    assert_int_equal(r.transfers, 64);
    assert_true(r.bound_s == 8);
    assert_true(r.max >= 1 && r.max < 1.02);
    assert_true(r.node_copies == 1);
    simulate_result_release(&r);
}

static void headers_are_carried_too(void **state)
{
    struct simulate_options o = small(1);
    struct simulate_result r;

    (void)state;
    o.headers = 0.5;
    r = run(&o);
    assert_true(r.max >= 1.5 && r.max < 1.53);
    simulate_result_release(&r);
}

static void the_slower_direction_counts(void **state)
{
    struct simulate_options o = small(1);
    struct simulate_result r;

    (void)state;
    o.down = 4 * MB;
    r = run(&o);
    assert_true(r.bound_s == 16);
    assert_true(r.max >= 1 && r.max < 1.02);
    simulate_result_release(&r);
}

/* Two behind a seed that sends one copy in 8 s: they must trade, or it takes 16. */
static void two_machines_trade(void **state)
{
    struct simulate_options o = small(2);
    struct simulate_result r = run(&o);

    (void)state;
    assert_true(r.max >= 8 / bound_s(&o, 2) && r.max < 1.5);
    assert_true(r.node_copies >= 1 && r.node_copies < 1.5);
    simulate_result_release(&r);
}

static void the_disk_can_be_the_bottleneck(void **state)
{
    struct simulate_options o = small(1);
    struct simulate_result r;

    (void)state;
    o.verify = 4 * MB;
    r = run(&o);
    assert_true(r.max >= 2 && r.max < 2.05);
    simulate_result_release(&r);
}

/* Every machine has every piece, which somebody sent; nobody was faster than its link. */
static void bytes_are_conserved(void **state)
{
    struct simulate_options o = small(60);
    struct simulate_result r;

    (void)state;
    o.regions = 2;
    r = run(&o);
    assert_int_equal(r.healthy, 60);
    assert_true(r.transfers >= 60 * 64);
    assert_true(r.sent_bytes >= (double)r.transfers * MB);
    assert_true(r.useless <= r.transfers - 60 * 64);
    assert_true(r.ratios[0] >= 8 / bound_s(&o, 30));
    for (uint32_t i = 1; i < r.healthy; i++)
        assert_true(r.ratios[i - 1] <= r.ratios[i]);
    assert_true(r.p50 <= r.p99 && r.p99 <= r.p999 && r.p999 <= r.max);
    assert_true(r.max == r.ratios[59]);
    assert_true(r.virtual_s * 2 * 31 * 8 * MB >= r.sent_bytes); /* all uplinks, all the time */
    assert_true(r.far_bytes > 0 && r.far_bytes < r.sent_bytes);
    simulate_result_release(&r);
}

/* Queues that stand before full links keep leaves and messages waiting, up and down. */
static void a_queue_adds_to_the_latency(void **state)
{
    struct simulate_options o = small(16);
    struct simulate_result without, with;

    (void)state;
    without = run(&o);
    o.queue_ns = S / 5;
    with = run(&o);
    assert_true(with.p50 > without.p50);
    assert_true(with.virtual_s > without.virtual_s + 0.4);
    simulate_result_release(&without);
    simulate_result_release(&with);
}

static void the_seed_decides(void **state)
{
    struct simulate_options o = small(40);
    struct simulate_result a, b, c;

    (void)state;
    o.slow_share = o.die_share = 0.1;
    a = run(&o);
    b = run(&o);
    o.seed = 2;
    c = run(&o);
    assert_int_equal(a.healthy, b.healthy);
    assert_int_equal(a.events, b.events);
    assert_memory_equal(a.ratios, b.ratios, a.healthy * sizeof(a.ratios[0]));
    assert_true(a.events != c.events);
    simulate_result_release(&a);
    simulate_result_release(&b);
    simulate_result_release(&c);
}

static void a_dead_machine_holds_nobody_up(void **state)
{
    struct simulate_options o = small(50);
    struct simulate_result r;

    (void)state;
    o.die_share = 0.2;
    r = run(&o);
    assert_int_equal(r.healthy, 40);
    assert_in_range(r.died, 1, 10);
    assert_true(r.max < 3);
    simulate_result_release(&r);
}

static void a_slow_machine_is_late_alone(void **state)
{
    struct simulate_options o = small(50);
    struct simulate_result r;

    (void)state;
    o.slow_share = 0.04;
    o.slow_factor = 8;
    r = run(&o);
    assert_int_equal(r.healthy, 48);
    assert_int_equal(r.slow, 2);
    assert_true(r.slow_max >= 8 * 8 / bound_s(&o, 50));
    assert_true(r.max < r.slow_max / 2);
    simulate_result_release(&r);
}

/* More than the seed gives to at a time, and always the least complete. */
static void many_slow_machines_hold_nobody_up(void **state)
{
    struct simulate_options o = small(80);
    struct simulate_result r;

    (void)state;
    o.slow_share = 0.2;
    r = run(&o);
    assert_int_equal(r.slow, 16);
    assert_true(r.max < 2.5);
    simulate_result_release(&r);
}

/* Half are cut off before the seed has sent every piece once: they wait for the end of it. */
static void a_partition_ends(void **state)
{
    struct simulate_options o = small(40);
    struct simulate_result r;

    (void)state;
    o.cut_share = 0.4;
    o.cut_ns = 2 * S;
    o.cut_until_ns = 40 * S;
    r = run(&o);
    assert_int_equal(r.healthy, 40);
    assert_true(r.p50 * r.bound_s < 30);
    assert_true(r.max * r.bound_s > 40 && r.max * r.bound_s < 60);
    simulate_result_release(&r);
}

/* Over before anybody has noticed it: what was under way is lost all the same. */
static void a_short_partition_ends_too(void **state)
{
    struct simulate_options o = small(40);
    struct simulate_result r;

    (void)state;
    o.cut_share = 0.4;
    o.cut_ns = 2 * S;
    o.cut_until_ns = 2 * S + S / 2;
    r = run(&o);
    assert_int_equal(r.healthy, 40);
    assert_true(r.max * r.bound_s < 30);
    simulate_result_release(&r);
}

static void late_machines_count_from_when_they_join(void **state)
{
    struct simulate_options o = small(20);
    struct simulate_result r;

    (void)state;
    o.join_ns = 100 * S; /* most find a swarm of complete machines */
    r = run(&o);
    assert_true(r.p50 * r.bound_s < 16);
    assert_true(r.virtual_s > 60);
    simulate_result_release(&r);
}

struct seen {
    uint32_t region;
    double done;
    int calls;
};

static void see(void *ctx, uint32_t region, double done)
{
    struct seen *s = ctx;

    assert_true(region > s->region || (region == s->region && done > s->done));
    *s = (struct seen){ region, done, s->calls + 1 };
}

static void progress_rises_to_the_end(void **state)
{
    struct simulate_options o = small(10);
    struct simulate_result r;
    struct seen s = { 0, 0, 0 };

    (void)state;
    o.regions = 3;
    o.die_share = 0.1;
    simulate_swarm(&o, see, &s, &r);
    assert_int_equal(s.region, 2);
    assert_true(s.done == 1);
    assert_true(s.calls > 3);
    simulate_result_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_machine_takes_size_over_rate),
        cmocka_unit_test(headers_are_carried_too),
        cmocka_unit_test(the_slower_direction_counts),
        cmocka_unit_test(two_machines_trade),
        cmocka_unit_test(the_disk_can_be_the_bottleneck),
        cmocka_unit_test(bytes_are_conserved),
        cmocka_unit_test(a_queue_adds_to_the_latency),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(a_dead_machine_holds_nobody_up),
        cmocka_unit_test(a_slow_machine_is_late_alone),
        cmocka_unit_test(many_slow_machines_hold_nobody_up),
        cmocka_unit_test(a_partition_ends),
        cmocka_unit_test(a_short_partition_ends_too),
        cmocka_unit_test(late_machines_count_from_when_they_join),
        cmocka_unit_test(progress_rises_to_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
