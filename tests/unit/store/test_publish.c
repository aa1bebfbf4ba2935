#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "lib/check.h"
#include "lib/small_disk.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/publish.h"
#include "store/unpack.h"

static struct store *open_store(void)
{
    struct err err = ERR_INIT;
    struct store *s = NULL;

    assert_ok(store_open(&s, tmpdir_fresh(), &err), &err);
    return s;
}

/* Unpacks all of a published artifact into dest, as an agent would. */
static void unpack(struct store *s, const struct published *p, const char *dest)
{
    struct err err = ERR_INIT;
    struct unpack_options o = { .staging = tmpdir_path("staging"),
                                .dest = dest,
                                .artifact = p->artifact };
    struct full_decoder *d = full_decoder_new();
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    struct manifest *m = NULL;
    struct store_object *pack = NULL;
    struct full *full = NULL;
    struct unpack *u = NULL;

    assert_ok(store_get_manifest(s, &p->artifact, &m, &err), &err);
    assert_ok(store_open_object(s, OBJECT_PACK, &p->pack, &pack, &err), &err);
    assert_ok(
        full_read(&full, store_object_read, pack, store_object_bytes(pack), m, &p->artifact, &err),
        &err);
    o.manifest = m;
    assert_ok(unpack_open(&u, &o, &err), &err);
    for (size_t i = m->nsegments; i-- > 0;) {
        assert_true(unpack_needed(u, i));
        assert_ok(full_read_segment(d, full, m, i, store_object_read, pack, out, &err), &err);
        assert_ok(unpack_segment(u, i, out, manifest_segment_bytes(m, i), &err), &err);
        assert_false(unpack_needed(u, i));
    }
    assert_ok(unpack_finish(u, &err), &err);
    unpack_close(u);
    full_free(full);
    store_object_close(pack);
    manifest_free(m);
    full_decoder_free(d);
    free(out);
}

static void test_random_trees_come_back(void **state)
{
    struct random r = { 20261122 };
    struct err err = ERR_INIT;

    (void)state;
    for (size_t round = 0; round < 12; round++) {
        const char *dir = tmpdir_fresh();
        const char *dest = tmpdir_path("dest-%zu", round);
        struct store *s = open_store();
        struct published p, again, verified;

        tree_random(dir, &r, round * 6, round % 3 == 0);
        assert_ok(artifact_publish(s, dir, NULL, &p, &err), &err);
        assert_ok(artifact_publish(s, dir, NULL, &again, &err), &err);
        assert_memory_equal(&p.pack, &again.pack, sizeof(p.pack));
        assert_ok(artifact_verify(s, &p.artifact, &p.pack, &verified, &err), &err);
        assert_int_equal(p.stream_bytes, verified.stream_bytes);
        assert_int_equal(p.pack_bytes, verified.pack_bytes);
        assert_int_equal(p.files, verified.files);
        unpack(s, &p, dest);
        assert_true(trees_equal(dir, dest));
        store_close(s);
    }
}

static void test_a_single_file(void **state)
{
    const char *dir = tmpdir_fresh();
    const char *path = tmpdir_path("%s/server", strrchr(dir, '/') + 1);
    struct store *s = open_store();
    struct err err = ERR_INIT;
    struct published p;
    char *bytes;

    (void)state;
    tmpdir_write(path, "binary", 6);
    chmod(path, 0755);
    assert_ok(artifact_publish(s, path, NULL, &p, &err), &err);
    assert_int_equal(p.files, 1);
    unpack(s, &p, tmpdir_path("single"));
    bytes = tmpdir_read(tmpdir_path("single/server"), NULL);
    assert_string_equal(bytes, "binary");
    free(bytes);
    store_close(s);
}

static void test_an_output_over_the_limit(void **state)
{
    const char *dir = tmpdir_fresh();
    struct publish_options o = { .max_bytes = 5 };
    struct store *s = open_store();
    struct err err = ERR_INIT;
    struct published p;

    (void)state;
    tmpdir_write(tmpdir_path("%s/a", strrchr(dir, '/') + 1), "123456", 6);
    assert_error(artifact_publish(s, dir, &o, &p, &err), ERR_LIMIT, &err, "6 bytes, at most 5");
    assert_error(artifact_publish(s, "/no/such", NULL, &p, &err), ERR_NOT_FOUND, &err,
                 "publish /no/such");
    store_close(s);
}

