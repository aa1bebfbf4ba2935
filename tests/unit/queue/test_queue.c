/* The queue's contract, over SQLite and, when ENGINE_TEST_PG names a server, over PostgreSQL. */
#include "unit/queue/fixture.h"

#include <pthread.h>
#include <stdio.h>

static void expect(struct fixture *f, int64_t id, enum job_status status, const char *failure,
                   const char *reason)
{
    struct job *j;

    assert_ok(queue_get(f->d, id, &j, &f->err), &f->err);
    assert_string_equal(job_status_name(j->status), job_status_name(status));
    assert_string_equal(j->failure, failure);
    assert_string_equal(j->reason, reason);
    if (status == JOB_QUEUED || status == JOB_RUNNING)
        assert_int_equal(j->finished_ms, 0);
    else
        assert_true(j->finished_ms > 0);
    job_free(j);
}

static void a_job_runs(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "web", NULL), got = 0;
    struct job *j;
    bool cancel = true;

    expect(f, id, JOB_QUEUED, "", "");
    assert_int_equal(claim(f, "t1", &got), 1);
    assert_int_equal(got, id);
    assert_int_equal(claim(f, "t2", NULL), 0);
    assert_ok(queue_beat(f->d, id, 1, &cancel, &f->err), &f->err);
    assert_false(cancel);
    assert_ok(queue_finish(f->d, id, 1, JOB_SUCCEEDED, "{\"a\":1}", "", NULL, &f->err), &f->err);
    assert_ok(queue_get(f->d, id, &j, &f->err), &f->err);
    assert_int_equal(j->status, JOB_SUCCEEDED);
    assert_string_equal(j->name, "web");
    assert_string_equal(j->sha, "abc");
    assert_string_equal(j->spec, "{\"v\":1}");
    assert_string_equal(j->result, "{\"a\":1}");
    assert_string_equal(j->worker, "w1");
    assert_true(j->created_ms > 0 && j->started_ms >= j->created_ms);
    assert_true(j->finished_ms >= j->started_ms && j->last_beat_ms > 0);
    job_free(j);
    assert_int_equal(reap(f), 0);
}

static void oldest_first(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t first = enqueue(f, "a", NULL), second = enqueue(f, "b", NULL), id;

    claim(f, "t1", &id);
    assert_int_equal(id, first);
    claim(f, "t2", &id);
    assert_int_equal(id, second);
}

static void refuses_what_is_no_job(void **state)
{
    struct fixture *f = fixture_of(state);
    char *large = mem_alloc(QUEUE_SPEC_MAX_BYTES + 2);
    int64_t id;
    struct job *j;

    memset(large, ' ', QUEUE_SPEC_MAX_BYTES + 1);
    assert_error(queue_enqueue(f->d, "x", "s", large, NULL, 1, &id, &f->err), ERR_LIMIT, &f->err,
                 "spec of");
    free(large);
    assert_error(queue_enqueue(f->d, "", "s", "{}", NULL, 1, &id, &f->err), ERR_INVALID, &f->err,
                 "name");
    assert_error(queue_enqueue(f->d, "x", "s", "{}", NULL, 0, &id, &f->err), ERR_INVALID, &f->err,
                 "deadline");
    assert_error(queue_get(f->d, 99, &j, &f->err), ERR_NOT_FOUND, &f->err, "no job 99");
    assert_null(j);
    assert_error(queue_cancel(f->d, 99, NULL, &f->err), ERR_NOT_FOUND, &f->err, "no job 99");
    assert_error(queue_finish(f->d, 1, 1, JOB_QUEUED, NULL, NULL, NULL, &f->err), ERR_INVALID,
                 &f->err, "finish");
    assert_error(queue_finish(f->d, 99, 1, JOB_FAILED, NULL, NULL, NULL, &f->err), ERR_FENCED,
                 &f->err, "no longer ours");
}

