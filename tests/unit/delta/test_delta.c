#include <stdlib.h>

#include "base/mem.h"
#include "lib/artifacts.h"
#include "lib/check.h"
#include "store/crew.h"

/* Changes bytes as versions of files change: pieces are moved, doubled, interleaved, cut, replaced. */
static void edit(struct buf *out, const unsigned char *old, size_t len, struct random *r)
{
    size_t edits = 1 + (size_t)random_below(r, 12);
    unsigned char noise[512];

    for (size_t i = 0; i < edits; i++) {
        size_t from = len == 0 ? 0 : (size_t)random_below(r, len);
        size_t n = len == 0 ? 0 : (size_t)random_below(r, len - from + 1);

        switch (random_below(r, 6)) {
        case 0: /* what was there, in place */
            from = out->len < len ? out->len : from;
            n = n < len - from ? n : len - from;
            break;
        case 1: /* a copy with single bytes changed */
            buf_append(out, old + from, n);
            for (size_t k = 0; k < n; k += 1 + (size_t)random_below(r, 200))
                out->data[out->len - 1 - k] ^= (char)(1 + random_below(r, 255));
            continue;
        case 2: /* interleaved with something new */
            for (size_t k = 0; k + 64 <= n; k += 64) {
                buf_append(out, old + from + k, 64);
                random_fill(r, noise, 7);
                buf_append(out, noise, 7);
            }
            continue;
        case 3: /* new */
            random_fill(r, noise, sizeof(noise));
            buf_append(out, noise, (size_t)random_below(r, sizeof(noise)));
            continue;
        default: /* moved, or doubled */
            break;
        }
        if (n > 0 && out->len < 4 * len + 1000)
            buf_append(out, old + from, n);
    }
}

static void random_pair(struct artifact *base, struct artifact *target, struct random *r,
                        size_t files, size_t most)
{
    artifact_init(base);
    artifact_init(target);
    for (size_t i = 0; i < files; i++) {
        AUTO_FREE char *path = mem_printf("f%02zu", i);
        size_t len = (size_t)random_below(r, most);
        unsigned char *old = mem_alloc(len + 1);
        AUTO_BUF changed = BUF_INIT;

        random_fill(r, old, len);
        if (random_below(r, 8) > 0)
            artifact_add(base, path, old, len);
        if (random_below(r, 3) > 0)
            edit(&changed, old, len, r);
        else
            buf_append(&changed, old, len);
        if (random_below(r, 8) > 0)
            artifact_add(target, path, buf_str(&changed), changed.len);
        free(old);
    }
    artifact_seal(base);
    artifact_seal(target);
}

/* DELTA_ROUND_TRIPS=N for more of them. */
static void test_round_trips(void **state)
{
    const char *wanted = getenv("DELTA_ROUND_TRIPS");
    int count = wanted == NULL ? 600 : atoi(wanted);
    struct random r = { 20251 };

    (void)state;
    for (int n = 0; n < count; n++) {
        struct artifact base, target;
        struct delta_stats stats;
        struct err err = ERR_INIT;
        AUTO_BUF pack = BUF_INIT;
        static const int levels[] = { 1, 3, 6, 9, 19 };

        random_pair(&base, &target, &r, 1 + (size_t)n % 7, n % 50 == 0 ? 700000 : 6000);
        assert_ok(artifact_delta(&base, &target, levels[n % 5], NULL, &pack, &stats, &err), &err);
        assert_ok(artifact_check(&base, &target, &pack, &err), &err);
        artifact_release(&base);
        artifact_release(&target);
    }
}

/* 5 MiB of everything: code and data, unchanged, changed, new, some of it across segments. */
static void mixed_pair(struct artifact *base, struct artifact *target, bool fixed)
{
    AUTO_BUF old_code = BUF_INIT;
    AUTO_BUF new_code = BUF_INIT;
    struct random r = { 7 };
    size_t len = 3000000;
    unsigned char *data = mem_alloc(len);

    random_fill(&r, data, len);
    elf_program(&old_code, 5, 12000, 0, fixed);
    elf_program(&new_code, 5, 12000, 48, fixed);
    artifact_init(base);
    artifact_init(target);
    artifact_add(base, "code", old_code.data, old_code.len);
    artifact_add(base, "data", data, len);
    artifact_add(base, "same", data, 90000);
    artifact_add(target, "code", new_code.data, new_code.len);
    for (size_t i = 1000; i < len; i += 40000)
        data[i] ^= 1;
    artifact_add(target, "data", data + 777, len - 777);
    artifact_add(target, "new", data, 5000);
    data[1000] ^= 1;
    artifact_add(target, "same", data, 1000);
    artifact_seal(base);
    artifact_seal(target);
    free(data);
}

