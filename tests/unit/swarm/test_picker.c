#include "lib/check.h"
#include "swarm/picker.h"

static void full_peer(struct picker *p, int peer)
{
    for (size_t i = 0; i < picker_have(p)->bits; i++)
        assert_true(picker_peer_have(p, peer, i));
}

static void pieces_grow_with_the_pack(void **state)
{
    static const struct {
        size_t leaves, piece;
    } cases[] = { { 0, 1 }, { 1, 1 }, { 400, 1 }, { 2048, 2 }, { 40960, 32 }, { 1 << 20, 64 } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(picker_piece_leaves(cases[i].leaves), cases[i].piece);
}

static void empty_pack_is_done(void **state)
{
    struct picker *p = picker_new(0, 1);

    (void)state;
    assert_true(picker_done(p));
    picker_free(p);
}

static void rarest_comes_first(void **state)
{
    struct picker *p = picker_new(4, 7);
    int seed = picker_peer_add(p), other = picker_peer_add(p);
    size_t first, count;

    (void)state;
    full_peer(p, seed);
    assert_true(picker_peer_have(p, other, 0));
    assert_true(picker_peer_have(p, other, 1));
    assert_true(picker_peer_have(p, other, 3));
    assert_true(picker_choose(p, seed, 0, &first, &count));
    assert_int_equal(first, 2);
    assert_int_equal(count, 1);
    picker_free(p);
}

static void a_piece_is_asked_once_until_overdue(void **state)
{
    struct picker *p = picker_new(1, 7);
    int a = picker_peer_add(p), b = picker_peer_add(p), c = picker_peer_add(p);
    size_t first, count;

    (void)state;
    full_peer(p, a);
    full_peer(p, b);
    full_peer(p, c);
    assert_true(picker_choose(p, a, 1000, &first, &count));
    assert_false(picker_choose(p, b, 1000 + STEAL_MIN_MS - 1, &first, &count));
    assert_true(picker_choose(p, b, 1000 + STEAL_MIN_MS, &first, &count));
    assert_false(picker_choose(p, c, 1000 + 2 * STEAL_MIN_MS - 1, &first, &count));
    assert_true(picker_got(p, b, 0, 3000));
    assert_false(picker_got(p, a, 0, 3001));
    assert_int_equal(picker_asked(p, a), 0);
    assert_int_equal(picker_asked(p, b), 0);
    assert_true(picker_done(p));
    picker_free(p);
}

static void a_peer_that_goes_frees_its_pieces(void **state)
{
    struct picker *p = picker_new(1, 7);
    int a = picker_peer_add(p), b = picker_peer_add(p);
    size_t first, count;

    (void)state;
    full_peer(p, a);
    full_peer(p, b);
    assert_true(picker_choose(p, a, 0, &first, &count));
    picker_peer_remove(p, a);
    assert_true(picker_choose(p, b, 1, &first, &count));
    picker_refused(p, b, first, count);
    assert_int_equal(picker_asked(p, b), 0);
    assert_true(picker_choose(p, b, 2, &first, &count));
    picker_free(p);
}

static void partial_pieces_are_completed_by_others(void **state)
{
    struct picker *p = picker_new(4096, 7); /* 4 leaves a piece */
    int a = picker_peer_add(p), b = picker_peer_add(p);
    size_t first, count;

    (void)state;
    picker_peer_have(p, a, 0);
    picker_peer_have(p, a, 1);
    full_peer(p, b);
    assert_true(picker_choose(p, a, 0, &first, &count));
    assert_int_equal(first, 0);
    assert_int_equal(count, 2);
    assert_true(picker_got(p, a, 0, 1));
    assert_int_equal(picker_asked(p, a), 1);
    assert_true(picker_got(p, a, 1, 1));
    assert_int_equal(picker_asked(p, a), 0);
    picker_free(p);
}

static void malformed_input_is_refused(void **state)
{
    struct picker *p = picker_new(9, 7);
    int a = picker_peer_add(p);
    unsigned char too_short[1] = { 0xff }, past_end[2] = { 0xff, 0x02 }, good[2] = { 0xff, 0x01 };

    (void)state;
    assert_false(picker_peer_bitmap(p, a, too_short, 1));
    assert_false(picker_peer_bitmap(p, a, past_end, 2));
    assert_true(picker_peer_bitmap(p, a, good, 2));
    assert_int_equal(picker_peer_has(p, a)->set, 9);
    assert_true(picker_peer_bitmap(p, a, NULL, 0));
    assert_int_equal(picker_peer_has(p, a)->set, 0);
    assert_false(picker_peer_have(p, a, 9));
    picker_free(p);
}

/* Two silent peers have all pieces; the third is asked for them nevertheless, and the silent ones lose
 * what they were asked for. */
static void silence_stops_nothing(void **state)
{
    struct picker *p = picker_new(2, 7);
    int peers[3];
    size_t first, count;

    (void)state;
    for (int k = 0; k < 3; k++) {
        peers[k] = picker_peer_add(p);
        assert_true(picker_peer_have(p, peers[k], 0));
        assert_true(picker_peer_have(p, peers[k], 1));
    }
    assert_true(picker_choose(p, peers[0], 0, &first, &count));
    assert_true(picker_choose(p, peers[0], 0, &first, &count));
    assert_false(picker_choose(p, peers[1], STEAL_MIN_MS - 1, &first, &count));
    assert_true(picker_choose(p, peers[1], STEAL_MIN_MS, &first, &count));
    assert_true(picker_choose(p, peers[1], STEAL_MIN_MS, &first, &count));
    assert_false(picker_choose(p, peers[2], 2 * STEAL_MIN_MS - 1, &first, &count));
    assert_true(picker_choose(p, peers[2], 2 * STEAL_MIN_MS, &first, &count));
    assert_true(picker_got(p, peers[2], first, 2 * STEAL_MIN_MS));
    picker_expire(p, PICKER_SILENT_MS);
    assert_int_equal(picker_asked(p, peers[0]), 0);
    assert_int_equal(picker_asked(p, peers[1]), 1);
    assert_false(picker_choose(p, peers[0], PICKER_SILENT_MS, &first, &count)); /* for a while */
    picker_peer_remove(p, peers[1]);
    picker_peer_remove(p, peers[2]);
    /* It alone has what is missing: it is asked again after a while. */
    assert_true(picker_choose(p, peers[0], 2 * PICKER_SILENT_MS, &first, &count));
    picker_peer_lacks(p, peers[0], first);
    picker_refused(p, peers[0], first, count);
    assert_false(picker_choose(p, peers[0], 2 * PICKER_SILENT_MS, &first, &count));
    picker_free(p);
}

static void peers_are_limited(void **state)
{
    struct picker *p = picker_new(8, 7);

    (void)state;
    for (int i = 0; i < PICKER_PEERS_MAX; i++)
        assert_int_equal(picker_peer_add(p), i);
    assert_int_equal(picker_peer_add(p), -1);
    picker_peer_remove(p, 5);
    assert_int_equal(picker_peer_add(p), 5);
    picker_free(p);
}

/* A swarm of one downloader and some peers that answer at random: it always completes. */
static void it_always_completes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        size_t leaves = seed * 37 % 3000 + 1, first, count;
        struct picker *p = picker_new(leaves, seed);
        int peers[5];
        int64_t now_ms = 0;

        for (size_t k = 0; k < 5; k++) {
            peers[k] = picker_peer_add(p);
            for (size_t i = 0; i < leaves; i++)
                if (k == 0 || (i * 2654435761u + seed + k) % 3 == 0)
                    assert_true(picker_peer_have(p, peers[k], i));
        }
        while (!picker_done(p)) {
            now_ms += 100;
            for (size_t k = 0; k < 5; k++) {
                if (!picker_choose(p, peers[k], now_ms, &first, &count))
                    continue;
                if ((first + seed + k) % 7 == 0 && k != 0) {
                    picker_refused(p, peers[k], first, count);
                    continue;
                }
                for (size_t i = 0; i < count; i++)
                    (void)picker_got(p, peers[k], first + i, now_ms);
            }
            assert_true(now_ms < 100 * 100000);
        }
        picker_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_grow_with_the_pack),
        cmocka_unit_test(empty_pack_is_done),
        cmocka_unit_test(rarest_comes_first),
        cmocka_unit_test(a_piece_is_asked_once_until_overdue),
        cmocka_unit_test(a_peer_that_goes_frees_its_pieces),
        cmocka_unit_test(partial_pieces_are_completed_by_others),
        cmocka_unit_test(malformed_input_is_refused),
        cmocka_unit_test(silence_stops_nothing),
        cmocka_unit_test(peers_are_limited),
        cmocka_unit_test(it_always_completes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
