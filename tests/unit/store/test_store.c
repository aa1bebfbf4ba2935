#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "store/store.h"

struct opened {
    const char *root;
    struct store *s;
};

static struct opened fresh(void)
{
    struct opened o = { tmpdir_fresh(), NULL };
    struct err err = ERR_INIT;

    assert_ok(store_open(&o.s, o.root, &err), &err);
    return o;
}

static char *path_of(const struct opened *o, enum object_kind kind, const struct hash *name)
{
    char hex[HASH_HEX];

    hash_hex(name, hex);
    return mem_printf("%s/%s/%.2s/%s", o->root, object_kind_name(kind), hex, hex + 2);
}

static bool has(const struct opened *o, enum object_kind kind, const struct hash *name)
{
    struct err err = ERR_INIT;
    bool there = false;

    assert_ok(store_has(o->s, kind, name, &there, &err), &err);
    return there;
}

static void test_put_and_get(void **state)
{
    struct opened o = fresh();
    struct err err = ERR_INIT;
    AUTO_BUF out = BUF_INIT;
    struct hash name, other = { { 1 } };
    struct stat before, after;
    char *path;

    (void)state;
    err.os_errno = EACCES; /* of an earlier failure: no part of this call */
    assert_ok(store_put(o.s, OBJECT_MANIFEST, "hello", 5, &name, &err), &err);
    path = path_of(&o, OBJECT_MANIFEST, &name);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_mode & 0777, 0444);
    assert_ok(store_put(o.s, OBJECT_MANIFEST, "hello", 5, NULL, &err), &err);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* put-if-absent */
    buf_str_append(&out, "> ");
    assert_ok(store_get(o.s, OBJECT_MANIFEST, &name, &out, &err), &err);
    assert_string_equal(out.data, "> hello");
    assert_true(has(&o, OBJECT_MANIFEST, &name));
    assert_false(has(&o, OBJECT_INDEX, &name));
    assert_error(store_get(o.s, OBJECT_INDEX, &name, &out, &err), ERR_NOT_FOUND, &err,
                 "open index");
    assert_error(store_get(o.s, OBJECT_MANIFEST, &other, &out, &err), ERR_NOT_FOUND, &err,
                 "manifest/01/");
    assert_string_equal(out.data, "> hello");
    assert_error(store_put(o.s, OBJECT_PACK, "x", 1, NULL, &err), ERR_INTERNAL, &err,
                 "not named by its bytes");
    assert_ok(store_delete(o.s, OBJECT_MANIFEST, &name, &err), &err);
    assert_ok(store_delete(o.s, OBJECT_MANIFEST, &name, &err), &err);
    assert_false(has(&o, OBJECT_MANIFEST, &name));
    free(path);
    store_close(o.s);
    store_close(NULL);
}

static void test_an_empty_object(void **state)
{
    struct opened o = fresh();
    struct err err = ERR_INIT;
    AUTO_BUF out = BUF_INIT;
    struct hash name;

    (void)state;
    assert_ok(store_put(o.s, OBJECT_INDEX, "", 0, &name, &err), &err);
    assert_ok(store_get(o.s, OBJECT_INDEX, &name, &out, &err), &err);
    assert_int_equal(out.len, 0);
    store_close(o.s);
}

static void test_a_corrupt_object_is_moved_aside(void **state)
{
    struct opened o = fresh();
    struct err err = ERR_INIT;
    AUTO_BUF out = BUF_INIT;
    char hex[HASH_HEX], *path, *aside, *bytes;
    struct hash name;

    (void)state;
    assert_ok(store_put(o.s, OBJECT_INDEX, "hello", 5, &name, &err), &err);
    path = path_of(&o, OBJECT_INDEX, &name);
    chmod(path, 0644);
    tmpdir_write(path, "hellO", 5);
    assert_error(store_get(o.s, OBJECT_INDEX, &name, &out, &err), ERR_CORRUPT, &err, "moved aside");
    assert_int_equal(out.len, 0);
    assert_false(has(&o, OBJECT_INDEX, &name));
    aside = mem_printf("%s/corrupt/index-%s", o.root, hash_hex(&name, hex));
    bytes = tmpdir_read(aside, NULL);
    assert_string_equal(bytes, "hellO");
    assert_ok(store_put(o.s, OBJECT_INDEX, "hello", 5, NULL, &err), &err);
    assert_ok(store_get(o.s, OBJECT_INDEX, &name, &out, &err), &err);
    free(bytes);
    free(aside);
    free(path);
    store_close(o.s);
}

