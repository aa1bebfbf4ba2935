#include "world.h"

/* One slot: the second machine waits until the first has reported. */
static void one_after_the_other(struct world *w, struct player *a, struct player *b,
                                const struct hash *release)
{
    agent_ask_slot(a, "web", "d-1", release, 1);
    WORLD_UNTIL(w, got_count(a, MSG_SLOT) == 1);
    assert_int_equal(((const struct msg_slot *)got_last(a, MSG_SLOT))->granted, 1);
    agent_ask_slot(b, "web", "d-1", release, 1);
    WORLD_UNTIL(w, got_count(b, MSG_SLOT) == 1);
    assert_int_equal(((const struct msg_slot *)got_last(b, MSG_SLOT))->granted, 0);
    agent_report(a, "web", "d-1", release, 1, PHASE_ACTIVATED, VERDICT_NONE, "");
    WORLD_UNTIL(w, wave_now(w).activated == 1);
    assert_int_equal(((const struct msg_counts *)got_last(&w->control, MSG_COUNTS))->slots_used, 1);
    agent_report(a, "web", "d-1", release, 1, PHASE_HEALTHY, VERDICT_GOOD, "");
    WORLD_UNTIL(w, got_count(b, MSG_SLOT) == 2);
    assert_int_equal(((const struct msg_slot *)got_last(b, MSG_SLOT))->granted, 1);
    assert_string_equal(((const struct msg_slot *)got_last(b, MSG_SLOT))->deployment, "d-1");
    agent_report(b, "web", "d-1", release, 1, PHASE_FAILED, VERDICT_BAD, "health: 500");
    WORLD_UNTIL(w, wave_now(w).healthy == 1 && wave_now(w).bad == 1);
    {
        const struct msg_counts *c = got_last(&w->control, MSG_COUNTS);
        const struct msg_failure *f = c->failures.items;

        assert_int_equal(c->failures.count, 1);
        assert_string_equal(f->machine, "m2");
        assert_string_equal(f->phase, "health");
        assert_string_equal(f->reason, "health: 500");
    }
}

/* What the control plane was last told that n machines run; -1: nothing. */
static int64_t runs_now(const struct world *w, const struct hash *release)
{
    const struct msg_runs *m = got_last(&w->control, MSG_RUNS);
    const struct msg_running *one = m == NULL ? NULL : m->releases.items;

    for (size_t i = 0; m != NULL && i < m->releases.count; i++)
        if (hash_equal(&one[i].release, release))
            return (int64_t)one[i].machines;
    return -1;
}

static void from_replication_to_healthy(void **state)
{
    struct world w;
    struct player a = { .w = NULL }, b = { .w = NULL };
    const struct msg_replica *replica;
    const struct msg_sources *sources;
    struct hash release;

    (void)state;
    world_init(&w);
    world_start(&w);
    release = begin(&w, 1, 1);
    WORLD_UNTIL(&w, verified(&w));
    replica = got_last(&w.control, MSG_REPLICA);
    assert_true(hash_equal(&replica->artifact, &w.artifact.artifact));
    assert_int_equal(replica->bytes, w.artifact.pack_bytes);
    assert_int_equal(replica->total, w.artifact.pack_bytes);
    assert_true(replica->origin_bytes > replica->bytes);

    agent_start(&w, &a, "m1", "rack1");
    agent_start(&w, &b, "m2", "rack2");
    WORLD_UNTIL(&w, got_doc(&a, DOC_GOAL) >= 0 && got_doc(&b, DOC_GOAL) >= 0);
    assert_true(got_doc(&a, DOC_TRUST) < got_doc(&a, DOC_RELEASE));
    assert_true(got_doc(&a, DOC_RELEASE) < got_at(&a, MSG_SOURCES));
    assert_true(got_at(&a, MSG_SOURCES) < got_doc(&a, DOC_GOAL));
    sources = got_last(&a, MSG_SOURCES);
    assert_string_equal(sources->service, "web");
    assert_true(hash_equal(&sources->artifact, &w.artifact.artifact));
    assert_int_equal(sources->packs.count, 1);
    assert_true(hash_equal(sources->packs.items, &w.artifact.pack));

    WORLD_UNTIL(&w, wave_now(&w).reachable == 2);
    agent_report(&a, "web", "d-1", &release, 1, PHASE_STAGED, VERDICT_NONE, "");
    agent_report(&b, "web", "d-1", &release, 1, PHASE_STAGED, VERDICT_NONE, "");
    WORLD_UNTIL(&w, wave_now(&w).staged == 2);
    assert_int_equal(((const struct msg_counts *)got_last(&w.control, MSG_COUNTS))->generation, 1);

    one_after_the_other(&w, &a, &b, &release);
    WORLD_UNTIL(&w, runs_now(&w, &release) == 2); /* healthy or not */
    agent_stop(&w, &a);
    agent_stop(&w, &b);
    player_release(&a);
    player_release(&b);
    world_release(&w);
}

