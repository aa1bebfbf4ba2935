/* Dividing by the largest remainder: sums fit, nobody falls, nobody is over its size. */
#include "lib/check.h"

#include "base/mem.h"
#include "rollout/share.h"

static void tables(void **state)
{
    static const struct {
        uint64_t sizes[4], before[4], target, after[4];
    } cases[] = {
        { { 4, 4, 4 }, { 0 }, 1, { 1, 0, 0 } },
        { { 4, 4, 4 }, { 0 }, 6, { 2, 2, 2 } },
        { { 4, 4, 4 }, { 1, 0, 0 }, 5, { 2, 2, 1 } },
        { { 1000, 10, 0, 1 }, { 0 }, 101, { 100, 1, 0, 0 } },
        { { 10, 20, 30, 40 }, { 0 }, 10, { 1, 2, 3, 4 } },
        { { 10, 20, 30, 40 }, { 5, 0, 0, 0 }, 10, { 5, 2, 3, 0 } },
        { { 3, 3, 3 }, { 3, 0, 0 }, 4, { 3, 1, 0 } },
        { { 7, 5 }, { 7, 5 }, 12, { 7, 5 } },
        { { 0, 0 }, { 0 }, 0, { 0, 0 } },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t shares[4];

        memcpy(shares, cases[i].before, sizeof(shares));
        share_raise(shares, cases[i].sizes, 4, cases[i].target);
        if (memcmp(shares, cases[i].after, sizeof(shares)) != 0)
            print_error("case %zu: %llu %llu %llu %llu\n", i, (unsigned long long)shares[0],
                        (unsigned long long)shares[1], (unsigned long long)shares[2],
                        (unsigned long long)shares[3]);
        assert_memory_equal(shares, cases[i].after, sizeof(shares));
    }
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void properties(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint64_t sizes[8], shares[8] = { 0 }, all = 0, target = 0;
        size_t n = 1 + next_random(&seed) % 8;

        for (size_t i = 0; i < n; i++)
            all += sizes[i] = next_random(&seed) % 50;
        while (target < all) {
            uint64_t before[8], sum = 0;

            memcpy(before, shares, sizeof(before));
            target += 1 + next_random(&seed) % (all - target);
            share_raise(shares, sizes, n, target);
            for (size_t i = 0; i < n; i++) {
                assert_true(shares[i] >= before[i]);
                assert_true(shares[i] <= sizes[i]);
                sum += shares[i];
            }
            assert_int_equal(sum, target);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
        cmocka_unit_test(properties),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
