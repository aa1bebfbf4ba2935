/* The agent as a process: a new release travels as what changed, whatever is wrong with base or pack. */
#include "world.h"

#include <dirent.h>

#include "receipt.h"

enum { MIB = 1 << 20, BALLAST = 18 * MIB, SMALL = MIB };

#define EDITED(...)                                                             \
    (struct release_spec)                                                       \
    {                                                                           \
        .script = WORLD_SERVE, .ballast = BALLAST, .more = 9 * MIB, __VA_ARGS__ \
    }

static void goal(struct world *w, const char *deployment, const struct hash *release, bool activate)
{
    world_goal(w, &(struct goal_spec){ .service = "web",
                                       .deployment = deployment,
                                       .release = *release,
                                       .activate = activate });
}

static void deploy(struct world *w, const char *deployment, const struct hash *release)
{
    goal(w, deployment, release, true);
    world_until_report(w, PHASE_HEALTHY, release);
}

static void stage(struct world *w, const char *deployment, const struct hash *release)
{
    goal(w, deployment, release, false);
    world_until_report(w, PHASE_STAGED, release);
}

static void end(struct world *w)
{
    if (w->agent_is_up)
        assert_int_equal(world_end_agent(w, SIGTERM), 0);
    world_stop(w);
}

static char *file_of(const struct world *w, const struct hash *release, const char *file)
{
    char hex[HASH_HEX];

    return mem_printf("%s/services/web/releases/%s/%s", w->root, hash_hex(release, hex), file);
}

/* Every byte of the release on disk is what its manifest says. */
static void assert_sound(const struct world *w, const struct hash *release,
                         const struct published *p)
{
    AUTO_FREE char *dir = mem_printf("%s/services/web", w->root);
    struct err err = ERR_INIT;

    assert_ok(releases_verify(dir, release, &p->artifact, &err), &err);
}

static uint64_t sent(const struct world *w)
{
    return exchange_counts(w->exchange).sent_bytes;
}

/* What the receipt says is what was sent, and what was told last. */
static void assert_cost(const struct world *w, const struct hash *release, uint64_t most,
                        uint64_t full_bytes)
{
    AUTO_FREE char *dir = file_of(w, release, "");
    struct receipt r;
    struct err err = ERR_INIT;

    assert_ok(receipt_load(&r, dir, &err), &err);
    assert_in_range(r.wanted_bytes, 0, most);
    assert_int_equal(r.seed_bytes + r.peer_bytes, r.wanted_bytes);
    assert_int_equal(r.saved_bytes, full_bytes - r.wanted_bytes);
    assert_int_equal(w->told.wanted_bytes, r.wanted_bytes);
    assert_int_equal(w->told.staged_bytes, r.wanted_bytes);
    assert_int_equal(w->told.saved_bytes, r.saved_bytes);
    assert_string_equal(w->told_deployment, r.deployment);
}

/* A world where release one is healthy, two is signed, and a delta between them is seeded. */
struct upgrade {
    struct world w;
    struct published a, b;
    struct hash one, two;
    struct published_delta delta;
    uint64_t full_bytes; /* of two's full pack */
    uint64_t sent;       /* before two's goal */
};

static uint64_t pack_bytes(const struct world *w, const struct hash *pack)
{
    struct store_object *o;
    struct err err = ERR_INIT;
    uint64_t bytes;

    assert_ok(store_open_object(w->store, OBJECT_PACK, pack, &o, &err), &err);
    bytes = store_object_bytes(o);
    store_object_close(o);
    return bytes;
}

static void start_late_upgrade(struct upgrade *u)
{
    world_start(&u->w);
    u->one = world_publish(&u->w, "web", "1111", &EDITED(.seed = 3), &u->a);
    world_agent(&u->w, true);
    deploy(&u->w, "d-1", &u->one);
    u->two = world_publish(&u->w, "web", "2222", &EDITED(.seed = 3, .edits = { 5 * MIB, 13 * MIB }),
                           &u->b);
    u->delta = world_late_delta(&u->w, &u->a, &u->b);
    u->full_bytes = pack_bytes(&u->w, &u->b.pack);
    u->sent = sent(&u->w);
}

static void start_upgrade(struct upgrade *u)
{
    start_late_upgrade(u);
    world_seed_pack(&u->w, &u->delta.pack);
}

static void test_a_delta(void **state)
{
    struct upgrade u;

    (void)state;
    start_upgrade(&u);
    world_offer(&u.w, &u.two, &u.delta, 1);
    deploy(&u.w, "d-2", &u.two);
    assert_sound(&u.w, &u.two, &u.b);
    assert_cost(&u.w, &u.two, u.delta.pack_bytes, u.full_bytes);
    assert_int_equal(sent(&u.w) - u.sent, u.delta.pack_bytes);
    end(&u.w);
}