static void test_files(void **state)
{
    struct opened o = fresh();
    struct err err = ERR_INIT;
    struct hash name = sha256_of("a pack", 6);
    struct store_object *object = NULL;
    char *path = NULL, *bytes = mem_alloc(10);
    int fd = -1;

    (void)state;
    assert_ok(store_temp(o.s, &path, &fd, &err), &err);
    assert_int_equal(write(fd, "0123456789", 10), 10);
    close(fd);
    assert_ok(store_put_file(o.s, OBJECT_PACK, &name, path, &err), &err);
    assert_false(path_exists(path));
    assert_ok(store_open_object(o.s, OBJECT_PACK, &name, &object, &err), &err);
    assert_int_equal(store_object_bytes(object), 10);
    assert_ok(store_object_read(object, bytes, 4, 6, &err), &err);
    assert_memory_equal(bytes, "6789", 4);
    assert_error(store_object_read(object, bytes, 5, 6, &err), ERR_CORRUPT, &err, "ends before");
    assert_error(store_object_read(object, bytes, 1, UINT64_MAX, &err), ERR_CORRUPT, &err, "ends");
    store_object_close(object);
    store_object_close(NULL);
    /* once more: the second file is not needed and goes */
    free(path);
    assert_ok(store_temp(o.s, &path, &fd, &err), &err);
    close(fd);
    assert_ok(store_put_file(o.s, OBJECT_PACK, &name, path, &err), &err);
    assert_false(path_exists(path));
    assert_ok(store_quarantine(o.s, OBJECT_PACK, &name, &err), &err);
    assert_false(has(&o, OBJECT_PACK, &name));
    assert_error(store_put_file(o.s, OBJECT_PACK, &name, "/no/such", &err), ERR_NOT_FOUND, &err,
                 "put pack");
    free(path);
    free(bytes);
    store_close(o.s);
}

static void test_a_file_from_another_file_system(void **state)
{
    char path[] = "/dev/shm/slipway-test-XXXXXX";
    struct opened o = fresh();
    struct err err = ERR_INIT;
    struct hash name = sha256_of("a pack", 6);
    struct stat a, b;
    char *put, *bytes;
    int fd = mkstemp(path);

    (void)state;
    if (fd < 0)
        skip();
    assert_int_equal(write(fd, "elsewhere", 9), 9);
    close(fd);
    assert_int_equal(stat(path, &a) | stat(o.root, &b), 0);
    if (a.st_dev == b.st_dev) {
        unlink(path);
        skip();
    }
    assert_ok(store_put_file(o.s, OBJECT_PACK, &name, path, &err), &err);
    assert_false(path_exists(path));
    put = path_of(&o, OBJECT_PACK, &name);
    bytes = tmpdir_read(put, NULL);
    assert_string_equal(bytes, "elsewhere");
    free(bytes);
    free(put);
    store_close(o.s);
}

static int count(void *ctx, const struct hash *name, uint64_t bytes)
{
    size_t *n = ctx;

    (void)name;
    *n += 100 + (size_t)bytes;
    return 0;
}

static int stop_at_once(void *ctx, const struct hash *name, uint64_t bytes)
{
    (void)ctx;
    (void)name;
    (void)bytes;
    return -1;
}

static void test_list(void **state)
{
    struct opened o = fresh();
    struct err err = ERR_INIT;
    size_t n = 0;

    (void)state;
    assert_ok(store_list(o.s, OBJECT_INDEX, count, &n, &err), &err);
    assert_int_equal(n, 0);
    for (unsigned i = 0; i < 9; i++)
        assert_ok(store_put(o.s, OBJECT_INDEX, "abcdefghi", i + 1, NULL, &err), &err);
    assert_ok(store_put(o.s, OBJECT_MANIFEST, "other", 5, NULL, &err), &err);
    tmpdir_write(tmpdir_path("%s/index/ab/README", strrchr(o.root, '/') + 1), "x", 1);
    assert_ok(store_list(o.s, OBJECT_INDEX, count, &n, &err), &err);
    assert_int_equal(n, 9 * 100 + 45);
    assert_error(store_list(o.s, OBJECT_INDEX, stop_at_once, NULL, &err), ERR_CANCELLED, &err,
                 "list index objects");
    store_close(o.s);
}

/* A killed writer's temporary file goes when it is old, and not before. */
static void test_cleaning(void **state)
{
    struct opened o = fresh();
    struct timeval old[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
    const char *name = strrchr(o.root, '/') + 1;
    struct err err = ERR_INIT;

    (void)state;
    tmpdir_write(tmpdir_path("%s/tmp/old", name), "x", 1);
    tmpdir_write(tmpdir_path("%s/tmp/new", name), "x", 1);
    assert_int_equal(utimes(tmpdir_path("%s/tmp/old", name), old), 0);
    store_close(o.s);
    assert_ok(store_open(&o.s, o.root, &err), &err);
    assert_false(path_exists(tmpdir_path("%s/tmp/old", name)));
    assert_true(path_exists(tmpdir_path("%s/tmp/new", name)));
    store_close(o.s);
}

static void test_opening(void **state)
{
    const char *dir = tmpdir_fresh();
    struct err err = ERR_INIT;
    struct store *s = NULL;
    char *where = mem_printf("dir:%s/a/b/", dir);
    char *file = mem_printf("%s/file", dir);
    char *below = mem_printf("%s/file/store", dir);

    (void)state;
    assert_ok(store_open(&s, where, &err), &err); /* makes its parents */
    store_close(s);
    assert_error(store_open(&s, "s3://bucket", &err), ERR_INVALID, &err, "only a directory");
    assert_error(store_open(&s, "", &err), ERR_INVALID, &err, "no path");
    tmpdir_write(file, "x", 1);
    assert_true(store_open(&s, below, &err) < 0);
    assert_non_null(strstr(err.text, below));
    free(where);
    free(file);
    free(below);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_an_empty_object),
        cmocka_unit_test(test_a_corrupt_object_is_moved_aside),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_a_file_from_another_file_system),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_cleaning),
        cmocka_unit_test(test_opening),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