static void machines_fetch_from_the_node_and_learn_their_peers(void **state)
{
    struct world w;
    struct player a = { .w = NULL }, b = { .w = NULL };
    struct msg_object_ask ask = { .offset = 0 };
    struct msg_want want = { .count = 1 };
    struct msg_join join = { .bitmap = { NULL, 0 } };
    const struct msg_leaf *leaf;
    const struct msg_peers *peers;
    struct pack_index *index = NULL;
    struct err err = ERR_INIT;
    struct hash h;

    (void)state;
    world_init(&w);
    world_start(&w);
    begin(&w, 1, 1);
    WORLD_UNTIL(&w, verified(&w));
    agent_start(&w, &a, "m1", "rack1");
    ask.object = w.artifact.pack;
    player_send(&a, MSG_OBJECT_ASK, &ask);
    WORLD_UNTIL(&w, got_last(&a, MSG_OBJECT) != NULL);
    {
        const struct msg_object *o = got_last(&a, MSG_OBJECT);

        h = sha256_of(o->bytes.data, o->bytes.len);
        assert_true(hash_equal(&h, &w.artifact.pack));
        assert_ok(pack_index_parse(&index, o->bytes.data, o->bytes.len, &err), &err);
    }
    ask.object = w.artifact.artifact;
    player_send(&a, MSG_OBJECT_ASK, &ask);
    WORLD_UNTIL(&w, got_count(&a, MSG_OBJECT) == 2);
    want.pack = w.artifact.pack;
    want.first = 3;
    player_send(&a, MSG_WANT, &want);
    WORLD_UNTIL(&w, got_last(&a, MSG_LEAF) != NULL);
    leaf = got_last(&a, MSG_LEAF);
    h = merkle_leaf(leaf->bytes.data, leaf->bytes.len);
    assert_int_equal(leaf->index, 3);
    assert_true(hash_equal(&h, &index->leaves[3]));
    pack_index_free(index);

    join.pack = w.artifact.pack;
    player_send(&a, MSG_JOIN, &join);
    WORLD_UNTIL(&w, got_count(&a, MSG_PEERS) == 1);
    assert_int_equal(((const struct msg_peers *)got_last(&a, MSG_PEERS))->peers.count, 0);
    agent_start(&w, &b, "m2", "rack2");
    player_send(&b, MSG_JOIN, &join);
    WORLD_UNTIL(&w, got_count(&b, MSG_PEERS) == 1 && got_count(&a, MSG_PEERS) == 2);
    peers = got_last(&a, MSG_PEERS);
    assert_int_equal(peers->peers.count, 1);
    assert_string_equal(((const struct msg_peer *)peers->peers.items)->id, "m2");
    assert_int_equal(((const struct msg_peer *)peers->peers.items)->port, 7000);
    agent_stop(&w, &b); /* it does not come back: it is not a peer any more */
    WORLD_UNTIL(&w, ((const struct msg_peers *)got_last(&a, MSG_PEERS))->peers.count == 0);
    agent_stop(&w, &a);
    player_release(&a);
    player_release(&b);
    world_release(&w);
}

