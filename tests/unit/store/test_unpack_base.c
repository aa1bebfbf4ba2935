/* The unpacker with a base: the release before, on the same disk. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/store/unpacking.h"

static ino_t inode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_ino;
}

/* The second release keeps a large file, moves one, changes one's mode and one's bytes. */
struct releases {
    struct source one, two;
};

static struct releases two_releases(void)
{
    const char *one = tmpdir_fresh(), *two = tmpdir_fresh();
    char *data = mem_alloc(2 * SEGMENT_BYTES);
    struct random r = { 31 };

    random_fill(&r, data, 2 * SEGMENT_BYTES);
    tmpdir_write(in(one, "a-kept"), data, 2 * SEGMENT_BYTES);
    tmpdir_write(in(two, "a-kept"), data, 2 * SEGMENT_BYTES);
    tmpdir_write(in(one, "b-moved"), "moved", 5);
    tmpdir_write(in(two, "d/moved"), "moved", 5);
    tmpdir_write(in(one, "c-mode"), "mode!", 5);
    tmpdir_write(in(two, "c-mode"), "mode!", 5);
    chmod(in(two, "c-mode"), 0755);
    tmpdir_write(in(one, "e-changed"), "before", 6);
    tmpdir_write(in(two, "e-changed"), "after!", 6);
    free(data);
    return (struct releases){ source_of(one), source_of(two) };
}

static void releases_close(struct releases *r)
{
    tree_close(r->one.tree);
    tree_close(r->two.tree);
}

static void test_base(void **state)
{
    struct releases r = two_releases();
    struct place p = place_new();
    struct unpack *u;
    char *kept = mem_printf("%s/a-kept", p.dest), *moved = mem_printf("%s/d/moved", p.dest);
    char *mode = mem_printf("%s/c-mode", p.dest);

    (void)state;
    u = open_unpack(&r.two, &p, &r.one, false);
    assert_int_equal(unpack_needed_count(u), 1);
    assert_int_equal(unpack_local_bytes(u), 2 * SEGMENT_BYTES);
    unpack_close(u);
    u = open_unpack(&r.two, &p, NULL, false); /* the base is gone meanwhile: it is remembered */
    assert_int_equal(unpack_needed_count(u), 1);
    assert_int_equal(unpack_local_bytes(u), 2 * SEGMENT_BYTES);
    give_needed(u, &r.two);
    finish(u, &r.two, &p);
    assert_int_equal(inode_of(kept), inode_of(in(r.one.dir, "a-kept")));
    assert_int_equal(inode_of(moved), inode_of(in(r.one.dir, "b-moved")));
    assert_true(inode_of(mode) != inode_of(in(r.one.dir, "c-mode"))); /* copied */
    assert_true(trees_equal(r.one.dir, r.one.dir));
    free(kept);
    free(moved);
    free(mode);
    place_release(&p);
    releases_close(&r);
}

/* A linked file is the base's, too: who writes to that between two runs spoils what is staged. */
static void test_a_base_that_is_written_to_between_runs(void **state)
{
    static const bool removed[] = { false, true };
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(removed); i++) {
        struct releases r = two_releases();
        struct place p = place_new();
        struct unpack_options o = { .staging = p.staging,
                                    .dest = p.dest,
                                    .manifest = r.two.m,
                                    .artifact = r.two.artifact,
                                    .verify_staged = true };
        char *staged = mem_printf("%s/tree/a-kept", p.staging);
        struct unpack *u = open_unpack(&r.two, &p, &r.one, false);
        int fd;

        unpack_close(u);
        fd = open(in(r.one.dir, "a-kept"), O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "x!", 2, 7), 2);
        close(fd);
        if (removed[i])
            assert_int_equal(unlink(staged), 0);
        assert_ok(unpack_open(&u, &o, &err), &err);
        assert_true(unpack_needed(u, 0));
        give_needed(u, &r.two);
        finish(u, &r.two, &p);
        free(staged);
        place_release(&p);
        releases_close(&r);
    }
}