/* Every late write of an attempt that was taken back is refused, also when it is said twice. */
static void late_writes_are_refused(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "web", NULL);
    bool cancel;

    for (int round = 0; round < 2; round++) { /* first: queued again; second: running again */
        if (round == 0) {
            assert_int_equal(claim(f, "t1", NULL), 1);
            silence(f, id);
            assert_int_equal(reap(f), 10);
        } else {
            assert_int_equal(claim(f, "t2", NULL), 2);
        }
        assert_error(queue_beat(f->d, id, 1, &cancel, &f->err), ERR_FENCED, &f->err, "job 1");
        assert_error(queue_log(f->d, id, 1, 0, "x", 1, &f->err), ERR_FENCED, &f->err, "attempt 1");
        assert_error(queue_finish(f->d, id, 1, JOB_SUCCEEDED, "{}", "", "", &f->err), ERR_FENCED,
                     &f->err, "no longer ours");
        assert_error(queue_finish(f->d, id, 1, JOB_FAILED, NULL, "infra", "", &f->err), ERR_FENCED,
                     &f->err, "no longer ours");
        assert_error(queue_release(f->d, id, 1, &f->err), ERR_FENCED, &f->err, "no longer ours");
    }
    assert_ok(queue_beat(f->d, id, 2, &cancel, &f->err), &f->err);
    assert_ok(queue_finish(f->d, id, 2, JOB_SUCCEEDED, "{}", "", "", &f->err), &f->err);
    assert_error(queue_beat(f->d, id, 2, &cancel, &f->err), ERR_FENCED, &f->err, "no longer ours");
    assert_error(queue_log(f->d, id, 2, 0, "x", 1, &f->err), ERR_FENCED, &f->err, "ours");
}

static void finishing_twice_is_once(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "web", NULL);

    claim(f, "t1", NULL);
    for (int i = 0; i < 2; i++)
        assert_ok(queue_finish(f->d, id, 1, JOB_FAILED, NULL, "build", "step 'x': exit status 2",
                               &f->err),
                  &f->err);
    expect(f, id, JOB_FAILED, "build", "step 'x': exit status 2");
    assert_error(queue_finish(f->d, id, 1, JOB_SUCCEEDED, "{}", "", "", &f->err), ERR_FENCED,
                 &f->err, "ours");
    expect(f, id, JOB_FAILED, "build", "step 'x': exit status 2");
}

static void the_same_token_finds_its_claim(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t first = enqueue(f, "a", NULL), id = 0;

    enqueue(f, "b", NULL);
    assert_int_equal(claim(f, "t1", &id), 1);
    assert_int_equal(claim(f, "t1", &id), 1);
    assert_int_equal(id, first);
    assert_int_equal(claim(f, "t2", &id), 1);
    assert_int_not_equal(id, first);
}

static void the_same_key_is_one_job(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "a", "key");

    assert_int_equal(enqueue(f, "a", "key"), id);
    assert_int_not_equal(enqueue(f, "a", "other"), id);
    assert_int_equal(claim(f, "t1", NULL), 1);
    assert_int_equal(enqueue(f, "a", "key"), id);
    assert_ok(queue_finish(f->d, id, 1, JOB_SUCCEEDED, "{}", "", "", &f->err), &f->err);
    assert_int_equal(enqueue(f, "a", "key"), id);
}

static void a_failed_job_frees_its_key(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "a", "key"), next;

    claim(f, "t1", NULL);
    assert_ok(queue_finish(f->d, id, 1, JOB_FAILED, NULL, "build", "x", &f->err), &f->err);
    next = enqueue(f, "a", "key");
    assert_int_not_equal(next, id);
    assert_ok(queue_cancel(f->d, next, "x", &f->err), &f->err);
    assert_int_not_equal(enqueue(f, "a", "key"), next);
}

static int enqueue_and_give_up(struct db *d, void *arg, struct err *err)
{
    int64_t id;
    int r = queue_enqueue(d, "a", "s", "{}", "key", DEADLINE_MS, &id, err);

    (void)arg;
    return r < 0 ? r : err_set(err, ERR_DENIED, "no");
}

