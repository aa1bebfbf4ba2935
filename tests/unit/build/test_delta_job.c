/* Delta jobs, by a real worker over SQLite and a store. */
#include "build/delta_job.h"

#include "lib/trees.h"
#include "store/publish.h"
#include "store/publish_delta.h"
#include "unit/build/fixture.h"
#include "wire/json.h"

enum { MIB = 1 << 20 };

struct pair {
    struct store *s;
    struct published base, target;
};

static struct published publish(struct fixture *f, struct store *s, size_t bytes, size_t fresh,
                                bool packed)
{
    const char *dir = tmpdir_fresh();
    AUTO_FREE char *path = mem_printf("%s/app", dir), *gz = mem_printf("%s/a.gz", dir);
    AUTO_FREE unsigned char *data = mem_alloc(bytes);
    struct random r = { 1 };
    struct published p;

    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t v;

        if (i == fresh)
            r.state = 1;
        else if (i == 0 && fresh > 0)
            r.state = 77;
        v = random_next(&r) & UINT64_C(0x7f7f7f7f7f7f7f7f); /* does not look compressed */
        memcpy(data + i, &v, 8);
    }
    tmpdir_write(path, data, bytes);
    if (packed) {
        memcpy(data, "\x1f\x8b\x08", 3);
        tmpdir_write(gz, data, 100000);
    }
    assert_ok(artifact_publish(s, dir, NULL, &p, &f->err), &f->err);
    return p;
}

static void pair_init(struct fixture *f, struct pair *x, size_t bytes, size_t fresh)
{
    assert_ok(store_open(&x->s, f->store, &f->err), &f->err);
    x->base = publish(f, x->s, bytes, 0, false);
    x->target = publish(f, x->s, bytes, fresh, true);
}

static char *spec_of(const struct pair *x, int deadline_s)
{
    char a[HASH_HEX], b[HASH_HEX], c[HASH_HEX], d[HASH_HEX];

    return mem_printf("{\"v\":1,\"delta\":{\"variant\":\"default\",\"base\":\"%s\","
                      "\"base_pack\":\"%s\",\"target\":\"%s\",\"target_pack\":\"%s\"},"
                      "\"deadline\":%d}",
                      hash_hex(&x->base.artifact, a), hash_hex(&x->base.pack, b),
                      hash_hex(&x->target.artifact, c), hash_hex(&x->target.pack, d), deadline_s);
}

static int64_t enqueue_delta(struct fixture *f, const char *spec)
{
    int64_t id = 0;

    assert_ok(
        queue_enqueue_late(f->d, "web", f->repo.sha, spec, NULL, DEADLINE_MS, 1, &id, &f->err),
        &f->err);
    return id;
}

static struct job *done(struct fixture *f, const char *spec)
{
    return await(f, enqueue_delta(f, spec), JOB_NONE);
}

static void what_is_one(void **state)
{
    (void)state;
    assert_true(delta_job_is("{\"v\":1,\"delta\":{}}"));
    assert_false(delta_job_is("{\"v\":1,\"steps\":[]}"));
    assert_false(delta_job_is("{\"v\":1,\"delta\":[]}"));
    assert_false(delta_job_is("nonsense"));
    assert_false(delta_job_is(""));
}

static void it_makes_a_pack_and_says_what_was_packed(void **state)
{
    struct fixture *f = fixture_of(state);
    struct pair x;
    AUTO_FREE char *spec = NULL, *log = NULL;
    AUTO_JSON *result = NULL;
    const json_t *delta, *packed;
    struct delta_side base;
    struct hash pack;
    uint64_t bytes = 0;
    struct job *j;

    pair_init(f, &x, 5 * MIB, MIB);
    spec = spec_of(&x, 600);
    start_worker(f);
    j = done(f, spec);
    assert_int_equal(j->status, JOB_SUCCEEDED);
    result = json_loads(j->result, 0, NULL);
    delta = json_object_get(result, "delta");
    assert_true(hash_parse(&pack, json_string_value(json_object_get(delta, "pack"))));
    base = (struct delta_side){ x.base.artifact, x.base.pack };
    assert_ok(artifact_verify_delta(x.s, &base, &x.target.artifact, &pack, &bytes, &f->err),
              &f->err);
    assert_int_equal(json_integer_value(json_object_get(delta, "pack_bytes")), bytes);
    assert_int_equal(json_integer_value(json_object_get(delta, "full_bytes")), x.target.pack_bytes);
    packed = json_array_get(json_object_get(delta, "packed"), 0);
    assert_string_equal(json_string_value(json_object_get(packed, "path")), "a.gz");
    assert_int_equal(json_integer_value(json_object_get(packed, "bytes")), 100000);
    assert_int_equal(json_integer_value(json_object_get(delta, "npacked")), 1);
    log = log_of(f, j->id);
    assert_non_null(strstr(log, "== delta pack of "));
    assert_non_null(strstr(log, "== a.gz (100000 bytes) is compressed"));
    job_free(j);
    store_close(x.s);
}

