#include "lib/peer_world.h"

#include <string.h>

#include "base/mem.h"
#include "lib/check.h"

/* ---- packs and links ---- */

static void pieces_grow_with_the_pack(void **state)
{
    static const struct {
        size_t leaves, piece;
    } cases[] = { { 0, 1 }, { 1, 1 }, { 400, 1 }, { 2048, 2 }, { 40960, 32 }, { 1 << 20, 64 } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(peer_piece_leaves(cases[i].leaves), cases[i].piece);
}

static void an_empty_pack_is_done(void **state)
{
    struct peer *p = peer_new(&(struct peer_options){ .seed = 1 });
    int pack = peer_pack_open(p, &(struct peer_pack_options){ .leaves = 0 }, 0);
    struct peer_action a;

    (void)state;
    assert_true(peer_pack_done(p, pack));
    assert_true(peer_next(p, &a));
    assert_int_equal(a.kind, PEER_DONE);
    assert_false(peer_next(p, &a));
    peer_free(p);
}

static void a_machine_tells_everybody_a_node_who_asks(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, false, LEAVES, 3);
    (void)peer_link_open(w.p, false, w.now_ms);
    world_take(&w);
    assert_int_equal(world_count(&w, PEER_BITMAP, -1), 1);
    assert_int_equal(world_first(&w, PEER_BITMAP, -1)->a.bitmap.data[0], 7);
    world_close(&w);

    world_open(&w, true, LEAVES, LEAVES);
    (void)peer_link_open(w.p, false, w.now_ms);
    world_take(&w);
    assert_int_equal(w.nseen, 0);
    world_bitmap(&w, 0, 0, 0);
    assert_int_equal(world_count(&w, PEER_BITMAP, 0), 1);
    assert_int_equal(world_first(&w, PEER_BITMAP, -1)->a.bitmap.data[0],
                     0); /* it shows piece by piece */
    world_close(&w);
}

static void numbers_are_used_again(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(peer_link_open(w.p, false, 0), i);
    peer_link_close(w.p, 3, 0);
    peer_link_close(w.p, 1, 0);
    assert_int_equal(peer_link_open(w.p, false, 0), 1);
    assert_int_equal(peer_link_open(w.p, false, 0), 3);
    assert_int_equal(peer_link_open(w.p, false, 0), 5);
    world_take(&w);
    peer_pack_close(w.p, w.pack, 0);
    assert_int_equal(peer_pack_open(w.p, &(struct peer_pack_options){ .leaves = 1 }, 0), w.pack);
    world_close(&w);
}

/* A closed link's actions are not done any more. */
static void what_is_closed_is_not_spoken_to(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    (void)peer_link_open(w.p, false, 0);
    (void)peer_link_open(w.p, false, 0);
    peer_link_close(w.p, 0, 0);
    world_take(&w);
    assert_int_equal(world_count(&w, PEER_BITMAP, 0), 0);
    assert_int_equal(world_count(&w, PEER_BITMAP, 1), 1);
    world_close(&w);
}

static void malformed_messages_are_accused(void **state)
{
    struct world w;
    unsigned char too_short[1] = { 0xff };
    unsigned char past_end[13] = { 0 };
    struct bytes bad[] = { { too_short, 1 }, { past_end, 13 } };
    int link;

    (void)state;
    past_end[12] = 0x10; /* leaf 100 */
    world_open(&w, false, LEAVES, 0);
    link = world_add_link(&w, 0, 0);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        world_step(&w,
                   (struct peer_event){
                       .kind = PEER_ON_BITMAP, .link = link, .pack = w.pack, .bitmap = bad[i] });
        assert_int_equal(world_count(&w, PEER_ACCUSE, link), 1);
    }
    world_say(&w, PEER_ON_HAVE, link, LEAVES);
    assert_int_equal(world_count(&w, PEER_ACCUSE, link), 1);
    assert_false(peer_takes(w.p, link, w.pack, LEAVES, 0));
    world_take(&w);
    assert_int_equal(world_count(&w, PEER_ACCUSE, link), 1);
    assert_int_equal(peer_link_has(w.p, link, w.pack)->set, 0);
    world_close(&w);
}

/* ---- down ---- */

static void the_rarest_comes_first(void **state)
{
    struct world w;
    int all, some;

    (void)state;
    world_open(&w, false, 4, 0);
    some = world_add_link(&w, 0, 0);
    all = peer_link_open(w.p, false, w.now_ms);
    for (uint32_t leaf = 0; leaf < 4; leaf++)
        if (leaf != 2)
            world_say(&w, PEER_ON_HAVE, some, leaf);
    for (size_t i = 0; i < w.nseen; i++)
        if (w.seen[i].a.kind == PEER_WANT) /* free again */
            world_say(&w, PEER_ON_REFUSE, some, w.seen[i].a.first);
    world_bitmap(&w, all, 0, 4);
    assert_int_equal(world_first(&w, PEER_WANT, all)->a.first, 2);
    world_close(&w);
}