/* Case, spaces, dashes, quotes, and two spellings of one letter: names are bytes, nothing is folded,
 * and the order is that of the bytes. */
static void test_odd_names(void **state)
{
    static const char *const order[] = {
        " ",        "\"q\"",           "$(x)", "-rf", "...", "A", "\\n", "a", "a b/-/it's; #",
        "\303\251", "\360\237\214\261"
    };
    const char *dir = tmpdir_fresh();
    struct store *s = open_store();
    struct err err = ERR_INIT;
    struct manifest *m = NULL;
    struct published p;
    size_t at = 0;

    (void)state;
    for (size_t i = COUNT_OF(order); i-- > 0;)
        tmpdir_write(tmpdir_path("%s/%s", strrchr(dir, '/') + 1, order[i]), order[i],
                     strlen(order[i]));
    tmpdir_write(tmpdir_path("%s/e\314\201", strrchr(dir, '/') + 1), "another e", 9);
    assert_ok(artifact_publish(s, dir, NULL, &p, &err), &err);
    assert_int_equal(p.files, COUNT_OF(order) + 1);
    assert_ok(store_get_manifest(s, &p.artifact, &m, &err), &err);
    for (size_t i = 0; i < m->nentries; i++)
        at += at < COUNT_OF(order) && strcmp(m->entries[i].path, order[at]) == 0;
    assert_int_equal(at, COUNT_OF(order));
    manifest_free(m);
    unpack(s, &p, tmpdir_path("odd"));
    assert_true(trees_equal(dir, tmpdir_path("odd")));
    store_close(s);
}

/* Holes are read as zeros; they cost next to nothing in a pack. */
static void test_a_sparse_file(void **state)
{
    const char *dir = tmpdir_fresh();
    const char *path = tmpdir_path("%s/disk", strrchr(dir, '/') + 1);
    off_t size = 5 * (off_t)SEGMENT_BYTES + 17;
    struct store *s = open_store();
    struct err err = ERR_INIT;
    struct published p;
    int fd;

    (void)state;
    tmpdir_write(path, "", 0);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(pwrite(fd, "here", 4, 3 * (off_t)SEGMENT_BYTES - 2), 4);
    close(fd);
    assert_ok(artifact_publish(s, dir, NULL, &p, &err), &err);
    assert_int_equal(p.stream_bytes, size);
    assert_true(p.pack_bytes < 8192);
    unpack(s, &p, tmpdir_path("sparse"));
    assert_true(trees_equal(dir, tmpdir_path("sparse")));
    store_close(s);
}

static int stop(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *calls = ctx;

    assert_true(done <= total);
    return ++*calls == 2 ? -1 : 0;
}

static void test_cancelling_leaves_nothing(void **state)
{
    const char *dir = tmpdir_fresh();
    uint64_t calls = 0;
    struct publish_options o = { .progress = stop, .ctx = &calls };
    struct store *s = NULL;
    struct err err = ERR_INIT;
    struct published p;
    const char *root = tmpdir_fresh();
    char *tmp = mem_printf("%s/tmp", root);

    (void)state;
    tmpdir_write(tmpdir_path("%s/a", strrchr(dir, '/') + 1), "123456", 6);
    assert_ok(store_open(&s, root, &err), &err);
    assert_error(artifact_publish(s, dir, &o, &p, &err), ERR_CANCELLED, &err, "stopped");
    assert_int_equal(rmdir(tmp), 0); /* empty */
    free(tmp);
    store_close(s);
}

