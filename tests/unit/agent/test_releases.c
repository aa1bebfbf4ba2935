#include "lib/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "releases.h"
#include "store/tree.h"

static struct hash name_of(int n)
{
    return sha256_of(&n, sizeof(n));
}

/* A release of a random tree, with its manifest; returns its artifact. */
static struct hash make_release(const char *dir, const struct hash *release)
{
    AUTO_FREE char *base = releases_path(dir, release);
    AUTO_FREE char *tree = mem_printf("%s/tree", base);
    AUTO_FREE char *manifest = mem_printf("%s/manifest", base);
    AUTO_BUF bytes = BUF_INIT;
    struct random r = { 42 };
    struct tree *t;
    struct err err = ERR_INIT;

    assert_ok(dir_make(tree, 0755, &err), &err);
    tree_random(tree, &r, 20, false);
    assert_ok(tree_open(&t, tree, &err), &err);
    assert_ok(tree_read(t, NULL, NULL, &err), &err);
    manifest_encode(&bytes, tree_manifest(t));
    tree_close(t);
    tmpdir_write(manifest, bytes.data, bytes.len);
    return sha256_of(bytes.data, bytes.len);
}

static void test_switch(void **state)
{
    const char *dir = tmpdir_fresh();
    struct hash one = name_of(1), two = name_of(2), none = { { 0 } }, current;
    AUTO_FREE char *path = mem_printf("%s/current", dir);
    AUTO_FREE char *left = mem_printf("%s/current.tmp", dir);
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(releases_current(dir, &current, &err), &err);
    assert_true(hash_is_zero(&current));
    assert_error(releases_switch(dir, &one, &err), ERR_NOT_FOUND, &err, "not staged");
    make_release(dir, &one);
    make_release(dir, &two);
    assert_ok(releases_switch(dir, &one, &err), &err);
    assert_int_equal(symlink("somewhere", left), 0); /* left by a kill */
    assert_ok(releases_switch(dir, &two, &err), &err);
    assert_ok(releases_current(dir, &current, &err), &err);
    assert_true(hash_equal(&current, &two));
    assert_ok(releases_switch(dir, &none, &err), &err);
    assert_ok(releases_switch(dir, &none, &err), &err);
    assert_ok(releases_current(dir, &current, &err), &err);
    assert_true(hash_is_zero(&current));
    assert_int_equal(symlink("/etc", path), 0);
    assert_error(releases_current(dir, &current, &err), ERR_CORRUPT, &err, "points to /etc");
}

struct first_file {
    char path[1200];
};

static void find_file(const char *dir, const struct hash *release, struct first_file *ret)
{
    AUTO_FREE char *base = releases_path(dir, release);
    struct manifest *m;
    struct hash artifact;

    assert_int_equal(releases_read_manifest(dir, release, &m, &artifact, NULL), 0);
    for (size_t i = 0; i < m->nentries; i++)
        if (m->entries[i].kind == ENTRY_FILE && m->entries[i].size > 0)
            snprintf(ret->path, sizeof(ret->path), "%s/tree/%s", base, m->entries[i].path);
    manifest_free(m);
}

