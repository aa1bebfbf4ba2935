#include "io/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fix {
    struct loop *loop;
    struct timer timer, other;
    struct watch watch;
    int fired, pipe[2];
    int order[64], count;
    bool in_start;
};

static int setup(void **state)
{
    static struct fix f;

    memset(&f, 0, sizeof(f));
    assert_int_equal(loop_new(&f.loop, NULL), 0);
    assert_int_equal(pipe(f.pipe), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;

    timer_stop(&f->timer);
    timer_stop(&f->other);
    watch_stop(&f->watch);
    close(f->pipe[0]);
    close(f->pipe[1]);
    loop_free(f->loop);
    return 0;
}

static void on_timer_stop(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, timer);

    assert_false(t->active);
    f->fired++;
    loop_stop(f->loop);
}

static void timer_fires_once(void **state)
{
    struct fix *f = *state;
    int64_t before = monotonic_ms();

    timer_start(f->loop, &f->timer, 20, 0, on_timer_stop);
    assert_true(f->timer.active);
    loop_run(f->loop);
    assert_int_equal(f->fired, 1);
    assert_true(monotonic_ms() - before >= 19);
    assert_true(loop_now_ms(f->loop) >= before);
}

static void on_repeat(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, timer);

    assert_true(t->active);
    if (++f->fired < 3)
        return;
    timer_stop(t);
    loop_stop(f->loop);
}

static void timer_repeats_until_stopped_in_its_callback(void **state)
{
    struct fix *f = *state;

    timer_start(f->loop, &f->timer, 0, 1, on_repeat);
    loop_run(f->loop);
    assert_int_equal(f->fired, 3);
    assert_false(f->timer.active);
}

static void never(struct timer *t)
{
    (void)t;
    fail_msg("a stopped timer fired");
}

static void on_stops_other(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, timer);

    timer_stop(&f->other);
    timer_start(f->loop, t, 5, 0, on_timer_stop);
}

static void timer_stops_another_that_is_due(void **state)
{
    struct fix *f = *state;

    timer_start(f->loop, &f->timer, 1, 0, on_stops_other);
    timer_start(f->loop, &f->other, 2, 0, never);
    usleep(5000); /* both are due in the first turn */
    loop_run(f->loop);
    assert_int_equal(f->fired, 1);
}

static void timer_restart_replaces(void **state)
{
    struct fix *f = *state;

    timer_start(f->loop, &f->timer, 0, 0, never);
    timer_start(f->loop, &f->timer, 1, 0, on_timer_stop);
    timer_stop(&f->other); /* all zero: harmless */
    loop_run(f->loop);
    assert_int_equal(f->fired, 1);
}

static void on_readable(struct watch *w, int events)
{
    struct fix *f = CONTAINER_OF(w, struct fix, watch);
    char c;

    assert_int_equal(events, WATCH_READ);
    assert_int_equal(read(w->fd, &c, 1), 1);
    f->fired++;
    if (c == 'x') {
        watch_stop(w);
        loop_stop(f->loop);
    }
}

static void watch_reads_and_stops_itself(void **state)
{
    struct fix *f = *state;

    watch_start(f->loop, &f->watch, f->pipe[0], WATCH_READ, on_readable);
    assert_int_equal(write(f->pipe[1], "abx", 3), 3);
    loop_run(f->loop);
    assert_int_equal(f->fired, 3);
}

static void on_writable(struct watch *w, int events)
{
    struct fix *f = CONTAINER_OF(w, struct fix, watch);

    assert_int_equal(events, WATCH_WRITE);
    assert_int_equal(write(w->fd, "x", 1), 1);
    watch_start(f->loop, w, f->pipe[0], WATCH_READ, on_readable);
}

static void watch_restarts_with_other_events(void **state)
{
    struct fix *f = *state;

    watch_start(f->loop, &f->watch, f->pipe[1], WATCH_WRITE, on_writable);
    loop_run(f->loop);
    assert_int_equal(f->fired, 1);
    watch_start(f->loop, &f->watch, f->pipe[0], WATCH_NONE, on_readable);
    assert_false(f->watch.active);
}

