#include "lib/check.h"

#include "base/mem.h"

#include "lib/tmpdir.h"
#include "receipt.h"

static void test_what_is_saved_is_loaded(void **state)
{
    const char *dir = tmpdir_fresh();
    struct receipt r = { .deployment = "d-12345678",
                         .wanted_bytes = 100,
                         .seed_bytes = 60,
                         .peer_bytes = 40,
                         .saved_bytes = 81000000 };
    struct receipt back;
    struct err err = ERR_INIT;

    (void)state;
    assert_error(receipt_load(&back, dir, &err), ERR_NOT_FOUND, &err, "receipt");
    assert_ok(receipt_save(&r, dir, &err), &err);
    assert_ok(receipt_load(&back, dir, &err), &err);
    assert_string_equal(back.deployment, "d-12345678");
    assert_int_equal(back.wanted_bytes, 100);
    assert_int_equal(back.seed_bytes, 60);
    assert_int_equal(back.peer_bytes, 40);
    assert_int_equal(back.saved_bytes, 81000000);
    assert_false(back.measured); /* as of agents that measured nothing */
}

static void test_how_it_came_is_kept(void **state)
{
    const char *dir = tmpdir_fresh();
    struct receipt r = { .deployment = "d-1", .measured = true }, back;
    struct err err = ERR_INIT;

    (void)state;
    r.fetched = (struct fetched){ .m = { .done = 1,
                                         .rate_from = RATE_LINK,
                                         .rate = UINT64_C(12500000000),
                                         .ms = 8123,
                                         .bytes = UINT64_C(10737418240),
                                         .near_bytes = UINT64_C(7000000000),
                                         .far_bytes = 3,
                                         .stolen = 4,
                                         .doubled = 5,
                                         .useless = 6,
                                         .bad = 7,
                                         .edges = 12,
                                         .stale = 1 },
                                  .banned = { "r1-m3", "r1-m4" },
                                  .nbanned = 2 };
    assert_ok(receipt_save(&r, dir, &err), &err);
    assert_ok(receipt_load(&back, dir, &err), &err);
    assert_true(back.measured);
    assert_memory_equal(&back.fetched, &r.fetched, sizeof(r.fetched));
}

static void test_what_is_no_receipt(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "{}",
        "[]",
        "{\"deployment\":\"d\",\"wanted\":-1,\"seed\":0,\"peer\":0,\"saved\":0}",
        "{\"deployment\":\"d\",\"wanted\":1,\"seed\":\"0\",\"peer\":0,\"saved\":0}",
        "{\"deployment\":7,\"wanted\":1,\"seed\":0,\"peer\":0,\"saved\":0}",
        "{\"deployment\":\"d\",\"wanted\":1,\"seed\":0,\"peer\":0,\"saved\":0,\"fetched\":{}}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char *dir = tmpdir_fresh();
        struct receipt r = { .deployment = "d-1", .wanted_bytes = 1 };

        tmpdir_write(tmpdir_path("%s/receipt.json", dir + strlen(tmpdir()) + 1), texts[i],
                     strlen(texts[i]));
        assert_int_equal(receipt_load(&r, dir, NULL), -ERR_CORRUPT);
        assert_int_equal(r.wanted_bytes, 0);
        assert_string_equal(r.deployment, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_saved_is_loaded),
        cmocka_unit_test(test_how_it_came_is_kept),
        cmocka_unit_test(test_what_is_no_receipt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
