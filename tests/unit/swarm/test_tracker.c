#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "swarm/tracker.h"

static void join(struct tracker *t, const char *peer, const char *rack, bool some, bool complete)
{
    struct tracker_event e = { TRACKER_JOIN, peer, rack, some, complete };

    tracker_step(t, &e, 0);
}

static void happen(struct tracker *t, enum tracker_event_kind kind, const char *peer, int64_t now)
{
    struct tracker_event e = { kind, peer, NULL, false, false };

    tracker_step(t, &e, now);
}

static const char *name_of(int i, char buf[16])
{
    snprintf(buf, 16, "m%d", i);
    return buf;
}

static size_t degree(const struct tracker *t, const char *peer)
{
    const char *out[TRACKER_DEGREE_MAX];

    return tracker_peers(t, peer, out);
}

static bool sees(const struct tracker *t, const char *a, const char *b)
{
    const char *out[TRACKER_DEGREE_MAX];
    size_t n = tracker_peers(t, a, out);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(out[i], b) == 0)
            return true;
    }
    return false;
}

static void drain(struct tracker *t)
{
    while (tracker_changed(t) != NULL)
        continue;
}

static void in_a_small_swarm_everyone_sees_everyone(void **state)
{
    struct tracker *t = tracker_new(1);
    char a[16], b[16];

    (void)state;
    for (int n = 1; n <= TRACKER_DEGREE + 1; n++) {
        join(t, name_of(n - 1, a), n % 2 ? "r1" : "r2", false, false);
        for (int i = 0; i < n; i++) {
            assert_int_equal(degree(t, name_of(i, a)), n - 1);
            for (int k = 0; k < n; k++)
                assert_int_equal(sees(t, name_of(i, a), name_of(k, b)), i != k);
        }
    }
    assert_int_equal(tracker_count(t), TRACKER_DEGREE + 1);
    tracker_free(t);
}

static void changes_are_told_newcomer_first_and_once(void **state)
{
    struct tracker *t = tracker_new(1);

    (void)state;
    join(t, "a", "", false, false);
    assert_string_equal(tracker_changed(t), "a");
    assert_null(tracker_changed(t));
    join(t, "b", "", false, false);
    join(t, "c", "", false, false);
    assert_string_equal(tracker_changed(t), "c");
    assert_string_equal(tracker_changed(t), "b");
    assert_string_equal(tracker_changed(t), "a");
    assert_null(tracker_changed(t));
    join(t, "a", "", true, false); /* again: hears its set again, the others need not */
    assert_string_equal(tracker_changed(t), "a");
    assert_null(tracker_changed(t));
    happen(t, TRACKER_MOVED, "b", 0);
    assert_non_null(tracker_changed(t));
    assert_non_null(tracker_changed(t));
    assert_null(tracker_changed(t));
    tracker_free(t);
}

struct shape {
    size_t least, most, sum, remote_least, local_sum;
    bool connected;
};

/* Looks at a swarm of n peers m0.. of which m(i) lives in rack i / per_rack; gone ones are skipped.
 */
static struct shape look(struct tracker *t, int n, int per_rack, const bool *gone)
{
    struct shape s = { SIZE_MAX, 0, 0, SIZE_MAX, 0, true };
    bool *seen = mem_calloc((size_t)n, sizeof(bool));
    int *queue = mem_calloc((size_t)n, sizeof(int));
    int head = 0, tail = 0, alive = 0;
    char a[16];

    for (int i = 0; i < n; i++) {
        const char *out[TRACKER_DEGREE_MAX];
        size_t d, remote = 0;

        if (gone != NULL && gone[i])
            continue;
        alive++;
        if (tail == 0) {
            seen[i] = true;
            queue[tail++] = i;
        }
        d = tracker_peers(t, name_of(i, a), out);
        for (size_t k = 0; k < d; k++) {
            int j = atoi(out[k] + 1);

            assert_true(sees(t, out[k], a)); /* edges have two ends */
            assert_true(j != i);
            assert_true(gone == NULL || !gone[j]);
            remote += j / per_rack != i / per_rack;
        }
        s.least = d < s.least ? d : s.least;
        s.most = d > s.most ? d : s.most;
        s.sum += d;
        s.local_sum += d - remote;
        s.remote_least = remote < s.remote_least ? remote : s.remote_least;
    }
    while (head < tail) {
        const char *out[TRACKER_DEGREE_MAX];
        size_t d = tracker_peers(t, name_of(queue[head++], a), out);

        for (size_t k = 0; k < d; k++) {
            int j = atoi(out[k] + 1);

            if (!seen[j]) {
                seen[j] = true;
                queue[tail++] = j;
            }
        }
    }
    s.connected = tail == alive;
    free(seen);
    free(queue);
    return s;
}

