#include "store/publish_delta.h"

#include <dirent.h>
#include <stdio.h>

#include "delta/encode.h"
#include "unit/store/stocked.h"

enum { MIB = 1 << 20 };

static void fill(unsigned char *data, size_t len, uint64_t seed)
{
    struct random r = { seed };

    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t v = random_next(&r);

        memcpy(data + i, &v, 8);
    }
}

/* A tree of one file; fresh bytes of a seed stand before those of seed 1. */
static struct published publish(struct stock *k, size_t bytes, size_t fresh, uint64_t seed)
{
    const char *dir = tmpdir_fresh();
    AUTO_FREE char *path = mem_printf("%s/app", dir);
    AUTO_FREE unsigned char *data = mem_alloc(bytes);

    fill(data, bytes, 1);
    fill(data, fresh, seed);
    tmpdir_write(path, data, bytes);
    return stock_publish(k, dir, 3);
}

static struct delta_side side_of(const struct published *p)
{
    return (struct delta_side){ p->artifact, p->pack };
}

static int make(struct stock *k, const struct published *base, const struct published *target,
                const struct delta_publish_options *o, struct published_delta *ret)
{
    struct delta_side from = side_of(base), to = side_of(target);

    return artifact_publish_delta(k->s, &from, &to, o, ret, &k->err);
}

static size_t files_in(const struct stock *k, const char *folder)
{
    AUTO_FREE char *path = mem_printf("%s/%s", k->root, folder);
    DIR *d = opendir(path);
    size_t n = 0;

    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    if (d != NULL)
        closedir(d);
    return n;
}

static size_t packs_of(struct stock *k)
{
    stock_look(k);
    assert_int_equal(k->c->nstrays, 0);
    assert_int_equal(files_in(k, "tmp"), 0);
    return k->c->npacks;
}

static void one_is_made_and_verified(void **state)
{
    struct stock k;
    struct published base, target;
    struct published_delta one, four;
    struct delta_publish_options threads = { .threads = 4, .level = DELTA_LEVEL };
    struct delta_side from;
    uint64_t bytes = 0;

    (void)state;
    stock_init(&k);
    base = publish(&k, 9 * MIB, 0, 0);
    target = publish(&k, 9 * MIB, MIB, 2);
    assert_ok(make(&k, &base, &target, NULL, &one), &k.err);
    assert_int_equal(one.dropped, DELTA_KEPT);
    assert_true(one.pack_bytes > MIB && one.pack_bytes < 2 * MIB);
    assert_int_equal(one.full_bytes, target.pack_bytes);
    assert_int_equal(packs_of(&k), 3);
    from = side_of(&base);
    assert_ok(artifact_verify_delta(k.s, &from, &target.artifact, &one.pack, &bytes, &k.err),
              &k.err);
    assert_int_equal(bytes, one.pack_bytes);
    /* Again, by more threads: the same pack. */
    assert_ok(make(&k, &base, &target, &threads, &four), &k.err);
    assert_true(hash_equal(&one.pack, &four.pack));
    assert_int_equal(packs_of(&k), 3);
    published_delta_release(&one);
    published_delta_release(&four);
    stock_release(&k);
}

/* Counts what is told of real work. */
static int note_work(void *ctx, uint64_t done, uint64_t total)
{
    (void)total;
    *(uint64_t *)ctx += done > 0;
    return 0;
}

static void what_is_worth_nothing_is_dropped(void **state)
{
    static const struct {
        size_t fresh;
        enum delta_dropped dropped;
    } cases[] = {
        { 4 * MIB, DELTA_KEPT },                /* 50 % */
        { 5 * MIB + MIB / 2, DELTA_TOO_LARGE }, /* 69 % */
        { 8 * MIB, DELTA_UNRELATED },           /* all of it */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stock k;
        struct published base, target;
        struct published_delta d;
        uint64_t work = 0;
        struct delta_publish_options o = { .progress = note_work, .ctx = &work };

        print_message("case %zu\n", i);
        stock_init(&k);
        base = publish(&k, 8 * MIB, 0, 0);
        target = publish(&k, 8 * MIB, cases[i].fresh, 2);
        assert_ok(make(&k, &base, &target, &o, &d), &k.err);
        assert_int_equal(d.dropped, cases[i].dropped);
        if (d.dropped == DELTA_UNRELATED)
            assert_int_equal(work, 0); /* not one segment was encoded */
        if (d.dropped != DELTA_KEPT) {
            assert_true(hash_is_zero(&d.pack));
            assert_int_equal(d.pack_bytes, 0);
        }
        assert_int_equal(packs_of(&k), d.dropped == DELTA_KEPT ? 3 : 2);
        published_delta_release(&d);
        stock_release(&k);
    }
}

static int stop_at(void *ctx, uint64_t done, uint64_t total)
{
    int *left = ctx;

    (void)done;
    (void)total;
    return --*left < 0 ? -1 : 0;
}

/* At each of the first calls, and between them. */
static void it_stops_when_told(void **state)
{
    struct stock k;
    struct published base, target;

    (void)state;
    stock_init(&k);
    base = publish(&k, 5 * MIB, 0, 0);
    target = publish(&k, 5 * MIB, MIB, 2);
    for (int at = 0; at < 20; at += 6) {
        struct published_delta d;
        int left = at;
        struct delta_publish_options o = { .progress = stop_at, .ctx = &left };

        assert_error(make(&k, &base, &target, &o, &d), ERR_CANCELLED, &k.err, "delta");
        assert_int_equal(packs_of(&k), 2);
    }
    stock_release(&k);
}

