#include "lib/check.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/figures.h"

enum { MB = 1000000 };

/* A machine that fetched 100 MB in 11 s by a limit of 10 MB/s. */
static const struct msg_fetch usual = {
    .done = 1,
    .rate_from = RATE_LIMIT,
    .rate = 10 * MB,
    .ms = 11000,
    .bytes = 100 * MB,
    .near_bytes = 60 * MB,
    .far_bytes = 20 * MB,
    .stolen = 3,
    .doubled = 2,
    .useless = 1,
    .edges = 10,
    .stale = 1,
};

static struct msg_progress telling(struct msg_fetch *f)
{
    return (struct msg_progress){ .staged_bytes = 100 * MB,
                                  .wanted_bytes = 100 * MB,
                                  .seed_bytes = 20 * MB,
                                  .peer_bytes = 80 * MB,
                                  .fetch = { f, 1 } };
}

static void the_ratio_is_time_over_bytes_by_rate(void **state)
{
    struct msg_fetch f = usual;

    (void)state;
    assert_int_equal(figures_ratio(&f), 1100);
    f.done = 0;
    assert_int_equal(figures_ratio(&f), 0);
    f = usual;
    f.bytes = 9 * MB; /* 0.9 s: latencies would be measured */
    assert_int_equal(figures_ratio(&f), 0);
    f.bytes = 10 * MB;
    assert_int_equal(figures_ratio(&f), 11000);
    f.ms = FIGURES_MS_MAX;
    assert_int_equal(figures_ratio(&f), FIGURES_RATIO_MAX);
    f.rate = 0;
    assert_int_equal(figures_ratio(&f), 0);
}

static void machines_add_up(void **state)
{
    struct figures *f = figures_new();
    struct msg_fetch one = usual, slow = usual, small = usual, running = usual,
                     none = { .done = 1 };
    struct msg_fetch *const all[] = { &one, &slow, &small, &running, &none };

    (void)state;
    slow.ms = 30000;
    slow.rate_from = RATE_OBSERVED;
    small.bytes = small.near_bytes = 5 * MB;
    small.far_bytes = 0;
    small.rate_from = RATE_LINK;
    running.done = 0;
    running.ms = 16000; /* of the 10 s that all of it would take */
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        struct msg_progress p = telling(all[i]);

        figures_add(f, &p);
    }
    figures_add(f, &(struct msg_progress){ .peer_bytes = 1 }); /* tells nothing of its fetch */
    assert_int_equal(f->sums.machines, 5);
    assert_int_equal(f->sums.done, 4);
    assert_int_equal(f->sums.rated, 2);
    assert_int_equal(f->sums.late, 1);
    assert_int_equal(f->sums.by_limit, 1);
    assert_int_equal(f->sums.by_observed, 1);
    assert_int_equal(f->sums.by_link, 0);
    assert_int_equal(f->sums.ratio_max, 3000);
    assert_int_equal(f->sums.ms_max, 30000);
    assert_int_equal(f->times.total, 3); /* who had nothing to fetch took no time */
    assert_in_range(spread_at(&f->ratios, 500), 1092, 1108);
    assert_int_equal(f->sums.near_bytes, (3 * 60 + 5) * MB);
    assert_int_equal(f->sums.far_bytes, 3 * 20 * MB);
    assert_int_equal(f->sums.stolen, 4 * 3);
    assert_int_equal(f->sums.edges, 40);
    assert_int_equal(f->sums.stale, 4);
    assert_int_equal(figures_cross_rack(&f->sums), 245);
    figures_free(f);
}

static void regions_add_up_to_what_one_would_say(void **state)
{
    struct figures *whole = figures_new(), *merged = figures_new();

    (void)state;
    for (int region = 0; region < 3; region++) {
        struct figures *part = figures_new();
        struct msg_counts told = { .swarm = { mem_calloc(1, sizeof(struct msg_swarm)), 1 } };

        for (int i = 0; i < 50; i++) {
            struct msg_fetch m = usual;
            struct msg_progress p = telling(&m);

            m.ms += (uint64_t)(i * 97 + region * 1000);
            figures_add(whole, &p);
            figures_add(part, &p);
        }
        figures_take(part, told.swarm.items);
        figures_merge(merged, told.swarm.items);
        codec_release(msg_codec(MSG_COUNTS), &told);
        figures_free(part);
    }
    assert_memory_equal(&whole->sums, &merged->sums, sizeof(whole->sums));
    assert_memory_equal(&whole->ratios, &merged->ratios, sizeof(whole->ratios));
    assert_memory_equal(&whole->times, &merged->times, sizeof(whole->times));
    figures_free(whole);
    figures_free(merged);
}

