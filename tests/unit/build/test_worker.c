/* The life of a worker: cancelled, stopped, killed, cut off. Real processes, SQLite. */
#include "unit/build/fixture.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void await_end_of(const char *marker)
{
    int64_t until = monotonic_ms() + WAIT_MS;

    while (runs(marker)) {
        if (monotonic_ms() > until)
            fail_msg("%s still runs", marker);
        (void)poll(NULL, 0, 20);
    }
}

/* A step that says so and then hangs, with a marked process below it. */
static char *hanging_step(const char *marker)
{
    return mem_printf("{\"name\":\"hang\",\"run\":[\"sh\",\"-c\",\"echo hanging; setsid sleep %s & "
                      "sleep %s\"]}",
                      marker, marker);
}

static void cancelled_while_running(void **state)
{
    struct fixture *f = fixture_of(state);
    AUTO_FREE char *marker = mem_printf("9872%d", (int)getpid());
    AUTO_FREE char *steps = hanging_step(marker);
    struct job *j;
    int64_t id;

    f->options.beat_ms = 50;
    test_repository_commit(&f->repo);
    start_worker(f);
    id = enqueue(f, steps, OUT);
    await_log(f, id, "hanging"); /* the log streams while it runs */
    assert_true(runs(marker));
    assert_ok(queue_cancel(f->d, id, "superseded by d-2", &f->err), &f->err);
    j = await(f, id, JOB_NONE);
    assert_int_equal(j->status, JOB_CANCELLED);
    assert_string_equal(j->failure, "cancelled");
    assert_string_equal(j->reason, "superseded by d-2");
    assert_false(runs(marker));
    job_free(j);
}

static int count_entries(void *ctx, const char *name, struct err *err)
{
    int *n = ctx;

    (void)name;
    (void)err;
    ++*n;
    return 0;
}

static void stopping_gives_the_job_back(void **state)
{
    struct fixture *f = fixture_of(state);
    AUTO_FREE char *marker = mem_printf("9873%d", (int)getpid());
    AUTO_FREE char *steps = hanging_step(marker), *builds = mem_printf("%s/builds", f->work);
    struct job *j;
    int64_t id;
    int n = 0;

    test_repository_commit(&f->repo);
    start_worker(f);
    id = enqueue(f, steps, OUT);
    await_log(f, id, "hanging");
    stop_worker(f);
    j = await(f, id, JOB_QUEUED);
    assert_int_equal(j->attempt, 1);
    assert_string_equal(j->failure, "released");
    job_free(j);
    assert_false(runs(marker));
    assert_ok(dir_each(builds, count_entries, &n, &f->err), &f->err);
    assert_int_equal(n, 0);
}

static void deadlines_end_builds(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *spec = NULL;
    struct job *j;
    int64_t id;

    test_repository_commit(&f->repo);
    start_worker(f);
    spec =
        mem_printf("{\"v\":1,\"service\":\"web\",\"repo\":\"%s\",\"sha\":\"%s\",\"steps\":[%s],"
                   "\"outputs\":{" OUT "},\"deadline\":1}",
                   f->repo.path, f->repo.sha, "{\"name\":\"hang\",\"run\":[\"sleep\",\"1000\"]}");
    assert_ok(queue_enqueue(f->d, "web", f->repo.sha, spec, NULL, DEADLINE_MS, &id, &f->err),
              &f->err);
    j = await(f, id, JOB_NONE);
    assert_int_equal(j->status, JOB_FAILED);
    assert_string_equal(j->failure, "deadline");
    assert_non_null(strstr(j->reason, "build ran longer than 1 s"));
    job_free(j);
}

static int hold_write_lock(struct db *d, void *arg, struct err *err)
{
    (void)d;
    (void)err;
    await_end_of(arg);
    return 0;
}

/* No beat gets through: the build ends by itself, and writes nothing about it. */
static void silent_worker_fences_itself(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *marker = mem_printf("9874%d", (int)getpid());
    AUTO_FREE char *steps = hanging_step(marker);
    int64_t id, requeued, failed;
    struct job *j;

    f->options.beat_ms = 50;
    f->options.lost_ms = 1500;
    test_repository_commit(&f->repo);
    start_worker(f);
    id = enqueue(f, steps, OUT);
    await_log(f, id, "hanging");
    assert_ok(db_transaction(f->d, hold_write_lock, marker, &f->err), &f->err);
    stop_worker(f);
    assert_ok(queue_get(f->d, id, &j, &f->err), &f->err);
    assert_int_equal(j->status, JOB_RUNNING);
    job_free(j);
    assert_ok(queue_reap(f->d, -1, &requeued, &failed, &f->err), &f->err);
    assert_int_equal(requeued, 1);
}

