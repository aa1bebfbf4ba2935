#include "lib/check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "lib/trees.h"
#include "planner.h"
#include "wire/msg.h"

enum { SEGMENTS_MAX = 8, L = LEAF_BYTES };

/* Packs told in words: of each segment a letter.
 *   '.'  it does not give it
 *   'c'  a copy: nothing of the pack is needed
 *   's'  1/8 of a leaf
 *   'L'  4 leaves
 *   'g'  1/8 of a leaf, and the covers that lie before the first 'g'
 * The head is 100 bytes. here: 'x' for each leaf that is here. */
struct made_pack {
    const char *segments, *here;
};

struct made {
    struct planner_pack p;
    struct planner_part parts[SEGMENTS_MAX];
    struct bitmap gives, here;
};

static void make(struct made *m, const struct made_pack *spec, size_t segments)
{
    uint64_t at = 100, covers = 0;

    memset(m, 0, sizeof(*m));
    bitmap_init(&m->gives, segments);
    for (size_t i = 0; i < segments; i++) {
        struct planner_part *part = &m->parts[i];
        char what = spec->segments[i];

        bitmap_put(&m->gives, i, what != '.');
        if (what == 'g') {
            if (covers == 0) {
                covers = at;
                at += L / 2;
            }
            part->at[0] = covers;
            part->len[0] = L / 2;
        }
        if (what != '.' && what != 'c') {
            part->at[1] = at;
            part->len[1] = what == 'L' ? 4 * L : L / 8;
            at += part->len[1];
        }
    }
    m->p = (struct planner_pack){
        .bytes = at, .head_leaves = 1, .parts = m->parts, .gives = &m->gives
    };
    bitmap_init(&m->here, (size_t)((at + L - 1) / L));
    for (size_t i = 0; spec->here != NULL && spec->here[i] != '\0'; i++)
        bitmap_put(&m->here, i, spec->here[i] == 'x');
    m->p.here = &m->here;
}

static void unmake(struct made *m)
{
    bitmap_release(&m->gives);
    bitmap_release(&m->here);
}

/* needed: 'n' for each segment that is. from: the pack of each segment, '-': none. */
static const struct planner_case {
    const char *name, *needed;
    struct made_pack packs[4];
    const char *from;
    uint64_t missing;
} cases[] = {
    { "only the full pack", "nnn", { { "LLL", NULL } }, "000", 12 * L + 100 },
    { "single segments of it", "-n-", { { "LLL", NULL } }, "-0-", 6 * L },
    { "a delta that gives all",
      "nnn",
      { { "LLL", NULL }, { "sss", NULL } },
      "111",
      3 * L / 8 + 100 },
    { "nothing but copies: its head", "nn", { { "LL", NULL }, { "cc", NULL } }, "11", 100 },
    { "a base file is not here: single segments of the full pack",
      "nnnn",
      { { "LLLL", NULL }, { "s.ss", NULL } },
      "1011",
      6 * L + 3 * L / 8 + 100 },
    { "the smaller of two deltas",
      "nnn",
      { { "LLL", NULL }, { "sLs", NULL }, { "sss", NULL } },
      "222",
      3 * L / 8 + 100 },
    { "two deltas that complete each other",
      "nnnn",
      { { "LLLL", NULL }, { "ss..", NULL }, { "..ss", NULL } },
      "1122",
      L / 2 + 200 },
    { "covers before the first segment of a group belong to the others, too",
      "--n",
      { { "LLL", NULL }, { "ggg", NULL } },
      "--1",
      3 * L / 8 + L / 2 + 100 },
    { "most of the full pack is here", "nn", { { "LL", "xxxxxxxxx" }, { "LL", NULL } }, "00", 0 },
    { "what of the full pack is here is kept: one segment is whole",
      "nn",
      { { "LL", "xxxxx----" }, { "ss", NULL } },
      "11",
      2 * L / 8 + 100 },
    { "what of it is here makes it the cheaper one for that segment",
      "nn",
      { { "LL", "xxxxx----" }, { "Ls", NULL } },
      "01",
      L + L / 8 + 100 },
    { "after a kill: the delta is here, whole", "nn", { { "LL", NULL }, { "ss", "x" } }, "11", 0 },
    { "a segment that nobody gives", "nn", { { "L.", NULL }, { "s.", NULL } }, NULL, 0 },
    { "nothing is needed", "--", { { "LL", NULL }, { "ss", NULL } }, "--", 0 },
};

static void check_case(const struct planner_case *c)
{
    struct made made[4];
    struct planner_pack packs[4];
    struct bitmap needed;
    struct plan plan = { .npacks = 0 };
    size_t n = 0, segments = strlen(c->needed);
    bool ok;

    bitmap_init(&needed, segments);
    for (size_t i = 0; i < segments; i++)
        bitmap_put(&needed, i, c->needed[i] == 'n');
    for (; n < 4 && c->packs[n].segments != NULL; n++) {
        make(&made[n], &c->packs[n], segments);
        packs[n] = made[n].p;
    }
    ok = planner_choose(&plan, packs, n, &needed);
    if (ok != (c->from != NULL))
        fail_msg("%s: %d", c->name, ok);
    for (size_t i = 0; ok && i < segments; i++) {
        char from = '-';

        for (size_t k = 0; k < n; k++)
            from = bitmap_get(&plan.take[k], i) ? (char)('0' + (int)k) : from;
        if (from != c->from[i])
            fail_msg("%s: segment %zu from %c, not %c", c->name, i, from, c->from[i]);
    }
    if (ok && plan.missing_bytes != c->missing)
        fail_msg("%s: %llu bytes, not %llu", c->name, (unsigned long long)plan.missing_bytes,
                 (unsigned long long)c->missing);
    for (size_t k = 0; ok && k < n; k++)
        assert_true(plan_uses(&plan, k) == (plan.leaves[k].set > 0));
    plan_release(&plan);
    for (size_t k = 0; k < n; k++)
        unmake(&made[k]);
    bitmap_release(&needed);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_case(&cases[i]);
}

