/* The whole agent as a process, against a region node that the test plays. */
#include "world.h"

#include "status.h"

static const struct release_spec plain = { .script = WORLD_SERVE };

static struct hash current_of(const struct world *w)
{
    AUTO_FREE char *dir = mem_printf("%s/services/web", w->root);
    struct hash current;
    struct err err = ERR_INIT;

    assert_ok(releases_current(dir, &current, &err), &err);
    return current;
}

static bool is_alive(pid_t pid)
{
    struct proc_id id;

    return pid > 0 && proc_identify(&id, pid, NULL) == 0 && proc_is_alive(&id);
}

static bool is_dead(struct world *w)
{
    return !is_alive(world_pid(w, "web"));
}

static void end(struct world *w)
{
    if (w->agent_is_up)
        assert_int_equal(world_end_agent(w, SIGTERM), 0);
    if (!is_dead(w))
        proc_kill_group(world_pid(w, "web"), SIGKILL);
    world_until(w, is_dead);
    world_stop(w);
}

static void test_first_deployment(void **state)
{
    struct world w;
    struct hash one, current;
    pid_t pid;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    world_goal(&w, &(struct goal_spec){ .service = "web", .deployment = "d-1", .release = one });
    world_agent(&w, false);
    world_until_report(&w, PHASE_STAGED, &one);
    assert_int_equal(w.asks, 0);
    assert_int_equal(world_pid(&w, "web"), 0);
    world_goal(&w, &(struct goal_spec){
                       .service = "web", .deployment = "d-1", .release = one, .activate = true });
    world_until_report(&w, PHASE_HEALTHY, &one);
    assert_int_equal(w.report->verdict, VERDICT_GOOD);
    assert_int_equal(w.report->activation, 1);
    assert_int_equal(w.asks, 1);
    assert_int_equal(w.frees, 1);
    current = current_of(&w);
    assert_true(hash_equal(&current, &one));
    pid = world_pid(&w, "web");
    assert_true(is_alive(pid));
    assert_int_equal(world_end_agent(&w, SIGTERM), 0);
    assert_true(is_alive(pid));
    end(&w);
}

static bool has_told_all(struct world *w)
{
    return w->told_fetch.done == 1;
}

/* How well it came is told, and told again by an agent that was started later. */
static void test_the_fetch_is_measured(void **state)
{
    struct release_spec large = plain;
    struct msg_fetch before;
    struct world w;
    struct hash one;

    (void)state;
    large.ballast = 6 << 20;
    world_start(&w);
    w.limit_down = "4194304";
    one = world_release(&w, "web", "1111", &large);
    world_goal(&w, &(struct goal_spec){ .service = "web", .deployment = "d-1", .release = one });
    world_agent(&w, false);
    world_until_report(&w, PHASE_STAGED, &one);
    world_until(&w, has_told_all);
    assert_int_equal(w.told_fetch.bytes, w.told.seed_bytes);
    assert_int_equal(w.told_fetch.bytes, w.told.wanted_bytes);
    assert_int_equal(w.told_fetch.near_bytes + w.told_fetch.far_bytes,
                     0); /* all of it from the node */
    assert_int_equal(w.told_fetch.rate, 4 << 20);
    assert_int_equal(w.told_fetch.rate_from, RATE_LIMIT);
    assert_true(w.told_fetch.ms >= 1000); /* 6 MiB cannot come sooner, whatever may burst */
    assert_int_equal(w.told_fetch.stale, 0);
    before = w.told_fetch;
    assert_int_equal(world_end_agent(&w, SIGTERM), 0);
    memset(&w.told_fetch, 0, sizeof(w.told_fetch));
    world_agent(&w, false);
    world_until(&w, has_told_all);
    assert_memory_equal(&w.told_fetch, &before, sizeof(before));
    assert_int_equal(world_end_agent(&w, SIGTERM), 0);
    end(&w);
}

static void deploy(struct world *w, const char *deployment, const struct hash *release,
                   enum report_phase phase)
{
    world_goal(
        w, &(struct goal_spec){
               .service = "web", .deployment = deployment, .release = *release, .activate = true });
    world_until_report(w, phase, release);
}

