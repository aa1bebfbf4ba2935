/* The whole agent as a process, against a region node that the test plays. */
#include "world.h"

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
    proc_kill_group(pid, SIGKILL);
    world_stop(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_deployment),
    };

    if (argc > 1 && strcmp(argv[1], "--agent") == 0)
        return world_agent_main(argc, argv);
    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