/* --- random packs: the plan is sound, and never worse than any one delta with the full pack --- */

struct world {
    struct made made[4];
    struct planner_pack packs[4];
    char text[4][SEGMENTS_MAX + 1], here[4][64];
    struct bitmap needed;
    size_t npacks, segments;
};

static void random_world(struct world *w, struct random *r)
{
    memset(w, 0, sizeof(*w));
    w->segments = 1 + random_below(r, SEGMENTS_MAX - 2);
    w->npacks = 1 + random_below(r, 3);
    bitmap_init(&w->needed, w->segments);
    for (size_t k = 0; k < w->npacks; k++) {
        for (size_t i = 0; i < w->segments; i++)
            w->text[k][i] = k == 0 ? "sLL"[random_below(r, 3)] : ".cssgL"[random_below(r, 6)];
        for (size_t i = 0; i + 1 < sizeof(w->here[k]); i++)
            w->here[k][i] = random_below(r, 4) == 0 ? 'x' : '-';
        make(&w->made[k], &(struct made_pack){ w->text[k], w->here[k] }, w->segments);
        w->packs[k] = w->made[k].p;
    }
    for (size_t i = 0; i < w->segments; i++)
        bitmap_put(&w->needed, i, random_below(r, 3) > 0);
}

static void world_release(struct world *w)
{
    for (size_t k = 0; k < w->npacks; k++)
        unmake(&w->made[k]);
    bitmap_release(&w->needed);
}

static void take_range(const struct made *m, struct bitmap *leaves, uint64_t at, uint64_t len)
{
    (void)m;
    for (uint64_t b = at; b < at + len; b += LEAF_BYTES / 16)
        bitmap_put(leaves, (size_t)(b / LEAF_BYTES), true);
    if (len > 0)
        bitmap_put(leaves, (size_t)((at + len - 1) / LEAF_BYTES), true);
}

/* What it costs to take each segment from from[i], counted in another way than the planner does. */
static uint64_t cost_of(const struct world *w, const unsigned char *from)
{
    uint64_t bytes = 0;

    for (size_t k = 0; k < w->npacks; k++) {
        const struct made *m = &w->made[k];
        struct bitmap leaves;

        bitmap_init(&leaves, m->here.bits);
        for (size_t i = 0; i < w->segments; i++) {
            if (!bitmap_get(&w->needed, i) || from[i] != k)
                continue;
            bitmap_put(&leaves, 0, true);
            for (int p = 0; p < PLANNER_RANGES; p++)
                take_range(m, &leaves, m->parts[i].at[p], m->parts[i].len[p]);
        }
        for (size_t i = 0; i < leaves.bits; i++) {
            uint64_t left = m->p.bytes - i * LEAF_BYTES;

            if (bitmap_get(&leaves, i) && !bitmap_get(&m->here, i))
                bytes += left < LEAF_BYTES ? left : LEAF_BYTES;
        }
        bitmap_release(&leaves);
    }
    return bytes;
}

static bool can(const struct world *w, size_t k, size_t i)
{
    return bitmap_get(&w->made[k].gives, i);
}

/* The best of all ways there are. */
static uint64_t optimum(const struct world *w, unsigned char *from, size_t at)
{
    uint64_t best = UINT64_MAX;

    if (at == w->segments)
        return cost_of(w, from);
    for (size_t k = 0; k < w->npacks; k++) {
        uint64_t bytes;

        if (!can(w, k, at) || (!bitmap_get(&w->needed, at) && k > 0))
            continue;
        from[at] = (unsigned char)k;
        bytes = optimum(w, from, at + 1);
        best = bytes < best ? bytes : best;
    }
    return best;
}

static void test_random(void **state)
{
    struct random r = { 77 };
    uint64_t ours = 0, best = 0;

    (void)state;
    for (int round = 0; round < 400; round++) {
        struct world w;
        struct plan plan;
        unsigned char from[SEGMENTS_MAX] = { 0 };
        uint64_t least;

        random_world(&w, &r);
        assert_true(planner_choose(&plan, w.packs, w.npacks, &w.needed));
        for (size_t i = 0; i < w.segments; i++) {
            size_t given = 0;

            for (size_t k = 0; k < w.npacks; k++) {
                if (!bitmap_get(&plan.take[k], i))
                    continue;
                assert_true(can(&w, k, i));
                from[i] = (unsigned char)k;
                given++;
            }
            assert_int_equal(given, bitmap_get(&w.needed, i));
        }
        assert_int_equal(plan.missing_bytes, cost_of(&w, from));
        for (size_t k = 0; k < w.npacks; k++) {
            for (size_t i = 0; i < w.segments; i++)
                from[i] = can(&w, k, i) ? (unsigned char)k : 0;
            assert_true(plan.missing_bytes <= cost_of(&w, from));
        }
        least = optimum(&w, from, 0);
        assert_true(plan.missing_bytes >= least);
        ours += plan.missing_bytes;
        best += least;
        plan_release(&plan);
        world_release(&w);
    }
    assert_true(ours <= best + best / 50); /* 2 % over the optimum, over all */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
