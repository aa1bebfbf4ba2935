#include "world.h"

#include "swarm/figures.h"

/* The swarm as the control plane was told of it last; NULL: of none. */
static const struct msg_swarm *swarm_now(const struct world *w)
{
    const struct msg_counts *c = got_last(&w->control, MSG_COUNTS);

    return c == NULL || c->swarm.count == 0 ? NULL : c->swarm.items;
}

static uint64_t done_now(const struct world *w)
{
    return swarm_now(w) == NULL ? 0 : swarm_now(w)->done;
}

static uint64_t refused_now(const struct world *w)
{
    return swarm_now(w) == NULL ? 0 : swarm_now(w)->refused;
}

static uint64_t sent_now(const struct world *w)
{
    const struct msg_swarm *m = swarm_now(w);

    return m == NULL || m->packs.count == 0
               ? 0
               : ((const struct msg_pack_sent *)m->packs.items)->sent_bytes;
}

/* All of the pack came in 6 s by a limit of a MiB a second; two thirds of it from the other rack. */
static void tell_fetched(struct world *w, struct player *a, const struct hash *release,
                         const char *banned, bool absurd)
{
    uint64_t bytes = w->artifact.pack_bytes;
    struct msg_banned name = { (char *)(uintptr_t)banned };
    struct msg_fetch fetch = { .done = 1,
                               .rate_from = RATE_LIMIT,
                               .rate = 1 << 20,
                               .ms = 6000,
                               .bytes = bytes,
                               .near_bytes = bytes / 6,
                               .far_bytes = bytes / 3,
                               .stolen = 3,
                               .edges = 4,
                               .stale = 1,
                               .banned = { &name, banned == NULL ? 0 : 1 } };
    struct msg_progress p = { .service = (char *)(uintptr_t) "web",
                              .deployment = (char *)(uintptr_t) "d-1",
                              .release = *release,
                              .staged_bytes = bytes,
                              .wanted_bytes = bytes,
                              .seed_bytes = bytes / 2,
                              .peer_bytes = bytes - bytes / 2,
                              .fetch = { &fetch, 1 } };

    if (absurd) {
        p.wanted_bytes = p.staged_bytes = p.peer_bytes = fetch.bytes = UINT64_C(1) << 40;
        p.seed_bytes = 0;
    }
    player_send(a, MSG_PROGRESS, &p);
}

static void want_leaf(struct world *w, struct player *a, uint32_t leaf)
{
    struct msg_want want = { w->artifact.pack, leaf, 1 };
    size_t before = (size_t)got_count(a, MSG_LEAF);

    player_send(a, MSG_WANT, &want);
    WORLD_UNTIL(w, (size_t)got_count(a, MSG_LEAF) == before + 1);
}

static void machines_are_told_who_is_in_their_rack(void **state)
{
    struct world w;
    struct player a = { .w = NULL }, b = { .w = NULL }, c = { .w = NULL };
    struct msg_join join = { .bitmap = { NULL, 0 } };
    const struct msg_peers *peers;

    (void)state;
    world_init(&w);
    world_start(&w);
    begin(&w, 1, 1);
    WORLD_UNTIL(&w, verified(&w));
    agent_start(&w, &a, "m1", "rack1");
    agent_start(&w, &b, "m2", "rack1");
    agent_start(&w, &c, "m3", "rack2");
    join.pack = w.artifact.pack;
    player_send(&a, MSG_JOIN, &join);
    player_send(&b, MSG_JOIN, &join);
    player_send(&c, MSG_JOIN, &join);
    WORLD_UNTIL(&w, (peers = got_last(&a, MSG_PEERS)) != NULL && peers->peers.count == 2);
    for (size_t i = 0; i < 2; i++) {
        const struct msg_peer *p = (const struct msg_peer *)peers->peers.items + i;

        assert_int_equal(p->rack, strcmp(p->id, "m2") == 0 ? RACK_SAME : RACK_OTHER);
    }
    agent_stop(&w, &a);
    agent_stop(&w, &b);
    agent_stop(&w, &c);
    player_release(&a);
    player_release(&b);
    player_release(&c);
    world_release(&w);
}

static void check_figures(const struct world *w)
{
    const struct msg_swarm *m = swarm_now(w);
    const struct msg_pack_sent *packs = m->packs.items;
    const struct msg_offender *offenders = m->offenders.items;

    assert_int_equal(m->machines, 2);
    assert_int_equal(m->done, 2);
    assert_int_equal(m->rated, 2);
    assert_int_equal(m->by_limit, 2);
    assert_int_equal(m->ratio_max, 1200); /* 6 s for 5 MiB */
    assert_int_equal(m->near_bytes, 2 * (w->artifact.pack_bytes / 6));
    assert_int_equal(m->far_bytes, 2 * (w->artifact.pack_bytes / 3));
    assert_int_equal(m->stolen, 6);
    assert_int_equal(m->edges, 8);
    assert_int_equal(m->stale, 2);
    assert_int_equal(m->packs.count, 1);
    assert_true(hash_equal(&packs->pack, &w->artifact.pack));
    assert_int_equal(packs->bytes, w->artifact.pack_bytes);
    assert_int_equal(packs->sent_bytes, 3 * LEAF_BYTES);
    assert_int_equal(m->offenders.count, 1);
    assert_string_equal(offenders->machine, "m2");
    assert_int_equal(offenders->by, 1);
}

static void what_machines_tell_adds_up_and_outlives_the_node(void **state)
{
    struct world w;
    struct player a = { .w = NULL }, b = { .w = NULL };
    struct hash release;

    (void)state;
    world_init(&w);
    world_start(&w);
    release = begin(&w, 1, 1);
    WORLD_UNTIL(&w, verified(&w));
    agent_start(&w, &a, "m1", "rack1");
    agent_start(&w, &b, "m2", "rack2");
    WORLD_UNTIL(&w, wave_now(&w).reachable == 2);
    want_leaf(&w, &a, 0);
    want_leaf(&w, &b, 1);
    want_leaf(&w, &b, 2);
    tell_fetched(&w, &a, &release, "m2", false);
    tell_fetched(&w, &a, &release, "m2", false); /* again: it counts once */
    tell_fetched(&w, &b, &release, "nobody-there", false);
    WORLD_UNTIL(&w, done_now(&w) == 2 && sent_now(&w) == 3 * LEAF_BYTES);
    check_figures(&w);

    tell_fetched(&w, &b, &release, NULL, true);
    WORLD_UNTIL(&w, refused_now(&w) == 1);
    check_figures(&w);
    assert_true(b.open); /* and it stays a machine as others */

    /* Nobody is there to tell it again. */
    agent_stop(&w, &a);
    agent_stop(&w, &b);
    world_stop(&w);
    got_forget(&w.control);
    world_start(&w);
    begin(&w, 1, 1);
    WORLD_UNTIL(&w, done_now(&w) == 2 && sent_now(&w) > 0);
    check_figures(&w);
    player_release(&a);
    player_release(&b);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_are_told_who_is_in_their_rack),
        cmocka_unit_test(what_machines_tell_adds_up_and_outlives_the_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