/* Of all machines together; of each the same number, and one when there are many. */
static void few_pieces_are_asked_for(void **state)
{
    struct world w;
    int a;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    a = world_add_link(&w, 0, LEAVES);
    assert_int_equal(world_count(&w, PEER_WANT, a), PEER_ASKS);
    (void)world_add_link(&w, 0, LEAVES);
    assert_int_equal(world_count(&w, PEER_WANT, -1), 0);
    world_close(&w);
    world_open(&w, false, LEAVES, 0);
    for (int i = 0; i < PEER_ASKS; i++)
        (void)world_add_link(&w, 0, 0);
    for (int i = 0; i < PEER_ASKS; i++) {
        world_bitmap(&w, i, 0, LEAVES);
        assert_int_equal(world_count(&w, PEER_WANT, i), 1);
        assert_int_equal(world_count(&w, PEER_WANT, -1), 1);
    }
    a = world_add_link(&w, 0, LEAVES);
    assert_int_equal(world_count(&w, PEER_WANT, a), 0);
    world_close(&w);
}

/* What a node shows is asked for beside all that. */
static void a_node_is_asked_beside_others(void **state)
{
    struct world w;
    int node;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    assert_int_equal(world_count(&w, PEER_WANT, world_add_link(&w, 0, LEAVES)), PEER_ASKS);
    node = peer_link_open(w.p, true, w.now_ms);
    world_take(&w);
    world_bitmap(&w, node, 0, LEAVES);
    assert_int_equal(world_count(&w, PEER_WANT, node), PEER_NODE_ASKS);
    world_close(&w);
}

static void a_piece_is_asked_in_one_go(void **state)
{
    struct peer *p = peer_new(&(struct peer_options){ .seed = 1 });
    struct peer_pack_options o = { .leaves = 64, .piece_leaves = 4 };
    unsigned char has[8] = { 0x0e }; /* leaves 1 to 3 of piece 0 */
    struct peer_event e = { .kind = PEER_ON_BITMAP, .bitmap = { has, 8 } };
    struct peer_action a;

    (void)state;
    e.pack = peer_pack_open(p, &o, 0);
    e.link = peer_link_open(p, false, 0);
    peer_step(p, &e, 0);
    while (peer_next(p, &a) && a.kind != PEER_WANT)
        ;
    assert_int_equal(a.kind, PEER_WANT);
    assert_int_equal(a.first, 1);
    assert_int_equal(a.count, 3);
    assert_false(peer_next(p, &a));
    peer_free(p);
}

/* A node that answers at once is asked for more at a time, one that takes its time for less again. */
static void the_window_follows_a_node(void **state)
{
    struct world w;
    size_t open = 0, most = 0;
    uint32_t asked[LEAVES];
    int link;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    link = peer_link_open(w.p, true, w.now_ms);
    world_take(&w);
    world_bitmap(&w, link, 0, LEAVES);
    for (size_t done = 0; done < LEAVES;) {
        for (size_t i = 0; i < w.nseen; i++)
            if (w.seen[i].a.kind == PEER_WANT)
                asked[open++] = w.seen[i].a.first;
        w.now_ms += 50; /* a long way, and no time once there */
        most = open - done > most ? open - done : most;
        if (open == done)
            break;
        assert_true(peer_takes(w.p, link, w.pack, asked[done], w.now_ms));
        world_take(&w);
        for (size_t i = 0; i < w.nseen; i++)
            if (w.seen[i].a.kind == PEER_WANT)
                asked[open++] = w.seen[i].a.first;
        world_step(&w,
                   (struct peer_event){
                       .kind = PEER_VERIFIED, .link = link, .pack = w.pack, .first = asked[done] });
        done++;
    }
    assert_in_range(most, PEER_NODE_ASKS + 1, PEER_NODE_ASKS_MAX);
    assert_true(peer_pack_done(w.p, w.pack));
    world_close(&w);
}

