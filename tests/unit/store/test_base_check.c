#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/base_check.h"
#include "store/crew.h"
#include "store/tree.h"

enum { FILES = 40 };

/* Files of many lengths; one is as long as many others together, some are empty. */
static struct tree *many(const char *dir)
{
    struct random r = { 3 };
    size_t most = 3 << 20;
    unsigned char *data = mem_alloc(most);
    struct tree *t = NULL;
    struct err err = ERR_INIT;

    random_fill(&r, data, most);
    for (size_t i = 0; i < FILES; i++) {
        size_t len = i == 7 ? most : i % 5 == 0 ? 0 : i * i * 700 + 1;
        AUTO_FREE char *path = mem_printf("%s/d%zu/f%zu", dir, i % 3, i);

        tmpdir_write(path, data, len);
    }
    free(data);
    assert_ok(tree_open(&t, dir, &err), &err);
    assert_ok(tree_read(t, NULL, NULL, &err), &err);
    return t;
}

static int count(void *ctx, uint64_t bytes)
{
    *(uint64_t *)ctx += bytes;
    return 0;
}

struct crew_of_checkers {
    struct base_check *check;
    int status[4];
    struct err err[4];
};

static void hash_job(void *arg, size_t i, unsigned worker)
{
    struct crew_of_checkers *c = arg;
    uint64_t bytes = 0;

    (void)worker;
    c->status[i] = base_check_hash(c->check, count, &bytes, &c->err[i]);
}

/* 0 if none of four threads has found anything; else *err is one's. */
static int check_with(const char *dir, const struct manifest *m, unsigned threads, struct err *err)
{
    struct delta_pool pool = { threads, crew_each, &pool };
    struct crew_of_checkers c = { .check = NULL };
    int r = base_check_open(&c.check, dir, m, err);

    if (r < 0)
        return r;
    delta_each(&pool, threads, hash_job, &c);
    for (unsigned i = 0; i < threads && r == 0; i++) {
        if (c.status[i] < 0)
            r = err_set(err, c.err[i].code, "%s", c.err[i].text);
    }
    assert_int_equal(base_check_is_stopped(c.check), r < 0);
    base_check_close(c.check);
    return r;
}

static void test_a_good_base(void **state)
{
    const char *dir = tmpdir_fresh();
    struct tree *t = many(dir);
    struct err err = ERR_INIT;

    (void)state;
    for (unsigned threads = 1; threads <= 4; threads++)
        assert_ok(check_with(dir, tree_manifest(t), threads, &err), &err);
    tree_close(t);
}

/* A bit of any file, wherever it lies. */
static void test_a_flipped_bit(void **state)
{
    const char *dir = tmpdir_fresh();
    struct tree *t = many(dir);
    const struct manifest *m = tree_manifest(t);
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];
        size_t len;

        if (e->kind != ENTRY_FILE || e->size == 0)
            continue;
        AUTO_FREE char *path = mem_printf("%s/%s", dir, e->path);
        AUTO_FREE char *data = tmpdir_read(path, &len);
        size_t at = i * 7919 % len;

        data[at] = (char)(data[at] ^ 4);
        tmpdir_write(path, data, len);
        assert_error(check_with(dir, m, 1 + (unsigned)(i % 4), &err), ERR_INVALID, &err, e->path);
        data[at] = (char)(data[at] ^ 4);
        tmpdir_write(path, data, len);
    }
    assert_ok(check_with(dir, m, 2, &err), &err);
    tree_close(t);
}

