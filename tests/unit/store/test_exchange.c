#include "unit/store/exchanging.h"

static void one_machine_fetches_from_the_region(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES);
    assert_int_equal(s.nodes[1].fetch.have_bytes, PACK_BYTES);
    assert_int_equal(s.nodes[1].fetch.total_bytes, PACK_BYTES);
    assert_true(s.nodes[1].joins >= 2); /* when it began and when it was done */
    stop_swarm(&s);
}

static void machines_trade(void **state)
{
    struct swarm s;
    uint64_t seed = 0, peer = 0;

    (void)state;
    start_swarm(&s, 4);
    for (int i = 1; i <= 4; i++) {
        connect_nodes(&s, i, 0);
        for (int k = 1; k < i; k++)
            connect_nodes(&s, i, k);
        start_fetch(&s, i);
    }
    loop_run(s.loop);
    for (int i = 1; i <= 4; i++) {
        assert_has_pack(&s, i);
        seed += s.nodes[i].fetch.seed_bytes;
        peer += s.nodes[i].fetch.peer_bytes;
    }
    assert_int_equal(seed + peer, 4 * (uint64_t)PACK_BYTES);
    assert_true(peer > 0);
    stop_swarm(&s);
}

/* Half-way everything is dropped; what was verified is not fetched again. */
static void it_goes_on_where_it_was(void **state)
{
    struct swarm s;
    uint64_t had;

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    s.stop_at_bytes = PACK_BYTES / 2;
    start_fetch(&s, 1);
    loop_run(s.loop);
    had = s.nodes[1].fetch.have_bytes;
    assert_true(had >= PACK_BYTES / 2 && had < PACK_BYTES);
    stop_swarm(&s);

    {
        const char *dir = s.nodes[1].dir;

        memset(&s.nodes, 0, sizeof(s.nodes));
        start_swarm(&s, 0);
        s.nodes[1].dir = dir;
        s.count = 2;
        start_node(&s, &s.nodes[1], ROLE_AGENT, "m1");
    }
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_true(exchange_counts(s.nodes[0].x).sent_bytes <= PACK_BYTES - had);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES); /* it remembers where from */
    stop_swarm(&s);
}

/* A machine that gives wrong bytes: they are thrown away, it is refused, the fetch completes. */
static void wrong_bytes_are_thrown_away(void **state)
{
    struct exchange_tally tally = { 0 };
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    s.nodes[1].fetch.tally = &tally;
    s.nodes[2].evil = true;
    connect_nodes(&s, 1, 2);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES);
    assert_true(exchange_counts(s.nodes[1].x).bad_leaves > 0);
    /* The fetch knows what came of it, and who was banned for it. */
    assert_int_equal(tally.bytes, PACK_BYTES);
    assert_int_equal(tally.near_bytes + tally.far_bytes, 0);
    assert_true(tally.bad > 0);
    assert_int_equal(tally.nbanned, exchange_counts(s.nodes[1].x).banned);
    if (tally.nbanned > 0)
        assert_true(exchange_is_banned(s.nodes[1].x, tally.banned[0]));
    assert_int_equal(exchange_given_bytes(s.nodes[0].x, &s.id), PACK_BYTES);
    stop_swarm(&s);
}

static void object_done(struct exchange_object *o, int status)
{
    struct swarm *s = o->user;

    s->nodes[1].status = status;
    loop_stop(s->loop);
}

static void objects_come_in_chunks(void **state)
{
    struct exchange_object o = { 0 };
    unsigned char *big = mem_alloc(3 * OBJECT_CHUNK + 5);
    struct hash h;
    struct swarm s;

    (void)state;
    memset(big, 'x', 3 * OBJECT_CHUNK + 5);
    h = sha256_of(big, 3 * OBJECT_CHUNK + 5);
    start_swarm(&s, 1);
    exchange_offer(s.nodes[0].x, big, 3 * OBJECT_CHUNK + 5);
    o.user = &s;
    exchange_object_start(s.nodes[1].x, &o, &h, 1 << 20, object_done);
    connect_nodes(&s, 1, 0); /* it waits for a link */
    loop_run(s.loop);
    assert_int_equal(s.nodes[1].status, 0);
    assert_int_equal(o.out.len, 3 * OBJECT_CHUNK + 5);
    buf_release(&o.out);
    exchange_object_start(s.nodes[1].x, &o, &h, 1 << 20, object_done); /* from memory */
    loop_run(s.loop);
    assert_int_equal(s.nodes[1].status, 0);
    buf_release(&o.out);
    stop_swarm(&s);
    free(big);
}

