/* Real builds: SQLite, a directory as store, git repositories and real processes. */
#include "lib/check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "build/worker.h"
#include "io/files.h"
#include "io/proc.h"
#include "lib/database.h"
#include "lib/repository.h"
#include "lib/tmpdir.h"
#include "queue/queue.h"
#include "store/publish.h"
#include "wire/json.h"

enum { WAIT_MS = 30000, DEADLINE_MS = 60000 };

struct fixture {
    struct test_database database;
    struct db *d;
    struct test_repository repo;
    const char *store, *work;
    struct worker_options options;
    pthread_t thread;
    int stop[2];
    bool running;
    struct err err;
};

static void *worker_thread(void *arg)
{
    struct fixture *f = arg;
    struct err err = ERR_INIT;

    if (worker_main_loop(&f->options, &err) < 0)
        fprintf(stderr, "worker: %s\n", err.text);
    return NULL;
}

static void start_worker(struct fixture *f)
{
    assert_int_equal(pipe(f->stop), 0);
    f->options.stop_fd = f->stop[0];
    assert_int_equal(pthread_create(&f->thread, NULL, worker_thread, f), 0);
    f->running = true;
}

static void stop_worker(struct fixture *f)
{
    close(f->stop[1]);
    pthread_join(f->thread, NULL);
    close(f->stop[0]);
    f->running = false;
}

static int set_up(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    assert_true(test_database_init(&f->database, TEST_SQLITE));
    f->d = test_database_open(&f->database);
    assert_ok(db_migrate(f->d, &f->err), &f->err);
    test_repository_init(&f->repo);
    f->store = tmpdir_fresh();
    f->work = tmpdir_fresh();
    f->options = (struct worker_options){ .db_url = f->database.url,
                                          .store = f->store,
                                          .work = f->work,
                                          .name = "tester",
                                          .poll_ms = 100,
                                          .stop_fd = -1 };
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->running)
        stop_worker(f);
    db_close(f->d);
    test_database_release(&f->database);
    free(f);
    return 0;
}

/* steps and outputs as JSON. */
static int64_t enqueue(struct fixture *f, const char *steps, const char *outputs)
{
    AUTO_FREE char *spec = mem_printf("{\"v\":1,\"service\":\"web\",\"repo\":\"%s\",\"sha\":\"%s\","
                                      "\"steps\":[%s],\"outputs\":{%s},\"deadline\":60}",
                                      f->repo.path, f->repo.sha, steps, outputs);
    int64_t id;

    assert_ok(queue_enqueue(f->d, "web", f->repo.sha, spec, NULL, DEADLINE_MS, &id, &f->err),
              &f->err);
    return id;
}

static bool reached(const struct job *j, enum job_status wanted)
{
    return j->status == wanted || (wanted == JOB_NONE && j->status > JOB_RUNNING);
}

/* Until the job has that status (JOB_NONE: any terminal one). The caller frees. */
static struct job *await(struct fixture *f, int64_t id, enum job_status wanted)
{
    int64_t until = monotonic_ms() + WAIT_MS;
    struct job *j;

    for (;;) {
        assert_ok(queue_get(f->d, id, &j, &f->err), &f->err);
        if (reached(j, wanted))
            return j;
        if (monotonic_ms() > until)
            fail_msg("job %lld is still %s", (long long)id, job_status_name(j->status));
        job_free(j);
        (void)db_wait(f->d, QUEUE_CHANNEL, 100);
    }
}

static char *log_of(struct fixture *f, int64_t id)
{
    struct buf out = BUF_INIT;

    assert_ok(queue_read_log(f->d, id, 0, 1 << 20, &out, &f->err), &f->err);
    return buf_steal(&out);
}

static void await_log(struct fixture *f, int64_t id, const char *part)
{
    int64_t until = monotonic_ms() + WAIT_MS;

    for (;;) {
        AUTO_FREE char *log = log_of(f, id);

        if (strstr(log, part) != NULL)
            return;
        if (monotonic_ms() > until)
            fail_msg("'%s' is not in the log:\n%s", part, log);
        (void)db_wait(f->d, QUEUE_CHANNEL, 100);
    }
}

static void expect_failure(struct fixture *f, const char *steps, const char *outputs,
                           const char *failure, const char *reason)
{
    int64_t id = enqueue(f, steps, outputs);
    struct job *j = await(f, id, JOB_NONE);
    AUTO_FREE char *log = log_of(f, id);

    if (j->status != JOB_FAILED || strcmp(j->failure, failure) != 0 ||
        strstr(j->reason, reason) == NULL)
        fail_msg("%s: %s: %s: %s\n%s", steps, job_status_name(j->status), j->failure, j->reason,
                 log);
    assert_non_null(strstr(log, "== failed: "));
    job_free(j);
}

#define SH(name, script) "{\"name\":\"" name "\",\"run\":[\"/bin/sh\",\"-euc\",\"" script "\"]}"

static void builds_a_commit(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *log = NULL;
    AUTO_JSON *result = NULL;
    struct store *store;
    struct hash artifact, pack;
    const json_t *a;
    struct job *j;
    int64_t id;

    test_repository_add(&f->repo, "src/main.txt", "hello\n");
    test_repository_commit(&f->repo);
    start_worker(f);
    id = enqueue(f,
                 SH("compile", "echo compiling; mkdir out; cp src/main.txt out/app") "," SH(
                     "check", "echo $SLIPWAY_SERVICE $SLIPWAY_COMMIT >&2; test -f out/app"),
                 "\"default\":\"out\",\"one\":\"./out/app\"");
    j = await(f, id, JOB_NONE);
    log = log_of(f, id);
    if (j->status != JOB_SUCCEEDED)
        fail_msg("%s\n%s", j->reason, log);
    assert_non_null(strstr(log, "== checkout "));
    assert_non_null(strstr(log, "== step 'compile'\ncompiling\n== step 'compile' took"));
    assert_non_null(strstr(log, "web "));
    assert_non_null(strstr(log, f->repo.sha));
    assert_ok(json_parse(&result, j->result, strlen(j->result), &f->err), &f->err);
    assert_int_equal(json_array_size(json_object_get(result, "artifacts")), 2);
    a = json_array_get(json_object_get(result, "artifacts"), 0);
    assert_ok(json_get_hash(a, "artifact", &artifact, &f->err), &f->err);
    assert_ok(json_get_hash(a, "pack", &pack, &f->err), &f->err);
    assert_int_equal(json_integer_value(json_object_get(a, "bytes")), 6);
    assert_int_equal(json_integer_value(json_object_get(a, "files")), 1);
    assert_true(json_is_real(json_object_get(json_object_get(result, "seconds"), "steps")));
    assert_ok(store_open(&store, f->store, &f->err), &f->err);
    assert_ok(artifact_verify(store, &artifact, &pack, NULL, &f->err), &f->err);
    store_close(store);
    job_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(builds_a_commit, set_up, tear_down),
    };

    (void)expect_failure;
    (void)await_log;
    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