static void what_goes_wrong_is_asked_again(void **state)
{
    struct world w;
    int a, b;

    (void)state;
    world_open(&w, false, 1, 0);
    a = world_add_link(&w, 0, 1);
    assert_int_equal(world_count(&w, PEER_WANT, a), 1);
    assert_true(peer_takes(w.p, a, w.pack, 0, w.now_ms));
    b = world_add_link(&w, 0, 1);
    assert_int_equal(world_count(&w, PEER_WANT, b), 0); /* it is being verified */
    world_say(&w, PEER_BAD, a, 0);
    assert_int_equal(world_count(&w, PEER_WANT, b), 1);
    assert_int_equal(world_count(&w, PEER_WANT, a), 0); /* never again of that one */
    peer_link_close(w.p, b, w.now_ms);
    b = world_add_link(&w, 0, 1);
    assert_int_equal(world_count(&w, PEER_WANT, b), 1);
    world_bring(&w, b, 0);
    assert_int_equal(world_count(&w, PEER_DONE, -1), 1);
    assert_int_equal(peer_pack_figures(w.p, w.pack).bad, 1);
    world_close(&w);
}

static void who_refuses_is_asked_later_or_not_again(void **state)
{
    static const struct {
        enum err_code code;
        bool again;
    } cases[] = { { ERR_AGAIN, true }, { ERR_NOT_FOUND, false }, { ERR_CORRUPT, false } };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world w;
        int link;

        world_open(&w, false, 1, 0);
        link = world_add_link(&w, 0, 1);
        world_step(&w, (struct peer_event){ .kind = PEER_ON_REFUSE,
                                            .link = link,
                                            .pack = w.pack,
                                            .count = 1,
                                            .code = cases[i].code });
        assert_int_equal(world_count(&w, PEER_WANT, link), 0);
        w.now_ms = peer_next_ms(w.p);
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
        assert_int_equal(world_count(&w, PEER_WANT, link), cases[i].again);
        world_close(&w);
    }
}

/* A refusal of more than anybody asks for at a time costs no more than one of that. */
static void who_refuses_all_refuses_what_may_be_asked(void **state)
{
    struct world w;
    int link;

    (void)state;
    world_open(&w, false, PIECE_LEAVES_MAX + 1, 0);
    link = world_add_link(&w, 0, PIECE_LEAVES_MAX + 1);
    world_step(&w, (struct peer_event){ .kind = PEER_ON_REFUSE,
                                        .link = link,
                                        .pack = w.pack,
                                        .count = UINT32_MAX,
                                        .code = ERR_NOT_FOUND });
    for (int i = 0; i < 100 && world_count(&w, PEER_WANT, link) == 0; i++) {
        w.now_ms = peer_next_ms(w.p);
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
    }
    assert_int_equal(world_count(&w, PEER_WANT, link), 1);
    assert_int_equal(world_first(&w, PEER_WANT, link)->a.first, PIECE_LEAVES_MAX);
    world_close(&w);
}

/* Each of two links has a leaf that the other has too; one is silent, and its leaf is asked of the other
 * when it is overdue, by what it is used to. */
static void who_dawdles_loses_it_to_another(void **state)
{
    struct world w;
    int slow, fast;
    uint32_t leaf;

    (void)state;
    world_open(&w, false, LEAVES, LEAVES - 20); /* not the end yet */
    slow = world_add_link(&w, LEAVES - 2, LEAVES - 1);
    assert_int_equal(world_count(&w, PEER_WANT, slow), 1);
    fast = world_add_link(&w, LEAVES - 2, LEAVES);
    leaf = world_first(&w, PEER_WANT, fast)->a.first;
    assert_int_equal(leaf, LEAVES - 1);
    w.now_ms += 100;
    world_bring(&w, fast, leaf);
    assert_int_equal(world_count(&w, PEER_WANT, fast), 0);
    w.now_ms += 190; /* three times 100 ms since it was asked: not yet */
    world_step(&w, (struct peer_event){ .kind = PEER_TICK });
    assert_int_equal(world_count(&w, PEER_WANT, fast), 0);
    while (world_count(&w, PEER_WANT, fast) == 0) {
        assert_in_range(peer_next_ms(w.p), w.now_ms, w.now_ms + 1000);
        w.now_ms = peer_next_ms(w.p);
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
    }
    assert_int_equal(world_count(&w, PEER_CANCEL, slow), 1);
    assert_int_equal(peer_pack_figures(w.p, w.pack).stolen, 1);
    world_bring(&w, fast, LEAVES - 2);
    assert_false(peer_takes(w.p, slow, w.pack, LEAVES - 2, w.now_ms));
    assert_int_equal(peer_pack_figures(w.p, w.pack).useless, 1);
    world_close(&w);
}

static size_t count_open(const uint32_t open[], size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += open[i] < LEAVES;
    return count;
}