/* A world where release `one` is healthy. */
static void start_with(struct world *w, struct hash *one)
{
    world_start(w);
    *one = world_release(w, "web", "1111", &plain);
    world_agent(w, false);
    deploy(w, "d-1", one, PHASE_HEALTHY);
}

static ino_t inode(const struct world *w, const struct hash *release, const char *file)
{
    AUTO_FREE char *dir = mem_printf("%s/services/web", w->root);
    AUTO_FREE char *base = releases_path(dir, release);
    AUTO_FREE char *path = mem_printf("%s/tree/%s", base, file);
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static void test_upgrade_links_what_is_unchanged(void **state)
{
    struct release_spec next = { .script = WORLD_SERVE "# next\n" };
    struct world w;
    struct hash one, two;
    pid_t old;

    (void)state;
    start_with(&w, &one);
    old = world_pid(&w, "web");
    two = world_release(&w, "web", "2222", &next);
    deploy(&w, "d-2", &two, PHASE_HEALTHY);
    assert_false(is_alive(old));
    assert_true(is_alive(world_pid(&w, "web")));
    assert_int_equal(w.report->activation, 2);
    assert_int_equal(inode(&w, &one, "same"), inode(&w, &two, "same"));
    assert_int_not_equal(inode(&w, &one, "serve"), inode(&w, &two, "serve"));
    end(&w);
}

static bool agent_is_back(struct world *w)
{
    return w->machines == 2;
}

static void test_killed_agent_adopts(void **state)
{
    struct world w;
    struct hash one;
    pid_t pid;

    (void)state;
    start_with(&w, &one);
    pid = world_pid(&w, "web");
    world_end_agent(&w, SIGKILL);
    assert_true(is_alive(pid));
    codec_free(msg_codec(MSG_REPORT), w.report);
    w.report = NULL;
    world_agent(&w, false);
    world_until(&w, agent_is_back);
    world_until_report(&w, PHASE_HEALTHY, &one);
    assert_int_equal(world_pid(&w, "web"), pid);
    assert_int_equal(w.report->activation, 1);
    end(&w);
}

static bool is_running(struct world *w)
{
    return is_alive(world_pid(w, "web"));
}

static bool goal_has_expired(struct world *w)
{
    return wall_ms() > (int64_t)w->report->at_ms + 3000;
}

/* The process and the agent are gone, as after a reboot; the goal has expired meanwhile. */
static void test_committed_release_starts_again(void **state)
{
    struct world w;
    struct hash one;
    pid_t pid;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &plain);
    world_agent(&w, false);
    world_goal(&w, &(struct goal_spec){ .service = "web",
                                        .deployment = "d-1",
                                        .release = one,
                                        .activate = true,
                                        .expires_ms = wall_ms() + 3000 });
    world_until_report(&w, PHASE_HEALTHY, &one);
    world_until(&w, goal_has_expired);
    pid = world_pid(&w, "web");
    world_end_agent(&w, SIGKILL);
    proc_kill_group(pid, SIGKILL);
    w.mute = true; /* the region node has nothing for it */
    world_agent(&w, false);
    world_until(&w, is_running);
    assert_int_not_equal(world_pid(&w, "web"), pid);
    end(&w);
}

static bool has_restarted(struct world *w)
{
    pid_t pid = world_pid(w, "web");

    return pid != atoi(w->arg) && is_alive(pid);
}

static void test_a_dead_process_is_started_again(void **state)
{
    char before[32];
    struct world w;
    struct hash one;

    (void)state;
    start_with(&w, &one);
    snprintf(before, sizeof(before), "%d", (int)world_pid(&w, "web"));
    w.arg = before;
    kill((pid_t)atoi(before), SIGKILL);
    world_until(&w, has_restarted);
    end(&w);
}

