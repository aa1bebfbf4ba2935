#include "lib/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "lib/tmpdir.h"
#include "log_file.h"
#include "process.h"

struct fix {
    struct loop *loop;
    struct work_pool *pool;
    struct process p;
    struct timer guard, look;
    int ended, status;
    const char *file; /* waited for */
    char tag[64];
};

static void guard_fired(struct timer *t)
{
    (void)t;
    fail_msg("nothing more happens");
}

static void exited(struct process *p, int status)
{
    struct fix *f = p->user;

    f->ended++;
    f->status = status;
    loop_stop(f->loop);
}

static int setup(void **state)
{
    struct fix *f = mem_alloc(sizeof(*f));

    assert_int_equal(loop_new(&f->loop, NULL), 0);
    assert_int_equal(work_pool_new(&f->pool, f->loop, 1, NULL), 0);
    snprintf(f->tag, sizeof(f->tag), "SLIPWAY_UNIT=test-%d", (int)getpid());
    process_init(&f->p, f->loop, f->pool, exited, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;

    work_pool_free(f->pool);
    process_release(&f->p);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void run(struct fix *f)
{
    timer_start(f->loop, &f->guard, 20000, 0, guard_fired);
    loop_run(f->loop);
    timer_stop(&f->guard);
}

static void look(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, look);

    if (path_exists(f->file))
        loop_stop(f->loop);
}

static void until_file(struct fix *f, const char *path)
{
    f->file = path;
    timer_start(f->loop, &f->look, 0, 5, look);
    run(f);
    timer_stop(&f->look);
}

static int start(struct fix *f, const char *script, bool keep_children, struct err *err)
{
    const char *argv[] = { "/bin/sh", "-c", script, NULL };
    const char *env[] = { "PATH=/usr/bin:/bin", NULL };
    struct process_spec spec = { (char *const *)(uintptr_t)argv,
                                 (char *const *)(uintptr_t)env,
                                 tmpdir(),
                                 tmpdir_path("log"),
                                 f->tag,
                                 keep_children };

    return process_start(&f->p, &spec, err);
}

static bool is_alive(pid_t pid)
{
    struct proc_id id;

    return proc_identify(&id, pid, NULL) == 0 && proc_is_alive(&id);
}

static pid_t pid_in(const char *path)
{
    AUTO_FREE char *text = tmpdir_read(path, NULL);

    assert_non_null(text);
    return (pid_t)atoi(text);
}

static void test_output_goes_to_the_log(void **state)
{
    struct fix *f = *state;
    AUTO_FREE char *log = NULL;
    struct err err = ERR_INIT;

    for (int i = 0; i < 2; i++) {
        assert_ok(start(f, "echo out; echo err >&2; pwd; exit 5", false, &err), &err);
        assert_true(process_is_up(&f->p));
        run(f);
        assert_false(process_is_up(&f->p));
        assert_int_equal(WEXITSTATUS(f->status), 5);
    }
    log = tmpdir_read(tmpdir_path("log"), NULL);
    assert_non_null(strstr(log, "out\nerr\n/"));
    assert_non_null(strstr(strstr(log, "out") + 1, "out"));
    assert_int_equal(f->ended, 2);
}

static void test_nothing_of_it_is_left(void **state)
{
    struct fix *f = *state;
    const char *path = tmpdir_path("child");
    struct err err = ERR_INIT;
    pid_t child;

    /* A child in a session of its own is found by the tag. */
    assert_ok(
        start(f, "setsid sh -c 'echo $$ > child.tmp; mv child.tmp child; exec sleep 1000' & wait",
              false, &err),
        &err);
    until_file(f, path);
    child = pid_in(path);
    assert_true(is_alive(child));
    process_stop(&f->p, 10000);
    run(f);
    assert_false(is_alive(child));
    tmpdir_remove(path);
}

static void test_commands_may_leave_children(void **state)
{
    struct fix *f = *state;
    const char *path = tmpdir_path("child");
    struct err err = ERR_INIT;
    pid_t child;

    assert_ok(start(f, "sleep 1000 >/dev/null 2>&1 & echo $! > child", true, &err), &err);
    run(f);
    child = pid_in(path);
    assert_true(is_alive(child));
    kill(child, SIGKILL);
    tmpdir_remove(path);
}

static void test_stubborn_ones_are_killed(void **state)
{
    struct fix *f = *state;
    struct err err = ERR_INIT;

    assert_ok(start(f, "trap '' TERM; touch ready; while :; do sleep 1; done", false, &err), &err);
    until_file(f, tmpdir_path("ready"));
    process_stop(&f->p, 60000);
    process_stop(&f->p, 10); /* sooner */
    run(f);
    assert_true(WIFSIGNALED(f->status));
    assert_int_equal(WTERMSIG(f->status), SIGKILL);
    process_stop(&f->p, 10); /* it is down */
}

static void test_adoption(void **state)
{
    struct fix *f = *state;
    struct proc_id id, wrong;
    struct process again;
    struct err err = ERR_INIT;

    assert_ok(start(f, "exec sleep 1000", false, &err), &err);
    id = f->p.id;
    process_release(&f->p); /* as if its agent had died */
    assert_true(proc_is_alive(&id));
    process_init(&again, f->loop, f->pool, exited, f);
    wrong = (struct proc_id){ id.pid, id.start_ticks + 1 };
    assert_error(process_adopt(&again, &wrong, f->tag, &err), ERR_NOT_FOUND, &err, "is gone");
    assert_ok(process_adopt(&again, &id, f->tag, &err), &err);
    assert_error(process_adopt(&again, &id, f->tag, &err), ERR_INTERNAL, &err, "already");
    process_stop(&again, 10000);
    run(f);
    assert_false(proc_is_alive(&id));
    process_release(&again);
}

static void test_what_cannot_start(void **state)
{
    struct fix *f = *state;
    const char *argv[] = { "/nonexistent/program", NULL };
    const char *env[] = { NULL };
    struct process_spec spec = { (char *const *)(uintptr_t)argv,
                                 (char *const *)(uintptr_t)env,
                                 tmpdir(),
                                 tmpdir_path("log"),
                                 f->tag,
                                 false };
    struct err err = ERR_INIT;

    assert_error(process_start(&f->p, &spec, &err), ERR_NOT_FOUND, &err, "no such program");
    spec.log = "/nonexistent/log";
    assert_true(process_start(&f->p, &spec, &err) < 0);
    assert_int_equal(start(f, "exec sleep 1000", false, &err), 0);
    assert_error(start(f, "exec sleep 1000", false, &err), ERR_INTERNAL, &err, "already");
    process_stop(&f->p, 10000);
    run(f);
}

static void test_log_is_bounded(void **state)
{
    const char *path = tmpdir_path("big.log");
    AUTO_FREE char *big = mem_alloc(LOG_FILE_MAX + 10);
    AUTO_FREE char *end = NULL;
    struct err err = ERR_INIT;
    size_t len;

    (void)state;
    assert_ok(log_file_bound(path, &err), &err); /* none */
    memset(big, 'a', LOG_FILE_MAX + 10);
    tmpdir_write(path, big, LOG_FILE_MAX);
    assert_ok(log_file_bound(path, &err), &err);
    assert_null(tmpdir_read(tmpdir_path("big.log.1"), NULL));
    memcpy(big + LOG_FILE_MAX, "the end...", 10);
    tmpdir_write(path, big, LOG_FILE_MAX + 10);
    assert_ok(log_file_bound(path, &err), &err);
    end = tmpdir_read(tmpdir_path("big.log.1"), &len);
    assert_int_equal(len, LOG_FILE_KEEP);
    assert_memory_equal(end + len - 10, "the end...", 10);
    free(end);
    end = tmpdir_read(path, &len);
    assert_int_equal(len, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_output_goes_to_the_log),
        TEST(test_nothing_of_it_is_left),
        TEST(test_commands_may_leave_children),
        TEST(test_stubborn_ones_are_killed),
        TEST(test_adoption),
        TEST(test_what_cannot_start),
        cmocka_unit_test(test_log_is_bounded),
    };

    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
