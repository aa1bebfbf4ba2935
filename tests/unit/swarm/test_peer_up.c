#include "lib/peer_world.h"

#include <string.h>

#include "base/mem.h"
#include "lib/check.h"
#include "swarm/peer_internal.h"

/* ---- up ---- */

static void the_least_complete_comes_first(void **state)
{
    struct world w;
    int link[4];

    (void)state;
    world_open(&w, false, LEAVES, LEAVES);
    for (int i = 0; i < 4; i++)
        link[i] = world_add_link(&w, 0, (size_t)(60 - 10 * i));
    for (int i = 0; i < 4; i++) {
        world_say(&w, PEER_ON_WANT, link[i], 99);
        assert_int_equal(world_count(&w, PEER_GIVE, link[i]), i < PEER_UPLOADS_FIRST);
    }
    world_say(&w, PEER_SENT, link[0], 99);
    assert_int_equal(world_count(&w, PEER_GIVE, link[3]), 1);
    world_say(&w, PEER_SENT, link[1], 99);
    assert_int_equal(world_count(&w, PEER_GIVE, link[2]), 1);
    world_close(&w);
}

/* Those that would wait behind others are told to ask elsewhere, the most complete first. */
static void few_wait(void **state)
{
    enum { ASKERS = PEER_UPLOADS + PEER_WAITING + 2 };
    struct world w;
    int link[ASKERS];

    (void)state;
    world_open(&w, false, LEAVES, LEAVES);
    for (int i = 0; i < ASKERS; i++)
        link[i] = world_add_link(&w, 0, (size_t)(50 - i));
    for (int i = 0; i < PEER_UPLOADS_FIRST + PEER_WAITING; i++) {
        world_say(&w, PEER_ON_WANT, link[i], 99);
        assert_int_equal(world_count(&w, PEER_REFUSE, -1), 0);
    }
    /* one that has more than those that wait; then one that has less */
    world_say(&w, PEER_ON_WANT, link[0], 98);
    assert_int_equal(world_count(&w, PEER_REFUSE, link[0]), 1);
    world_say(&w, PEER_ON_WANT, link[ASKERS - 1], 99);
    assert_int_equal(world_count(&w, PEER_REFUSE, link[ASKERS - 1]), 0);
    assert_int_equal(world_count(&w, PEER_REFUSE, link[PEER_UPLOADS_FIRST]), 1);
    assert_int_equal(world_first(&w, PEER_REFUSE, link[PEER_UPLOADS_FIRST])->a.code, ERR_AGAIN);
    world_close(&w);
}

/* How many are given something at a time in the end. */
static size_t uploads_of(size_t leaves)
{
    enum { ASKERS = PEER_UPLOADS + PEER_WAITING + 2 };
    struct world w;
    size_t given = 0, open = 0;

    world_open(&w, false, leaves, leaves);
    for (int i = 0; i < ASKERS; i++)
        (void)world_add_link(&w, 0, 0);
    for (uint32_t leaf = 0; leaf < 60; leaf++) {
        open = 0;
        for (int i = 0; i < ASKERS; i++) {
            world_say(&w, PEER_ON_WANT, i, leaf);
            given += world_count(&w, PEER_GIVE, -1);
            open += world_count(&w, PEER_GIVE, -1);
        }
        assert_true(open <= PEER_UPLOADS_FIRST + given / PEER_UPLOADS_GIFTS);
        for (int i = 0; i < ASKERS; i++) {
            world_say(&w, PEER_SENT, i, leaf);
            given += world_count(&w, PEER_GIVE, -1);
            world_say(&w, PEER_ON_CANCEL, i, leaf);
        }
        for (int i = 0; i < ASKERS; i++)
            world_say(&w, PEER_SENT, i, leaf);
    }
    world_close(&w);
    return open;
}