static void flip(const char *path, off_t offset)
{
    char byte = 0;
    int fd;

    assert_int_equal(chmod(path, 0644), 0);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte = (char)(byte ^ 0x10);
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* Every flipped bit of an object is found, and the object is moved aside. */
static void test_flipped_bits_are_detected(void **state)
{
    static const enum object_kind kinds[] = { OBJECT_MANIFEST, OBJECT_INDEX, OBJECT_PACK };
    const char *dir = tmpdir_fresh();
    struct random r = { 7 };

    (void)state;
    tree_random(dir, &r, 20, false);
    for (size_t round = 0; round < 60; round++) {
        enum object_kind kind = kinds[round % 3];
        const char *root = tmpdir_fresh();
        struct err err = ERR_INIT;
        struct store *s = NULL;
        struct published p;
        const struct hash *name = kind == OBJECT_MANIFEST ? &p.artifact : &p.pack;
        char hex[HASH_HEX];
        char *path;
        bool there = true;
        struct stat st;

        assert_ok(store_open(&s, root, &err), &err);
        assert_ok(artifact_publish(s, dir, NULL, &p, &err), &err);
        hash_hex(name, hex);
        path = mem_printf("%s/%s/%.2s/%s", root, object_kind_name(kind), hex, hex + 2);
        assert_int_equal(stat(path, &st), 0);
        flip(path, (off_t)random_below(&r, (uint64_t)st.st_size));
        assert_error(artifact_verify(s, &p.artifact, &p.pack, NULL, &err), ERR_CORRUPT, &err,
                     "verify artifact");
        assert_ok(store_has(s, kind, name, &there, &err), &err);
        assert_false(there);
        assert_ok(artifact_publish(s, dir, NULL, &p, &err), &err);
        assert_ok(artifact_verify(s, &p.artifact, &p.pack, NULL, &err), &err);
        store_close(s);
        tmpdir_remove(root);
        free(path);
    }
}

static void test_a_pack_of_another_artifact(void **state)
{
    const char *a = tmpdir_fresh();
    const char *b = tmpdir_fresh();
    struct store *s = open_store();
    struct err err = ERR_INIT;
    struct published pa, pb;

    (void)state;
    tmpdir_write(tmpdir_path("%s/x", strrchr(a, '/') + 1), "one", 3);
    tmpdir_write(tmpdir_path("%s/x", strrchr(b, '/') + 1), "two", 3);
    assert_ok(artifact_publish(s, a, NULL, &pa, &err), &err);
    assert_ok(artifact_publish(s, b, NULL, &pb, &err), &err);
    assert_error(artifact_verify(s, &pa.artifact, &pb.pack, NULL, &err), ERR_INVALID, &err,
                 "not a full pack of the artifact");
    assert_ok(store_delete(s, OBJECT_PACK, &pa.pack, &err), &err);
    assert_error(artifact_verify(s, &pa.artifact, &pa.pack, NULL, &err), ERR_NOT_FOUND, &err,
                 "pack");
    store_close(s);
}

/* A full disk fails the publishing, leaves no half object, and does no harm to the next try. */
static void test_full_disk(void **state)
{
    const char *dir = tmpdir_fresh(), *disk = tmpdir_fresh();
    struct random r = { 3 };
    struct err err = ERR_INIT;
    struct store *s = NULL;
    struct published p;
    char *data = mem_alloc(3 << 20), *tmp = mem_printf("%s/tmp", disk);

    (void)state;
    for (size_t i = 0; i < 3 << 20; i++)
        data[i] = (char)random_next(&r);
    tmpdir_write(tmpdir_path("%s/a", strrchr(dir, '/') + 1), data, 3 << 20);
    if (small_disk(disk, 2 << 20)) {
        assert_ok(store_open(&s, disk, &err), &err);
        assert_error(artifact_publish(s, dir, NULL, &p, &err), ERR_NO_SPACE, &err, "publish");
        assert_int_equal(rmdir(tmp), 0);
        assert_int_equal(mkdir(tmp, 0755), 0);
        assert_true(small_disk(disk, 16 << 20));
        assert_ok(artifact_publish(s, dir, NULL, &p, &err), &err);
        assert_ok(artifact_verify(s, &p.artifact, &p.pack, NULL, &err), &err);
        store_close(s);
        assert_int_equal(umount(disk), 0);
    }
    free(data);
    free(tmp);
    if (s == NULL)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_trees_come_back),
        cmocka_unit_test(test_a_single_file),
        cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_a_sparse_file),
        cmocka_unit_test(test_an_output_over_the_limit),
        cmocka_unit_test(test_cancelling_leaves_nothing),
        cmocka_unit_test(test_flipped_bits_are_detected),
        cmocka_unit_test(test_a_pack_of_another_artifact),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