static void enqueues_inside_a_transaction(void **state)
{
    struct fixture *f = fixture_of(state);

    assert_error(db_transaction(f->d, enqueue_and_give_up, NULL, &f->err), ERR_DENIED, &f->err,
                 "no");
    assert_int_equal(claim(f, "t1", NULL), 0);
}

static void silent_workers_lose_their_jobs(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "web", NULL), other = enqueue(f, "ok", NULL);
    char token[16];

    assert_int_equal(claim(f, "x", NULL), 1);
    assert_int_equal(claim(f, "y", NULL), 1);
    assert_int_equal(reap(f), 0);
    for (int attempt = 1; attempt <= QUEUE_ATTEMPTS; attempt++) {
        if (attempt > 1) {
            snprintf(token, sizeof(token), "t%d", attempt);
            assert_int_equal(claim(f, token, NULL), attempt);
        }
        silence(f, id);
        assert_int_equal(reap(f), attempt < QUEUE_ATTEMPTS ? 10 : 1);
    }
    expect(f, id, JOB_FAILED, "lost", "no sign of worker w1 (attempt 3 of 3)");
    expect(f, other, JOB_RUNNING, "", "");
    assert_int_equal(claim(f, "z", NULL), 0);
}

static void deadlines_hold(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t running = enqueue(f, "a", NULL), queued = enqueue(f, "b", NULL);
    bool cancel;

    assert_int_equal(claim(f, "t1", NULL), 1);
    assert_int_equal(claim(f, "t2", NULL), 1);
    assert_ok(queue_release(f->d, queued, 1, &f->err), &f->err);
    assert_ok(DB_EXEC(f->d, &f->err, "UPDATE job SET deadline = now_ms() - 1"), &f->err);
    assert_ok(queue_beat(f->d, running, 1, &cancel, &f->err), &f->err); /* it beats for ever */
    assert_int_equal(reap(f), 2);
    expect(f, running, JOB_FAILED, "deadline", "not done within 900 s");
    expect(f, queued, JOB_FAILED, "deadline", "not done within 900 s");
    assert_error(queue_beat(f->d, running, 1, &cancel, &f->err), ERR_FENCED, &f->err, "ours");
}

static void the_deadline_starts_with_the_first_claim(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "a", NULL);
    struct db_rows *rows;
    int64_t deadline[2];

    assert_int_equal(reap(f), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(claim(f, i == 0 ? "t0" : "t1", NULL), i + 1);
        assert_ok(DB_ROWS(f->d, &rows, &f->err, "SELECT deadline, started_at FROM job"), &f->err);
        deadline[i] = db_get_int(rows, 0, 0);
        if (i == 0)
            assert_true(deadline[0] == db_get_int(rows, 0, 1) + DEADLINE_MS);
        db_rows_free(rows);
        silence(f, id);
        assert_int_equal(reap(f), 10);
    }
    assert_true(deadline[0] == deadline[1]);
}

static void cancels(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t running = enqueue(f, "a", NULL), queued = enqueue(f, "b", NULL);
    bool cancel = false;

    assert_int_equal(claim(f, "t1", NULL), 1);
    assert_ok(queue_cancel(f->d, running, "superseded", &f->err), &f->err);
    assert_ok(queue_cancel(f->d, queued, "superseded", &f->err), &f->err);
    expect(f, queued, JOB_CANCELLED, "cancelled", "superseded");
    expect(f, running, JOB_RUNNING, "", "");
    assert_int_equal(claim(f, "t2", NULL), 0);
    assert_ok(queue_beat(f->d, running, 1, &cancel, &f->err), &f->err);
    assert_true(cancel);
    assert_ok(
        queue_finish(f->d, running, 1, JOB_CANCELLED, NULL, "cancelled", "superseded", &f->err),
        &f->err);
    expect(f, running, JOB_CANCELLED, "cancelled", "superseded");
    assert_ok(queue_cancel(f->d, running, "again", &f->err), &f->err);
    expect(f, running, JOB_CANCELLED, "cancelled", "superseded");
}