static void uploads_grow_with_the_pieces(void **state)
{
    (void)state;
    assert_int_equal(uploads_of(60), 4);
    assert_int_equal(uploads_of(64), 5);
    assert_int_equal(uploads_of(130), 6);
    assert_int_equal(uploads_of(256), PEER_UPLOADS);
    assert_int_equal(uploads_of(1000), PEER_UPLOADS);
}

static void equals_take_turns(void **state)
{
    struct world w;
    int given[3] = { 0 };

    (void)state;
    world_open(&w, false, LEAVES, LEAVES);
    for (int i = 0; i < 3; i++)
        assert_int_equal(world_add_link(&w, 0, 10), i);
    peer_limit(w.p, 4 * LEAF_BYTES, 0, w.now_ms); /* one at a time */
    for (uint32_t n = 0; n < 40 && given[0] + given[1] + given[2] < 15; n++) {
        for (int i = 0; i < 3; i++) {
            world_say(&w, PEER_ON_CANCEL, i, 10 + n - 1);
            world_say(&w, PEER_ON_WANT, i, 10 + n);
            for (int k = 0; k < 3; k++)
                given[k] += (int)world_count(&w, PEER_GIVE, k);
        }
        for (int i = 0; i < 3; i++)
            peer_step(w.p, &(struct peer_event){ .kind = PEER_SENT, .link = i }, w.now_ms);
        w.now_ms += 250;
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
        for (int i = 0; i < 3; i++)
            given[i] += (int)world_count(&w, PEER_GIVE, i);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(given[i], 5);
    world_close(&w);
}

static void who_is_stuck_does_not_hold_up_others(void **state)
{
    struct world w;
    int link[PEER_UPLOADS_FIRST + 1];

    (void)state;
    world_open(&w, false, LEAVES, LEAVES);
    for (int i = 0; i <= PEER_UPLOADS_FIRST; i++) {
        link[i] = world_add_link(&w, 0, 0);
        world_say(&w, PEER_ON_WANT, link[i], 0);
    }
    assert_int_equal(world_count(&w, PEER_GIVE, -1), 0);
    while (world_count(&w, PEER_GIVE, link[PEER_UPLOADS_FIRST]) == 0) {
        assert_true(peer_next_ms(w.p) >= 0);
        w.now_ms = peer_next_ms(w.p);
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
    }
    assert_in_range(w.now_ms, 1000 + PEER_STUCK_FIRST_MS, 1000 + 2 * PEER_STUCK_FIRST_MS);
    world_close(&w);
}

static void what_cannot_be_given_is_refused(void **state)
{
    static const struct {
        uint32_t first, count;
    } cases[] = { { 0, 0 },  { 0, PIECE_LEAVES_MAX + 1 }, { LEAVES, 1 },    { 49, 2 },
                  { 50, 1 }, { UINT32_MAX, 2 },           { 0, UINT32_MAX } };
    struct world w;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, 50);
    link = world_add_link(&w, 0, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        world_step(&w, (struct peer_event){ .kind = PEER_ON_WANT,
                                            .link = link,
                                            .pack = w.pack,
                                            .first = cases[i].first,
                                            .count = cases[i].count });
        assert_int_equal(world_count(&w, PEER_REFUSE, link), 1);
        assert_int_equal(world_first(&w, PEER_REFUSE, link)->a.code, ERR_NOT_FOUND);
    }
    for (uint32_t i = 0; i < 2 * PEER_QUEUE_MAX; i++) {
        world_say(&w, PEER_ON_WANT, link, 0);
        if (world_count(&w, PEER_REFUSE, link) == 0)
            continue;
        assert_in_range(i, PEER_WAITING, PEER_UPLOADS_FIRST + PEER_WAITING + 1);
        assert_int_equal(world_first(&w, PEER_REFUSE, link)->a.code, ERR_AGAIN);
        break;
    }
    assert_int_equal(world_count(&w, PEER_REFUSE, link), 1);
    world_close(&w);
}