/* A base that is not what its manifest says: a wrong size is always seen, wrong bytes if asked. */
static void test_a_spoiled_base(void **state)
{
    struct releases r = two_releases();
    struct err err = ERR_INIT;
    struct place p;
    struct unpack *u;
    int fd;

    (void)state;
    fd = open(in(r.one.dir, "a-kept"), O_WRONLY);
    assert_int_equal(pwrite(fd, "spoiled", 7, 100), 7);
    p = place_new();
    u = open_unpack(&r.two, &p, &r.one, true);
    assert_int_equal(unpack_needed_count(u), 3);
    give_needed(u, &r.two);
    finish(u, &r.two, &p);
    place_release(&p);
    assert_int_equal(ftruncate(fd, 10), 0);
    close(fd);
    assert_int_equal(unlink(in(r.one.dir, "b-moved")), 0);
    assert_int_equal(symlink("c-mode", in(r.one.dir, "b-moved")), 0);
    p = place_new();
    u = open_unpack(&r.two, &p, &r.one, false);
    assert_int_equal(unpack_needed_count(u), 3);
    assert_error(unpack_finish(u, &err), ERR_AGAIN, &err, "3 of 3");
    give_needed(u, &r.two);
    finish(u, &r.two, &p);
    place_release(&p);
    releases_close(&r);
}

/* Two bases: each gives what only it has; of a file that both have, the sound one; a copy from
 * either where no mode fits. */
static void test_two_bases(void **state)
{
    const char *older = tmpdir_fresh();
    struct releases r = two_releases();
    struct source old;
    struct unpack_base bases[2];
    struct place p = place_new();
    struct unpack_options o = { .staging = p.staging,
                                .dest = p.dest,
                                .manifest = r.two.m,
                                .artifact = r.two.artifact,
                                .bases = bases,
                                .nbases = 2,
                                .verify_base = true };
    struct unpack *u = NULL;
    struct err err = ERR_INIT;
    char *changed = mem_printf("%s/e-changed", p.dest), *kept = mem_printf("%s/a-kept", p.dest);
    char *mode = mem_printf("%s/c-mode", p.dest);
    size_t len;
    char *bytes = tmpdir_read(in(r.one.dir, "a-kept"), &len);
    int fd;

    (void)state;
    tmpdir_write(in(older, "was-new-once"), "after!", 6);
    tmpdir_write(in(older, "executable"), "mode!", 5);
    tmpdir_write(in(older, "kept"), bytes, len);
    free(bytes);
    chmod(in(older, "executable"), 0755);
    old = source_of(older);
    fd = open(in(r.one.dir, "a-kept"), O_WRONLY);
    assert_int_equal(pwrite(fd, "spoiled", 7, 100), 7);
    close(fd);
    bases[0] = (struct unpack_base){ r.one.dir, r.one.m };
    bases[1] = (struct unpack_base){ older, old.m };
    assert_ok(unpack_open(&u, &o, &err), &err);
    assert_int_equal(unpack_needed_count(u), 0);
    finish(u, &r.two, &p);
    assert_int_equal(inode_of(changed), inode_of(in(older, "was-new-once")));
    assert_int_equal(inode_of(kept), inode_of(in(older, "kept")));
    assert_int_equal(inode_of(mode), inode_of(in(older, "executable")));
    free(changed);
    free(kept);
    free(mode);
    place_release(&p);
    tree_close(old.tree);
    releases_close(&r);
}

static void test_a_base_that_is_not_there(void **state)
{
    struct releases r = two_releases();
    struct place p = place_new();
    struct unpack *u;

    (void)state;
    r.one.dir = "/no/such/dir";
    u = open_unpack(&r.two, &p, &r.one, false);
    assert_int_equal(unpack_needed_count(u), 3);
    give_needed(u, &r.two);
    finish(u, &r.two, &p);
    place_release(&p);
    releases_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base),
        cmocka_unit_test(test_a_base_that_is_written_to_between_runs),
        cmocka_unit_test(test_a_spoiled_base),
        cmocka_unit_test(test_two_bases),
        cmocka_unit_test(test_a_base_that_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