static bool is_told_again(struct world *w)
{
    return w->progress > 0 && w->told.saved_bytes > 0;
}

/* Killed when it had staged: the next agent tells the same under the same deployment, and another
 * deployment of the same release has cost nothing. */
static void test_figures_survive(void **state)
{
    struct upgrade u;
    struct msg_progress before;

    (void)state;
    start_upgrade(&u);
    world_offer(&u.w, &u.two, &u.delta, 1);
    stage(&u.w, "d-2", &u.two);
    before = u.w.told;
    world_end_agent(&u.w, SIGKILL);
    u.w.progress = 0;
    memset(&u.w.told, 0, sizeof(u.w.told));
    world_agent(&u.w, true);
    world_until(&u.w, is_told_again);
    assert_string_equal(u.w.told_deployment, "d-2");
    assert_int_equal(u.w.told.seed_bytes, before.seed_bytes);
    assert_int_equal(u.w.told.wanted_bytes, before.wanted_bytes);
    assert_int_equal(u.w.told.saved_bytes, before.saved_bytes);
    deploy(&u.w, "d-3", &u.two);
    assert_string_equal(u.w.told_deployment, "d-2");
    assert_int_equal(sent(&u.w) - u.sent, u.delta.pack_bytes);
    end(&u.w);
}

/* Two versions behind: the delta's base is not here, but one of the files that it is told by is. */
static void test_a_base_by_its_files(void **state)
{
    struct world w;
    struct published a, b, c;
    struct hash one, three;
    struct published_delta d;
    uint64_t before, full;

    (void)state;
    world_start(&w);
    one = world_publish(&w, "web", "1111", &EDITED(.seed = 3), &a);
    world_agent(&w, true);
    deploy(&w, "d-1", &one);
    (void)world_publish(&w, "web", "2222", &EDITED(.seed = 3, .more_edit = 4 * MIB), &b);
    three = world_publish(&w, "web", "3333",
                          &EDITED(.seed = 3, .edits = { 5 * MIB }, .more_edit = 4 * MIB), &c);
    d = world_delta(&w, &b, &c);
    full = pack_bytes(&w, &c.pack);
    world_offer(&w, &three, &d, 1);
    before = sent(&w);
    deploy(&w, "d-3", &three);
    assert_sound(&w, &three, &c);
    /* The segments of "more", and one that it shares with "ballast", come from the full pack. */
    assert_cost(&w, &three, 14 * MIB, full);
    assert_in_range(sent(&w) - before, 9 * MIB, 14 * MIB);
    end(&w);
}

static void overwrite(const char *path, off_t at)
{
    int fd = open(path, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "rot", 3, at), 3);
    close(fd);
}

/* One bit of the base has rotted: its segment comes from the full pack, the others do not. */
static void test_a_rotten_base(void **state)
{
    struct upgrade u;
    AUTO_FREE char *ballast = NULL;

    (void)state;
    start_upgrade(&u);
    ballast = file_of(&u.w, &u.one, "tree/ballast");
    overwrite(ballast, 9 * MIB);
    world_offer(&u.w, &u.two, &u.delta, 1);
    deploy(&u.w, "d-2", &u.two);
    assert_sound(&u.w, &u.two, &u.b);
    assert_cost(&u.w, &u.two, 6 * MIB, u.full_bytes);
    end(&u.w);
}

/* The base's tree is deleted under the agent: everything comes from the full pack. */
static void test_a_base_that_is_gone(void **state)
{
    struct upgrade u;
    AUTO_FREE char *tree = NULL;
    struct err err = ERR_INIT;

    (void)state;
    start_upgrade(&u);
    tree = file_of(&u.w, &u.one, "tree");
    assert_ok(dir_remove(tree, &err), &err);
    world_offer(&u.w, &u.two, &u.delta, 1);
    stage(&u.w, "d-2", &u.two);
    assert_sound(&u.w, &u.two, &u.b);
    end(&u.w);
}

static bool fetches_full(struct world *w)
{
    return w->told.staged_bytes > 2 * SMALL && hash_equal(&w->told.release, &w->want_release);
}

static bool has_most(struct world *w)
{
    return w->told.staged_bytes > 20 * SMALL && hash_equal(&w->told.release, &w->want_release);
}