/* A cancelled job whose worker is gone, gives it back or fails on its own is not run again. */
static void cancelled_jobs_do_not_come_back(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t lost = enqueue(f, "a", NULL), released = enqueue(f, "b", NULL);
    int64_t infra = enqueue(f, "c", NULL), ids[] = { lost, released, infra };

    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        char token[2] = { (char)('a' + i), '\0' };

        assert_int_equal(claim(f, token, NULL), 1);
        assert_ok(queue_cancel(f->d, ids[i], "stop", &f->err), &f->err);
    }
    silence(f, lost);
    assert_int_equal(reap(f), 1);
    expect(f, lost, JOB_CANCELLED, "cancelled", "stop");
    assert_ok(queue_release(f->d, released, 1, &f->err), &f->err);
    expect(f, released, JOB_CANCELLED, "cancelled", "stop");
    assert_ok(queue_finish(f->d, infra, 1, JOB_FAILED, NULL, "infra", "disk full", &f->err),
              &f->err);
    expect(f, infra, JOB_CANCELLED, "infra", "disk full");
    assert_int_equal(claim(f, "z", NULL), 0);
}

static void releasing_spends_no_attempt(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "a", NULL);
    char token[16];

    for (int i = 1; i <= QUEUE_ATTEMPTS + 2; i++) {
        snprintf(token, sizeof(token), "t%d", i);
        assert_int_equal(claim(f, token, NULL), i);
        assert_ok(queue_release(f->d, id, i, &f->err), &f->err);
        assert_ok(queue_release(f->d, id, i, &f->err), &f->err);
    }
    for (int i = QUEUE_ATTEMPTS + 3; i < 2 * QUEUE_ATTEMPTS + 3; i++) {
        snprintf(token, sizeof(token), "t%d", i);
        assert_int_equal(claim(f, token, NULL), i);
        silence(f, id);
        assert_int_equal(reap(f), i < 2 * QUEUE_ATTEMPTS + 2 ? 10 : 1);
    }
}

static void infrastructure_failures_are_tried_again(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "a", NULL);
    char token[16];

    for (int i = 1; i <= QUEUE_ATTEMPTS; i++) {
        snprintf(token, sizeof(token), "t%d", i);
        assert_int_equal(claim(f, token, NULL), i);
        for (int twice = 0; twice < 2; twice++)
            assert_ok(queue_finish(f->d, id, i, JOB_FAILED, NULL, "infra", "disk full", &f->err),
                      &f->err);
        if (i == QUEUE_ATTEMPTS)
            break;
        expect(f, id, JOB_QUEUED, "infra", "disk full");
        assert_int_equal(claim(f, token, NULL), 0); /* not at once */
        assert_ok(DB_EXEC(f->d, &f->err, "UPDATE job SET not_before = 0"), &f->err);
    }
    expect(f, id, JOB_FAILED, "infra", "disk full");
}

static void lists_newest_first(void **state)
{
    struct fixture *f = fixture_of(state);
    struct job **jobs;
    size_t n;

    for (int i = 0; i < 3; i++)
        enqueue(f, "a", NULL);
    claim(f, "t1", NULL);
    assert_ok(queue_list(f->d, JOB_NONE, 2, &jobs, &n, &f->err), &f->err);
    assert_int_equal(n, 2);
    assert_int_equal(jobs[0]->id, 3);
    assert_int_equal(jobs[1]->id, 2);
    for (size_t i = 0; i < n; i++)
        job_free(jobs[i]);
    free(jobs);
    assert_ok(queue_list(f->d, JOB_RUNNING, 10, &jobs, &n, &f->err), &f->err);
    assert_int_equal(n, 1);
    assert_int_equal(jobs[0]->id, 1);
    job_free(jobs[0]);
    free(jobs);
    assert_ok(queue_list(f->d, JOB_FAILED, 10, &jobs, &n, &f->err), &f->err);
    assert_int_equal(n, 0);
    free(jobs);
}

enum { CLAIMERS = 8, JOBS = 40 };

