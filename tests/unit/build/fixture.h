/* fixture.h - a worker on a thread over SQLite, a store and a git repository; and short forms. */
#ifndef TESTS_UNIT_BUILD_FIXTURE_H
#define TESTS_UNIT_BUILD_FIXTURE_H

#include "lib/check.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "build/worker.h"
#include "io/files.h"
#include "io/loop.h"
#include "lib/database.h"
#include "lib/repository.h"
#include "lib/tmpdir.h"
#include "queue/queue.h"

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

static inline void *worker_thread(void *arg)
{
    struct fixture *f = arg;
    struct err err = ERR_INIT;

    if (worker_main_loop(&f->options, &err) < 0)
        fprintf(stderr, "worker: %s\n", err.text);
    return NULL;
}

static inline void start_worker(struct fixture *f)
{
    assert_int_equal(pipe(f->stop), 0);
    f->options.stop_fd = f->stop[0];
    assert_int_equal(pthread_create(&f->thread, NULL, worker_thread, f), 0);
    f->running = true;
}

static inline void stop_worker(struct fixture *f)
{
    close(f->stop[1]);
    pthread_join(f->thread, NULL);
    close(f->stop[0]);
    f->running = false;
}

static inline int set_up_on(void **state, enum test_backend backend)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    *state = f;
    if (!test_database_init(&f->database, backend))
        return 0;
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
    return 0;
}

static inline int set_up(void **state)
{
    return set_up_on(state, TEST_SQLITE);
}

static inline int set_up_postgres(void **state)
{
    return set_up_on(state, TEST_POSTGRES);
}

/* Skips the test if there is no such database here. */
static inline struct fixture *fixture_of(void **state)
{
    struct fixture *f = *state;

    if (f->d == NULL)
        skip();
    return f;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->running)
        stop_worker(f);
    db_close(f->d);
    if (f->database.url != NULL)
        test_database_release(&f->database);
    free(f);
    return 0;
}

/* steps and outputs as JSON. */
static inline int64_t enqueue(struct fixture *f, const char *steps, const char *outputs)
{
    AUTO_FREE char *spec = mem_printf("{\"v\":1,\"service\":\"web\",\"repo\":\"%s\",\"sha\":\"%s\","
                                      "\"steps\":[%s],\"outputs\":{%s},\"deadline\":60}",
                                      f->repo.path, f->repo.sha, steps, outputs);
    int64_t id;

    assert_ok(queue_enqueue(f->d, "web", f->repo.sha, spec, NULL, DEADLINE_MS, &id, &f->err),
              &f->err);
    return id;
}

static inline bool reached(const struct job *j, enum job_status wanted)
{
    return j->status == wanted || (wanted == JOB_NONE && j->status > JOB_RUNNING);
}

/* Until the job has that status (JOB_NONE: any terminal one). The caller frees. */
static inline struct job *await(struct fixture *f, int64_t id, enum job_status wanted)
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

static inline char *log_of(struct fixture *f, int64_t id)
{
    struct buf out = BUF_INIT;

    assert_ok(queue_read_log(f->d, id, 0, 4 << 20, &out, &f->err), &f->err);
    return buf_steal(&out);
}

static inline void await_log(struct fixture *f, int64_t id, const char *part)
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

#define SH(name, script) "{\"name\":\"" name "\",\"run\":[\"/bin/sh\",\"-euc\",\"" script "\"]}"

#define OUT "\"default\":\"out\""

static inline int count_if_marked(void *ctx, const char *name, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    AUTO_FREE char *path = mem_printf("/proc/%s/cmdline", name);
    const char **marker = ctx;

    (void)err;
    if (name[0] < '0' || name[0] > '9' || file_read(&text, path, 1 << 20, NULL) < 0)
        return 0;
    if (text.len > 0 && memmem(text.data, text.len, *marker, strlen(*marker)) != NULL)
        return -1;
    return 0;
}

/* Is a process with that text in its arguments alive? */
static inline bool runs(const char *marker)
{
    return dir_each("/proc", count_if_marked, &marker, NULL) < 0;
}

#define WITH_WORKER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define WITH_POSTGRES(test) cmocka_unit_test_setup_teardown(test, set_up_postgres, tear_down)

#endif