static void a_damaged_copy_is_not_had(void **state)
{
    struct world w;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, LEAVES);
    link = world_add_link(&w, 0, 0);
    world_say(&w, PEER_ON_WANT, link, 5);
    assert_int_equal(world_count(&w, PEER_GIVE, link), 1);
    world_say(&w, PEER_UNREAD, link, 5);
    assert_int_equal(world_first(&w, PEER_REFUSE, link)->a.code, ERR_CORRUPT);
    assert_false(bitmap_get(peer_pack_has(w.p, w.pack), 5));
    world_say(&w, PEER_ON_WANT, link, 5);
    assert_int_equal(world_first(&w, PEER_REFUSE, link)->a.code, ERR_NOT_FOUND);
    world_say(&w, PEER_ON_WANT, link, 6);
    assert_int_equal(world_count(&w, PEER_GIVE, link), 1);
    world_close(&w);
}

/* CANCEL takes out what it names: at the ends of a want, in its middle, all of it; HAVE does likewise. */
static void what_is_cancelled_is_not_given(void **state)
{
    static const struct {
        uint32_t first, count;
        const char *left; /* of leaves 10 to 17 */
    } cases[] = {
        { 10, 3, "defgh" }, { 0, 100, "" },        { 12, 2, "abefgh" },
        { 15, 9, "abcde" }, { 30, 5, "abcdefgh" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char left[16] = "";
        struct world w;
        int link;

        world_open(&w, false, LEAVES, LEAVES);
        link = world_add_link(&w, 0, 0);
        world_say(&w, PEER_ON_WANT, link, 0); /* it is being given that one */
        world_step(
            &w, (struct peer_event){
                    .kind = PEER_ON_WANT, .link = link, .pack = w.pack, .first = 10, .count = 8 });
        world_step(&w, (struct peer_event){ .kind = PEER_ON_CANCEL,
                                            .link = link,
                                            .pack = w.pack,
                                            .first = cases[i].first,
                                            .count = cases[i].count });
        for (size_t n = 0; n < 8; n++) {
            world_say(&w, PEER_SENT, link, 0);
            if (world_count(&w, PEER_GIVE, link) == 0)
                break;
            left[n] = (char)('a' + (int)world_first(&w, PEER_GIVE, link)->a.first - 10);
        }
        for (const char *c = cases[i].left; *c != '\0'; c++)
            assert_non_null(strchr(left, *c));
        assert_int_equal(strlen(left), strlen(cases[i].left));
        world_close(&w);
    }
}

/* ---- what is told ---- */

/* The first leaves that link has just been asked for. */
static void first_asked(const struct world *w, int link, uint32_t *ret, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < w->nseen && n < count; i++)
        if (w->seen[i].a.kind == PEER_WANT && w->seen[i].a.link == link)
            ret[n++] = w->seen[i].a.first;
    assert_int_equal(n, count);
}

/* With nothing to give HAVE goes at once: others would have nothing to ask for. */
static void who_has_nothing_to_do_tells_at_once(void **state)
{
    struct world w;
    uint32_t asked[2];
    int from, other;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    from = world_add_link(&w, 1, LEAVES);
    first_asked(&w, from, asked, 2);
    world_bring(&w, from, asked[0]);
    other = world_add_link(&w, 0, 1);
    world_bring(&w, from, asked[1]);
    assert_int_equal(world_count(&w, PEER_HAVE, other), 1);
    assert_int_equal(world_first(&w, PEER_HAVE, other)->leaves[0], asked[1]);
    assert_int_equal(world_first(&w, PEER_HAVE, other)->a.count, 1);
    assert_int_equal(world_count(&w, PEER_HAVE, from),
                     0); /* has it; has all: told later, or never */
    world_close(&w);
}

