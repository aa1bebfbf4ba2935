#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/crew.h"
#include "store/tree_pair.h"

/* The manifest's bytes of a tree that is read by itself. */
static void alone(const char *path, struct buf *out)
{
    struct err err = ERR_INIT;
    struct tree *t = NULL;

    assert_ok(tree_open(&t, path, &err), &err);
    assert_ok(tree_read(t, NULL, NULL, &err), &err);
    manifest_encode(out, tree_manifest(t));
    tree_close(t);
}

static void same_manifest(const struct tree *t, const char *path)
{
    AUTO_BUF seen = BUF_INIT;
    AUTO_BUF expected = BUF_INIT;

    manifest_encode(&seen, tree_manifest(t));
    alone(path, &expected);
    assert_int_equal(seen.len, expected.len);
    assert_memory_equal(seen.data, expected.data, expected.len);
}

/* Read together, both are what they are when they are read alone. */
static void check_pair(const char *base, const char *target, unsigned workers)
{
    struct delta_pool pool = { workers, crew_each, &pool };
    struct err err = ERR_INIT;
    struct tree *b = NULL, *t = NULL;

    assert_ok(tree_open(&b, base, &err), &err);
    assert_ok(tree_open(&t, target, &err), &err);
    assert_ok(tree_read_pair(b, t, &pool, &err), &err);
    same_manifest(b, base);
    same_manifest(t, target);
    tree_close(b);
    tree_close(t);
}

static void check_both_ways(const char *base, const char *target)
{
    check_pair(base, target, 1);
    check_pair(target, base, 2);
}

static void copy_tree(const char *from, const char *to, size_t skip_every)
{
    struct err err = ERR_INIT;
    struct tree *t = NULL;

    assert_ok(tree_open(&t, from, &err), &err);
    for (size_t i = 0; i < tree_manifest(t)->nentries; i++) {
        const struct entry *e = &tree_manifest(t)->entries[i];
        AUTO_FREE char *a = mem_printf("%s/%s", from, e->path);
        AUTO_FREE char *b = mem_printf("%s/%s", to, e->path);
        size_t len;

        if (e->kind == ENTRY_DIR) {
            assert_ok(dir_make(b, 0755, &err), &err);
        } else if (e->kind == ENTRY_FILE) {
            AUTO_FREE char *data = tmpdir_read(a, &len);

            if (skip_every != 0 && i % skip_every == 0)
                continue; /* everything behind it lies elsewhere */
            if (skip_every != 0 && i % skip_every == 1 && len > 0)
                data[len / 2] ^= 1;
            tmpdir_write(b, data, len);
        }
    }
    tree_close(t);
}

static void test_random_trees(void **state)
{
    struct random r = { 7 };

    (void)state;
    for (int round = 0; round < 6; round++) {
        const char *a = tmpdir_fresh(), *b = tmpdir_fresh(), *c = tmpdir_fresh();

        tree_random(a, &r, 40, true);
        copy_tree(a, b, 0);
        copy_tree(a, c, 5 + (size_t)round * 3);
        check_both_ways(a, b);
        check_both_ways(a, c);
        tmpdir_remove(a);
        tmpdir_remove(b);
        tmpdir_remove(c);
    }
}

/* Files of odd lengths around the ends of segments and of what is read at a time. */
static void test_ends(void **state)
{
    static const size_t lengths[] = { 1,       (256 << 10) - 1, 256 << 10,        SEGMENT_BYTES - 7,
                                      5 << 20, SEGMENT_BYTES,   SEGMENT_BYTES + 1 };
    const char *a = tmpdir_fresh(), *b = tmpdir_fresh();
    struct random r = { 9 };
    unsigned char *data = mem_alloc(5 << 20);

    (void)state;
    random_fill(&r, data, 5 << 20);
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        AUTO_FREE char *x = mem_printf("%s/%zu", a, i);
        AUTO_FREE char *y = mem_printf("%s/%zu", b, i);

        tmpdir_write(x, data, lengths[i]);
        data[lengths[i] - 1] ^= i == 3; /* one of them differs in its last byte */
        tmpdir_write(y, data, lengths[i]);
    }
    check_both_ways(a, b);
    free(data);
}

static void test_two_files(void **state)
{
    const char *a = tmpdir_path("old-name"), *b = tmpdir_path("new-name");
    struct random r = { 3 };
    size_t len = (9 << 20) + 5;
    unsigned char *data = mem_alloc(len);

    (void)state;
    random_fill(&r, data, len);
    tmpdir_write(a, data, len);
    tmpdir_write(b, data, len);
    check_both_ways(a, b);
    data[len - 1] ^= 1;
    tmpdir_write(b, data, len);
    check_both_ways(a, b);
    tmpdir_write(b, data, len - 3);
    check_both_ways(a, b);
    tmpdir_write(b, data, 0);
    check_both_ways(a, b);
    free(data);
}

/* A tree of hard links, and one more file: each of the links is what it is linked to. */
static void test_links(void **state)
{
    const char *a = tmpdir_fresh(), *b = tmpdir_fresh();
    struct random r = { 5 };
    struct err err = ERR_INIT;
    struct tree *t = NULL;

    (void)state;
    tree_random(a, &r, 30, true);
    assert_ok(tree_open(&t, a, &err), &err);
    for (size_t i = 0; i < tree_manifest(t)->nentries; i++) {
        const struct entry *e = &tree_manifest(t)->entries[i];
        AUTO_FREE char *from = mem_printf("%s/%s", a, e->path);
        AUTO_FREE char *to = mem_printf("%s/%s", b, e->path);

        if (e->kind == ENTRY_DIR)
            assert_ok(dir_make(to, 0755, &err), &err);
        else if (e->kind == ENTRY_FILE)
            assert_int_equal(link(from, to), 0);
    }
    tree_close(t);
    AUTO_FREE char *more = mem_printf("%s/zz-more", b);
    tmpdir_write(more, "only here", 9);
    check_both_ways(a, b);
}

/* What becomes longer or shorter after the walk is told, whichever side it is. */
static void test_changes(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    for (int side = 0; side < 2; side++) {
        for (int longer = 0; longer < 2; longer++) {
            const char *path[2] = { tmpdir_path("base%d", longer),
                                    tmpdir_path("target%d", longer) };
            struct tree *t[2] = { NULL, NULL };

            for (int i = 0; i < 2; i++) {
                tmpdir_write(path[i], "sixteen bytes ..", 16);
                assert_ok(tree_open(&t[i], path[i], &err), &err);
            }
            assert_int_equal(truncate(path[side], longer ? 17 : 15), 0);
            assert_error(tree_read_pair(t[0], t[1], NULL, &err), ERR_CONFLICT, &err,
                         side == 0 ? "base" : "target");
            tree_close(t[0]);
            tree_close(t[1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_trees), cmocka_unit_test(test_ends),
        cmocka_unit_test(test_two_files),    cmocka_unit_test(test_links),
        cmocka_unit_test(test_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