static void forgotten_packs_are_deleted(void **state)
{
    struct swarm s;
    char hex[HASH_HEX];

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_true(path_exists(below(s.nodes[1].dir, hash_hex(&s.id, hex), ".pack")));
    exchange_forget(s.nodes[1].x, &s.id);
    assert_false(path_exists(below(s.nodes[1].dir, hex, ".pack")));
    assert_null(exchange_path(s.nodes[1].x, &s.id));
    /* And fetched again over the same link: the release before is deployed once more. */
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    stop_swarm(&s);
}

/* Over the same link: forgotten on both sides of it, fetched again, and that many times. */
static void forgotten_packs_are_fetched_again(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    connect_nodes(&s, 1, 0);
    connect_nodes(&s, 1, 2);
    for (int i = 0; i < 3; i++) {
        start_fetch(&s, 1);
        loop_run(s.loop);
        assert_has_pack(&s, 1);
        assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes,
                         (uint64_t)PACK_BYTES * (uint64_t)(i + 1));
        exchange_forget(s.nodes[1].x, &s.id);
    }
    stop_swarm(&s);
}

/* One that has everything and answers nothing: its pieces are asked of the other. */
static void silence_stops_nothing(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    s.nodes[2].silent = true;
    connect_nodes(&s, 1, 2);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES);
    stop_swarm(&s);
}

static void fetch_some(struct swarm *s, int i, size_t first, size_t count)
{
    struct node *n = &s->nodes[i];
    struct bitmap want;

    bitmap_init(&want, PACK_BYTES / LEAF_BYTES + 1);
    for (size_t leaf = first; leaf < first + count; leaf++)
        bitmap_put(&want, leaf, true);
    n->fetch.user = n;
    s->want_done++;
    exchange_fetch_some(n->x, &n->fetch, &s->id, &want, fetched);
    bitmap_release(&want);
    loop_run(s->loop);
}

/* Some leaves, some others of the same pack, nothing at all; then it is closed, a leaf rots on disk, and
 * only that comes again. */
static void some_leaves_are_fetched(void **state)
{
    struct swarm s;
    const struct bitmap *have;
    uint64_t seed = 0, peer = 0;

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    assert_null(exchange_leaves(s.nodes[1].x, &s.id, &seed, &peer));
    fetch_some(&s, 1, 3, 2);
    assert_int_equal(s.nodes[1].fetch.total_bytes, 2 * LEAF_BYTES);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, 2 * LEAF_BYTES);
    assert_true(exchange_given_ms(s.nodes[0].x, &s.id) > 0);
    assert_int_equal(exchange_given_ms(s.nodes[1].x, &s.id), 0);
    fetch_some(&s, 1, 4, 3);
    assert_int_equal(s.nodes[1].fetch.have_bytes, 3 * LEAF_BYTES);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, 4 * LEAF_BYTES);
    have = exchange_leaves(s.nodes[1].x, &s.id, &seed, &peer);
    assert_non_null(have);
    assert_int_equal(have->set, 4);
    assert_int_equal(seed, 4 * LEAF_BYTES);
    assert_int_equal(peer, 0);
    fetch_some(&s, 1, 0, 0);
    assert_int_equal(s.nodes[1].fetch.total_bytes, 0);
    assert_non_null(exchange_path(s.nodes[1].x, &s.id));
    {
        AUTO_FREE char *path = mem_strdup(exchange_path(s.nodes[1].x, &s.id));
        FILE *f = fopen(path, "r+");

        exchange_close(s.nodes[1].x, &s.id);
        exchange_close(s.nodes[1].x, &s.id); /* harmless */
        assert_non_null(f);
        assert_int_equal(fseek(f, 5L * LEAF_BYTES + 9, SEEK_SET), 0);
        assert_int_equal(fputs("rot", f) < 0, false);
        assert_int_equal(fclose(f), 0);
    }
    assert_null(exchange_path(s.nodes[1].x, &s.id));
    fetch_some(&s, 1, 3, 4);
    assert_int_equal(s.nodes[1].fetch.have_bytes, 4 * LEAF_BYTES);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, 5 * LEAF_BYTES);
    stop_swarm(&s);
}