/* Who is asked for much tells in passing, or after a while. */
static void who_is_busy_tells_in_company(void **state)
{
    struct world w;
    uint32_t asked[3];
    int from, one, other;

    (void)state;
    world_open(&w, false, LEAVES, 40);
    one = world_add_link(&w, 0, 1);
    other = world_add_link(&w, 0, 2);
    from = world_add_link(&w, 50, LEAVES);
    first_asked(&w, from, asked, 2);
    for (uint32_t leaf = 10; leaf < 14; leaf++)
        world_say(&w, PEER_ON_WANT, one, leaf);
    world_bring(&w, from, asked[0]);
    first_asked(&w, from, &asked[2], 1);
    assert_int_equal(world_count(&w, PEER_HAVE, -1), 0);
    world_bring(&w, from, asked[1]);
    assert_int_equal(world_count(&w, PEER_HAVE, -1), 0);
    world_say(&w, PEER_SENT, one, 0); /* the next leaf goes there, and what is new */
    assert_int_equal(world_count(&w, PEER_HAVE, one), 1);
    assert_int_equal(world_first(&w, PEER_HAVE, one)->a.count, 2);
    assert_int_equal(world_count(&w, PEER_HAVE, other), 0);
    world_pass(&w, w.now_ms + PEER_HAVE_MS);
    w.now_ms += 1;
    world_bring(&w, from, asked[2]);
    world_pass(&w, w.now_ms + PEER_HAVE_MS - 1);
    assert_int_equal(world_count(&w, PEER_HAVE, other), 0);
    world_pass(&w, w.now_ms + 1);
    assert_int_equal(world_first(&w, PEER_HAVE, other)->a.count, 1); /* the others went before */
    assert_int_equal(world_first(&w, PEER_HAVE, other)->leaves[0], asked[2]);
    world_close(&w);
}

/* What could not be said: the whole bitmap follows. A question that was not asked is asked again. */
static void what_does_not_fit_is_said_later(void **state)
{
    struct world w;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, 40);
    link = world_add_link(&w, 0, LEAVES);
    for (int i = 0; i < 2; i++) {
        enum peer_action_kind what = i == 0 ? PEER_BITMAP : PEER_HAVE;

        peer_step(
            w.p,
            &(struct peer_event){ .kind = PEER_UNSENT, .what = what, .link = link, .pack = w.pack },
            w.now_ms);
        assert_false(peer_link_told(w.p, link, w.pack));
        w.now_ms = peer_next_ms(w.p);
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
        assert_int_equal(world_count(&w, PEER_BITMAP, link), 1);
        assert_true(peer_link_told(w.p, link, w.pack));
    }
    world_step(&w, (struct peer_event){ .kind = PEER_UNSENT,
                                        .what = PEER_WANT,
                                        .link = link,
                                        .pack = w.pack,
                                        .first = 40,
                                        .count = 60 });
    assert_int_equal(world_count(&w, PEER_WANT, link), 0);
    world_pass(&w, w.now_ms + 1000);
    assert_true(peer_next_ms(w.p) > 0);
    world_close(&w);
}

/* ---- a node ---- */

/* All that it shows is asked for, and given: no piece twice while another was not given. */
static void a_node_gives_nothing_twice_before_all_once(void **state)
{
    enum { MACHINES = 4 };
    int given[LEAVES] = { 0 }, of[MACHINES] = { 0 }, done = 0, once = 0;
    struct peer_action a;
    struct world w;

    (void)state;
    world_open(&w, true, LEAVES, LEAVES);
    for (int i = 0; i < MACHINES; i++) {
        static unsigned char nothing[(LEAVES + 7) / 8];
        struct peer_event e = { .kind = PEER_ON_BITMAP,
                                .link = peer_link_open(w.p, false, w.now_ms),
                                .pack = w.pack,
                                .bitmap = { nothing, sizeof(nothing) } };

        peer_step(w.p, &e, w.now_ms);
    }
    while (once < LEAVES && peer_next(w.p, &a)) {
        struct peer_event e = { .link = a.link, .pack = w.pack, .first = a.first, .count = 1 };

        if (a.kind == PEER_HAVE) {
            e.kind = PEER_ON_WANT;
            e.first = a.leaves[0].index;
            peer_step(w.p, &e, w.now_ms);
        } else if (a.kind == PEER_GIVE) {
            e.kind = PEER_SENT;
            once += given[a.first]++ == 0;
            of[a.link]++;
            done++;
            peer_step(w.p, &e, w.now_ms);
        }
    }
    assert_int_equal(once, LEAVES);
    assert_in_range(done, LEAVES, LEAVES + 8); /* second ones are shown when all first ones are */
    for (int i = 0; i < MACHINES; i++)         /* to the least complete one, always */
        assert_in_range(of[i], LEAVES / MACHINES - 3, LEAVES / MACHINES + 3);
    world_close(&w);
}