struct claimer {
    const struct test_database *database;
    int number;
    int *taken; /* per job id, counted without a lock: each cell must be touched once */
    bool failed;
};

static void *claim_thread(void *arg)
{
    struct claimer *c = arg;
    struct db *d = test_database_open(c->database);
    struct err err = ERR_INIT;
    struct job *j = NULL;
    int n = 0;

    do {
        AUTO_FREE char *token = mem_printf("%d-%d", c->number, n++);

        if (queue_claim(d, "w", token, &j, &err) < 0 ||
            (j != NULL &&
             queue_finish(d, j->id, j->attempt, JOB_SUCCEEDED, "{}", "", "", &err) < 0)) {
            fprintf(stderr, "claimer: %s\n", err.text);
            c->failed = true;
            job_free(j);
            break;
        }
        if (j != NULL)
            __atomic_fetch_add(&c->taken[j->id], 1, __ATOMIC_RELAXED);
        job_free(j);
    } while (j != NULL);
    db_close(d);
    return NULL;
}

static void each_job_goes_to_one(void **state)
{
    struct fixture *f = fixture_of(state);
    struct claimer claimers[CLAIMERS];
    pthread_t threads[CLAIMERS];
    int taken[JOBS + 1] = { 0 };

    for (int i = 0; i < JOBS; i++)
        enqueue(f, "a", NULL);
    for (int i = 0; i < CLAIMERS; i++) {
        claimers[i] = (struct claimer){ &f->database, i, taken, false };
        assert_int_equal(pthread_create(&threads[i], NULL, claim_thread, &claimers[i]), 0);
    }
    for (int i = 0; i < CLAIMERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(claimers[i].failed);
    }
    for (int i = 1; i <= JOBS; i++)
        assert_int_equal(taken[i], 1);
}

static void *enqueue_thread(void *arg)
{
    struct claimer *c = arg;
    struct db *d = test_database_open(c->database);
    struct err err = ERR_INIT;
    int64_t id;

    for (int i = 0; i < 10; i++) {
        c->failed |= queue_enqueue(d, "a", "s", "{}", "key", DEADLINE_MS, &id, &err) < 0;
        if (!c->failed)
            c->taken[0] = (int)id;
    }
    db_close(d);
    return NULL;
}

static void racing_enqueues_make_one_job(void **state)
{
    struct fixture *f = fixture_of(state);
    struct claimer claimers[CLAIMERS];
    pthread_t threads[CLAIMERS];
    int ids[CLAIMERS] = { 0 };

    (void)fixture_of(state);
    for (int i = 0; i < CLAIMERS; i++) {
        claimers[i] = (struct claimer){ &f->database, i, &ids[i], false };
        assert_int_equal(pthread_create(&threads[i], NULL, enqueue_thread, &claimers[i]), 0);
    }
    for (int i = 0; i < CLAIMERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(claimers[i].failed);
        assert_int_equal(ids[i], ids[0]);
    }
    assert_int_equal(claim(f, "t1", NULL), 1);
    assert_int_equal(claim(f, "t2", NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(a_job_runs),
        ON_BOTH(oldest_first),
        ON_BOTH(refuses_what_is_no_job),
        ON_BOTH(late_writes_are_refused),
        ON_BOTH(finishing_twice_is_once),
        ON_BOTH(the_same_token_finds_its_claim),
        ON_BOTH(the_same_key_is_one_job),
        ON_BOTH(a_failed_job_frees_its_key),
        ON_BOTH(enqueues_inside_a_transaction),
        ON_BOTH(silent_workers_lose_their_jobs),
        ON_BOTH(deadlines_hold),
        ON_BOTH(the_deadline_starts_with_the_first_claim),
        ON_BOTH(cancels),
        ON_BOTH(cancelled_jobs_do_not_come_back),
        ON_BOTH(releasing_spends_no_attempt),
        ON_BOTH(infrastructure_failures_are_tried_again),
        ON_BOTH(lists_newest_first),
        ON_BOTH(each_job_goes_to_one),
        ON_BOTH(racing_enqueues_make_one_job),
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