static void compressed_files_are_named(void **state)
{
    static const size_t sizes[] = { 70000, 200000, 69000, 300000, 90000, 1000000, 60000 };
    const char *dir = tmpdir_fresh(), *old = tmpdir_fresh();
    struct stock k;
    struct published base, target;
    struct published_delta d;

    (void)state;
    stock_init(&k);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        AUTO_FREE char *path = mem_printf("%s/%zu.gz", dir, i),
                       *was = mem_printf("%s/%zu.gz", old, i);
        AUTO_FREE unsigned char *data = mem_alloc(sizes[i]);

        fill(data, sizes[i], i + 10);
        data[0] = 0x1f;
        data[1] = 0x8b;
        data[2] = 8;
        tmpdir_write(path, data, sizes[i]);
        if (i != 5) /* the largest is unchanged, and in one only a byte is new */
            fill(data, i == 1 ? 8 : sizes[i], i + 20);
        memcpy(data, "\x1f\x8b\x08", 3);
        tmpdir_write(was, data, sizes[i]);
    }
    base = stock_publish(&k, old, 3);
    target = stock_publish(&k, dir, 3);
    assert_ok(make(&k, &base, &target, NULL, &d), &k.err);
    assert_int_equal(d.dropped, DELTA_KEPT);
    assert_int_equal(d.npacked, 4); /* the last one is too small to matter */
    assert_int_equal(d.packed_bytes, 70000 + 69000 + 300000 + 90000);
    assert_int_equal(d.nnamed, 4);
    assert_string_equal(d.packed[0].path, "3.gz");
    assert_int_equal(d.packed[0].bytes, 300000);
    assert_string_equal(d.packed[3].path, "2.gz");
    published_delta_release(&d);
    /* Of one that is dropped, whatever changed. */
    stock_lose(&k, OBJECT_PACK, &base.pack);
    base = publish(&k, 5 * MIB, 5 * MIB, 99);
    assert_ok(make(&k, &base, &target, NULL, &d), &k.err);
    assert_int_not_equal(d.dropped, DELTA_KEPT);
    assert_int_equal(d.npacked, 6);
    assert_int_equal(d.nnamed, PUBLISH_DELTA_NAMED);
    assert_string_equal(d.packed[0].path, "5.gz");
    published_delta_release(&d);
    stock_release(&k);
}

static void errors_of_making(void **state)
{
    struct stock k;
    struct published base, target;
    struct published_delta d;
    struct delta_publish_options o = { .level = 77 };

    (void)state;
    stock_init(&k);
    base = publish(&k, 5 * MIB, 0, 0);
    target = publish(&k, 5 * MIB, MIB, 2);
    assert_error(make(&k, &base, &target, &o, &d), ERR_INVALID, &k.err, "level 77");
    stock_spoil(&k, OBJECT_PACK, &target.pack);
    assert_error(make(&k, &base, &target, NULL, &d), ERR_CORRUPT, &k.err, "delta");
    stock_lose(&k, OBJECT_PACK, &target.pack);
    assert_error(make(&k, &base, &target, NULL, &d), ERR_NOT_FOUND, &k.err, "full pack");
    stock_lose(&k, OBJECT_MANIFEST, &base.artifact);
    assert_error(make(&k, &base, &target, NULL, &d), ERR_NOT_FOUND, &k.err, "manifest");
    assert_int_equal(files_in(&k, "tmp"), 0);
    stock_release(&k);
}

static void errors_of_verifying(void **state)
{
    struct stock k;
    struct published base, target, other;
    struct published_delta d;
    struct delta_side from, wrong;
    uint64_t bytes = 0;

    (void)state;
    stock_init(&k);
    base = publish(&k, 5 * MIB, 0, 0);
    target = publish(&k, 5 * MIB, MIB, 2);
    other = publish(&k, 5 * MIB, MIB, 3);
    assert_ok(make(&k, &base, &target, NULL, &d), &k.err);
    published_delta_release(&d);
    from = side_of(&base);
    wrong = side_of(&other);
    assert_error(artifact_verify_delta(k.s, &wrong, &target.artifact, &d.pack, &bytes, &k.err),
                 ERR_INVALID, &k.err, "not the delta between");
    assert_error(artifact_verify_delta(k.s, &from, &other.artifact, &d.pack, &bytes, &k.err),
                 ERR_INVALID, &k.err, "not the delta between");
    assert_error(artifact_verify_delta(k.s, &from, &target.artifact, &target.pack, &bytes, &k.err),
                 ERR_INVALID, &k.err, "not the delta between");
    stock_spoil(&k, OBJECT_PACK, &d.pack);
    assert_error(artifact_verify_delta(k.s, &from, &target.artifact, &d.pack, &bytes, &k.err),
                 ERR_CORRUPT, &k.err, "leaf");
    stock_lose(&k, OBJECT_PACK, &d.pack);
    assert_error(artifact_verify_delta(k.s, &from, &target.artifact, &d.pack, &bytes, &k.err),
                 ERR_NOT_FOUND, &k.err, "pack");
    stock_lose(&k, OBJECT_INDEX, &d.pack);
    assert_error(artifact_verify_delta(k.s, &from, &target.artifact, &d.pack, &bytes, &k.err),
                 ERR_NOT_FOUND, &k.err, "index");
    stock_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_is_made_and_verified),
        cmocka_unit_test(what_is_worth_nothing_is_dropped),
        cmocka_unit_test(it_stops_when_told),
        cmocka_unit_test(compressed_files_are_named),
        cmocka_unit_test(errors_of_making),
        cmocka_unit_test(errors_of_verifying),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