static void note_asked(const struct world *w, uint32_t open[])
{
    for (size_t i = 0; i < w->nseen; i++)
        if (w->seen[i].a.kind == PEER_WANT)
            open[w->seen[i].a.link] = w->seen[i].a.first;
}

/* Nine links, of which eight are asked; as soon as one is known to be slow, the eight others are. When
 * it answers as fast as they do, it counts again. */
static void who_is_slow_does_not_count(void **state)
{
    enum { LINKS_HERE = PEER_ASKS + 1 };
    struct world w;
    uint32_t open[LINKS_HERE];

    (void)state;
    world_open(&w, false, LEAVES, 0);
    for (int i = 0; i < LINKS_HERE; i++) {
        open[i] = LEAVES;
        (void)world_add_link(&w, 0, 0);
    }
    for (int i = 0; i < LINKS_HERE; i++) {
        world_bitmap(&w, i, 0, LEAVES);
        note_asked(&w, open);
    }
    for (size_t round = 0; round < 8; round++) {
        if (round < PEER_SLOW)
            assert_int_equal(count_open(open, LINKS_HERE), PEER_ASKS);
        w.now_ms += 1400;
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
        note_asked(&w, open);
        for (int i = 1; i < LINKS_HERE; i++) {
            uint32_t leaf = open[i];

            open[i] = LEAVES;
            if (leaf < LEAVES)
                world_bring(&w, i, leaf);
            note_asked(&w, open);
        }
    }
    assert_int_equal(count_open(open, LINKS_HERE), PEER_ASKS + 1);
    for (int i = 0; i < 20 && open[0] < LEAVES; i++) {
        uint32_t leaf = open[0];

        w.now_ms += 200;
        open[0] = LEAVES;
        world_bring(&w, 0, leaf);
        note_asked(&w, open);
    }
    assert_int_equal(count_open(open, LINKS_HERE), PEER_ASKS);
    world_close(&w);
}

enum { QUESTIONS = 1000 };

/* In the order in which they were asked. */
struct questions {
    struct {
        int link;
        uint32_t leaf;
    } of[QUESTIONS];
    size_t first, end;
};

static void note_questions(struct questions *q, const struct world *w)
{
    for (size_t i = 0; i < w->nseen; i++)
        if (w->seen[i].a.kind == PEER_WANT) {
            assert_true(q->end < QUESTIONS);
            q->of[q->end].link = w->seen[i].a.link;
            q->of[q->end++].leaf = w->seen[i].a.first;
        }
}

/* So many leaves come, ms apart; how many questions are open then. */
static size_t open_after(struct questions *q, struct world *w, size_t leaves, int64_t ms)
{
    for (size_t n = 0; n < leaves; n++, q->first++) {
        w->now_ms += ms;
        world_bring(w, q->of[q->first].link, q->of[q->first].leaf);
        note_questions(q, w);
    }
    return q->end - q->first;
}

/* Where leaves come fast, more of them are under way. */
static void asks_follow_the_rate(void **state)
{
    enum { MANY = QUESTIONS - 100, LINKS_HERE = PEER_ASKS + PEER_ASKS_MORE + 2 };
    static struct questions q;
    struct world w;

    (void)state;
    world_open(&w, false, MANY, 0);
    for (int i = 0; i < LINKS_HERE; i++)
        (void)world_add_link(&w, 0, 0);
    for (int i = 0; i < LINKS_HERE; i++) {
        world_bitmap(&w, i, 0, MANY);
        note_questions(&q, &w);
    }
    assert_int_equal(open_after(&q, &w, 0, 0), PEER_ASKS);
    assert_int_equal(open_after(&q, &w, 200, 10), PEER_ASKS + PEER_ASKS_MORE);
    assert_true(open_after(&q, &w, 200, 160) < PEER_ASKS + PEER_ASKS_MORE);
    world_close(&w);
}

static void at_the_end_two_are_asked(void **state)
{
    struct world w;
    int link[3];

    (void)state;
    world_open(&w, false, LEAVES, LEAVES - 1);
    for (int i = 0; i < 3; i++) {
        link[i] = world_add_link(&w, 0, LEAVES);
        assert_int_equal(world_count(&w, PEER_WANT, link[i]), i < 2);
    }
    world_bring(&w, link[1], LEAVES - 1);
    assert_int_equal(world_count(&w, PEER_CANCEL, link[0]), 1);
    assert_int_equal(world_count(&w, PEER_CANCEL, link[1]), 0);
    assert_int_equal(world_count(&w, PEER_DONE, -1), 1);
    assert_int_equal(peer_pack_figures(w.p, w.pack).doubled, 1);
    world_close(&w);
}