static void a_large_swarm_is_nearly_regular_and_local(void **state)
{
    enum { N = 2000, RACK = 40 };
    static const bool orders[] = { false, true };

    (void)state;
    for (size_t o = 0; o < COUNT_OF(orders); o++) {
        struct tracker *t = tracker_new(7 + o);
        struct shape s;
        char a[16], r[16];

        for (int i = 0; i < N; i++) { /* rack by rack, or shuffled over the racks */
            int m = orders[o] ? (i * 611) % N : i;

            snprintf(r, sizeof(r), "rack%d", m / RACK);
            join(t, name_of(m, a), r, false, false);
        }
        drain(t);
        s = look(t, N, RACK, NULL);
        print_message("degree %zu..%zu, mean %.2f, local %.2f, remote >= %zu\n", s.least, s.most,
                      (double)s.sum / N, (double)s.local_sum / (double)s.sum, s.remote_least);
        assert_true(s.connected);
        assert_true(s.least >= TRACKER_DEGREE - 1);
        assert_true(s.most <= TRACKER_DEGREE_MAX);
        assert_true(s.sum <= (size_t)N * (TRACKER_DEGREE + 1));
        assert_true(s.remote_least >= TRACKER_REMOTE);
        assert_true(s.local_sum * 10 >= s.sum * 6);
        tracker_free(t);
    }
}

static void the_dead_are_replaced(void **state)
{
    enum { N = 1000, RACK = 20 };
    struct tracker *t = tracker_new(3);
    bool *gone = mem_calloc(N, sizeof(bool));
    struct shape s;
    char a[16], r[16];

    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(r, sizeof(r), "rack%d", i / RACK);
        join(t, name_of(i, a), r, false, false);
    }
    for (int i = 0; i < N; i += 3) {
        happen(t, TRACKER_LOST, name_of(i, a), 1000);
        gone[i] = true;
    }
    assert_int_equal(tracker_next_ms(t), 1000 + TRACKER_LOST_MS);
    happen(t, TRACKER_TICK, NULL, 1000 + TRACKER_LOST_MS - 1);
    assert_int_equal(tracker_count(t), N);
    happen(t, TRACKER_TICK, NULL, 1000 + TRACKER_LOST_MS);
    assert_int_equal(tracker_count(t), N - (N + 2) / 3);
    assert_int_equal(tracker_next_ms(t), -1);
    s = look(t, N, RACK, gone);
    assert_true(s.connected);
    assert_true(s.least >= TRACKER_DEGREE - 1);
    assert_true(s.remote_least >= TRACKER_REMOTE);
    free(gone);
    tracker_free(t);
}

static void who_comes_back_in_time_keeps_its_links(void **state)
{
    struct tracker *t = tracker_new(3);
    char a[16];

    (void)state;
    for (int i = 0; i < 5; i++)
        join(t, name_of(i, a), "r", false, false);
    drain(t);
    happen(t, TRACKER_LOST, "m2", 10);
    assert_int_equal(degree(t, "m1"), 3); /* a lost one is not handed out */
    join(t, "m2", "r", false, false);
    assert_int_equal(tracker_next_ms(t), -1);
    assert_int_equal(degree(t, "m1"), 4);
    assert_int_equal(degree(t, "m2"), 4);
    assert_string_equal(tracker_changed(t), "m2");
    happen(t, TRACKER_LEAVE, "m2", 20);
    assert_int_equal(degree(t, "m1"), 3);
    assert_int_equal(degree(t, "m2"), 0);
    happen(t, TRACKER_LEAVE, "m2", 20); /* unknown: harmless */
    happen(t, TRACKER_LOST, "m2", 20);
    tracker_free(t);
}

