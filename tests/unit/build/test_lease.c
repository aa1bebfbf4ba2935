#include "lib/check.h"

#include <poll.h>

#include "base/mem.h"
#include "build/lease.h"
#include "io/loop.h"

static struct lease *make(int64_t silent_ms, const atomic_bool *stopping)
{
    struct err err = ERR_INIT;
    struct lease *l;

    assert_ok(lease_new(&l, monotonic_ms(), silent_ms, stopping, &err), &err);
    return l;
}

static bool is_readable(struct lease *l)
{
    struct pollfd fd = { lease_fd(l), POLLIN, 0 };

    return poll(&fd, 1, 0) == 1;
}

static void the_first_end_is_final(void **state)
{
    struct lease *l = make(60000, NULL);
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(lease_state(l), LEASE_HELD);
    assert_ok(lease_check(l, &err), &err);
    assert_false(is_readable(l));
    lease_end(l, LEASE_CANCELLED);
    assert_true(is_readable(l));
    assert_error(lease_check(l, &err), ERR_CANCELLED, &err, "cancelled");
    lease_end(l, LEASE_FENCED);
    lease_beat(l, monotonic_ms());
    assert_int_equal(lease_state(l), LEASE_CANCELLED);
    lease_free(l);
    lease_free(NULL);
}

/* Silence is counted from when the claim or the beat was sent, on this host's clock. */
static void silence_fences(void **state)
{
    struct err err = ERR_INIT;
    struct lease *l;

    (void)state;
    assert_ok(lease_new(&l, monotonic_ms() - 50, 40, NULL, &err), &err);
    assert_error(lease_check(l, &err), ERR_FENCED, &err, "no longer ours");
    lease_beat(l, monotonic_ms());
    assert_int_equal(lease_state(l), LEASE_FENCED);
    lease_free(l);
    assert_ok(lease_new(&l, monotonic_ms() - 50000, 60000, NULL, &err), &err);
    lease_beat(l, monotonic_ms() - 55000); /* an older answer that comes late changes nothing */
    assert_int_equal(lease_state(l), LEASE_HELD);
    lease_free(l);
    assert_ok(lease_new(&l, 0, 0, NULL, &err), &err);
    assert_int_equal(lease_state(l), LEASE_HELD);
    lease_free(l);
}

static void deadlines_and_stops(void **state)
{
    atomic_bool stopping = false;
    struct lease *l = make(60000, &stopping);
    struct err err = ERR_INIT;

    (void)state;
    lease_set_deadline(l, 60000);
    assert_int_equal(lease_state(l), LEASE_HELD);
    atomic_store(&stopping, true);
    assert_error(lease_check(l, &err), ERR_CANCELLED, &err, "the worker is stopping");
    assert_int_equal(lease_state(l), LEASE_STOPPED);
    lease_free(l);
    l = make(60000, NULL);
    lease_set_deadline(l, -1000);
    assert_error(lease_check(l, &err), ERR_TIMEOUT, &err, "build ran longer than");
    lease_free(l);
    assert_ok(lease_check(NULL, &err), &err);
    assert_int_equal(lease_fd(NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_end_is_final),
        cmocka_unit_test(silence_fences),
        cmocka_unit_test(deadlines_and_stops),
    };

    return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