static void test_code_is_predicted(void **state)
{
    (void)state;
    for (int fixed = 0; fixed < 2; fixed++) {
        struct artifact base, target;
        struct delta_stats stats;
        struct err err = ERR_INIT;
        AUTO_BUF pack = BUF_INIT;

        mixed_pair(&base, &target, fixed == 1);
        assert_ok(artifact_delta(&base, &target, 9, NULL, &pack, &stats, &err), &err);
        assert_ok(artifact_check(&base, &target, &pack, &err), &err);
        assert_int_equal(stats.predicted_groups, 1);
        /* 12,000 functions with 6 addresses each: all of them moved, next to none is told. */
        assert_true(stats.stream_bytes[STREAM_RESIDUAL] < 1500);
        assert_true(pack.len < 40000);
        artifact_release(&base);
        artifact_release(&target);
    }
}

static void test_threads_do_not_matter(void **state)
{
    struct delta_pool pool = { 8, crew_each, &pool };
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    AUTO_BUF one = BUF_INIT;
    AUTO_BUF eight = BUF_INIT;

    (void)state;
    mixed_pair(&base, &target, false);
    assert_ok(artifact_delta(&base, &target, 6, NULL, &one, &stats, &err), &err);
    assert_ok(artifact_delta(&base, &target, 6, &pool, &eight, &stats, &err), &err);
    assert_int_equal(one.len, eight.len);
    assert_memory_equal(one.data, eight.data, one.len);
    artifact_release(&base);
    artifact_release(&target);
}

static void test_flipped_bits(void **state)
{
    struct random r = { 31 };
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    AUTO_BUF pack = BUF_INIT;

    (void)state;
    random_pair(&base, &target, &r, 3, 3000);
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    for (size_t bit = 0; bit < pack.len * 8; bit += 1 + bit % 3) {
        pack.data[bit / 8] ^= (char)(1 << bit % 8);
        /* Aborts if wrong bytes come out; a bit that carries nothing may go unnoticed. */
        if (artifact_check(&base, &target, &pack, &err) == 0)
            assert_true(bit >= DELTA_HEAD_BYTES * 8);
        pack.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_ok(artifact_check(&base, &target, &pack, &err), &err);
    base.broken = true;
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_CORRUPT, &err, "segment 0");
    artifact_release(&base);
    artifact_release(&target);
}

static void test_truncation(void **state)
{
    struct random r = { 33 };
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    AUTO_BUF pack = BUF_INIT;

    (void)state;
    random_pair(&base, &target, &r, 3, 3000);
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    for (size_t len = 0; len < pack.len; len++) {
        struct buf shorter = { pack.data, len, len };

        assert_true(artifact_check(&base, &target, &shorter, &err) < 0);
    }
    artifact_release(&base);
    artifact_release(&target);
}

static void test_refusals(void **state)
{
    struct random r = { 35 };
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    AUTO_BUF pack = BUF_INIT;

    (void)state;
    random_pair(&base, &target, &r, 3, 3000);
    assert_error(artifact_delta(&base, &target, 20, NULL, &pack, &stats, &err), ERR_INVALID, &err,
                 "level 20 is not in 1..19");
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    pack.data[0] = 'x';
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_INVALID, &err, "SLP1");
    pack.data[0] = 'S';
    pack.data[4] = PACK_FULL;
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_INVALID, &err, "kind 1");
    pack.data[4] = PACK_DELTA;
    pack.data[5] ^= 1;
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_INVALID, &err, "another base");
    pack.data[5] ^= 1;
    pack.data[5 + HASH_BYTES] ^= 1;
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_INVALID, &err,
                 "of another artifact");
    pack.data[5 + HASH_BYTES] ^= 1;
    pack.data[5 + 2 * HASH_BYTES] ^= 1;
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_INVALID, &err, "segments");
    pack.data[5 + 2 * HASH_BYTES] ^= 1;
    pack.data[5 + 2 * HASH_BYTES + 11] = 1;
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_LIMIT, &err, "a table of");
    pack.data[5 + 2 * HASH_BYTES + 11] = 0;
    artifact_release(&base);
    artifact_release(&target);
}