/* The delta comes while the full pack is on its way. */
static void test_joins_live(void **state)
{
    struct upgrade u;

    (void)state;
    start_upgrade(&u);
    exchange_limit(u.w.exchange, 3 * MIB, 0);
    u.w.want_release = u.two;
    goal(&u.w, "d-2", &u.two, false);
    world_until(&u.w, fetches_full);
    world_offer(&u.w, &u.two, &u.delta, 1);
    world_until_report(&u.w, PHASE_STAGED, &u.two);
    assert_sound(&u.w, &u.two, &u.b);
    assert_in_range(sent(&u.w) - u.sent, 2 * SMALL, u.full_bytes - 4 * MIB);
    assert_cost(&u.w, &u.two, u.full_bytes - 4 * MIB, u.full_bytes);
    end(&u.w);
}

/* Deltas are offered, and nobody gives one of them yet: what is here is planned with, and the delta is
 * taken when it comes. */
static void test_offered_before_it_is_there(void **state)
{
    struct upgrade u;
    struct published_delta offered[3];

    (void)state;
    start_late_upgrade(&u);
    offered[0] = offered[1] = offered[2] = u.delta;
    memset(offered[0].pack.b, 0x11, HASH_BYTES); /* these never come */
    memset(offered[2].pack.b, 0x22, HASH_BYTES);
    world_offer(&u.w, &u.two, offered, 3);
    exchange_limit(u.w.exchange, 2 * MIB, 0);
    u.w.want_release = u.two;
    goal(&u.w, "d-2", &u.two, false);
    world_until(&u.w, fetches_full);
    world_seed_pack(&u.w, &u.delta.pack);
    world_until_report(&u.w, PHASE_STAGED, &u.two);
    assert_sound(&u.w, &u.two, &u.b);
    assert_in_range(sent(&u.w) - u.sent, 2 * SMALL, u.full_bytes - 4 * MIB);
    assert_cost(&u.w, &u.two, u.full_bytes - 4 * MIB, u.full_bytes);
    end(&u.w);
}

/* A delta that joins, and is no better than what is still to come, changes nothing. */
static void test_joins_in_vain(void **state)
{
    struct release_spec spec = { .script = WORLD_SERVE, .ballast = BALLAST + 9 * MIB, .seed = 3 };
    struct upgrade u;
    struct published c;
    struct hash three;

    (void)state;
    start_upgrade(&u);
    three = world_publish(&u.w, "web", "3333", &spec, &c);
    u.delta = world_delta(&u.w, &u.a, &c);
    assert_in_range(u.delta.pack_bytes, 9 * MIB, 12 * MIB);
    exchange_limit(u.w.exchange, 6 * MIB, 0);
    u.w.want_release = three;
    goal(&u.w, "d-3", &three, false);
    world_until(&u.w, has_most);
    exchange_limit(u.w.exchange, 2 * MIB, 0); /* so that it is looked at in time */
    world_offer(&u.w, &three, &u.delta, 1);
    world_until_report(&u.w, PHASE_STAGED, &three);
    assert_sound(&u.w, &three, &c);
    assert_in_range(u.w.told.seed_bytes, c.stream_bytes, c.stream_bytes + MIB);
    end(&u.w);
}

/* Back to the release before, which is on disk: nothing is fetched, whether its packs are kept or not,
 * and neither by an agent that has just begun. */
static void test_back(void **state)
{
    struct upgrade u;
    AUTO_FREE char *packs = NULL;
    uint64_t before;

    (void)state;
    start_upgrade(&u);
    deploy(&u.w, "d-2", &u.two);
    before = sent(&u.w);
    deploy(&u.w, "d-3", &u.one);
    assert_int_equal(sent(&u.w), before);
    world_end_agent(&u.w, SIGKILL);
    packs = mem_printf("%s/packs", u.w.root);
    tmpdir_remove(packs);
    u.w.reports = 0;
    world_agent(&u.w, true);
    deploy(&u.w, "d-4", &u.two);
    deploy(&u.w, "d-5", &u.one);
    assert_int_equal(sent(&u.w), before);
    assert_sound(&u.w, &u.one, &u.a);
    end(&u.w);
}

static bool knows_plan(struct world *w)
{
    return w->told.wanted_bytes > 0 && hash_equal(&w->told.release, &w->want_release);
}

/* The delta is withdrawn before a byte of it has come. */
static void test_withdrawn(void **state)
{
    struct upgrade u;

    (void)state;
    start_upgrade(&u);
    exchange_forget(u.w.exchange, &u.delta.pack);
    world_offer(&u.w, &u.two, &u.delta, 1);
    goal(&u.w, "d-2", &u.two, false);
    world_offer(&u.w, &u.two, &u.delta, 0);
    u.w.want_release = u.two;
    world_until(&u.w, knows_plan);
    world_until_report(&u.w, PHASE_STAGED, &u.two);
    assert_sound(&u.w, &u.two, &u.b);
    end(&u.w);
}

