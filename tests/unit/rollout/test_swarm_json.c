/* Figures of swarms as rows and for people, and the events that they are worth. */
#include "unit/rollout/town.h"

#include "rollout/swarm_json.h"

enum { MB = 1000000 };

/* A region of so many machines; the last `slow` of them took three times size/rate. */
static json_t *region_row(uint64_t machines, uint64_t slow, uint64_t sent_bytes)
{
    struct figures *f = figures_new();
    struct msg_counts told = { .swarm = { mem_calloc(1, sizeof(struct msg_swarm)), 1 } };
    struct msg_swarm *m = told.swarm.items;
    struct msg_pack_sent *pack = mem_alloc(sizeof(*pack));
    json_t *row;

    for (uint64_t i = 0; i < machines; i++) {
        struct msg_fetch fetch = { .done = 1,
                                   .rate_from = RATE_LINK,
                                   .rate = 10 * MB,
                                   .ms = i + slow < machines ? 10400 : 30000,
                                   .bytes = 100 * MB,
                                   .near_bytes = 60 * MB,
                                   .far_bytes = 20 * MB,
                                   .edges = 10 };

        figures_add(f, &(struct msg_progress){ .wanted_bytes = 100 * MB, .fetch = { &fetch, 1 } });
    }
    figures_take(f, m);
    *pack = (struct msg_pack_sent){ .bytes = 100 * MB, .sent_bytes = sent_bytes };
    m->packs = (struct list_of){ pack, 1 };
    row = swarm_to_row(m);
    codec_release(msg_codec(MSG_COUNTS), &told);
    figures_free(f);
    return row;
}

static double real_at(const json_t *view, const char *key, const char *of)
{
    const json_t *o = json_object_get(view, key);

    return json_number_value(of == NULL ? o : json_object_get(o, of));
}

static void a_row_comes_back(void **state)
{
    AUTO_JSON *row = region_row(20, 2, 210 * MB), *again = NULL;
    struct msg_swarm m;

    (void)state;
    swarm_from_row(&m, row);
    again = swarm_to_row(&m);
    swarm_release(&m);
    assert_true(json_equal(row, again));
}

static void regions_together(void **state)
{
    AUTO_JSON *one = region_row(150, 0, 210 * MB), *two = region_row(50, 3, 190 * MB);
    const struct swarm_region regions[] = { { "r1", one }, { "r2", two }, { "r3", NULL } };
    AUTO_JSON *view = swarm_view(regions, 3);
    const json_t *packs = json_object_get(view, "packs");

    (void)state;
    assert_int_equal(json_integer_value(json_object_get(view, "machines")), 200);
    assert_int_equal(json_integer_value(json_object_get(view, "rated")), 200);
    assert_in_range(real_at(view, "ratio", "p50") * 1000, 1032, 1048);
    assert_in_range(real_at(view, "ratio", "p99") * 1000, 2977, 3000); /* 3 of 200 */
    assert_in_range(real_at(view, "ratio", "max") * 1000, 3000, 3000);
    assert_in_range(real_at(view, "seconds", "max") * 1000, 30000, 30000);
    assert_in_range(real_at(view, "seed_copies", NULL) * 1000, 2100, 2100);
    assert_in_range(real_at(view, "cross_rack", NULL) * 1000, 250, 250);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(view, "rate_from"), "link")), 200);
    assert_int_equal(json_array_size(packs), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(packs, 1), "region")),
                        "r2");
}

static void nothing_told_is_null(void **state)
{
    const struct swarm_region regions[] = { { "r1", NULL } };
    AUTO_JSON *none = swarm_view(regions, 1);
    AUTO_JSON *odd = json_loads("{\"machines\":\"x\",\"ratios\":[[70000,5],[3],7,[-1,2]],"
                                "\"packs\":[[1],[\"zz\",2,3]],\"offenders\":[[5],{}]}",
                                0, NULL);
    struct msg_swarm m;

    (void)state;
    assert_true(json_is_null(none));
    swarm_from_row(&m, odd); /* what is malformed is nothing */
    assert_int_equal(m.machines, 0);
    assert_int_equal(m.packs.count, 0);
    assert_int_equal(m.offenders.count, 0);
    swarm_release(&m);
}

/* A region that lies has its figures cut to what can be added up. */
static void absurd_regions_are_cut(void **state)
{
    struct msg_bucket bucket = { UINT16_MAX, UINT64_MAX };
    struct msg_swarm m = { .machines = UINT64_MAX,
                           .ratio_max = UINT64_MAX,
                           .near_bytes = UINT64_MAX,
                           .ratios = { &bucket, 1 } };
    AUTO_JSON *row = swarm_to_row(&m);
    const struct swarm_region regions[] = { { "r1", row }, { "r2", row } };
    AUTO_JSON *view = swarm_view(regions, 2);

    (void)state;
    assert_int_equal(json_integer_value(json_object_get(view, "machines")), 2 * SWARM_NUMBER_MAX);
    assert_true(json_is_null(json_object_get(view, "ratio")));
}

static size_t times_logged(const struct town *t, const char *what)
{
    size_t n = 0;

    for (const char *at = buf_str(&t->log); (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

static void a_good_swarm_is_worth_no_word(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->swarm = region_row(50, 0, 210 * MB);
    town_run(t, 600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_int_equal(times_logged(t, "swarm"), 0);
    town_free(t);
}

static void a_bad_swarm_is_told_of_once(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->restart = true; /* what was said is remembered */
    t->swarm = region_row(50, 10, 500 * MB);
    json_object_set_new(t->swarm, "late", json_integer(3));
    json_object_set_new(t->swarm, "stale", json_integer(200));
    json_object_set_new(t->swarm, "refused", json_integer(7));
    json_object_set_new(t->swarm, "offenders", json_pack("[[s,i]]", "r1-m3", 12));
    town_run(t, 600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, ""); /* and nothing is done about it */
    assert_int_equal(times_logged(t, "the swarm of region r1 is slow: p99 of 50 machines is"), 1);
    assert_int_equal(times_logged(t, "of region r2 is slow"), 1);
    assert_int_equal(times_logged(t, "3 of 50 machines of region r1 still fetch"), 1);
    assert_int_equal(times_logged(t, "the region node of r1 has sent 5.0 copies"), 1);
    assert_int_equal(times_logged(t, "of 500 peers that region r1 named, 200"), 1);
    assert_int_equal(times_logged(t, "machine r1-m3 of region r1 was banned by 12 others"), 1);
    assert_int_equal(times_logged(t, "machines of region r1 tell figures that cannot be"), 1);
    town_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_comes_back),
        cmocka_unit_test(regions_together),
        cmocka_unit_test(nothing_told_is_null),
        cmocka_unit_test(absurd_regions_are_cut),
        cmocka_unit_test(a_good_swarm_is_worth_no_word),
        cmocka_unit_test(a_bad_swarm_is_told_of_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