static void one_of_no_use_is_dropped_with_the_reason(void **state)
{
    static const struct {
        size_t bytes, fresh;
        const char *why;
    } cases[] = {
        { 5 * MIB, 4 * MIB, "60 %" },
        { 8 * MIB, 8 * MIB, "nothing in it is like" },
    };
    struct fixture *f = fixture_of(state);

    start_worker(f);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_FREE char *spec = NULL, *log = NULL;
        AUTO_JSON *result = NULL;
        const json_t *delta;
        struct pair x;
        struct job *j;

        pair_init(f, &x, cases[i].bytes, cases[i].fresh);
        spec = spec_of(&x, 600);
        j = done(f, spec);
        assert_int_equal(j->status, JOB_SUCCEEDED);
        result = json_loads(j->result, 0, NULL);
        delta = json_object_get(result, "delta");
        assert_true(json_is_null(json_object_get(delta, "pack")));
        assert_non_null(strstr(json_string_value(json_object_get(delta, "why")), cases[i].why));
        log = log_of(f, j->id);
        assert_non_null(strstr(log, "== no delta: "));
        job_free(j);
        store_close(x.s);
    }
}

/* Trying again would not help: the job fails at once, as a build's own fault does. */
static void specs_that_cannot_be_done(void **state)
{
    struct fixture *f = fixture_of(state);
    struct pair x;
    AUTO_FREE char *good = NULL, *lost = NULL, *never = NULL;
    struct job *j;

    pair_init(f, &x, 5 * MIB, MIB);
    good = spec_of(&x, 600);
    never = spec_of(&x, 0);
    start_worker(f);
    {
        static const char *const specs[][2] = {
            { "{\"v\":1,\"delta\":{}}", "base" },
            { "{\"v\":1,\"delta\":{\"base\":\"xyz\"}}", "base" },
        };

        for (size_t i = 0; i < COUNT_OF(specs); i++) {
            j = done(f, specs[i][0]);
            assert_int_equal(j->status, JOB_FAILED);
            assert_string_equal(j->failure, "build");
            assert_non_null(strstr(j->reason, specs[i][1]));
            assert_int_equal(j->attempt, 1);
            job_free(j);
        }
    }
    j = done(f, never);
    assert_int_equal(j->status, JOB_FAILED);
    assert_non_null(strstr(j->reason, "deadline"));
    job_free(j);
    /* An artifact that was collected meanwhile. */
    assert_ok(store_delete(x.s, OBJECT_PACK, &x.base.pack, &f->err), &f->err);
    lost = mem_strdup(good);
    j = done(f, lost);
    assert_int_equal(j->status, JOB_FAILED);
    assert_string_equal(j->failure, "build");
    assert_non_null(strstr(j->reason, "full pack"));
    job_free(j);
    store_close(x.s);
}

/* Large enough to be at it for a while. */
static void it_is_cancelled_and_has_a_deadline(void **state)
{
    struct fixture *f = fixture_of(state);
    struct pair x;
    AUTO_FREE char *spec = NULL, *short_spec = NULL;
    struct job *j;
    int64_t id;

    f->options.beat_ms = 50;
    pair_init(f, &x, 64 * MIB, 32 * MIB);
    spec = spec_of(&x, 600);
    short_spec = spec_of(&x, 1);
    start_worker(f);
    id = enqueue_delta(f, spec);
    job_free(await(f, id, JOB_RUNNING));
    assert_ok(queue_cancel(f->d, id, "nobody waits for it", &f->err), &f->err);
    j = await(f, id, JOB_NONE);
    assert_int_equal(j->status, JOB_CANCELLED);
    assert_string_equal(j->reason, "nobody waits for it");
    job_free(j);
    j = done(f, short_spec);
    assert_int_equal(j->status, JOB_FAILED);
    assert_string_equal(j->failure, "deadline");
    job_free(j);
    store_close(x.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_one),
        WITH_WORKER(it_makes_a_pack_and_says_what_was_packed),
        WITH_WORKER(one_of_no_use_is_dropped_with_the_reason),
        WITH_WORKER(specs_that_cannot_be_done),
        WITH_WORKER(it_is_cancelled_and_has_a_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
