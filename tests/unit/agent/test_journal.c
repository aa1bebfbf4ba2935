#include "lib/check.h"

#include <stdio.h>
#include <string.h>

#include "io/files.h"
#include "journal.h"
#include "lib/tmpdir.h"
#include "run.h"

static struct hash hash_of(int n)
{
    return sha256_of(&n, sizeof(n));
}

static void test_round_trip(void **state)
{
    struct journal j = { .phase = JOURNAL_TRIAL,
                         .release = hash_of(1),
                         .previous = hash_of(2),
                         .deployment = "d-1",
                         .activation = 7,
                         .starts = 2,
                         .port = 20001 };
    struct journal read;
    const char *path = tmpdir_path("state.json");
    struct err err = ERR_INIT;

    (void)state;
    journal_latch_bad(&j, &j.previous, "d-0", "health: \"no\"\n");
    assert_ok(journal_save(&j, path, &err), &err);
    assert_ok(journal_load(&read, path, &err), &err);
    assert_int_equal(read.phase, JOURNAL_TRIAL);
    assert_true(hash_equal(&read.release, &j.release));
    assert_true(hash_equal(&read.previous, &j.previous));
    assert_string_equal(read.deployment, "d-1");
    assert_int_equal(read.activation, 7);
    assert_int_equal(read.starts, 2);
    assert_int_equal(read.port, 20001);
    assert_string_equal(journal_bad_reason(&read, &j.previous, "d-0"), "health: \"no\"\n");
    assert_null(journal_bad_reason(&read, &j.previous, "d-1"));
    assert_null(journal_bad_reason(&read, &j.release, "d-0"));
}

static void test_missing_is_empty(void **state)
{
    struct journal j = { .phase = JOURNAL_TRIAL };
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(journal_load(&j, tmpdir_path("none.json"), &err), &err);
    assert_int_equal(j.phase, JOURNAL_NONE);
}

static void test_damaged_files(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"phase\":\"asleep\",\"activation\":0,\"starts\":0,\"port\":0,\"bad\":[]}",
        "{\"phase\":\"none\",\"activation\":-1,\"starts\":0,\"port\":0,\"bad\":[]}",
        "{\"phase\":\"none\",\"activation\":0,\"starts\":0,\"port\":65536,\"bad\":[]}",
        "{\"phase\":\"none\",\"activation\":0,\"starts\":0,\"port\":0,\"bad\":[{}]}",
        "{\"phase\":\"none\",\"release\":\"zz\",\"activation\":0,\"starts\":0,\"port\":0,\"bad\":[]"
        "}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *path = tmpdir_path("damaged.json");
        struct journal j;
        struct run run;
        struct err err = ERR_INIT;
        bool found;

        tmpdir_write(path, texts[i], strlen(texts[i]));
        assert_error(journal_load(&j, path, &err), ERR_CORRUPT, &err, "damaged.json");
        assert_int_equal(j.phase, JOURNAL_NONE);
        assert_error(run_load(&run, path, &found, &err), ERR_CORRUPT, &err, "damaged.json");
    }
}

static void test_latches(void **state)
{
    struct journal j = { .phase = JOURNAL_NONE };
    struct hash h;

    (void)state;
    for (int i = 0; i < JOURNAL_BAD_MAX + 3; i++) {
        h = hash_of(i);
        journal_latch_bad(&j, &h, "d", "r");
    }
    assert_int_equal(j.nbad, JOURNAL_BAD_MAX);
    h = hash_of(2);
    assert_null(journal_bad_reason(&j, &h, "d"));
    h = hash_of(3);
    assert_non_null(journal_bad_reason(&j, &h, "d"));
    journal_latch_bad(&j, &h, "e", "again");
    assert_null(journal_bad_reason(&j, &h, "d"));
    assert_string_equal(journal_bad_reason(&j, &h, "e"), "again");
    journal_unlatch(&j, &h);
    assert_null(journal_bad_reason(&j, &h, "e"));
    assert_int_equal(j.nbad, JOURNAL_BAD_MAX - 1);
}

static void test_run_file(void **state)
{
    struct run run = {
        .id = { 42, 99 }, .boot = "b", .release = hash_of(1), .activation = 3, .port = 4
    };
    struct run read;
    const char *path = tmpdir_path("run");
    struct err err = ERR_INIT;
    bool found;

    (void)state;
    assert_ok(run_load(&read, path, &found, &err), &err);
    assert_false(found);
    assert_ok(run_save(&run, path, &err), &err);
    assert_ok(run_load(&read, path, &found, &err), &err);
    assert_true(found);
    assert_int_equal(read.id.pid, 42);
    assert_int_equal(read.id.start_ticks, 99);
    assert_int_equal(read.activation, 3);
    assert_int_equal(read.port, 4);
    assert_true(hash_equal(&read.release, &run.release));
    assert_false(run_is_of_this_boot(&read));
    snprintf(read.boot, sizeof(read.boot), "%s", proc_boot_id());
    assert_true(run_is_of_this_boot(&read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_missing_is_empty),
        cmocka_unit_test(test_damaged_files), cmocka_unit_test(test_latches),
        cmocka_unit_test(test_run_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
