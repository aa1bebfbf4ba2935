/* The agent when things go wrong: kills at bad times, bit rot, a full disk, goals that lie. */
#include "world.h"

#include <sys/mount.h>

#include "lib/small_disk.h"

enum { BALLAST = 24 << 20, SMALL_DISK = 3 << 20 };

static const struct release_spec plain = { .script = WORLD_SERVE };

static void goal(struct world *w, const char *deployment, const struct hash *release, bool activate)
{
    world_goal(w, &(struct goal_spec){ .service = "web",
                                       .deployment = deployment,
                                       .release = *release,
                                       .activate = activate });
}

static void deploy(struct world *w, const char *deployment, const struct hash *release,
                   enum report_phase phase)
{
    goal(w, deployment, release, true);
    world_until_report(w, phase, release);
}

static void end(struct world *w)
{
    if (w->agent_is_up)
        assert_int_equal(world_end_agent(w, SIGTERM), 0);
    world_stop(w);
}

static bool has_some_bytes(struct world *w)
{
    return exchange_counts(w->exchange).sent_bytes > BALLAST / 4;
}

/* Killed while it fetches: what it had verified is not asked for again. */
static void test_killed_while_fetching(void **state)
{
    struct release_spec big = { .script = WORLD_SERVE, .ballast = BALLAST };
    struct world w;
    struct hash one;
    uint64_t sent;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &big);
    goal(&w, "d-1", &one, false);
    world_agent(&w, true);
    world_until(&w, has_some_bytes);
    world_end_agent(&w, SIGKILL);
    sent = exchange_counts(w.exchange).sent_bytes;
    assert_true(sent < BALLAST);
    world_agent(&w, true);
    world_until_report(&w, PHASE_STAGED, &one);
    /* Twice at most: what was on its way, or not yet on its disk, when it was killed. */
    assert_in_range(exchange_counts(w.exchange).sent_bytes, BALLAST, BALLAST + BALLAST / 2);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    end(&w);
}

static bool has_nearly_all(struct world *w)
{
    return exchange_counts(w->exchange).sent_bytes > BALLAST - 4 * LEAF_BYTES;
}

/* Bytes of its ballast that are in the tree that is being staged. */
static uint64_t staged_bytes(const struct world *w, const struct hash *release)
{
    char hex[HASH_HEX];
    AUTO_FREE char *path = mem_printf("%s/services/web/releases/%s.tmp/staging/tree/ballast",
                                      w->root, hash_hex(release, hex));
    struct stat st;

    return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static bool has_staged_some(struct world *w)
{
    return staged_bytes(w, &w->want_release) >= SEGMENT_BYTES;
}

/* What has come is in the tree before the rest comes; killed then, that is not decoded again. */
static void test_applies_while_it_fetches(void **state)
{
    struct release_spec big = { .script = WORLD_SERVE, .ballast = BALLAST };
    struct world w;
    struct hash one;

    (void)state;
    world_start(&w);
    one = w.want_release = world_release(&w, "web", "1111", &big);
    exchange_limit(w.exchange, BALLAST, 0);
    goal(&w, "d-1", &one, false);
    world_agent(&w, true);
    world_until(&w, has_nearly_all);
    exchange_limit(w.exchange, 1000, 0);
    world_until(&w, has_staged_some);
    assert_null(w.report);
    world_end_agent(&w, SIGKILL);
    assert_true(staged_bytes(&w, &one) >= SEGMENT_BYTES);
    exchange_limit(w.exchange, 0, 0);
    world_agent(&w, true);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    assert_in_range(exchange_counts(w.exchange).sent_bytes, BALLAST, BALLAST + BALLAST / 2);
    end(&w);
}

static bool is_switching(struct world *w)
{
    return w->report != NULL && w->report->phase == PHASE_ACTIVATED;
}

/* Killed in the middle of a trial, with the process: the trial goes on while its goal stands. */
static void test_killed_in_trial(void **state)
{
    struct release_spec slow = { .script = WORLD_SERVE,
                                 .health = "{\"exec\":[\"/bin/false\"],\"interval\":0.05,"
                                           "\"timeout\":5,\"passes\":1,\"within\":3}" };
    struct world w;
    struct hash one, two;
    AUTO_FREE char *ran = NULL;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    two = world_release(&w, "web", "2222", &slow);
    world_agent(&w, true);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    goal(&w, "d-2", &two, true);
    world_until(&w, is_switching);
    world_end_agent(&w, 0);
    world_agent(&w, true);
    world_until_report(&w, PHASE_FAILED, &two);
    assert_int_equal(w.report->verdict, VERDICT_BAD);
    assert_int_equal(w.report->activation, 2);
    /* Bad, and down with its agent: the next start goes back to what was committed. */
    world_end_agent(&w, 0);
    tmpdir_remove(tmpdir_path("%s/services/web/ran", w.root + strlen(tmpdir()) + 1));
    codec_free(msg_codec(MSG_REPORT), w.report);
    w.report = NULL;
    world_agent(&w, true);
    world_until_report(&w, PHASE_FAILED, &two);
    deploy(&w, "d-2", &one, PHASE_HEALTHY);
    assert_int_equal(w.report->activation, 2);
    end(&w);
}

static void corrupt(const struct world *w, const struct hash *release)
{
    AUTO_FREE char *dir = mem_printf("%s/services/web", w->root);
    AUTO_FREE char *base = releases_path(dir, release);
    AUTO_FREE char *path = mem_printf("%s/tree/serve", base);
    int fd = open(path, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "#!/bin/sX", 9, 0), 9);
    close(fd);
}