static void test_what_is_not_there(void **state)
{
    const char *dir = tmpdir_fresh();
    struct tree *t = many(dir);
    const struct manifest *m = tree_manifest(t);
    AUTO_FREE char *file = mem_printf("%s/d1/f1", dir);
    AUTO_FREE char *folder = mem_printf("%s/d1", dir);
    AUTO_FREE char *elsewhere = mem_printf("%s/d9", dir);
    struct base_check *c = NULL;
    struct err err = ERR_INIT;

    (void)state;
    tmpdir_write(file, "longer", 6);
    assert_error(base_check_open(&c, dir, m, &err), ERR_INVALID, &err,
                 "d1/f1: has 6 bytes, not 701");
    assert_int_equal(unlink(file), 0);
    assert_error(base_check_open(&c, dir, m, &err), ERR_INVALID, &err, "d1/f1: is not there");
    assert_int_equal(mkfifo(file, 0600), 0);
    assert_error(base_check_open(&c, dir, m, &err), ERR_INVALID, &err, "d1/f1: is no file");
    /* Through a link, even to the right files, nothing is found. */
    assert_int_equal(rename(folder, elsewhere), 0);
    assert_int_equal(symlink("d9", folder), 0);
    assert_error(base_check_open(&c, dir, m, &err), ERR_INVALID, &err, "is not there");
    assert_error(base_check_open(&c, tmpdir_path("nowhere"), m, &err), ERR_NOT_FOUND, &err,
                 "nowhere");
    tree_close(t);
}

/* It changes between being looked at and being read. */
static void test_it_changes(void **state)
{
    const char *dir = tmpdir_fresh();
    struct tree *t = many(dir);
    AUTO_FREE char *file = mem_printf("%s/d1/f7", dir);
    struct err err = ERR_INIT;

    (void)state;
    for (int longer = 0; longer < 2; longer++) {
        struct base_check *c = NULL;
        uint64_t bytes = 0;
        size_t len;
        AUTO_FREE char *data = tmpdir_read(file, &len);

        assert_ok(base_check_open(&c, dir, tree_manifest(t), &err), &err);
        assert_int_equal(truncate(file, (off_t)len + (longer ? 1 : -1)), 0);
        assert_error(base_check_hash(c, count, &bytes, &err), ERR_INVALID, &err, "d1/f7");
        base_check_close(c);
        tmpdir_write(file, data, len);
    }
    tree_close(t);
}

/* Whoever linked it meanwhile has another file than the one that is hashed. */
static void test_it_is_replaced_by_its_equal(void **state)
{
    const char *dir = tmpdir_fresh();
    struct tree *t = many(dir);
    AUTO_FREE char *file = mem_printf("%s/d1/f7", dir);
    AUTO_FREE char *other = mem_printf("%s/other", dir);
    struct base_check *c = NULL;
    uint64_t bytes = 0;
    struct err err = ERR_INIT;
    size_t len;
    AUTO_FREE char *data = tmpdir_read(file, &len);

    (void)state;
    assert_ok(base_check_open(&c, dir, tree_manifest(t), &err), &err);
    tmpdir_write(other, data, len);
    assert_int_equal(rename(other, file), 0);
    assert_error(base_check_hash(c, count, &bytes, &err), ERR_INVALID, &err, "d1/f7");
    base_check_close(c);
    tree_close(t);
}

static int stop_at_once(void *ctx, uint64_t bytes)
{
    (void)ctx;
    (void)bytes;
    return -1;
}

static void test_it_is_stopped(void **state)
{
    const char *dir = tmpdir_fresh();
    struct tree *t;
    struct base_check *c = NULL;
    struct err err = ERR_INIT;
    AUTO_FREE char *hole = mem_printf("%s/hole", dir);
    int fd;

    (void)state;
    tmpdir_write(hole, "", 0);
    fd = open(hole, O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 100 << 20), 0);
    close(fd);
    t = many(dir);
    assert_ok(base_check_open(&c, dir, tree_manifest(t), &err), &err);
    assert_error(base_check_hash(c, stop_at_once, NULL, &err), ERR_CANCELLED, &err, "stopped");
    assert_true(base_check_is_stopped(c));
    assert_ok(base_check_hash(c, stop_at_once, NULL, &err),
              &err); /* at once, as nothing is wanted */
    base_check_close(c);
    tree_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_base),
        cmocka_unit_test(test_a_flipped_bit),
        cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_it_changes),
        cmocka_unit_test(test_it_is_replaced_by_its_equal),
        cmocka_unit_test(test_it_is_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
