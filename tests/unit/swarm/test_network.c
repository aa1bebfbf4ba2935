#include "lib/check.h"

#include "swarm/network.h"

enum { HOSTS = 20, MB = 1000000 };

static const int64_t S = 1000000000;

struct world {
    struct calendar *calendar;
    struct network *network;
    int64_t now_ns;
    uint32_t last; /* kind of the transfer that ended last */
};

static struct world world_new(double up, double down)
{
    struct world w = { .calendar = calendar_new() };

    w.network = network_new(HOSTS, w.calendar);
    for (uint32_t i = 0; i < HOSTS; i++)
        network_host(w.network, i, up, down);
    return w;
}

static void world_free(struct world *w)
{
    network_free(w->network);
    calendar_free(w->calendar);
}

static uint32_t start(struct world *w, uint32_t from, uint32_t to, double bytes, uint32_t kind)
{
    return network_start(w->network, from, to, bytes, w->now_ns,
                         &(struct calendar_event){ .kind = kind });
}

static bool run(struct world *w)
{
    struct calendar_event e;

    if (!calendar_next(w->calendar, &w->now_ns, &e))
        return false;
    network_finish(w->network, e.d, w->now_ns);
    w->last = e.kind;
    return true;
}

/* Within a microsecond. */
static void assert_time(const struct world *w, double seconds)
{
    assert_true((double)w->now_ns > seconds * 1e9 - 1000);
    assert_true((double)w->now_ns < seconds * 1e9 + 1000);
}

static void one_transfer_takes_size_over_rate(void **state)
{
    struct world w = world_new(10 * MB, 20 * MB);

    (void)state;
    (void)start(&w, 0, 1, 20 * MB, 1);
    assert_true(run(&w));
    assert_time(&w, 2);
    assert_true(network_sent_bytes(w.network, 0) == 20 * MB);
    assert_true(network_received_bytes(w.network, 1) == 20 * MB);
    assert_false(run(&w));
    world_free(&w);
}

static void transfers_share_an_uplink(void **state)
{
    struct world w = world_new(10 * MB, 100 * MB);

    (void)state;
    (void)start(&w, 0, 1, 10 * MB, 1); /* 5 MB/s while two are there */
    (void)start(&w, 0, 2, 20 * MB, 2);
    assert_true(run(&w));
    assert_int_equal(w.last, 1);
    assert_time(&w, 2);
    assert_true(run(&w)); /* 10 MB are left, at 10 MB/s */
    assert_time(&w, 3);
    world_free(&w);
}

static void transfers_share_a_downlink(void **state)
{
    struct world w = world_new(10 * MB, 10 * MB);

    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        (void)start(&w, i, 10, 2 * MB, i);
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(run(&w));
        assert_time(&w, 1);
    }
    world_free(&w);
}

/* 0 gives to 1, which is busy with four others, and to 2: what 1 cannot take 2 gets. */
static void what_one_cannot_take_another_gets(void **state)
{
    struct world w = world_new(10 * MB, 10 * MB);

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        (void)start(&w, 10 + i, 1, 100 * MB, 9);
    (void)start(&w, 0, 1, 100 * MB, 9);
    (void)start(&w, 0, 2, 8 * MB, 2);
    assert_true(run(&w));
    assert_int_equal(w.last, 2);
    assert_time(&w, 1);
    world_free(&w);
}

static void a_broken_transfer_gives_its_part_back(void **state)
{
    struct world w = world_new(10 * MB, 100 * MB);
    uint32_t t;

    (void)state;
    t = start(&w, 0, 1, 100 * MB, 1);
    (void)start(&w, 0, 2, 10 * MB, 2);
    w.now_ns = S; /* 5 MB of each are there */
    network_break(w.network, t, w.now_ns);
    assert_true(run(&w));
    assert_int_equal(w.last, 2);
    assert_time(&w, 1.5);
    assert_true(network_received_bytes(w.network, 1) == 5 * MB);
    assert_false(run(&w));
    world_free(&w);
}

/* Random transfers: no link ever carries more than its rate, and all of it when it alone is short. */
static void a_link_is_full_when_nothing_is_left(void **state)
{
    struct world w = world_new(10 * MB, 20 * MB);
    uint32_t a = start(&w, 0, 2, 10 * MB, 1);

    (void)state;
    assert_true(network_rate(w.network, a) == 10 * MB);
    assert_true(network_is_full(w.network, 0, NETWORK_UP));
    assert_false(network_is_full(w.network, 2, NETWORK_DOWN));
    assert_false(network_is_full(w.network, 2, NETWORK_UP));
    (void)start(&w, 1, 2, 10 * MB, 2);
    assert_true(network_is_full(w.network, 2, NETWORK_DOWN));
    while (run(&w))
        ;
    assert_false(network_is_full(w.network, 0, NETWORK_UP));
    world_free(&w);
}

static void no_link_carries_more_than_its_rate(void **state)
{
    enum { TRANSFERS = 3000 };
    struct world w = world_new(10 * MB, 12 * MB);
    uint64_t random = 3;
    double all = 0;

    (void)state;
    for (int i = 0; i < TRANSFERS; i++) {
        uint32_t from, to;

        random = random * 6364136223846793005u + 1442695040888963407u;
        from = (uint32_t)(random >> 33) % HOSTS;
        to = (from + 1 + (uint32_t)(random >> 50) % (HOSTS - 1)) % HOSTS;
        (void)start(&w, from, to, MB, 1);
        if (i >= 60) {
            assert_true(run(&w));
            all += MB;
        }
    }
    for (uint32_t i = 0; i < HOSTS; i++) {
        double s = (double)w.now_ns / 1e9;

        assert_true(network_sent_bytes(w.network, i) <= 10 * MB * s * 1.000001 + 1);
        assert_true(network_received_bytes(w.network, i) <= 12 * MB * s * 1.000001 + 1);
    }
    assert_true(all > 0.5 * HOSTS * 10 * MB * (double)w.now_ns / 1e9);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_transfer_takes_size_over_rate),
        cmocka_unit_test(transfers_share_an_uplink),
        cmocka_unit_test(transfers_share_a_downlink),
        cmocka_unit_test(what_one_cannot_take_another_gets),
        cmocka_unit_test(a_broken_transfer_gives_its_part_back),
        cmocka_unit_test(a_link_is_full_when_nothing_is_left),
        cmocka_unit_test(no_link_carries_more_than_its_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