/* What was staged has rotted on disk while no agent was watching: never run, staged anew. */
static void test_rotten_release_is_staged_anew(void **state)
{
    struct world w;
    struct hash one;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    goal(&w, "d-1", &one, false);
    world_agent(&w, true);
    world_until_report(&w, PHASE_STAGED, &one);
    world_end_agent(&w, SIGKILL);
    corrupt(&w, &one);
    world_agent(&w, true);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    end(&w);
}

static bool has_an_end(struct world *w)
{
    return w->report != NULL && w->report->generation == w->generation &&
           (w->report->phase == PHASE_HEALTHY || w->report->phase == PHASE_FAILED);
}

/* A full disk is reported, what runs is untouched, and staging goes on when there is space. */
static void test_full_disk(void **state)
{
    struct release_spec big = { .script = WORLD_SERVE, .ballast = 2 * SMALL_DISK };
    struct world w;
    struct hash one, two;
    pid_t pid;

    (void)state;
    world_start(&w);
    if (!small_disk(w.root, SMALL_DISK)) {
        world_stop(&w);
        skip();
    }
    one = world_release(&w, "web", "1111", &plain);
    two = world_release(&w, "web", "2222", &big);
    world_agent(&w, true);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    pid = world_pid(&w, "web");
    goal(&w, "d-2", &two, true);
    world_until_report(&w, PHASE_FAILED, &two);
    assert_int_equal(w.report->verdict, VERDICT_UNKNOWN);
    assert_memory_equal(w.report->reason, "stage: no space: ", 17);
    assert_int_equal(world_pid(&w, "web"), pid);
    assert_int_equal(kill(pid, 0), 0);
    assert_true(small_disk(w.root, 16 * SMALL_DISK));
    world_until_report(&w, PHASE_HEALTHY, &two);
    end(&w);
    assert_int_equal(umount2(w.root, MNT_DETACH), 0);
}

/* The disk has room for what is needed, not for releases that are only spare: nobody hears of it. */
static void test_old_releases_make_room(void **state)
{
    static const char *const deployments[] = { "d-1", "d-2", "d-3", "d-4", "d-5" };
    struct world w;
    AUTO_FREE char *dir = NULL;
    struct hash left[8];

    (void)state;
    world_start(&w);
    if (!small_disk(w.root, 11 * SMALL_DISK)) {
        world_stop(&w);
        skip();
    }
    world_agent(&w, true);
    for (unsigned i = 0; i < COUNT_OF(deployments); i++) {
        struct release_spec spec = { .script = WORLD_SERVE,
                                     .ballast = 2 * SMALL_DISK,
                                     .seed = 100 * i };
        struct hash release = world_release(&w, "web", deployments[i], &spec);

        goal(&w, deployments[i], &release, true);
        world_until(&w, has_an_end);
        assert_int_equal(w.report->phase, PHASE_HEALTHY);
    }
    dir = mem_printf("%s/services/web", w.root);
    assert_in_range(releases_list(dir, left, COUNT_OF(left)), 2, 3);
    end(&w);
    assert_int_equal(umount2(w.root, MNT_DETACH), 0);
}

/* A region node that offers the pack of something else: nothing of it comes onto the disk as the
 * release, and the right pack is taken when it is named. */
static void test_wrong_pack(void **state)
{
    struct world w;
    struct hash one, two;
    struct msg_pack other, right, *named;
    struct world_doc *d;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    other = *(struct msg_pack *)w.docs[w.ndocs - 1].sources->packs.items;
    two = world_release(&w, "web", "2222", &(struct release_spec){ .script = WORLD_SERVE "#2\n" });
    d = &w.docs[w.ndocs - 1];
    named = d->sources->packs.items;
    assert_true(hash_equal(&d->sources->release, &two));
    assert_false(hash_equal(&one, &two));
    right = *named;
    *named = other;
    world_agent(&w, true);
    goal(&w, "d-1", &two, true);
    world_until_report(&w, PHASE_FAILED, &two);
    assert_memory_equal(w.report->reason, "stage: pack index: ", 19);
    *named = right;
    world_send(&w, d);
    world_until_report(&w, PHASE_HEALTHY, &two);
    end(&w);
}

static bool has_refused(struct world *w)
{
    return w->report != NULL && strstr(w->report->reason, w->arg) != NULL;
}