static void who_is_silent_is_left_alone_for_a_while(void **state)
{
    struct world w;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    link = world_add_link(&w, 0, LEAVES);
    world_pass(&w, 1000 + PEER_SILENT_MS + 1000);
    world_say(&w, PEER_ON_HAVE, link, 0);
    assert_int_equal(world_count(&w, PEER_WANT, link), 0);
    world_pass(&w, 1000 + 2 * PEER_SILENT_MS + 2000);
    assert_int_equal(peer_pack_figures(w.p, w.pack).stolen, 0);
    peer_link_close(w.p, link, w.now_ms);
    (void)world_add_link(&w, 0, LEAVES);
    assert_int_equal(world_count(&w, PEER_WANT, -1), PEER_ASKS);
    world_close(&w);
}

static void only_what_is_wanted_is_asked_for(void **state)
{
    struct world w;
    struct bitmap want;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    bitmap_init(&want, 4);
    bitmap_put(&want, 3, true);
    peer_pack_want(w.p, w.pack, &want, w.now_ms);
    link = world_add_link(&w, 0, LEAVES);
    assert_int_equal(world_count(&w, PEER_WANT, link), 1);
    assert_int_equal(world_first(&w, PEER_WANT, link)->a.first, 3);
    assert_true(peer_pack_wants(w.p, w.pack, 3));
    assert_false(peer_pack_wants(w.p, w.pack, 4));
    world_bring(&w, link, 3);
    assert_int_equal(world_count(&w, PEER_DONE, -1), 1);
    assert_int_equal(world_count(&w, PEER_WANT, -1), 0);
    peer_pack_rest(w.p, w.pack);
    peer_pack_want(w.p, w.pack, NULL, w.now_ms);
    world_take(&w);
    assert_int_equal(world_count(&w, PEER_WANT, link), PEER_ASKS);
    assert_false(peer_pack_done(w.p, w.pack));
    bitmap_release(&want);
    world_close(&w);
}

/* A node shows what it likes: who wants but one leaf of it asks for that after a while. */
static void a_node_is_asked_for_what_it_did_not_show(void **state)
{
    struct world w;
    struct bitmap want;
    int link;

    (void)state;
    world_open(&w, false, LEAVES, 0);
    bitmap_init(&want, LEAVES);
    bitmap_put(&want, 70, true);
    peer_pack_want(w.p, w.pack, &want, w.now_ms);
    link = peer_link_open(w.p, true, w.now_ms);
    world_take(&w);
    world_bitmap(&w, link, 0, 2);
    assert_int_equal(world_count(&w, PEER_WANT, link), 0);
    while (world_count(&w, PEER_WANT, link) == 0 && w.now_ms < 10000) {
        w.now_ms = peer_next_ms(w.p);
        world_step(&w, (struct peer_event){ .kind = PEER_TICK });
    }
    assert_int_equal(world_first(&w, PEER_WANT, link)->a.first, 70);
    assert_int_equal(world_first(&w, PEER_WANT, link)->a.count, 1);
    world_bring(&w, link, 70);
    assert_int_equal(world_count(&w, PEER_DONE, -1), 1);
    bitmap_release(&want);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_grow_with_the_pack),
        cmocka_unit_test(an_empty_pack_is_done),
        cmocka_unit_test(a_machine_tells_everybody_a_node_who_asks),
        cmocka_unit_test(numbers_are_used_again),
        cmocka_unit_test(what_is_closed_is_not_spoken_to),
        cmocka_unit_test(malformed_messages_are_accused),
        cmocka_unit_test(the_rarest_comes_first),
        cmocka_unit_test(few_pieces_are_asked_for),
        cmocka_unit_test(a_node_is_asked_beside_others),
        cmocka_unit_test(a_piece_is_asked_in_one_go),
        cmocka_unit_test(the_window_follows_a_node),
        cmocka_unit_test(what_goes_wrong_is_asked_again),
        cmocka_unit_test(who_refuses_is_asked_later_or_not_again),
        cmocka_unit_test(who_refuses_all_refuses_what_may_be_asked),
        cmocka_unit_test(who_dawdles_loses_it_to_another),
        cmocka_unit_test(who_is_slow_does_not_count),
        cmocka_unit_test(asks_follow_the_rate),
        cmocka_unit_test(at_the_end_two_are_asked),
        cmocka_unit_test(who_is_silent_is_left_alone_for_a_while),
        cmocka_unit_test(only_what_is_wanted_is_asked_for),
        cmocka_unit_test(a_node_is_asked_for_what_it_did_not_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