static void what_it_knows_survives_a_restart_without_control_plane(void **state)
{
    struct world w;
    struct player a = { .w = NULL };
    struct hash release;

    (void)state;
    world_init(&w);
    world_start(&w);
    release = begin(&w, 7, 1);
    WORLD_UNTIL(&w, verified(&w));
    agent_start(&w, &a, "m1", "rack1");
    WORLD_UNTIL(&w, got_doc(&a, DOC_GOAL) >= 0);
    agent_report(&a, "web", "d-1", &release, 7, PHASE_HEALTHY, VERDICT_GOOD, "");
    WORLD_UNTIL(&w, wave_now(&w).healthy == 1);
    world_stop(&w);
    agent_stop(&w, &a);

    /* No control plane, no origin: the last goal is served all the same. */
    w.options.control_host = NULL;
    tmpdir_remove(w.origin_dir);
    world_start(&w);
    agent_start(&w, &a, "m1", "rack1");
    WORLD_UNTIL(&w, got_doc(&a, DOC_GOAL) >= 0 && got_last(&a, MSG_SOURCES) != NULL);
    assert_true(got_doc(&a, DOC_TRUST) >= 0 && got_doc(&a, DOC_RELEASE) >= 0);
    agent_stop(&w, &a);
    world_stop(&w);

    /* The control plane is back: the node still knows its machine, and what it said until it started. */
    w.options.control_host = "127.0.0.1";
    got_forget(&w.control);
    WORLD_UNTIL(&w, !w.control.open);
    world_start(&w);
    WORLD_UNTIL(&w, w.control.open);
    control_plan(&w, "d-1", "web", "{}", &release, NULL);
    WORLD_UNTIL(&w, wave_now(&w).total == 1);
    assert_int_equal(wave_now(&w).reachable, 1); /* not away for long enough to be given up */
    assert_int_equal(wave_now(&w).healthy, 0);   /* it may have stopped meanwhile */
    assert_int_equal(wave_now(&w).activated, 1);
    assert_int_equal(wave_now(&w).unknown, 1);
    assert_int_equal(((const struct msg_counts *)got_last(&w.control, MSG_COUNTS))->generation, 7);
    agent_start(&w, &a, "m1", "rack1");
    agent_report(&a, "web", "d-1", &release, 7, PHASE_HEALTHY, VERDICT_GOOD, "");
    WORLD_UNTIL(&w, wave_now(&w).healthy == 1 && wave_now(&w).unknown == 0);
    agent_stop(&w, &a);
    player_release(&a);
    world_release(&w);
}

static void goals_that_must_not_pass(void **state)
{
    struct world w;
    struct player a = { .w = NULL };
    AUTO_BUF doc = BUF_INIT;
    struct hash release;
    struct goal_text g = { .service = "web", .deployment = "d-1", .activate = true };
    struct secret_key real;

    (void)state;
    world_init(&w);
    world_start(&w);
    release = begin(&w, 5, 1);
    agent_start(&w, &a, "m1", "rack1");
    WORLD_UNTIL(&w, got_doc(&a, DOC_GOAL) >= 0);
    got_forget(&a);
    g.release = &release;

    g.generation = 4; /* older */
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    g.generation = 5; /* the same, but another one */
    g.max_moving = 3;
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    g.generation = 6; /* another region's */
    g.region = "r2";
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    g.region = NULL; /* signed by nobody we know */
    real = w.goal_key;
    memset(w.goal_key.seed, 99, KEY_BYTES);
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    w.goal_key = real;
    g.lives_ms = -1000; /* expired already */
    g.generation = 7;
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    g.lives_ms = 0; /* at last a good one */
    g.generation = 8;
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    WORLD_UNTIL(&w, got_doc(&a, DOC_GOAL) >= 0);
    {
        const struct msg_doc *m = got_last(&a, MSG_DOC);

        assert_int_equal(got_count(&a, MSG_DOC), 1);
        assert_int_equal(m->bytes.len, doc.len);
        assert_memory_equal(m->bytes.data, doc.data, doc.len);
    }
    agent_stop(&w, &a);
    player_release(&a);
    world_release(&w);
}

/* A label changes: the machine is selected now. */
static void select_by_label(struct world *w, struct player *b, struct goal_text *g)
{
    AUTO_BUF doc = BUF_INIT;

    got_forget(b);
    goal_doc(w, g, &doc);
    control_doc(w, DOC_GOAL, &doc);
    release_doc(w, "web", &w->artifact, &doc);
    control_doc(w, DOC_RELEASE, &doc);
    agent_machine(b, "rack1", "web", &w->artifact.pack);
    WORLD_UNTIL(w, got_doc(b, DOC_GOAL) >= 0);
    WORLD_UNTIL(w, wave_now(w).total == 2);
}