static void test_a_sick_release_is_rolled_back(void **state)
{
    struct release_spec sick = { .script = WORLD_SERVE "# sick\n", .health = WORLD_SICK };
    struct world w;
    struct hash one, two, current;

    (void)state;
    start_with(&w, &one);
    two = world_release(&w, "web", "2222", &sick);
    deploy(&w, "d-2", &two, PHASE_FAILED);
    assert_int_equal(w.report->verdict, VERDICT_BAD);
    assert_non_null(strstr(w.report->reason, "health: /bin/false: exit status 1"));
    assert_int_equal(w.frees, 2);
    /* The next goal of the same deployment does not try it again. */
    deploy(&w, "d-2", &two, PHASE_FAILED);
    assert_int_equal(w.report->activation, 2);
    assert_int_equal(w.asks, 2);
    deploy(&w, "d-2", &one, PHASE_HEALTHY);
    assert_int_equal(w.report->activation, 3);
    current = current_of(&w);
    assert_true(hash_equal(&current, &one));
    /* Another deployment may. */
    deploy(&w, "d-3", &two, PHASE_ACTIVATED);
    end(&w);
}

static void test_starts_that_fail(void **state)
{
    static const struct {
        struct release_spec spec;
        const char *reason;
    } cases[] = {
        { { .script = "#!/bin/sh\nexit 3\n", .health = WORLD_SICK },
          "the process ended: exit status 3" },
        { { .script = "x",
            .activate =
                "{\"mode\":\"process\",\"start\":[\"./missing\"],\"stop\":null,\"env\":{}}" },
          "activate: start:" },
        { { .script = "#!/bin/sh\nexit 4\n",
            .activate = "{\"mode\":\"command\",\"start\":[\"./serve\"],\"stop\":null,\"env\":{}}" },
          "activate: start: exit status 4" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world w;
        struct hash one;

        world_start(&w);
        one = world_release(&w, "web", "1111", &cases[i].spec);
        world_agent(&w, true);
        deploy(&w, "d-1", &one, PHASE_FAILED);
        assert_int_equal(w.report->verdict, VERDICT_BAD);
        assert_non_null(strstr(w.report->reason, cases[i].reason));
        end(&w);
    }
}

static void test_stop_and_absent(void **state)
{
    struct world w;
    struct hash one, none = { { 0 } };
    AUTO_FREE char *releases = NULL;
    pid_t pid;

    (void)state;
    start_with(&w, &one);
    pid = world_pid(&w, "web");
    world_goal(&w, &(struct goal_spec){
                       .service = "web", .deployment = "d-1", .release = one, .action = "stop" });
    world_until_report(&w, PHASE_STOPPED, &one);
    assert_false(is_alive(pid));
    deploy(&w, "d-2", &one, PHASE_HEALTHY);
    world_goal(&w,
               &(struct goal_spec){
                   .service = "web", .deployment = "d-3", .release = none, .action = "absent" });
    world_until_report(&w, PHASE_STOPPED, &none);
    releases = mem_printf("%s/services/web/releases", w.root);
    assert_false(path_exists(releases));
    end(&w);
}

static bool is_third_link(struct world *w)
{
    return w->machines == 3;
}

static void test_mode_command(void **state)
{
    static const struct release_spec spec = {
        .script = "#!/bin/sh\necho $1 $PORT >> $HOME/said\n",
        .activate = "{\"mode\":\"command\",\"start\":[\"./serve\",\"start\"],"
                    "\"stop\":[\"./serve\",\"stop\"],\"env\":{}}",
    };
    struct world w;
    struct hash one;
    AUTO_FREE char *said = NULL;
    char order[16] = "";
    int n = 0;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &spec);
    world_agent(&w, false);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    world_end_agent(&w, SIGKILL);
    world_agent(&w, false);
    world_goal(&w, &(struct goal_spec){
                       .service = "web", .deployment = "d-1", .release = one, .action = "stop" });
    world_until_report(&w, PHASE_STOPPED, &one);
    deploy(&w, "d-2", &one, PHASE_HEALTHY);
    world_end_agent(&w, SIGTERM); /* without its services */
    world_agent(&w, true);
    world_until(&w, is_third_link);
    world_end_agent(&w, SIGTERM); /* with them */
    said = world_file(&w, "services/web/said");
    assert_memory_equal(said, "start ", 6);
    assert_in_range(atoi(said + 6), 20000, 31999);
    for (char *at = said; *at != '\0'; at = strchr(at, '\n') + 1)
        order[n++] = at[2]; /* st-a-rt, st-o-p */
    assert_string_equal(order, "aoao");
    end(&w);
}