static void a_node_shows_few_at_a_time(void **state)
{
    struct world w;
    size_t shown = 0;

    (void)state;
    world_open(&w, true, LEAVES, LEAVES);
    for (int i = 0; i < LINKS; i++) {
        (void)peer_link_open(w.p, false, w.now_ms);
        world_bitmap(&w, i, 0, 0);
        shown += world_count(&w, PEER_HAVE, -1);
        assert_true(world_count(&w, PEER_HAVE, i) <= 12);
    }
    assert_in_range(shown, 12, 24);
    world_pass(&w, w.now_ms + 40);
    assert_int_equal(peer_pack_figures(w.p, w.pack).shown, shown);
    world_pass(&w, w.now_ms + 3000); /* not asked for: others may have it */
    assert_true(peer_pack_figures(w.p, w.pack).shown > shown);
    world_close(&w);
}

/* Machines that get everything from each other are left to it; one that gets nothing is not. */
static void a_node_backs_off_after_two_copies(void **state)
{
    struct world w;
    int link[3];
    uint64_t shown;

    (void)state;
    world_open(&w, true, LEAVES, LEAVES);
    for (int i = 0; i < 3; i++)
        link[i] = peer_link_open(w.p, false, w.now_ms);
    world_bitmap(&w, link[0], 0, LEAVES);
    world_bitmap(&w, link[1], 0, LEAVES);
    world_bitmap(&w, link[2], 0, 1);
    assert_int_equal(world_count(&w, PEER_HAVE, -1), 0);
    for (uint32_t leaf = 1; leaf < 40; leaf++) {
        w.now_ms += 100;
        world_say(&w, PEER_ON_HAVE, link[2], leaf);
        assert_int_equal(world_count(&w, PEER_HAVE, -1), 0);
    }
    shown = peer_pack_figures(w.p, w.pack).shown;
    assert_int_equal(shown, 0);
    world_pass(&w, w.now_ms + 1300); /* nobody gives it anything now */
    assert_true(peer_pack_figures(w.p, w.pack).shown > shown);
    world_close(&w);
}

/* ---- several packs, limits ---- */

/* Two packs, weights 1 and 3, under a limit both ways: bytes go as the weights say, and all together as
 * the limit says; when it is changed, by the new one. */
/* Whoever says that it has much, or all, may lie: who is far behind is not left out for that. */
static void a_node_shows_to_who_is_left_alone(void **state)
{
    struct world w;
    size_t shown = 0;
    int honest;

    (void)state;
    for (size_t have = 90; have <= LEAVES; have += 10) {
        world_open(&w, true, LEAVES, LEAVES);
        for (int i = 0; i < 2 * PEER_OUT_ALL; i++)
            (void)world_add_link(&w, 0, have);
        honest = world_add_link(&w, 0, 0);
        shown = world_count(&w, PEER_HAVE, honest);
        for (int64_t ms = 0; ms < 8 * PEER_TAKE_MS && shown == 0; ms++) {
            world_pass(&w, w.now_ms + 1);
            shown += world_count(&w, PEER_HAVE, honest);
        }
        assert_true(shown > 0);
        world_close(&w);
    }
}