/* What a region tells of who was accused; *told is to be released. */
static const struct msg_swarm *take(struct figures *f, struct msg_counts *told)
{
    *told = (struct msg_counts){ .swarm = { mem_calloc(1, sizeof(struct msg_swarm)), 1 } };
    figures_take(f, told->swarm.items);
    figures_free(f);
    return told->swarm.items;
}

static void the_most_accused_come_first(void **state)
{
    struct figures *f = figures_new();
    struct msg_counts told;
    const struct msg_swarm *m;
    const struct msg_offender *o;
    char name[16];

    (void)state;
    for (int i = 0; i < FIGURES_ACCUSED_MAX; i++) {
        snprintf(name, sizeof(name), "m%03d", i);
        figures_accuse(f, name);
    }
    figures_accuse(f, "m007");
    figures_accuse(f, "more"); /* there is no room for it */
    figures_accuse(f, "more");
    figures_accuse(f, "more");
    m = take(f, &told);
    o = m->offenders.items;
    assert_int_equal(m->offenders.count, OFFENDERS_MAX);
    assert_string_equal(o[0].machine, "m007");
    assert_int_equal(o[0].by, 2);
    codec_release(msg_codec(MSG_COUNTS), &told);
}

static void a_machine_accuses_another_once(void **state)
{
    struct figures *f = figures_new();
    char evil[] = "evil", odd[] = "odd";
    struct msg_banned names[] = { { evil }, { odd }, { evil } };
    struct msg_counts told;
    const struct msg_swarm *m;
    const struct msg_offender *o;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct msg_fetch one = usual;
        struct msg_progress p = telling(&one);

        one.banned = (struct list_of){ names, i == 0 ? 1 : 3 };
        figures_add(f, &p);
    }
    m = take(f, &told);
    o = m->offenders.items;
    assert_int_equal(m->offenders.count, 2);
    assert_string_equal(o[0].machine, "evil");
    assert_int_equal(o[0].by, 3);
    assert_int_equal(o[1].by, 2);
    codec_release(msg_codec(MSG_COUNTS), &told);
}

static void absurd(void (*change)(struct msg_progress *p, struct msg_fetch *f), const char *why)
{
    struct msg_fetch f = usual;
    struct msg_progress p = telling(&f);
    struct err err = ERR_INIT;

    assert_int_equal(figures_check(&p, 200 * MB, &err), 0);
    change(&p, &f);
    if (figures_check(&p, 200 * MB, &err) == 0)
        fail_msg("%s: was believed", why);
    assert_int_equal(err.code, ERR_INVALID);
}

#define ABSURD(name, expr)                                        \
    static void name(struct msg_progress *p, struct msg_fetch *f) \
    {                                                             \
        (void)p, (void)f;                                         \
        expr;                                                     \
    }
ABSURD(too_much_wanted, p->wanted_bytes = 300 * MB)
ABSURD(more_staged_than_wanted, p->staged_bytes = p->wanted_bytes + 1)
ABSURD(from_seed, p->seed_bytes = UINT64_MAX)
ABSURD(wraps_around, p->peer_bytes = UINT64_MAX - 10 * MB)
ABSURD(from_both, (p->seed_bytes = 150 * MB, p->peer_bytes = 150 * MB))
ABSURD(saved, p->saved_bytes = UINT64_MAX / 2)
ABSURD(no_such_rate, f->rate_from = RATE_OBSERVED + 1)
ABSURD(rate_of_nothing, f->rate_from = RATE_NONE)
ABSURD(nothing_of_a_rate, f->rate = 0)
ABSURD(slow_rate, f->rate = 1)
ABSURD(fast_rate, f->rate = UINT64_MAX)
ABSURD(for_ever, f->ms = UINT64_MAX)
ABSURD(at_once, f->ms = 1)
ABSURD(done_twice, f->done = 2)
ABSURD(too_many_bytes, f->bytes = 300 * MB)
ABSURD(near, f->near_bytes = f->bytes + 1)
ABSURD(far, f->far_bytes = UINT64_MAX)
ABSURD(edges, f->edges = UINT32_MAX)
ABSURD(stale, f->stale = f->edges + 1)