static char *pack_file(const struct world *w, const struct hash *pack)
{
    char hex[HASH_HEX];

    return mem_printf("%s/packs/%s.pack", w->root, hash_hex(pack, hex));
}

static bool has_packs(const struct world *w)
{
    AUTO_FREE char *path = mem_printf("%s/packs", w->root);
    DIR *d = opendir(path);
    struct dirent *e;
    bool found = false;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        found = found || strstr(e->d_name, ".pack") != NULL;
    closedir(d);
    return found;
}

static bool half_is_here(struct world *w)
{
    return w->told.staged_bytes > 12 * MIB && hash_equal(&w->told.release, &w->want_release);
}

/* What was fetched rots, or vanishes, while no agent runs: only that comes again. */
static void test_kept_packs(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct upgrade u;
        AUTO_FREE char *pack = NULL;
        uint64_t again;

        start_upgrade(&u);
        exchange_limit(u.w.exchange, 8 * MIB, 0);
        u.w.want_release = u.two;
        goal(&u.w, "d-2", &u.two, false);
        world_until(&u.w, half_is_here);
        world_end_agent(&u.w, SIGKILL);
        pack = pack_file(&u.w, &u.b.pack);
        again = sent(&u.w);
        if (gone)
            assert_int_equal(unlink(pack), 0);
        else
            overwrite(pack, 300000);
        exchange_limit(u.w.exchange, 0, 0);
        world_agent(&u.w, true);
        world_until_report(&u.w, PHASE_STAGED, &u.two);
        assert_sound(&u.w, &u.two, &u.b);
        again = sent(&u.w) - again;
        if (gone)
            assert_int_equal(again, u.w.told.wanted_bytes);
        else
            assert_in_range(again, 1, u.w.told.wanted_bytes - 8 * MIB);
        end(&u.w);
    }
}

static bool packs_are_gone(struct world *w)
{
    return !has_packs(w);
}

/* Packs stay for others, also over a restart, until nobody has wanted them for long. */
static void test_packs_are_freed(void **state)
{
    struct world w;
    struct hash one;
    struct published a;

    (void)state;
    world_start(&w);
    one = world_publish(&w, "web", "1111", &EDITED(.seed = 3), &a);
    world_agent(&w, true);
    deploy(&w, "d-1", &one);
    assert_true(has_packs(&w));
    world_end_agent(&w, SIGKILL);
    world_agent(&w, true);
    w.reports = 0;
    deploy(&w, "d-1", &one);
    assert_true(has_packs(&w));
    world_end_agent(&w, SIGKILL);
    w.keep_packs = "100";
    world_agent(&w, true);
    world_until(&w, packs_are_gone);
    end(&w);
}

static struct hash other_service(struct world *w, const struct published *p)
{
    struct buf out = BUF_INIT;
    struct hash id;

    world_sign_release(w, "api", "1111", &EDITED(.seed = 3), p, &out);
    id = sha256_of(out.data, out.len);
    world_say(w, DOC_RELEASE, &out);
    world_sources(w, "api", &id, p);
    return id;
}

static bool both_are_staged(struct world *w)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *web = mem_printf("%s/services/web", w->root);
    AUTO_FREE char *api = mem_printf("%s/services/api", w->root);
    struct hash out[2];

    (void)err;
    return releases_list(web, out, 2) == 1 && releases_list(api, out, 2) == 1;
}

/* Two services of one artifact: the pack is fetched once. */
static void test_two_services_of_one_artifact(void **state)
{
    struct world w;
    struct hash web, api;
    struct published a;

    (void)state;
    world_start(&w);
    web = world_publish(&w, "web", "1111", &EDITED(.seed = 3), &a);
    api = other_service(&w, &a);
    goal(&w, "d-1", &web, false);
    world_goal(&w, &(struct goal_spec){ .service = "api", .deployment = "d-1", .release = api });
    world_agent(&w, true);
    world_until(&w, both_are_staged);
    assert_int_equal(sent(&w), pack_bytes(&w, &a.pack));
    end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_delta),
        cmocka_unit_test(test_figures_survive),
        cmocka_unit_test(test_a_base_by_its_files),
        cmocka_unit_test(test_a_rotten_base),
        cmocka_unit_test(test_a_base_that_is_gone),
        cmocka_unit_test(test_joins_live),
        cmocka_unit_test(test_joins_in_vain),
        cmocka_unit_test(test_offered_before_it_is_there),
        cmocka_unit_test(test_back),
        cmocka_unit_test(test_withdrawn),
        cmocka_unit_test(test_kept_packs),
        cmocka_unit_test(test_packs_are_freed),
        cmocka_unit_test(test_two_services_of_one_artifact),
    };

    if (world_is_agent(argc, argv))
        return world_agent_main(argc, argv);
    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
