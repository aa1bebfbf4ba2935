#include "lib/check.h"

#include "swarm/seeding.h"

enum { LEAVES = 101, PIECE = 2, PIECES = 51 };

/* Gives the shown piece. */
static void give(struct seeding *s, int peer, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++)
        seeding_given(s, peer, first + i);
}

static void no_piece_twice_before_all_once(void **state)
{
    struct seeding *s = seeding_new(LEAVES, PIECE, 7);
    int given[PIECES] = { 0 }, of[4] = { 0 }, peer;
    size_t first, count, leaves = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(seeding_peer_add(s), i);
    for (int i = 0; i < PIECES; i++) {
        assert_true(seeding_show(s, 0, &peer, &first, &count));
        give(s, peer, first, count);
        given[first / PIECE]++;
        of[peer]++;
        leaves += count;
    }
    for (int i = 0; i < PIECES; i++)
        assert_int_equal(given[i], 1);
    for (int i = 0; i < 4; i++)
        assert_in_range(of[i], PIECES / 4, PIECES / 4 + 1); /* the least complete one, always */
    assert_int_equal(leaves, LEAVES);
    seeding_free(s);
}

static void few_are_out_at_a_time(void **state)
{
    struct seeding *s = seeding_new(LEAVES, PIECE, 7);
    int peer, shown = 0, of[8] = { 0 };
    size_t first, count;

    (void)state;
    for (int i = 0; i < 8; i++)
        (void)seeding_peer_add(s);
    while (seeding_show(s, 0, &peer, &first, &count)) {
        of[peer]++;
        shown++;
    }
    assert_int_equal(shown, SEEDING_OUT_ALL);
    for (int i = 0; i < 8; i++)
        assert_int_equal(of[i], 1);
    seeding_starves(s);
    while (seeding_show(s, 0, &peer, &first, &count))
        shown++;
    assert_int_equal(shown, 2 * SEEDING_OUT_ALL);
    assert_false(seeding_show(s, SEEDING_TAKE_MS - 1, &peer, &first, &count));
    assert_true(seeding_show(s, SEEDING_TAKE_MS, &peer, &first, &count));
    seeding_free(s);
}

static void what_peers_have_is_not_rare(void **state)
{
    struct seeding *s = seeding_new(LEAVES, PIECE, 7);
    int a, b, peer;
    size_t first, count;

    (void)state;
    a = seeding_peer_add(s);
    b = seeding_peer_add(s);
    for (size_t i = 0; i < LEAVES; i++)
        if (i / PIECE != 13)
            seeding_has(s, a, i);
    assert_true(seeding_show(s, 0, &peer, &first, &count));
    assert_int_equal(peer, b);
    assert_int_equal(first, 13 * PIECE);
    seeding_peer_remove(s, b);
    assert_true(seeding_show(s, 0, &peer, &first, &count));
    assert_int_equal(peer, a); /* b is gone, and with it what it was shown */
    assert_int_equal(first, 13 * PIECE);
    give(s, a, first, count);
    assert_false(seeding_show(s, 0, &peer, &first, &count)); /* a has all */
    seeding_free(s);
}

static void peers_are_limited(void **state)
{
    struct seeding *s = seeding_new(LEAVES, PIECE, 7);

    (void)state;
    for (int i = 0; i < SEEDING_PEERS_MAX; i++)
        assert_int_equal(seeding_peer_add(s), i);
    assert_int_equal(seeding_peer_add(s), -1);
    seeding_peer_remove(s, 5);
    assert_int_equal(seeding_peer_add(s), 5);
    seeding_has(s, 5, LEAVES); /* no such leaf: harmless */
    seeding_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_piece_twice_before_all_once),
        cmocka_unit_test(few_are_out_at_a_time),
        cmocka_unit_test(what_peers_have_is_not_rare),
        cmocka_unit_test(peers_are_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