/* What is given is sent, what is asked for arrives. */
static void do_at_once(struct peer *p, const struct peer_action *a, int64_t now_ms)
{
    struct peer_event e = { .link = a->link, .pack = a->pack, .first = a->first };

    if (a->kind != PEER_GIVE && a->kind != PEER_WANT)
        return;
    if (a->kind == PEER_WANT)
        assert_true(peer_takes(p, a->link, a->pack, a->first, now_ms));
    e.kind = a->kind == PEER_WANT ? PEER_VERIFIED : PEER_SENT;
    peer_step(p, &e, now_ms);
}

static void packs_share_by_weight(void **state)
{
    enum { LEAF = 1000, RATE = 100 * LEAF, MANY = 4000 };
    struct peer *p = peer_new(&(struct peer_options){ .seed = 3 });
    struct peer_pack_options o = { .leaves = MANY, .piece_leaves = 1, .leaf_bytes = LEAF };
    size_t asked[2] = { 0 }, wanted[2] = { 0 }, given[2] = { 0 };
    int pack[4], link = peer_link_open(p, false, 0);
    int64_t now_ms = 0;

    (void)state;
    for (int i = 0; i < 4; i++) { /* 0 and 1 are fetched, 2 and 3 are given */
        unsigned char bits[MANY / 8];
        struct peer_event e = { .kind = PEER_ON_BITMAP,
                                .link = link,
                                .bitmap = { bits, sizeof(bits) } };

        o.weight = i % 2 == 0 ? 1 : 3;
        o.complete = i >= 2;
        memset(bits, i < 2 ? 0xff : 0, sizeof(bits));
        if (i == 0)
            peer_limit(p, RATE, RATE, now_ms);
        e.pack = pack[i] = peer_pack_open(p, &o, now_ms);
        peer_step(p, &e, now_ms);
    }
    for (now_ms = 0; now_ms < 40000; now_ms++) {
        struct peer_action a;

        if (now_ms == 20000)
            peer_limit(p, RATE / 2, RATE / 2, now_ms);
        for (int i = 2; i < 4; i++) {
            struct peer_event e = { .kind = PEER_ON_WANT, .link = link, .pack = pack[i] };

            e.count = 1;
            e.first = (uint32_t)wanted[i - 2];
            if (wanted[i - 2] >= given[i - 2] + 50)
                continue;
            wanted[i - 2]++;
            peer_step(p, &e, now_ms);
        }
        peer_step(p, &(struct peer_event){ .kind = PEER_TICK }, now_ms);
        while (peer_next(p, &a)) {
            given[a.pack == pack[3]] += a.kind == PEER_GIVE;
            asked[a.pack == pack[1]] += a.kind == PEER_WANT;
            do_at_once(p, &a, now_ms);
        }
    }
    assert_in_range(asked[0] + asked[1], 2900, 3100); /* 100 a second, then 50 */
    assert_in_range(given[0] + given[1], 2900, 3100);
    assert_in_range(asked[1], 3 * asked[0] - 20, 3 * asked[0] + 20);
    assert_in_range(given[1], 3 * given[0] - 20, 3 * given[0] + 20);
    peer_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_complete_comes_first),
        cmocka_unit_test(few_wait),
        cmocka_unit_test(uploads_grow_with_the_pieces),
        cmocka_unit_test(equals_take_turns),
        cmocka_unit_test(who_is_stuck_does_not_hold_up_others),
        cmocka_unit_test(what_cannot_be_given_is_refused),
        cmocka_unit_test(a_damaged_copy_is_not_had),
        cmocka_unit_test(what_is_cancelled_is_not_given),
        cmocka_unit_test(who_has_nothing_to_do_tells_at_once),
        cmocka_unit_test(who_is_busy_tells_in_company),
        cmocka_unit_test(what_does_not_fit_is_said_later),
        cmocka_unit_test(a_node_gives_nothing_twice_before_all_once),
        cmocka_unit_test(a_node_shows_few_at_a_time),
        cmocka_unit_test(a_node_backs_off_after_two_copies),
        cmocka_unit_test(a_node_shows_to_who_is_left_alone),
        cmocka_unit_test(packs_share_by_weight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
