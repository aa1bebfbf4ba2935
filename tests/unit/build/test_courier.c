/* Heartbeats and logs on their way to the database, also to a slow one. */
#include "unit/build/fixture.h"

#include "build/courier.h"

struct carried {
    struct fixture *f;
    struct lease *lease;
    struct courier *courier;
    int64_t id;
};

/* A claimed job with its courier. */
static struct carried start(struct fixture *f, int64_t beat_ms, int64_t silent_ms)
{
    struct carried c = { .f = f };
    struct job *j;

    assert_ok(queue_enqueue(f->d, "web", "s", "{}", NULL, DEADLINE_MS, &c.id, &f->err), &f->err);
    assert_ok(queue_claim(f->d, "w", "t", &j, &f->err), &f->err);
    assert_ok(lease_new(&c.lease, monotonic_ms(), silent_ms, NULL, &f->err), &f->err);
    assert_ok(
        courier_start(&c.courier, f->database.url, j->id, j->attempt, beat_ms, c.lease, &f->err),
        &f->err);
    job_free(j);
    return c;
}

static void finish(struct carried *c)
{
    courier_finish(c->courier);
    lease_free(c->lease);
}

static void await_state(struct carried *c, enum lease_state wanted)
{
    int64_t until = monotonic_ms() + WAIT_MS;

    while (lease_state(c->lease) != wanted) {
        if (monotonic_ms() > until)
            fail_msg("the lease is still in state %d", (int)lease_state(c->lease));
        (void)poll(NULL, 0, 10);
    }
}

static void the_log_arrives_in_order(void **state)
{
    struct fixture *f = fixture_of(state);
    struct carried c = start(f, 60000, 0);
    AUTO_FREE char *log = NULL;
    AUTO_BUF all = BUF_INIT;

    for (int i = 0; i < 20000; i++) {
        char line[16];
        int len = snprintf(line, sizeof(line), "line %d\n", i);

        courier_log(c.courier, line, (size_t)len);
        buf_append(&all, line, (size_t)len);
    }
    finish(&c);
    log = log_of(f, c.id);
    assert_string_equal(log, all.data);
}

struct flood {
    struct carried *c;
    char *block;
    size_t len;
    int blocks;
};

/* Nothing can be written meanwhile. */
static int flood(struct db *d, void *arg, struct err *err)
{
    struct flood *flood = arg;

    (void)d;
    (void)err;
    for (int i = 0; i < flood->blocks; i++)
        courier_log(flood->c->courier, flood->block, flood->len);
    return 0;
}

static void what_is_too_much_is_dropped_and_said(void **state)
{
    struct fixture *f = fixture_of(state);
    struct carried c = start(f, 60000, 0);
    struct flood much = { &c, mem_alloc(65536), 65536, COURIER_BUFFER_MAX_BYTES / 65536 + 10 };
    AUTO_BUF out = BUF_INIT;

    memset(much.block, 'x', much.len);
    assert_ok(db_transaction(f->d, flood, &much, &f->err), &f->err);
    courier_log(c.courier, "end\n", 4);
    finish(&c);
    assert_ok(queue_read_log(f->d, c.id, 0, 16 << 20, &out, &f->err), &f->err);
    assert_true(out.len <= COURIER_BUFFER_MAX_BYTES + 65536 + 200);
    assert_non_null(strstr(out.data, "bytes of log are missing: the database was too slow]"));
    free(much.block);
}

static void beats_bring_the_cancellation(void **state)
{
    struct fixture *f = fixture_of(state);
    struct carried c = start(f, 20, 0);

    assert_ok(queue_cancel(f->d, c.id, "x", &f->err), &f->err);
    await_state(&c, LEASE_CANCELLED);
    finish(&c);
}

static void beats_bring_the_fence(void **state)
{
    struct fixture *f = fixture_of(state);
    struct carried c = start(f, 20, 0);
    AUTO_FREE char *log = NULL;
    int64_t requeued, failed;

    assert_ok(queue_reap(f->d, -1000, &requeued, &failed, &f->err), &f->err);
    assert_int_equal(requeued, 1);
    await_state(&c, LEASE_FENCED);
    courier_log(c.courier, "late\n", 5);
    finish(&c);
    log = log_of(f, c.id);
    assert_string_equal(log, "");
}

/* Beats keep a lease that would end without them. */
static void beats_keep_the_lease(void **state)
{
    struct fixture *f = fixture_of(state);
    struct carried c = start(f, 20, 2000);
    struct job *j;
    int64_t first = 0;

    for (int beats = 0; beats < 3;) {
        assert_ok(queue_get(f->d, c.id, &j, &f->err), &f->err);
        beats += j->last_beat_ms != first;
        first = j->last_beat_ms;
        job_free(j);
        (void)db_wait(f->d, QUEUE_CHANNEL, 50);
    }
    assert_int_equal(lease_state(c.lease), LEASE_HELD);
    finish(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORKER(the_log_arrives_in_order),
        WITH_POSTGRES(the_log_arrives_in_order),
        WITH_WORKER(what_is_too_much_is_dropped_and_said),
        WITH_WORKER(beats_bring_the_cancellation),
        WITH_POSTGRES(beats_bring_the_cancellation),
        WITH_WORKER(beats_bring_the_fence),
        WITH_POSTGRES(beats_bring_the_fence),
        WITH_WORKER(beats_keep_the_lease),
    };

    return cmocka_run_group_tests_name("courier", tests, NULL, NULL);
}