static void test_services_stop_with_the_parent(void **state)
{
    struct release_spec stubborn = {
        .script = "#!/bin/sh\ntrap '' TERM\nsleep 1000 & wait\nsleep 1000\n"
    };
    struct world w;
    struct hash one;
    pid_t pid;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &stubborn);
    world_agent(&w, true);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    pid = world_pid(&w, "web");
    assert_int_equal(world_end_agent(&w, 0), 0);
    assert_false(is_alive(pid));
    end(&w);
}

static bool is_guarded_no_more(struct world *w)
{
    AUTO_FREE char *path = mem_printf("%s/guard.lock", w->root);
    int fd;

    if (file_lock(&fd, path, NULL) < 0)
        return false;
    close(fd);
    return true;
}

static bool is_guarded(struct world *w)
{
    return !is_guarded_no_more(w);
}

/* Agent and parent are killed in one moment: the guard ends the service. */
static void test_guard_ends_services(void **state)
{
    struct release_spec forks = { .script = "#!/bin/sh\nsetsid sleep 1000 & exec sleep 1000\n" };
    struct world w;
    struct hash one;
    pid_t pid;

    (void)state;
    world_start(&w);
    one = world_release(&w, "web", "1111", &forks);
    world_agent(&w, true);
    deploy(&w, "d-1", &one, PHASE_HEALTHY);
    pid = world_pid(&w, "web");
    world_until(&w, is_guarded);
    world_end_agent(&w, SIGKILL);
    world_until(&w, is_guarded_no_more);
    assert_false(is_alive(pid));
    end(&w);
}

/* `engine-agent status`, beside a running agent and after it. */
static void test_status(void **state)
{
    struct world w;
    struct hash one;
    struct err err = ERR_INIT;
    AUTO_BUF table = BUF_INIT;
    AUTO_BUF json = BUF_INIT;
    AUTO_JSON *all = NULL;
    const json_t *web;
    pid_t pid;

    (void)state;
    start_with(&w, &one);
    pid = world_pid(&w, "web");
    assert_ok(status_print(&table, w.root, false, &err), &err);
    assert_non_null(strstr(table.data, "SERVICE"));
    assert_non_null(strstr(table.data, "committed  good"));
    assert_non_null(strstr(table.data, "run d-1 generation 1\n"));
    assert_ok(status_print(&json, w.root, true, &err), &err);
    assert_ok(json_parse(&all, json.data, json.len, &err), &err);
    web = json_array_get(json_object_get(all, "services"), 0);
    assert_string_equal(json_string_value(json_object_get(web, "service")), "web");
    assert_string_equal(json_string_value(json_object_get(web, "commit")), "1111");
    assert_int_equal(json_integer_value(json_object_get(web, "pid")), pid);
    assert_true(json_is_true(json_object_get(web, "running")));
    end(&w);
    buf_reset(&json);
    assert_ok(status_print(&json, w.root, true, &err), &err);
    assert_non_null(strstr(json.data, "\"running\":false"));
    assert_error(status_print(&json, w.dir, true, &err), ERR_NOT_FOUND, &err, "not the root");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_deployment),
        cmocka_unit_test(test_the_fetch_is_measured),
        cmocka_unit_test(test_upgrade_links_what_is_unchanged),
        cmocka_unit_test(test_killed_agent_adopts),
        cmocka_unit_test(test_committed_release_starts_again),
        cmocka_unit_test(test_a_dead_process_is_started_again),
        cmocka_unit_test(test_a_sick_release_is_rolled_back),
        cmocka_unit_test(test_starts_that_fail),
        cmocka_unit_test(test_stop_and_absent),
        cmocka_unit_test(test_mode_command),
        cmocka_unit_test(test_services_stop_with_the_parent),
        cmocka_unit_test(test_guard_ends_services),
        cmocka_unit_test(test_status),
    };

    if (world_is_agent(argc, argv))
        return world_agent_main(argc, argv);
    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