/* Goals that a region node must not get through with; each is told in the next report, and what is
 * in force stays. */
static void test_goals_that_lie(void **state)
{
    struct world w;
    struct hash one, two;
    struct goal_spec lie;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    two = world_release(&w, "web", "2222", &(struct release_spec){ .script = WORLD_SERVE "#2\n" });
    world_agent(&w, true);
    deploy(&w, "d-0", &one, PHASE_HEALTHY);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    lie = (struct goal_spec){
        .service = "web", .deployment = "d-9", .release = two, .activate = true
    };
    lie.generation = 2;
    world_goal(&w, &lie);
    w.arg = "equivocation";
    world_until(&w, has_refused);
    assert_int_equal(w.report->phase, PHASE_HEALTHY);
    assert_true(hash_equal(&w.report->release, &one));
    lie.generation = 9;
    lie.region = "r2";
    world_goal(&w, &lie);
    w.arg = "is for region r2";
    world_until(&w, has_refused);
    lie.region = NULL;
    lie.select = "{\"label\":\"rack\",\"is\":\"b\"}";
    world_goal(&w, &lie);
    w.arg = "does not select";
    world_until(&w, has_refused);
    lie.select = NULL;
    lie.key = 9; /* nothing in it can be believed, not even the service's name */
    world_goal(&w, &lie);
    lie.key = 0;
    lie.generation = 1;
    world_goal(&w, &lie);
    deploy(&w, "d-2", &one, PHASE_HEALTHY);
    assert_int_equal(w.report->generation, 3);
    assert_int_equal(w.report->activation, 1);
    end(&w);
}

static bool is_new_link(struct world *w)
{
    return w->machines >= 2;
}

/* The region node goes away and comes back: the service runs on, everything is told again. */
static void test_lost_region_node(void **state)
{
    struct world w;
    struct hash one;
    int reports;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    world_agent(&w, true);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    reports = w.reports;
    codec_free(msg_codec(MSG_REPORT), w.report);
    w.report = NULL;
    link_close(w.link, ERR_CANCELLED, "restart");
    world_until(&w, is_new_link);
    world_until_report(&w, PHASE_HEALTHY, &one);
    assert_int_equal(w.reports, reports + 1);
    end(&w);
}

static bool is_connected(struct world *w)
{
    return w->machines == 1;
}

static bool has_asked(struct world *w)
{
    return w->asks > 0;
}

/* Without a slot nothing moves; a slot that comes later is taken. */
static void test_waits_for_its_slot(void **state)
{
    struct world w;
    struct hash one;
    struct msg_slot slot = { (char *)(uintptr_t) "web", (char *)(uintptr_t) "d-1", 1, 60000 };

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    w.hold_slots = true;
    world_agent(&w, true);
    goal(&w, "d-1", &one, true);
    world_until(&w, has_asked);
    world_until_report(&w, PHASE_STAGED, &one);
    assert_int_equal(link_send(w.link, MSG_SLOT, &slot, NULL), 0);
    world_until_report(&w, PHASE_HEALTHY, &one);
    end(&w);
}

static void test_roots_and_identities_that_cannot_be_used(void **state)
{
    struct world w;
    struct err err = ERR_INIT;
    struct agent_options o = {
        .region_host = "127.0.0.1", .region_port = 1, .listen = "127.0.0.1:0", .parent_fd = -1
    };
    AUTO_FREE char *identity = NULL, *nobody = NULL;

    (void)state;
    world_start(&w);
    identity = mem_printf("%s/m-01", w.dir);
    nobody = mem_printf("%s/nobody", w.dir);
    o.root = w.root;
    o.identity_dir = nobody;
    assert_true(agent_main_loop(&o, &err) < 0);
    assert_non_null(strstr(err.text, "ca.pem"));
    o.identity_dir = identity;
    o.listen = "nowhere";
    assert_error(agent_main_loop(&o, &err), ERR_INVALID, &err, "not ADDR:PORT");
    o.listen = "127.0.0.1:0";
    world_agent(&w, true);
    world_until(&w, is_connected);
    assert_error(agent_main_loop(&o, &err), ERR_EXISTS, &err, "another agent has");
    end(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_while_fetching),
        cmocka_unit_test(test_applies_while_it_fetches),
        cmocka_unit_test(test_killed_in_trial),
        cmocka_unit_test(test_rotten_release_is_staged_anew),
        cmocka_unit_test(test_wrong_pack),
        cmocka_unit_test(test_goals_that_lie),
        cmocka_unit_test(test_lost_region_node),
        cmocka_unit_test(test_waits_for_its_slot),
        cmocka_unit_test(test_roots_and_identities_that_cannot_be_used),
        cmocka_unit_test(test_old_releases_make_room),
        cmocka_unit_test(test_full_disk), /* these last: they leave our mount namespace */
    };

    if (world_is_agent(argc, argv))
        return world_agent_main(argc, argv);
    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
