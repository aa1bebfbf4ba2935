#include "lib/check.h"

#include "swarm/rarity.h"

enum { LEAVES = 200, SETS = 40 };

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x >> 12;
    *x ^= *x << 25;
    *x ^= *x >> 27;
    return *x * 2685821657736338717u;
}

static void random_set(struct bitmap *b, uint64_t *x)
{
    bitmap_init(b, LEAVES);
    for (size_t i = 0; i < LEAVES; i++)
        if (next_random(x) % 3 == 0)
            bitmap_put(b, i, true);
}

/* Beside plain counters: sets come, leaves come and go, and at last everything is gone. */
static void it_counts(void **state)
{
    struct bitmap sets[SETS];
    size_t plain[LEAVES] = { 0 };
    struct rarity r;
    uint64_t x = 7;

    (void)state;
    rarity_init(&r, LEAVES);
    for (size_t k = 0; k < SETS; k++) {
        random_set(&sets[k], &x);
        rarity_add_all(&r, &sets[k]);
        for (size_t i = 0; i < LEAVES; i++) {
            size_t set = bitmap_get(&sets[k], i);

            plain[i] += set;
            if (set && i % 5 == k % 5) {
                bitmap_put(&sets[k], i, false);
                rarity_remove(&r, i);
                plain[i]--;
            } else if (!set && i % 7 == k % 7) {
                bitmap_put(&sets[k], i, true);
                rarity_add(&r, i);
                plain[i]++;
            }
            assert_int_equal(rarity_of(&r, i), plain[i]);
        }
    }
    for (size_t k = 0; k < SETS; k++) {
        rarity_remove_all(&r, &sets[k]);
        bitmap_release(&sets[k]);
    }
    for (size_t i = 0; i < LEAVES; i++)
        assert_int_equal(rarity_of(&r, i), 0);
    rarity_release(&r);
}

static void the_least_are_kept(void **state)
{
    struct rarity r;
    uint64_t set[(LEAVES + 63) / 64] = { 0 };

    (void)state;
    rarity_init(&r, LEAVES);
    rarity_keep_least(&r, set); /* of nothing: nothing */
    assert_int_equal(set[0], 0);
    for (size_t i = 0; i < LEAVES; i++)
        for (size_t k = 0; k < 2 + i % 6; k++)
            rarity_add(&r, i);
    set[0] = 0xffu << 1; /* leaves 1 to 8; 6 has the least */
    set[1] = 1u << 5;    /* 69 has 5 */
    rarity_keep_least(&r, set);
    assert_int_equal(set[0], 1u << 6);
    assert_int_equal(set[1], 0);
    set[0] = 1u << 6;
    set[1] = 1u << 2; /* 66, likewise a multiple of 6 */
    rarity_keep_least(&r, set);
    assert_int_equal(set[0], 1u << 6);
    assert_int_equal(set[1], 1u << 2);
    rarity_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_counts),
        cmocka_unit_test(the_least_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