/* A target that is no more what its manifest says: the pack does not pass its test. */
static void test_a_changed_target(void **state)
{
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    AUTO_BUF pack = BUF_INIT;

    (void)state;
    artifact_init(&base);
    artifact_init(&target);
    artifact_add(&base, "a", "as it was in the base", 21);
    artifact_add(&target, "a", "as it is now, changed", 21);
    artifact_seal(&base);
    artifact_seal(&target);
    target.content.data[8] ^= 1;
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    assert_error(artifact_check(&base, &target, &pack, &err), ERR_CORRUPT, &err, "digest");
    artifact_release(&base);
    artifact_release(&target);
}

static void test_unchanged(void **state)
{
    struct random r = { 41 };
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    size_t len = 9000000;
    unsigned char *data = mem_alloc(len);
    AUTO_BUF pack = BUF_INIT;

    (void)state;
    random_fill(&r, data, len);
    artifact_init(&base);
    artifact_init(&target);
    artifact_add(&base, "a", data, len);
    artifact_add(&base, "b", data, 100);
    artifact_add(&target, "moved", data, 100);
    artifact_add(&target, "renamed", data, len);
    artifact_seal(&base);
    artifact_seal(&target);
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    assert_int_equal(stats.segments[SEGMENT_COPY], 3);
    assert_true(pack.len < 200);
    assert_ok(artifact_check(&base, &target, &pack, &err), &err);
    artifact_release(&base);
    artifact_release(&target);
    artifact_init(&target); /* nothing at all */
    artifact_seal(&target);
    artifact_init(&base);
    artifact_seal(&base);
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    assert_ok(artifact_check(&base, &target, &pack, &err), &err);
    artifact_release(&base);
    artifact_release(&target);
    free(data);
}

/* A large file in which things were put in, taken out and changed: what is told anew is what is new,
 * also where it moved before the first segment of a part, and farther than samples look. */
static void test_what_moved_is_followed(void **state)
{
    enum { LEN = 68 << 20, FRONT = 300000, LATER = 5000, GONE = 100, CHANGED = 200000 };
    struct random r = { 77 };
    unsigned char *data = mem_alloc(LEN);
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    AUTO_BUF pack = BUF_INIT;
    AUTO_BUF changed = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < LEN; i += 8) {
        uint64_t x = random_next(&r);

        memcpy(data + i, &x, 8);
    }
    buf_reserve(&changed, LEN + FRONT + LATER);
    for (size_t i = 0; i < FRONT + LATER; i++)
        buf_char(&changed, (char)random_next(&r));
    changed.len = FRONT;
    buf_append(&changed, data, 30 << 20);
    for (size_t i = 0; i < LATER; i++)
        buf_char(&changed, (char)random_next(&r));
    buf_append(&changed, data + (30 << 20) + GONE, LEN - (30 << 20) - GONE);
    for (size_t i = 0; i < CHANGED; i++)
        changed.data[(50 << 20) + i] = (char)random_next(&r);
    artifact_init(&base);
    artifact_init(&target);
    artifact_add(&base, "data", data, LEN);
    artifact_add(&target, "data", changed.data, changed.len);
    artifact_seal(&base);
    artifact_seal(&target);
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    assert_ok(artifact_check(&base, &target, &pack, &err), &err);
    assert_int_equal(stats.groups, 2);
    assert_true(stats.covers < 20);
    assert_true(pack.len > FRONT + LATER + CHANGED);
    assert_true(pack.len < FRONT + LATER + CHANGED + CHANGED / 10);
    artifact_release(&base);
    artifact_release(&target);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_code_is_predicted),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_a_changed_target),
        cmocka_unit_test(test_unchanged),
        cmocka_unit_test(test_what_moved_is_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
