#include "io/work.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { JOBS = 200 };

struct fix {
    struct loop *loop;
    struct work_pool *pool;
    pthread_t loop_thread;
    int done;
    _Atomic int ran;
    int start_order[JOBS];
    int gate[2];
};

struct job {
    struct work work;
    struct fix *f;
    int n;
};

static int setup(void **state)
{
    static struct fix f;

    memset(&f, 0, sizeof(f));
    assert_int_equal(loop_new(&f.loop, NULL), 0);
    assert_int_equal(pipe(f.gate), 0);
    f.loop_thread = pthread_self();
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;

    work_pool_free(f->pool);
    loop_free(f->loop);
    close(f->gate[0]);
    close(f->gate[1]);
    return 0;
}

static void run_count(struct work *w)
{
    struct job *j = CONTAINER_OF(w, struct job, work);

    if (pthread_equal(pthread_self(), j->f->loop_thread))
        return; /* the count will tell */
    j->f->start_order[atomic_fetch_add(&j->f->ran, 1)] = j->n;
}

static void done_count(struct work *w)
{
    struct job *j = CONTAINER_OF(w, struct job, work);

    assert_true(pthread_equal(pthread_self(), j->f->loop_thread));
    if (++j->f->done == JOBS)
        loop_stop(j->f->loop);
}

static void submit_all(struct fix *f, struct job *jobs, int threads)
{
    assert_int_equal(work_pool_new(&f->pool, f->loop, threads, NULL), 0);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){ .work = { .run = run_count, .done = done_count }, .f = f, .n = i };
        work_submit(f->pool, &jobs[i].work);
    }
    assert_int_equal(f->done, 0); /* never from inside submit */
    loop_run(f->loop);
    assert_int_equal(f->done, JOBS);
    assert_int_equal(f->ran, JOBS);
}

static void every_job_is_done_once_on_the_loop(void **state)
{
    static struct job jobs[JOBS];

    submit_all(*state, jobs, 4);
}

static void one_thread_keeps_the_order(void **state)
{
    static struct job jobs[JOBS];
    struct fix *f = *state;

    submit_all(f, jobs, 1);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(f->start_order[i], i);
}

static void run_at_gate(struct work *w)
{
    struct job *j = CONTAINER_OF(w, struct job, work);
    char c;

    j->f->ran++;
    if (read(j->f->gate[0], &c, 1) != 1)
        j->f->ran = -1000;
}

static void done_never(struct work *w)
{
    (void)w;
    fail_msg("done() after work_pool_free()");
}

static void free_waits_for_what_runs_and_drops_the_rest(void **state)
{
    struct fix *f = *state;
    struct job jobs[3];

    assert_int_equal(work_pool_new(&f->pool, f->loop, 1, NULL), 0);
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct job){ .work = { .run = run_at_gate, .done = done_never }, .f = f };
        work_submit(f->pool, &jobs[i].work);
    }
    while (f->ran == 0)
        usleep(100);
    assert_int_equal(write(f->gate[1], "xxx", 3), 3);
    work_pool_free(f->pool);
    f->pool = NULL;
    assert_in_range(f->ran, 1, 3); /* others may have started before free() asked to stop */
    loop_stop(f->loop);
    loop_run(f->loop);
}

static void done_frees_pool(struct work *w)
{
    struct job *j = CONTAINER_OF(w, struct job, work);

    work_pool_free(j->f->pool);
    j->f->pool = NULL;
    loop_stop(j->f->loop);
}

static void pool_may_be_freed_from_done(void **state)
{
    struct fix *f = *state;
    struct job j = { .work = { .run = run_count, .done = done_frees_pool }, .f = f };

    assert_int_equal(work_pool_new(&f->pool, f->loop, 2, NULL), 0);
    work_submit(f->pool, &j.work);
    loop_run(f->loop);
    assert_null(f->pool);
}

static void thread_count_is_checked(void **state)
{
    struct fix *f = *state;
    struct err err = ERR_INIT;

    assert_int_equal(work_pool_new(&f->pool, f->loop, 0, &err), -ERR_INVALID);
    assert_int_equal(work_pool_new(&f->pool, f->loop, 65, &err), -ERR_INVALID);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_job_is_done_once_on_the_loop),
        T(one_thread_keeps_the_order),
        T(free_waits_for_what_runs_and_drops_the_rest),
        T(pool_may_be_freed_from_done),
        T(thread_count_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