static pid_t fork_worker(struct fixture *f)
{
    pid_t pid = fork();
    struct err err = ERR_INIT;

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (worker_main_loop(&f->options, &err) < 0)
            fprintf(stderr, "worker: %s\n", err.text);
        _exit(1);
    }
    return pid;
}

/* kill -9: its build dies or is swept by the next run, its job is taken back, the next one ends it. */
static void a_killed_worker_is_replaced(void **state)
{
    struct fixture *f = fixture_of(state);
    AUTO_FREE char *marker = mem_printf("9875%d", (int)getpid());
    AUTO_FREE char *gate = mem_printf("%s/gate", tmpdir_fresh());
    AUTO_FREE char *steps = NULL;
    int64_t requeued, failed, id;
    struct job *j;
    pid_t pid;

    steps =
        mem_printf("{\"name\":\"wait\",\"run\":[\"sh\",\"-c\",\"mkdir out; test -e %s && exit 0; "
                   "echo hanging; setsid sleep %s & wait\"]}",
                   gate, marker);
    f->options.sandbox = SANDBOX_OFF;
    test_repository_commit(&f->repo);
    id = enqueue(f, steps, OUT);
    pid = fork_worker(f);
    await_log(f, id, "hanging");
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    tmpdir_write(gate, "", 0);
    assert_ok(queue_reap(f->d, -1, &requeued, &failed, &f->err), &f->err);
    assert_int_equal(requeued, 1);
    start_worker(f);
    j = await(f, id, JOB_NONE);
    assert_int_equal(j->status, JOB_SUCCEEDED);
    assert_int_equal(j->attempt, 2);
    assert_false(runs(marker));
    job_free(j);
}

static void one_worker_per_directory(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;

    test_repository_commit(&f->repo);
    start_worker(f);
    job_free(await(f, enqueue(f, SH("x", "mkdir out"), OUT), JOB_SUCCEEDED));
    assert_error(worker_main_loop(&f->options, &err), ERR_EXISTS, &err, "another worker runs in");
}

static void refuses_to_start(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;

    f->options.db_url = "sqlite:/nowhere/at/all.db";
    assert_error(worker_main_loop(&f->options, &err), ERR_UNREACHABLE, &err, "worker: ");
    f->options.db_url = "";
    assert_error(worker_main_loop(&f->options, &err), ERR_INVALID, &err, "no database is named");
    f->options.work = "/proc/no";
    assert_true(worker_main_loop(&f->options, &err) < 0);
}

/* Without bubblewrap builds fail, as trouble of this host, unless the operator says otherwise. */
static void no_sandbox_is_an_infrastructure_failure(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = mem_strdup(getenv("PATH"));
    struct job *j;
    int64_t id;

    test_repository_commit(&f->repo);
    id = enqueue(f, SH("x", "mkdir out"), OUT);
    setenv("PATH", "/nonexistent", 1);
    start_worker(f);
    for (;;) {
        assert_ok(queue_get(f->d, id, &j, &f->err), &f->err);
        if (strcmp(j->failure, "infra") == 0)
            break;
        job_free(j);
        (void)db_wait(f->d, QUEUE_CHANNEL, 100);
    }
    setenv("PATH", path, 1);
    assert_int_equal(j->status, JOB_QUEUED);
    assert_non_null(strstr(j->reason, "--sandbox none"));
    job_free(j);
}

static void several_at_once(void **state)
{
    struct fixture *f = *state;
    int64_t ids[6];

    f->options.slots = 3;
    test_repository_commit(&f->repo);
    for (size_t i = 0; i < COUNT_OF(ids); i++)
        ids[i] = enqueue(f, SH("x", "mkdir out; pwd > out/a"), OUT);
    start_worker(f);
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        struct job *j = await(f, ids[i], JOB_NONE);

        assert_string_equal(j->reason, "");
        assert_int_equal(j->status, JOB_SUCCEEDED);
        job_free(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* These fork: before there are threads. */
        WITH_WORKER(a_killed_worker_is_replaced),
        WITH_POSTGRES(a_killed_worker_is_replaced),
        WITH_WORKER(cancelled_while_running),
        WITH_POSTGRES(cancelled_while_running),
        WITH_WORKER(stopping_gives_the_job_back),
        WITH_POSTGRES(stopping_gives_the_job_back),
        WITH_WORKER(deadlines_end_builds),
        WITH_WORKER(silent_worker_fences_itself),
        WITH_WORKER(one_worker_per_directory),
        WITH_WORKER(refuses_to_start),
        WITH_WORKER(no_sandbox_is_an_infrastructure_failure),
        WITH_WORKER(several_at_once),
    };

    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
