#include "delta/related.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lib/check.h"
#include "lib/trees.h"

enum { MIB = 1 << 20 };

/* An artifact of files in memory. */
struct side {
    struct manifest m;
    struct entry entries[4];
    unsigned char *data[4];
    size_t fails; /* the entry that cannot be read, + 1 */
};

static int read_side(void *ctx, size_t entry, void *data, size_t len, uint64_t offset,
                     struct err *err)
{
    const struct side *s = ctx;

    if (s->fails == entry + 1)
        return err_set(err, ERR_IO, "no");
    assert_true(offset + len <= s->entries[entry].size);
    memcpy(data, s->data[entry] + offset, len);
    return 0;
}

static void add(struct side *s, unsigned seed, size_t mib)
{
    struct random r = { seed };
    size_t i = s->m.nentries++, n = mib * MIB;

    s->data[i] = mem_alloc(n + 8);
    for (size_t k = 0; k < n; k += 8) {
        uint64_t v = random_next(&r);

        memcpy(s->data[i] + k, &v, 8);
    }
    s->entries[i] = (struct entry){ .kind = ENTRY_FILE, .size = n };
    s->entries[i].hash = sha256_of(s->data[i], n);
    s->m.entries = s->entries;
    s->m.stream_bytes += n;
}

static void rehash(struct side *s, size_t i)
{
    s->entries[i].hash = sha256_of(s->data[i], s->entries[i].size);
}

static void side_release(struct side *s)
{
    for (size_t i = 0; i < s->m.nentries; i++)
        free(s->data[i]);
    *s = (struct side){ .fails = 0 };
}

static struct related find(struct side *base, struct side *target)
{
    struct delta_files a = { read_side, base }, b = { read_side, target };
    struct related r;
    struct err err = ERR_INIT;

    assert_ok(related_find(&base->m, &a, &target->m, &b, &r, &err), &err);
    return r;
}

static void random_content_is_unrelated(void **state)
{
    struct side base = { .fails = 0 }, target = { .fails = 0 };
    struct related r;

    (void)state;
    add(&base, 1, 12);
    add(&target, 2, 12);
    r = find(&base, &target);
    assert_int_equal(r.bytes, 12 * MIB);
    assert_true(r.features >= RELATED_FEATURES_MIN);
    assert_int_equal(r.found, 0);
    assert_true(related_is_hopeless(&r, &target.m));
    side_release(&base);
    side_release(&target);
}

static void an_eighth_moved_is_enough(void **state)
{
    struct side base = { .fails = 0 }, target = { .fails = 0 };
    struct related r;

    (void)state;
    add(&base, 1, 16);
    add(&target, 2, 16);
    memcpy(target.data[0] + 9 * MIB + 12345, base.data[0] + MIB, 2 * MIB);
    rehash(&target, 0);
    r = find(&base, &target);
    assert_true(r.found > 0);
    assert_false(related_is_hopeless(&r, &target.m));
    side_release(&base);
    side_release(&target);
}

static void what_is_unchanged_is_not_read(void **state)
{
    struct side base = { .fails = 0 }, target = { .fails = 0 };
    struct related r;

    (void)state;
    add(&base, 1, 12);
    add(&base, 2, 10);
    add(&target, 1, 12);
    add(&target, 3, 10);
    base.fails = target.fails = 1;
    r = find(&base, &target);
    assert_int_equal(r.bytes, 10 * MIB);
    assert_int_equal(r.found, 0);
    assert_false(related_is_hopeless(&r, &target.m)); /* half of it need not travel */
    side_release(&base);
    side_release(&target);
}

static void too_little_tells_nothing(void **state)
{
    struct side base = { .fails = 0 }, target = { .fails = 0 }, empty = { .fails = 0 };
    struct related r;

    (void)state;
    add(&base, 1, 2);
    add(&target, 2, 2);
    r = find(&base, &target);
    assert_true(r.features > 0 && r.features < RELATED_FEATURES_MIN);
    assert_false(related_is_hopeless(&r, &target.m));
    r = find(&empty, &target);
    assert_int_equal(r.found, 0);
    r = find(&base, &empty);
    assert_int_equal(r.features, 0);
    assert_false(related_is_hopeless(&r, &empty.m));
    side_release(&base);
    side_release(&target);
}

static void errors_of_reading(void **state)
{
    struct side base = { .fails = 1 }, target = { .fails = 0 };
    struct delta_files a = { read_side, &base }, b = { read_side, &target };
    struct related r;
    struct err err = ERR_INIT;

    (void)state;
    add(&base, 1, 1);
    add(&target, 2, 1);
    assert_error(related_find(&base.m, &a, &target.m, &b, &r, &err), ERR_IO, &err, "no");
    base.fails = 0;
    target.fails = 1;
    assert_error(related_find(&base.m, &a, &target.m, &b, &r, &err), ERR_IO, &err, "no");
    side_release(&base);
    side_release(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_content_is_unrelated),
        cmocka_unit_test(an_eighth_moved_is_enough),
        cmocka_unit_test(what_is_unchanged_is_not_read),
        cmocka_unit_test(too_little_tells_nothing),
        cmocka_unit_test(errors_of_reading),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