static void test_verify(void **state)
{
    const char *dir = tmpdir_fresh();
    struct hash one = name_of(1), artifact, other = name_of(9);
    struct first_file f;
    struct err err = ERR_INIT;
    AUTO_FREE char *extra = NULL, *base = NULL;
    struct stat st;
    char byte;
    int fd;

    (void)state;
    assert_error(releases_verify(dir, &one, &other, &err), ERR_NOT_FOUND, &err, "manifest");
    artifact = make_release(dir, &one);
    base = releases_path(dir, &one);
    assert_ok(releases_verify(dir, &one, &artifact, &err), &err);
    assert_error(releases_verify(dir, &one, &other, &err), ERR_CORRUPT, &err, "not the artifact");
    extra = mem_printf("%s/tree/written-by-the-service", base);
    tmpdir_write(extra, "x", 1);
    assert_ok(releases_verify(dir, &one, &artifact, &err), &err);
    find_file(dir, &one, &f);
    assert_int_equal(stat(f.path, &st), 0);
    fd = open(f.path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    byte = (char)(byte ^ 1);
    assert_int_equal(pwrite(fd, &byte, 1, 0), 1);
    assert_error(releases_verify(dir, &one, &artifact, &err), ERR_CORRUPT, &err, "digest");
    byte = (char)(byte ^ 1);
    assert_int_equal(pwrite(fd, &byte, 1, 0), 1);
    close(fd);
    assert_int_equal(chmod(f.path, (st.st_mode & 0777) ^ 0100), 0);
    assert_error(releases_verify(dir, &one, &artifact, &err), ERR_CORRUPT, &err, "not as the");
    assert_int_equal(chmod(f.path, st.st_mode & 0777), 0);
    assert_ok(releases_verify(dir, &one, &artifact, &err), &err);
    assert_int_equal(unlink(f.path), 0);
    assert_error(releases_verify(dir, &one, &artifact, &err), ERR_CORRUPT, &err, "missing");
}

static void make_old(const char *dir, const struct hash *release, int age)
{
    AUTO_FREE char *base = releases_path(dir, release);
    struct timespec times[2] = { { .tv_sec = 1000000 - age }, { .tv_sec = 1000000 - age } };

    assert_ok(dir_make(base, 0755, NULL), NULL);
    assert_int_equal(utimensat(AT_FDCWD, base, times, 0), 0);
}

/* The needed ones, the two youngest others, and nothing that is half-made. */
static void test_prune(void **state)
{
    const char *dir = tmpdir_fresh();
    struct hash r[7], keep[3] = { { { 0 } } };
    static const bool stays[] = { true, true, true, false, false, true, false };
    AUTO_FREE char *half = NULL, *kept_half = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(releases_prune(dir, keep, 3, RELEASES_SPARE, &err), &err); /* no directory yet */
    for (int i = 0; i < 7; i++) {
        r[i] = name_of(i);
        make_old(dir, &r[i], i);
    }
    half = releases_staging(dir, &r[6]);
    kept_half = releases_staging(dir, &r[5]);
    assert_ok(dir_make(half, 0755, &err), &err);
    assert_ok(dir_make(kept_half, 0755, &err), &err);
    keep[0] = r[2];
    keep[1] = r[5];
    assert_ok(releases_prune(dir, keep, 3, RELEASES_SPARE, &err), &err);
    for (int i = 0; i < 7; i++)
        assert_int_equal(releases_has(dir, &r[i]), stays[i]);
    assert_false(path_exists(half));
    assert_true(path_exists(kept_half));
    assert_ok(releases_remove(dir, &r[5], &err), &err);
    assert_ok(releases_remove(dir, &r[5], &err), &err);
    assert_false(path_exists(kept_half));
}

/* Killed while it removed a release: neither whole, nor something that staging would go on with. */
static void test_interrupted_removal(void **state)
{
    const char *dir = tmpdir_fresh();
    struct hash one = name_of(1), keep[1] = { one };
    AUTO_FREE char *base = releases_path(dir, &one);
    AUTO_FREE char *staging = releases_staging(dir, &one);
    AUTO_FREE char *gone = mem_printf("%s.gone", base);
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(dir_make(base, 0755, &err), &err);
    assert_ok(dir_make(gone, 0755, &err), &err); /* of another time */
    assert_ok(releases_remove(dir, &one, &err), &err);
    assert_false(path_exists(base) || path_exists(staging) || path_exists(gone));
    assert_ok(dir_make(base, 0755, &err), &err);
    assert_ok(dir_make(gone, 0755, &err), &err);
    assert_ok(releases_prune(dir, keep, 1, RELEASES_SPARE, &err), &err);
    assert_true(releases_has(dir, &one));
    assert_false(path_exists(gone));
}

static void test_document_must_be_the_release(void **state)
{
    const char *dir = tmpdir_fresh();
    struct hash one = sha256_of("doc", 3), two = name_of(2);
    AUTO_FREE char *base = releases_path(dir, &one);
    AUTO_FREE char *other = releases_path(dir, &two);
    AUTO_BUF doc = BUF_INIT;
    struct err err = ERR_INIT;

    (void)state;
    assert_error(releases_read_doc(dir, &one, &doc, &err), ERR_NOT_FOUND, &err, "release.doc");
    assert_ok(dir_make(base, 0755, &err), &err);
    assert_ok(dir_make(other, 0755, &err), &err);
    tmpdir_write(tmpdir_path("%s/release.doc", base + strlen(tmpdir()) + 1), "doc", 3);
    tmpdir_write(tmpdir_path("%s/release.doc", other + strlen(tmpdir()) + 1), "doc", 3);
    assert_ok(releases_read_doc(dir, &one, &doc, &err), &err);
    buf_reset(&doc);
    assert_error(releases_read_doc(dir, &two, &doc, &err), ERR_CORRUPT, &err, "is not the release");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switch),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_prune),
        cmocka_unit_test(test_interrupted_removal),
        cmocka_unit_test(test_document_must_be_the_release),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