static void who_is_not_selected_hears_nothing_and_may_be_drift(void **state)
{
    struct world w;
    struct player a = { .w = NULL }, b = { .w = NULL };
    AUTO_BUF doc = BUF_INIT;
    struct hash release;
    struct goal_text g = { .service = "web",
                           .deployment = "d-2",
                           .generation = 9,
                           .select = "{\"label\":\"rack\",\"is\":\"rack1\"}",
                           .activate = true };

    (void)state;
    world_init(&w);
    world_start(&w);
    WORLD_UNTIL(&w, w.control.open);
    trust_doc(&w, 1, "", &doc);
    control_doc(&w, DOC_TRUST, &doc);
    agent_start(&w, &a, "m1", "rack1");
    agent_connect(&w, &b, "m2");
    agent_machine(&b, "rack2", "web", &w.artifact.pack); /* it runs something of that service */
    WORLD_UNTIL(&w, got_doc(&a, DOC_TRUST) >= 0 && got_doc(&b, DOC_TRUST) >= 0);

    /* The goal comes before its release: it waits for it. */
    release = release_doc(&w, "web", &w.artifact, &doc);
    g.release = &release;
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    control_plan(&w, "d-2", "web", g.select, &release, NULL);
    WORLD_UNTIL(&w, wave_now(&w).total == 1);
    assert_int_equal(got_doc(&a, DOC_GOAL), -1);
    assert_int_equal(((const struct msg_counts *)got_last(&w.control, MSG_COUNTS))->drift, 1);
    release_doc(&w, "web", &w.artifact, &doc);
    control_doc(&w, DOC_RELEASE, &doc);
    WORLD_UNTIL(&w, got_doc(&a, DOC_GOAL) >= 0);
    assert_int_equal(got_doc(&b, DOC_GOAL), -1);

    /* absent goes to those that run it, too. */
    g.action = "absent";
    g.generation = 10;
    g.release = NULL;
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    WORLD_UNTIL(&w, got_doc(&b, DOC_GOAL) >= 0);

    g.action = NULL;
    g.generation = 11;
    g.release = &release;
    select_by_label(&w, &b, &g);
    agent_stop(&w, &a);
    agent_stop(&w, &b);
    player_release(&a);
    player_release(&b);
    world_release(&w);
}

static size_t counts_of(const struct world *w, const char *deployment)
{
    size_t n = 0;

    for (size_t i = 0; i < w->control.ngot; i++) {
        if (w->control.got[i].type == MSG_COUNTS)
            n += strcmp(((const struct msg_counts *)w->control.got[i].msg)->deployment,
                        deployment) == 0;
    }
    return n;
}

static void a_deployment_that_is_over_keeps_its_counts(void **state)
{
    struct world w;
    struct player a = { .w = NULL };
    AUTO_BUF doc = BUF_INIT;
    struct hash release;
    struct goal_text g = { .service = "web", .deployment = "d-2", .generation = 2 };
    size_t before;

    (void)state;
    world_init(&w);
    world_start(&w);
    release = begin(&w, 1, 1);
    agent_start(&w, &a, "m1", "rack1");
    agent_report(&a, "web", "d-1", &release, 1, PHASE_HEALTHY, VERDICT_GOOD, "");
    WORLD_UNTIL(&w, wave_now(&w).healthy == 1);
    g.release = &release;
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    control_plan(&w, "d-2", "web", "{}", &release, NULL);
    WORLD_UNTIL(&w, counts_of(&w, "d-2") > 0);
    before = counts_of(&w, "d-1");
    agent_report(&a, "web", "d-2", &release, 2, PHASE_FAILED, VERDICT_BAD, "health: 500");
    WORLD_UNTIL(&w, wave_now(&w).bad == 1);
    assert_int_equal(counts_of(&w, "d-1"), before);
    agent_stop(&w, &a);
    player_release(&a);
    world_release(&w);
}