static void what_no_machine_can_have_done_is_refused(void **state)
{
    (void)state;
#define REFUSED(name) absurd(name, #name)
    REFUSED(too_much_wanted);
    REFUSED(more_staged_than_wanted);
    REFUSED(from_seed);
    REFUSED(wraps_around);
    REFUSED(from_both);
    REFUSED(saved);
    REFUSED(no_such_rate);
    REFUSED(rate_of_nothing);
    REFUSED(nothing_of_a_rate);
    REFUSED(slow_rate);
    REFUSED(fast_rate);
    REFUSED(for_ever);
    REFUSED(at_once);
    REFUSED(done_twice);
    REFUSED(too_many_bytes);
    REFUSED(near);
    REFUSED(far);
    REFUSED(edges);
    REFUSED(stale);
}

/* Told by whoever is harmed for long, or by a liar: it is believed as far as it can matter. */
static void counts_are_cut(void **state)
{
    struct msg_fetch f = usual;
    struct msg_progress p = telling(&f);
    struct err err = ERR_INIT;

    (void)state;
    f.stolen = f.doubled = f.useless = f.bad = UINT32_MAX;
    assert_ok(figures_check(&p, 200 * MB, &err), &err);
    figures_cut(&p, 200 * MB);
    assert_in_range(f.stolen, 200 * MB / LEAF_BYTES, 200 * MB / LEAF_BYTES * 20);
    assert_int_equal(f.doubled, f.stolen);
    assert_int_equal(f.useless, f.stolen);
    assert_int_equal(f.bad, f.stolen);
    f = usual;
    figures_cut(&p, 200 * MB);
    assert_int_equal(f.stolen, usual.stolen);
}

/* The first leaf passes at once, however low the limit is. */
static void a_burst_is_no_lie(void **state)
{
    struct msg_fetch f = {
        .done = 1, .rate_from = RATE_LIMIT, .rate = 1024, .ms = 40, .bytes = LEAF_BYTES
    };
    struct msg_progress p = { .staged_bytes = LEAF_BYTES,
                              .wanted_bytes = LEAF_BYTES,
                              .seed_bytes = LEAF_BYTES,
                              .fetch = { &f, 1 } };
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(figures_check(&p, 0, &err), &err);
}

static void without_a_known_size_there_is_still_a_limit(void **state)
{
    struct msg_fetch f = usual;
    struct msg_progress p = telling(&f);
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(figures_check(&p, 0, &err), 0);
    p.wanted_bytes = FIGURES_BYTES_MAX + 1;
    assert_int_equal(figures_check(&p, 0, &err), -ERR_INVALID);
    p = telling(&f);
    p.fetch.count = 0; /* an agent that measures nothing */
    assert_int_equal(figures_check(&p, 0, &err), 0);
}

static void copies_are_of_the_pack_that_was_sent_most(void **state)
{
    struct msg_pack_sent packs[] = { { .bytes = 100, .sent_bytes = 210 },
                                     { .bytes = 0, .sent_bytes = 5 },
                                     { .bytes = 1000, .sent_bytes = 700 } };
    struct msg_swarm m = { .packs = { packs, 3 } };

    (void)state;
    assert_int_equal(figures_copies(&m), 2100);
    m.packs.count = 0;
    assert_int_equal(figures_copies(&m), 0);
    assert_int_equal(figures_cross_rack(&m), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ratio_is_time_over_bytes_by_rate),
        cmocka_unit_test(machines_add_up),
        cmocka_unit_test(regions_add_up_to_what_one_would_say),
        cmocka_unit_test(the_most_accused_come_first),
        cmocka_unit_test(a_machine_accuses_another_once),
        cmocka_unit_test(what_no_machine_can_have_done_is_refused),
        cmocka_unit_test(counts_are_cut),
        cmocka_unit_test(a_burst_is_no_lie),
        cmocka_unit_test(without_a_known_size_there_is_still_a_limit),
        cmocka_unit_test(copies_are_of_the_pack_that_was_sent_most),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
