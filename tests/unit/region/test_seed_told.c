#include "lib/check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "region/seed_told.h"
#include "wire/json.h"

enum { MB = 1000000 };

static void tell(struct seed_told *t, const char *machine, uint64_t ms, uint64_t bytes)
{
    struct msg_fetch f = {
        .done = 1, .rate_from = RATE_LIMIT, .rate = 10 * MB, .ms = ms, .bytes = bytes
    };

    seed_told_take(t, machine,
                   &(struct msg_progress){ .staged_bytes = bytes,
                                           .wanted_bytes = bytes,
                                           .peer_bytes = bytes,
                                           .fetch = { &f, 1 } });
}

static json_t *view_of(const struct seed_told *t, uint64_t sent_bytes)
{
    AUTO_BUF text = BUF_INIT;
    json_t *all, *view;

    buf_char(&text, '{');
    seed_told_json(t, sent_bytes, &text);
    buf_char(&text, '}');
    all = json_loads(buf_str(&text), 0, NULL);
    assert_non_null(all);
    view = json_incref(json_object_get(all, "swarm"));
    json_decref(all);
    return view;
}

static void each_machine_counts_once(void **state)
{
    struct hash pack = { { 7 } };
    struct seed_told *t = seed_told_new(&pack, 100 * MB);
    AUTO_BUF text = BUF_INIT;
    AUTO_JSON *view = NULL;

    (void)state;
    seed_told_text(t, 0, &text);
    assert_string_equal(buf_str(&text), "0.0 copies");
    tell(t, "m1", 30000, 100 * MB);
    tell(t, "m1", 10400, 100 * MB); /* it came back, and tells what was true */
    tell(t, "m2", 10400, 100 * MB);
    buf_reset(&text);
    seed_told_text(t, 210 * MB, &text);
    assert_string_equal(buf_str(&text), "2.1 copies; 2 machines have it: p50 1.04, p99 1.04, "
                                        "max 1.04 x size/rate");
    view = view_of(t, 210 * MB);
    assert_int_equal(json_integer_value(json_object_get(view, "fetched")), 2);
    assert_int_equal(json_integer_value(json_object_get(view, "refused")), 0);
    seed_told_free(t);
}

static void what_cannot_be_is_refused(void **state)
{
    struct hash pack = { { 7 } };
    struct seed_told *t = seed_told_new(&pack, 100 * MB);
    AUTO_JSON *view = NULL;

    (void)state;
    tell(t, "m1", 10400, 100 * MB);
    tell(t, "m2", 10400, 1000000ull * MB);
    tell(t, "m1", 1, 100 * MB);
    view = view_of(t, 0);
    assert_int_equal(json_integer_value(json_object_get(view, "fetched")), 1);
    assert_int_equal(json_integer_value(json_object_get(view, "refused")), 2);
    seed_told_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_machine_counts_once),
        cmocka_unit_test(what_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