static void who_may_not_come_in(void **state)
{
    struct world w;
    struct player a = { .w = NULL }, stranger = { .w = NULL };
    struct msg_slot_ask early = { .service = NULL };
    AUTO_BUF doc = BUF_INIT;

    (void)state;
    world_init(&w);
    world_start(&w);
    WORLD_UNTIL(&w, w.control.open);
    agent_connect(&w, &a, "m1");
    player_send(&a, MSG_SLOT_ASK, &early); /* before MACHINE */
    WORLD_UNTIL(&w, a.link == NULL);
    assert_non_null(strstr(a.why.text, "MACHINE"));
    agent_start(&w, &a, "m1", "rack1");

    trust_doc(&w, 2, "\"m1\"", &doc);
    control_doc(&w, DOC_TRUST, &doc);
    WORLD_UNTIL(&w, a.link == NULL);
    assert_non_null(strstr(a.why.text, "deny list"));
    agent_connect(&w, &a, "m1"); /* and again */
    WORLD_UNTIL(&w, a.link == NULL);
    assert_non_null(strstr(a.why.text, "deny list"));

    player_init(&stranger, &w, ROLE_REGION, "r9", "r9"); /* another role */
    agent_connect(&w, &stranger, "r9");
    WORLD_UNTIL(&w, stranger.link == NULL);
    player_release(&a);
    player_release(&stranger);
    world_release(&w);
}

static void a_newer_link_of_a_machine_replaces_the_older(void **state)
{
    struct world w;
    struct player old = { .w = NULL }, new = { .w = NULL };
    struct hash release;

    (void)state;
    world_init(&w);
    world_start(&w);
    release = begin(&w, 1, 1);
    agent_start(&w, &old, "m1", "rack1");
    WORLD_UNTIL(&w, got_doc(&old, DOC_GOAL) >= 0);
    agent_start(&w, &new, "m1", "rack1");
    WORLD_UNTIL(&w, old.link == NULL && got_doc(&new, DOC_GOAL) >= 0);
    agent_report(&new, "web", "d-1", &release, 1, PHASE_STAGED, VERDICT_NONE, "");
    WORLD_UNTIL(&w, wave_now(&w).staged == 1);
    assert_int_equal(wave_now(&w).reachable, 1);
    agent_stop(&w, &new);
    player_release(&old);
    player_release(&new);
    world_release(&w);
}

static void questions_are_answered(void **state)
{
    struct world w;
    struct player a = { .w = NULL }, b = { .w = NULL };
    char any[] = "{}", by_rack[] = "{\"by_label\":\"rack\"}", deployment[] = "d-1";
    struct msg_fleet_ask fleet = { 11, any, by_rack };
    struct msg_number ranks[] = { { 1 }, { 2 } };
    struct msg_quantile_ask quantile = { 12, deployment, any, { ranks, 2 } };
    const struct msg_fleet *f;
    const struct msg_quantile *q;

    (void)state;
    world_init(&w);
    world_start(&w);
    WORLD_UNTIL(&w, w.control.open);
    agent_start(&w, &a, "m1", "rack1");
    agent_start(&w, &b, "m2", "rack2");
    do {
        got_forget(&w.control);
        player_send(&w.control, MSG_FLEET_ASK, &fleet);
        WORLD_UNTIL(&w, got_last(&w.control, MSG_FLEET) != NULL);
        f = got_last(&w.control, MSG_FLEET);
    } while (f->total < 2);
    assert_int_equal(f->ask, 11);
    assert_int_equal(f->reachable, 2);
    assert_int_equal(f->variants.count, 2);
    player_send(&w.control, MSG_QUANTILE_ASK, &quantile);
    WORLD_UNTIL(&w, got_last(&w.control, MSG_QUANTILE) != NULL);
    q = got_last(&w.control, MSG_QUANTILE);
    assert_int_equal(q->ask, 12);
    assert_int_equal(q->matching, 2);
    assert_int_equal(q->thresholds.count, 2);
    assert_true(((const struct msg_number *)q->thresholds.items)[1].value == UINT64_MAX);
    agent_stop(&w, &a);
    agent_stop(&w, &b);
    player_release(&a);
    player_release(&b);
    world_release(&w);
}

static void the_control_plane_may_come_and_go(void **state)
{
    struct world w;
    struct hash release;

    (void)state;
    world_init(&w);
    world_start(&w);
    release = begin(&w, 1, 1);
    WORLD_UNTIL(&w, verified(&w) && got_last(&w.control, MSG_COUNTS) != NULL);
    link_close(w.control.link, ERR_CANCELLED, "restart");
    WORLD_UNTIL(&w, !w.control.open);
    got_forget(&w.control);
    WORLD_UNTIL(&w, w.control.open);
    WORLD_UNTIL(&w, got_last(&w.control, MSG_COUNTS) != NULL); /* unasked */
    control_replicate(&w, &w.artifact);
    WORLD_UNTIL(&w, verified(&w)); /* at once, without reading the origin again */
    control_plan(&w, "d-1", "web", "{}", &release, NULL);
    world_release(&w);
}