/* An object that comes slowly from the only one that has it. */
struct slow {
    struct swarm *s;
    struct exchange_object o;
    struct timer look;
    size_t had; /* when it was found to be slow */
};

static void when_it_has_begun(struct timer *t)
{
    struct slow *w = CONTAINER_OF(t, struct slow, look);

    if (w->had == 0 && w->o.out.len > 0) {
        w->had = w->o.out.len;
        w->s->nodes[0].silent = true;
        connect_nodes(w->s, 1, 2);
    }
    if (w->s->nodes[0].silent)
        w->o.asked_ms = loop_now_ms(w->s->loop) - 2 * EXCHANGE_OBJECT_MS;
    if (w->o.tried >= 3) /* the other one has been asked */
        w->s->nodes[0].silent = false;
    if (w->had > 0)
        assert_true(w->o.out.len >= w->had);
}

static void slow_object_done(struct exchange_object *o, int status)
{
    assert_int_equal(status, 0);
    loop_stop(((struct slow *)o->user)->s->loop);
}

/* Others are asked, have none, and it goes on where it was. */
static void what_came_slowly_is_not_asked_for_again(void **state)
{
    enum { BYTES = 64 * OBJECT_CHUNK + 5 };
    unsigned char *bytes = mem_calloc(1, BYTES);
    struct hash h = sha256_of(bytes, BYTES);
    struct swarm s;
    struct slow w = { .s = &s, .o = { .user = &w } };

    (void)state;
    start_swarm(&s, 2);
    exchange_offer(s.nodes[0].x, bytes, BYTES);
    exchange_object_start(s.nodes[1].x, &w.o, &h, BYTES, slow_object_done);
    connect_nodes(&s, 1, 0);
    timer_start(s.loop, &w.look, 0, 1, when_it_has_begun);
    loop_run(s.loop);
    timer_stop(&w.look);
    assert_true(w.had > 0 && w.had < BYTES);
    assert_int_equal(w.o.out.len, BYTES);
    buf_release(&w.o.out);
    free(bytes);
    stop_swarm(&s);
}

/* A machine that has the name of the region node is banned, and the region node is not. */
static void who_has_a_name_of_another_role_is_another(void **state)
{
    struct exchange_tally tally = { 0 };
    struct swarm s;

    (void)state;
    start_swarm(&s, 1);
    s.count = 3;
    s.nodes[2].evil = true;
    start_node(&s, &s.nodes[2], ROLE_AGENT, "r1");
    s.nodes[1].fetch.tally = &tally;
    connect_nodes(&s, 1, 2);
    start_fetch(&s, 1);
    exchange_offer(s.nodes[1].x, s.index.data, s.index.len);
    connect_nodes(&s, 1, 0);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_true(exchange_is_banned(s.nodes[1].x, "r1"));
    assert_int_equal(exchange_counts(s.nodes[1].x).banned, 1);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES);
    assert_int_equal(tally.nbanned, 1);
    stop_swarm(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_machine_fetches_from_the_region),
        cmocka_unit_test(machines_trade),
        cmocka_unit_test(it_goes_on_where_it_was),
        cmocka_unit_test(some_leaves_are_fetched),
        cmocka_unit_test(wrong_bytes_are_thrown_away),
        cmocka_unit_test(objects_come_in_chunks),
        cmocka_unit_test(what_came_slowly_is_not_asked_for_again),
        cmocka_unit_test(forgotten_packs_are_deleted),
        cmocka_unit_test(forgotten_packs_are_fetched_again),
        cmocka_unit_test(who_has_a_name_of_another_role_is_another),
        cmocka_unit_test(silence_stops_nothing),
    };

    log_setup("test", 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
