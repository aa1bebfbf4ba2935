/* Who answers late, and what arrives when nobody waits for it. */
#include "lib/peer_world.h"

#include "lib/check.h"
#include "swarm/peer_internal.h"

/* How often it is accused for sending that leaf so many times. */
static size_t accused_after(struct world *w, int link, int pack, uint32_t leaf, size_t times)
{
    size_t accused = 0;

    for (size_t i = 0; i < times; i++) {
        assert_false(peer_takes(w->p, link, pack, leaf, w->now_ms));
        world_take(w);
        accused += world_count(w, PEER_ACCUSE, link);
    }
    return accused;
}

/* What is here, what is lacking, and what is of a pack that is not open: all the same. */
static void who_sends_what_nobody_asked_for_is_accused(void **state)
{
    struct world w;
    uint32_t leaf;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, 1);
    link = world_add_link(&w, 0, LEAVES);
    leaf = world_first(&w, PEER_WANT, link)->a.first;
    world_bring(&w, link, leaf);
    assert_int_equal(accused_after(&w, link, w.pack, leaf, PEER_UNASKED_MAX - 1), 0);
    assert_int_equal(accused_after(&w, link, w.pack, leaf, 1), 1);
    assert_int_equal(accused_after(&w, link, w.pack, 0, PEER_UNASKED_MAX), 1);
    assert_int_equal(accused_after(&w, link, -1, 0, PEER_UNASKED_MAX), 1);
    link = world_add_link(&w, 0, 0);
    assert_int_equal(accused_after(&w, link, w.pack, LEAVES - 1, PEER_UNASKED_MAX), 1);
    assert_false(bitmap_get(peer_pack_has(w.p, w.pack), LEAVES - 1));
    assert_int_equal(accused_after(&w, link, -1, 0, PEER_UNASKED_MAX), 1);
    peer_link_close(w.p, link, w.now_ms);
    world_close(&w);
}

/* Nor does it keep a link alive that brings nothing else. */
static void what_nobody_asked_for_is_no_life(void **state)
{
    struct world w;
    int link, other;

    (void)state;
    world_open(&w, false, LEAVES, 1);
    link = world_add_link(&w, 0, LEAVES);
    while (w.now_ms < PEER_SILENT_MS + PEER_SILENT_MS / 2) {
        world_pass(&w, w.now_ms + 1000);
        (void)peer_takes(w.p, link, w.pack, 0, w.now_ms);
        world_take(&w);
    }
    assert_int_equal(world_count(&w, PEER_WANT, link), 0);
    other = world_add_link(&w, 0, LEAVES);
    assert_int_equal(world_count(&w, PEER_WANT, other), PEER_ASKS / 2);
    assert_int_equal(world_count(&w, PEER_WANT, link), 0);
    assert_int_equal(world_count(&w, PEER_CANCEL, link), 0); /* it had lost all before */
    world_close(&w);
}

/* It was on its way when it was taken away, or given up: by a CANCEL, by time, or with its pack. */
static void who_answers_late_is_not_accused(void **state)
{
    struct world w;
    uint32_t leaf[PEER_ASKS];
    int slow, fast;

    (void)state;
    world_open(&w, false, LEAVES, LEAVES - 1);
    slow = world_add_link(&w, 0, LEAVES);
    fast = world_add_link(&w, 0, LEAVES);
    world_bring(&w, fast, LEAVES - 1);
    assert_int_equal(world_count(&w, PEER_CANCEL, slow), 1);
    assert_int_equal(accused_after(&w, slow, w.pack, LEAVES - 1, PEER_UNASKED_MAX), 0);
    assert_int_equal(accused_after(&w, slow, w.pack, LEAVES - 1, 1), 1);
    world_close(&w);

    for (int closed = 0; closed <= 1; closed++) {
        size_t n = 0;

        world_open(&w, false, LEAVES, 0);
        slow = world_add_link(&w, 0, LEAVES);
        for (size_t i = 0; i < w.nseen; i++)
            if (w.seen[i].a.kind == PEER_WANT)
                leaf[n++] = w.seen[i].a.first;
        assert_int_equal(n, PEER_ASKS);
        if (closed)
            peer_pack_close(w.p, w.pack, w.now_ms);
        else
            world_pass(&w, w.now_ms + PEER_SILENT_MS + 1000);
        for (size_t i = 0; i < n; i++)
            (void)peer_takes(w.p, slow, closed ? -1 : w.pack, leaf[i], w.now_ms);
        world_take(&w);
        assert_int_equal(world_count(&w, PEER_ACCUSE, slow), 0);
        assert_int_equal(accused_after(&w, slow, closed ? -1 : w.pack, leaf[0], PEER_UNASKED_MAX),
                         1);
        world_close(&w);
    }
}

/* Who is slow does not count among the two. */
static void at_the_end_a_slow_one_is_not_one_of_two(void **state)
{
    struct world w;
    uint32_t leaf;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, LEAVES - 2);
    (void)world_add_link(&w, 0, LEAVES);
    w.now_ms += 300;
    link = world_add_link(&w, 0, LEAVES);
    leaf = world_first(&w, PEER_WANT, link)->a.first;
    w.now_ms += 100;
    world_bring(&w, link, leaf);
    (void)world_add_link(&w, 0, LEAVES);
    assert_int_equal(peer_pack_figures(w.p, w.pack).doubled, 2);
    w.now_ms +=
        PEER_STEAL_MIN_MS - 401; /* nothing is overdue yet, one three times as old as usual */
    world_step(&w, (struct peer_event){ .kind = PEER_TICK });
    assert_int_equal(peer_pack_figures(w.p, w.pack).doubled, 3);
    (void)world_add_link(&w, 0, LEAVES);
    assert_int_equal(peer_pack_figures(w.p, w.pack).doubled, 3);
    assert_int_equal(peer_pack_figures(w.p, w.pack).stolen, 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_sends_what_nobody_asked_for_is_accused),
        cmocka_unit_test(what_nobody_asked_for_is_no_life),
        cmocka_unit_test(who_answers_late_is_not_accused),
        cmocka_unit_test(at_the_end_a_slow_one_is_not_one_of_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