static void a_failed_replication_is_told_and_healed(void **state)
{
    struct world w;
    struct published later;
    struct published fake;
    const struct msg_replica *m;

    (void)state;
    world_init(&w);
    world_start(&w);
    WORLD_UNTIL(&w, w.control.open);
    fake = w.artifact;
    memset(&fake.pack, 5, sizeof(fake.pack)); /* not (yet) in the origin */
    control_replicate(&w, &fake);
    WORLD_UNTIL(&w, (m = got_last(&w.control, MSG_REPLICA)) != NULL && m->state == REPLICA_FAILED);
    assert_non_null(strstr(m->reason, "pack 0505"));
    world_publish(&w, 43, &later);
    control_replicate(&w, &later); /* it holds nobody else up */
    WORLD_UNTIL(&w, verified(&w));
    world_release(&w);
}

static void what_no_goal_names_any_more_is_deleted(void **state)
{
    struct world w;
    struct published next;
    AUTO_BUF doc = BUF_INIT;
    struct goal_text g = { .service = "web", .deployment = "d-2", .generation = 2 };
    struct hash release;
    size_t before;

    (void)state;
    world_init(&w);
    w.options.sweep_ms = 20;
    world_start(&w);
    begin(&w, 1, 1);
    WORLD_UNTIL(&w, verified(&w));
    world_publish(&w, 77, &next);
    before = got_count(&w.control, MSG_REPLICA);
    control_replicate(&w, &next);
    WORLD_UNTIL(&w, got_count(&w.control, MSG_REPLICA) > before && verified(&w));
    assert_true(has_pack(&w, &w.artifact)); /* both are needed: one by its goal, ... */
    assert_true(has_pack(&w, &next));       /* ... one by a deployment that has none yet */
    release = release_doc(&w, "web", &next, &doc);
    control_doc(&w, DOC_RELEASE, &doc);
    g.release = &release;
    goal_doc(&w, &g, &doc);
    control_doc(&w, DOC_GOAL, &doc);
    WORLD_UNTIL(&w, !has_pack(&w, &w.artifact));
    assert_true(has_pack(&w, &next));
    release_doc(&w, "web", &w.artifact, &doc); /* it may come back */
    control_doc(&w, DOC_RELEASE, &doc);
    before = got_count(&w.control, MSG_REPLICA);
    control_replicate(&w, &w.artifact);
    WORLD_UNTIL(&w, got_count(&w.control, MSG_REPLICA) > before && verified(&w));
    assert_true(has_pack(&w, &w.artifact));
    world_release(&w);
}

static void errors_at_the_start(void **state)
{
    struct world w;
    struct region *second = NULL;
    struct err err = ERR_INIT;
    struct region_options o;

    (void)state;
    world_init(&w);
    world_start(&w);
    assert_error(region_new(&second, w.loop, &w.options, &err), ERR_EXISTS, &err, "lock");
    o = w.options;
    o.data = tmpdir_fresh();
    o.name = "r2";
    assert_error(region_new(&second, w.loop, &o, &err), ERR_DENIED, &err, "identity of r1");
    o.name = "../r";
    assert_error(region_new(&second, w.loop, &o, &err), ERR_INVALID, &err, "region");
    o.name = "r1";
    o.identity = "/nonexistent";
    assert_error(region_new(&second, w.loop, &o, &err), ERR_INVALID, &err, "/nonexistent");
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_replication_to_healthy),
        cmocka_unit_test(machines_fetch_from_the_node_and_learn_their_peers),
        cmocka_unit_test(what_it_knows_survives_a_restart_without_control_plane),
        cmocka_unit_test(goals_that_must_not_pass),
        cmocka_unit_test(who_is_not_selected_hears_nothing_and_may_be_drift),
        cmocka_unit_test(a_deployment_that_is_over_keeps_its_counts),
        cmocka_unit_test(who_may_not_come_in),
        cmocka_unit_test(a_newer_link_of_a_machine_replaces_the_older),
        cmocka_unit_test(questions_are_answered),
        cmocka_unit_test(the_control_plane_may_come_and_go),
        cmocka_unit_test(a_failed_replication_is_told_and_healed),
        cmocka_unit_test(what_no_goal_names_any_more_is_deleted),
        cmocka_unit_test(errors_at_the_start),
    };

    return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}