static void a_newcomer_gets_useful_peers_at_once(void **state)
{
    struct tracker *t = tracker_new(5);
    const char *out[TRACKER_DEGREE_MAX];
    char a[16];

    (void)state;
    for (int i = 0; i < 500; i++)
        join(t, name_of(i, a), "", false, false);
    for (int i = 0; i < 3; i++) /* three of 500 have something */
        join(t, name_of(i, a), "", true, false);
    for (int i = 500; i < 503; i++) {
        size_t n, useful = 0;

        join(t, name_of(i, a), "", false, false);
        n = tracker_peers(t, a, out);
        for (size_t k = 0; k < n; k++)
            useful += atoi(out[k] + 1) < 3;
        assert_true(useful >= TRACKER_USEFUL);
    }
    tracker_free(t);
}

static void complete_ones_are_linked_for_others_only(void **state)
{
    struct tracker *t = tracker_new(5);
    char a[16];

    (void)state;
    for (int i = 0; i < 50; i++)
        join(t, name_of(i, a), "r", true, true);
    for (int i = 0; i < 50; i++)
        assert_int_equal(degree(t, name_of(i, a)), 0);
    join(t, "late", "r", false, false);
    assert_true(degree(t, "late") >= TRACKER_DEGREE - TRACKER_REMOTE);
    join(t, "holder", "r", true, true);
    assert_true(sees(t, "holder", "late") || degree(t, "late") >= TRACKER_DEGREE);
    tracker_free(t);
}

static void a_machine_that_changes_its_rack_begins_anew(void **state)
{
    struct tracker *t = tracker_new(5);

    (void)state;
    join(t, "a", "r1", false, false);
    join(t, "b", "r1", false, false);
    join(t, "a", "r2", false, false);
    assert_int_equal(tracker_count(t), 2);
    assert_true(sees(t, "a", "b"));
    assert_true(sees(t, "b", "a"));
    tracker_free(t);
}

static void the_same_seed_gives_the_same_graph(void **state)
{
    struct tracker *x = tracker_new(9), *y = tracker_new(9);
    const char *in_x[TRACKER_DEGREE_MAX], *in_y[TRACKER_DEGREE_MAX];
    char a[16];

    (void)state;
    for (int i = 0; i < 200; i++) {
        join(x, name_of(i, a), "", i % 7 == 0, false);
        join(y, name_of(i, a), "", i % 7 == 0, false);
    }
    for (int i = 0; i < 200; i++) {
        size_t n = tracker_peers(x, name_of(i, a), in_x);

        assert_int_equal(tracker_peers(y, a, in_y), n);
        for (size_t k = 0; k < n; k++)
            assert_string_equal(in_x[k], in_y[k]);
    }
    tracker_free(x);
    tracker_free(y);
}

/* A swarm in motion keeps its invariants: two-ended edges, bounds, no gaps for who wants. */
static void churn(void **state)
{
    enum { N = 300, RACK = 10 };
    struct tracker *t = tracker_new(11);
    bool gone[N];
    uint32_t x = 12345;
    char a[16], r[16];

    (void)state;
    memset(gone, 1, sizeof(gone));
    for (int step = 0; step < 5000; step++) {
        int i;

        x = x * 1664525u + 1013904223u;
        i = (int)((x >> 8) % N);
        snprintf(r, sizeof(r), "rack%d", i / RACK);
        if (gone[i] || (x >> 28) < 3) {
            join(t, name_of(i, a), r, (x >> 20) % 2, (x >> 22) % 4 == 0);
            gone[i] = false;
        } else if ((x >> 28) < 10) {
            happen(t, TRACKER_LEAVE, name_of(i, a), step);
            gone[i] = true;
        }
        if (step % 500 == 499) {
            struct shape s = look(t, N, RACK, gone);

            assert_true(s.most <= TRACKER_DEGREE_MAX);
        }
    }
    tracker_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_a_small_swarm_everyone_sees_everyone),
        cmocka_unit_test(changes_are_told_newcomer_first_and_once),
        cmocka_unit_test(a_large_swarm_is_nearly_regular_and_local),
        cmocka_unit_test(the_dead_are_replaced),
        cmocka_unit_test(who_comes_back_in_time_keeps_its_links),
        cmocka_unit_test(a_newcomer_gets_useful_peers_at_once),
        cmocka_unit_test(complete_ones_are_linked_for_others_only),
        cmocka_unit_test(a_machine_that_changes_its_rack_begins_anew),
        cmocka_unit_test(the_same_seed_gives_the_same_graph),
        cmocka_unit_test(churn),
    };

    return cmocka_run_group_tests_name("tracker", tests, NULL, NULL);
}