struct item {
    struct fix *f;
    int n;
};

static void on_post(void *arg)
{
    struct item *i = arg;

    assert_false(i->f->in_start);
    i->f->order[i->f->count++] = i->n;
    if (i->f->count == 50)
        loop_stop(i->f->loop);
}

static void *post_all(void *arg)
{
    struct item *items = arg;

    for (int i = 0; i < 50; i++)
        loop_post(items[0].f->loop, on_post, &items[i]);
    return NULL;
}

static void posts_run_in_order_from_another_thread(void **state)
{
    struct fix *f = *state;
    struct item items[50];
    pthread_t thread;

    for (int i = 0; i < 50; i++)
        items[i] = (struct item){ f, i };
    assert_int_equal(pthread_create(&thread, NULL, post_all, items), 0);
    loop_run(f->loop);
    pthread_join(thread, NULL);
    for (int i = 0; i < 50; i++)
        assert_int_equal(f->order[i], i);
}

static void on_repost(void *arg)
{
    struct item *i = arg;

    i->f->in_start = true;
    i->f->count = 49;
    loop_post(i->f->loop, on_post, i);
    i->f->in_start = false;
}

static void post_from_a_post_is_not_run_inside_it(void **state)
{
    struct fix *f = *state;
    struct item i = { f, 7 };

    loop_post(f->loop, on_repost, &i);
    loop_run(f->loop);
    assert_int_equal(f->count, 50);
}

static void unposted_is_not_run_and_the_rest_is(void **state)
{
    struct fix *f = *state;
    struct item a = { f, 1 }, b = { f, 2 };

    f->count = 49;
    loop_post(f->loop, on_post, &a);
    loop_post(f->loop, on_post, &b);
    loop_unpost(f->loop, on_post, &a);
    loop_run(f->loop);
    assert_int_equal(f->count, 50);
    assert_int_equal(f->order[49], 2);
    loop_post(f->loop, on_post, &a); /* dropped, and not leaked, by loop_free() */
}

static void stop_before_run_returns_at_once(void **state)
{
    struct fix *f = *state;

    loop_stop(f->loop);
    loop_run(f->loop);
    timer_start(f->loop, &f->timer, 0, 0, on_timer_stop);
    loop_run(f->loop); /* the stop was for the first run only */
    assert_int_equal(f->fired, 1);
}

static void on_signal(void *arg, int signo)
{
    struct fix *f = arg;

    f->fired = signo;
    loop_stop(f->loop);
}

static void signals_arrive_on_the_loop(void **state)
{
    struct fix *f = *state;
    struct err err = ERR_INIT;

    assert_int_equal(loop_on_signal(f->loop, SIGUSR1, on_signal, f, &err), 0);
    assert_int_equal(loop_on_signal(f->loop, SIGUSR1, on_signal, f, &err), -ERR_EXISTS);
    assert_int_equal(loop_on_signal(f->loop, SIGKILL, on_signal, f, &err), -ERR_INVALID);
    raise(SIGUSR1);
    loop_run(f->loop);
    assert_int_equal(f->fired, SIGUSR1);
}

static void broken_pipe_is_an_error_code(void **state)
{
    struct fix *f = *state;

    close(f->pipe[0]);
    assert_int_equal(write(f->pipe[1], "x", 1), -1);
    f->pipe[0] = dup(2);
}

static void random_bytes_differ(void **state)
{
    unsigned char a[64], b[64];

    (void)state;
    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_true(wall_ms() > 1600000000000);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(timer_fires_once),
        T(timer_repeats_until_stopped_in_its_callback),
        T(timer_stops_another_that_is_due),
        T(timer_restart_replaces),
        T(watch_reads_and_stops_itself),
        T(watch_restarts_with_other_events),
        T(posts_run_in_order_from_another_thread),
        T(post_from_a_post_is_not_run_inside_it),
        T(unposted_is_not_run_and_the_rest_is),
        T(stop_before_run_returns_at_once),
        T(signals_arrive_on_the_loop),
        T(broken_pipe_is_an_error_code),
        T(random_bytes_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
