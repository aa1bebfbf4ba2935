#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/small_disk.h"
#include "unit/store/unpacking.h"

static void test_random_trees(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct source s = random_source(seed);
        struct place p = place_new();
        struct unpack *u = open_unpack(&s, &p, NULL, false);

        assert_int_equal(unpack_needed_count(u), s.m->nsegments);
        assert_int_equal(unpack_needed_bytes(u), s.m->stream_bytes);
        assert_int_equal(unpack_local_bytes(u), 0);
        give_needed(u, &s);
        finish(u, &s, &p);
        place_release(&p);
        tree_close(s.tree);
    }
}

/* Opened and closed after every segment: nothing is needed twice. */
static void test_resume(void **state)
{
    struct source s = large_source(5);
    struct place p = place_new();
    struct err err = ERR_INIT;
    struct unpack *u;

    (void)state;
    for (size_t i = 0; i < s.m->nsegments; i++) {
        u = open_unpack(&s, &p, NULL, false);
        assert_int_equal(unpack_needed_count(u), s.m->nsegments - i);
        assert_error(unpack_finish(u, &err), ERR_AGAIN, &err, "are missing");
        assert_ok(give(u, &s, i, &err), &err);
        assert_ok(give(u, &s, i, &err), &err); /* again: fine */
        unpack_close(u);
        assert_false(path_exists(p.dest));
    }
    u = open_unpack(&s, &p, NULL, false);
    finish(u, &s, &p);
    u = open_unpack(&s, &p, NULL, false); /* dest is there: nothing is needed */
    assert_int_equal(unpack_needed_count(u), 0);
    assert_int_equal(unpack_needed_bytes(u), 0);
    finish(u, &s, &p);
    place_release(&p);
    tree_close(s.tree);
}

/* A child unpacks and is killed after k segments; at last it comes to the end. */
static void test_kill_at_every_segment(void **state)
{
    struct source s = random_source(77);
    struct place p = place_new();
    bool done = false;

    (void)state;
    for (size_t k = 0; !done; k++) {
        pid_t pid = fork();
        int status = 0;

        if (pid == 0) {
            struct err err = ERR_INIT;
            struct unpack *u = open_unpack(&s, &p, NULL, false);

            for (size_t i = 0, given = 0; i < s.m->nsegments; i++) {
                if (unpack_needed(u, i) && (given++ == 1 || give(u, &s, i, &err) < 0))
                    raise(SIGKILL);
            }
            _exit(unpack_finish(u, &err) < 0 ? 1 : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        assert_true(done || WIFSIGNALED(status));
        assert_true(k <= s.m->nsegments);
    }
    assert_true(trees_equal(s.dir, p.dest));
    place_release(&p);
    tree_close(s.tree);
}

/* A state that is not as it should be is never trusted: the staging is emptied and begun anew. */
static void test_spoiled_state(void **state)
{
    static const char *const what[] = { "cut", "magic", "artifact", "entries", "none" };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(what); i++) {
        struct source s = large_source(2);
        struct place p = place_new();
        struct unpack *u = open_unpack(&s, &p, NULL, false);
        char *path = mem_printf("%s/state", p.staging);
        struct err err = ERR_INIT;
        size_t len = 0;
        char *bytes;

        assert_ok(give(u, &s, 0, &err), &err);
        unpack_close(u);
        bytes = tmpdir_read(path, &len);
        if (i == 1)
            bytes[0] = 'X';
        if (i == 2)
            bytes[4] = (char)(bytes[4] ^ 1);
        if (i == 3)
            bytes[100] = 9;
        tmpdir_write(path, bytes, i == 0 ? len - 1 : len);
        if (i == 4)
            unlink(path);
        u = open_unpack(&s, &p, NULL, false);
        assert_int_equal(unpack_needed_count(u), s.m->nsegments);
        give_needed(u, &s);
        finish(u, &s, &p);
        free(bytes);
        free(path);
        place_release(&p);
        tree_close(s.tree);
    }
}

/* Changes a byte, and at the second time changes it back. */
static void spoil(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    char byte = 0;

    assert_true(fd >= 0 && pread(fd, &byte, 1, at) >= 0); /* 0: behind its end */
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* After a reboot checkpointed segments count, others if they are there. The boot id in the state is
 * changed by hand. */
static void test_after_a_power_cut(void **state)
{
    struct source s = large_source(4);
    struct place p = place_new();
    struct unpack *u = open_unpack(&s, &p, NULL, false);
    char *path = mem_printf("%s/state", p.staging);
    char *file = mem_printf("%s/tree/big", p.staging);
    struct err err = ERR_INIT;
    size_t len = 0;
    char *bytes;

    (void)state;
    assert_ok(give(u, &s, 1, &err), &err);
    assert_ok(unpack_checkpoint(u, &err), &err);
    assert_ok(unpack_checkpoint(u, &err), &err);
    assert_ok(give(u, &s, 2, &err), &err);
    unpack_close(u);
    bytes = tmpdir_read(path, &len);
    bytes[36] = (char)(bytes[36] ^ 1);
    tmpdir_write(path, bytes, len);
    spoil(file, SEGMENT_BYTES);     /* said to be durable: not looked at */
    spoil(file, 2 * SEGMENT_BYTES); /* not said, and lost */
    u = open_unpack(&s, &p, NULL, false);
    assert_false(unpack_needed(u, 1));
    assert_true(unpack_needed(u, 2));
    unpack_close(u);
    tmpdir_write(path, bytes, len);
    spoil(file, 2 * SEGMENT_BYTES); /* not said, but there */
    u = open_unpack(&s, &p, NULL, false);
    assert_false(unpack_needed(u, 2));
    assert_true(unpack_needed(u, 3));
    unpack_close(u);
    tmpdir_write(path, bytes, len);
    assert_int_equal(unlink(file), 0); /* what should be there is not: begin anew */
    u = open_unpack(&s, &p, NULL, false);
    assert_true(unpack_needed(u, 1));
    give_needed(u, &s);
    finish(u, &s, &p);
    free(bytes);
    free(path);
    free(file);
    place_release(&p);
    tree_close(s.tree);
}

/* What a process that was killed had written, but not synced, its successor's checkpoint covers. */
static void test_checkpoint_covers_what_was_inherited(void **state)
{
    struct source s = large_source(3);
    struct place p = place_new();
    struct unpack *u = open_unpack(&s, &p, NULL, false);
    char *path = mem_printf("%s/state", p.staging);
    char *file = mem_printf("%s/tree/big", p.staging);
    struct err err = ERR_INIT;
    size_t len = 0;
    char *bytes;

    (void)state;
    assert_ok(give(u, &s, 0, &err), &err);
    unpack_close(u); /* as killed: no checkpoint */
    u = open_unpack(&s, &p, NULL, false);
    assert_ok(unpack_checkpoint(u, &err), &err);
    unpack_close(u);
    bytes = tmpdir_read(path, &len);
    bytes[36] = (char)(bytes[36] ^ 1);
    tmpdir_write(path, bytes, len);
    spoil(file, 0); /* durable: not looked at */
    u = open_unpack(&s, &p, NULL, false);
    assert_false(unpack_needed(u, 0));
    assert_true(unpack_needed(u, 1));
    unpack_close(u);
    free(bytes);
    free(path);
    free(file);
    place_release(&p);
    tree_close(s.tree);
}

/* Bytes that a power cut left in the place of a segment do not shine through its zeros. */
static void test_bytes_that_nobody_wrote(void **state)
{
    struct random r = { 4 };
    const char *dir = tmpdir_fresh();
    size_t len = 2 * SEGMENT_BYTES;
    unsigned char *data = mem_alloc(len);
    struct place p = place_new();
    char *file = mem_printf("%s/tree/big", p.staging);
    struct err err = ERR_INIT;
    struct unpack *u;
    struct source s;

    (void)state;
    random_fill(&r, data, SEGMENT_BYTES / 2); /* and then zeros, up to the last byte */
    data[len - 1] = 1;
    tmpdir_write(in(dir, "big"), data, len);
    s = source_of(dir);
    u = open_unpack(&s, &p, NULL, false);
    assert_ok(give(u, &s, 0, &err), &err);
    unpack_close(u);
    spoil(file, SEGMENT_BYTES + 3 * 65536);
    u = open_unpack(&s, &p, NULL, false);
    assert_true(unpack_needed(u, 1));
    give_needed(u, &s);
    finish(u, &s, &p);
    free(data);
    free(file);
    place_release(&p);
    tree_close(s.tree);
}

static void test_wrong_bytes_are_refused(void **state)
{
    struct source s = large_source(1);
    struct place p = place_new();
    struct unpack *u = open_unpack(&s, &p, NULL, false);
    unsigned char *data = mem_alloc(SEGMENT_BYTES);
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(tree_read_segment(s.dir, s.m, 0, data, &err), &err);
    data[SEGMENT_BYTES / 2] ^= 1;
    assert_error(unpack_segment(u, 0, data, SEGMENT_BYTES, &err), ERR_CORRUPT, &err, "digest");
    assert_true(unpack_needed(u, 0));
    assert_error(unpack_segment(u, 0, data, 7, &err), ERR_CORRUPT, &err, "7 bytes long");
    assert_error(unpack_segment(u, 2, data, 7, &err), ERR_CORRUPT, &err, "segment 2");
    free(data);
    give_needed(u, &s);
    finish(u, &s, &p);
    place_release(&p);
    tree_close(s.tree);
}

/* Segments that the caller has put there itself: only what is told is believed, also by the next run. */
static void test_placed_segments(void **state)
{
    struct source s = large_source(2);
    struct place p = place_new();
    struct unpack *u = open_unpack(&s, &p, NULL, false);
    AUTO_FREE char *file = mem_printf("%s/tree/big", p.staging);
    AUTO_FREE char *whole = mem_printf("%s/big", s.dir);
    struct err err = ERR_INIT;
    size_t len;
    char *data = tmpdir_read(whole, &len);

    (void)state;
    tmpdir_write(file, data, len);
    assert_true(unpack_needed(u, 0));
    assert_ok(unpack_placed(u, 1, &err), &err);
    assert_false(unpack_needed(u, 1));
    assert_true(unpack_needed(u, 0));
    unpack_close(u);
    u = open_unpack(&s, &p, NULL, false);
    assert_false(unpack_needed(u, 1));
    for (size_t i = 0; i < s.m->nsegments; i++)
        assert_ok(unpack_placed(u, i, &err), &err);
    finish(u, &s, &p);
    free(data);
    place_release(&p);
    tree_close(s.tree);
}

/* Another artifact's staging is not continued. */
static void test_staging_of_another_artifact(void **state)
{
    struct source a = large_source(2), b = large_source(3);
    struct place p = place_new();
    struct err err = ERR_INIT;
    struct unpack *u = open_unpack(&a, &p, NULL, false);

    (void)state;
    assert_ok(give(u, &a, 0, &err), &err);
    unpack_close(u);
    u = open_unpack(&b, &p, NULL, false);
    assert_int_equal(unpack_needed_count(u), b.m->nsegments);
    give_needed(u, &b);
    finish(u, &b, &p);
    place_release(&p);
    tree_close(a.tree);
    tree_close(b.tree);
}

static void test_writing_fails(void **state)
{
    struct source s = large_source(2);
    struct place p = place_new();
    struct unpack *u = open_unpack(&s, &p, NULL, false);
    struct rlimit old, low;
    struct err err = ERR_INIT;
    int r;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_ok(give(u, &s, 0, &err), &err);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = SEGMENT_BYTES + 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    r = give(u, &s, 1, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_error(r, ERR_IO, &err, "write big");
    assert_false(unpack_needed(u, 0));
    assert_true(unpack_needed(u, 1));
    give_needed(u, &s);
    finish(u, &s, &p);
    place_release(&p);
    tree_close(s.tree);
}

/* A full disk is told as such, and when there is room again the work goes on where it was. */
static void test_full_disk(void **state)
{
    struct source s = large_source(3);
    const char *disk = tmpdir_fresh();
    struct place p = { mem_printf("%s/staging", disk), mem_printf("%s/dest", disk) };
    struct err err = ERR_INIT;
    struct unpack *u;

    (void)state;
    if (!small_disk(disk, 2 * SEGMENT_BYTES)) {
        place_release(&p);
        tree_close(s.tree);
        skip();
    }
    u = open_unpack(&s, &p, NULL, false);
    assert_ok(give(u, &s, 0, &err), &err);
    assert_error(give(u, &s, 1, &err), ERR_NO_SPACE, &err, "write big");
    assert_true(unpack_needed(u, 1));
    unpack_close(u);
    assert_true(small_disk(disk, 8 * SEGMENT_BYTES));
    u = open_unpack(&s, &p, NULL, false);
    assert_false(unpack_needed(u, 0));
    give_needed(u, &s);
    finish(u, &s, &p);
    assert_int_equal(umount(disk), 0);
    place_release(&p);
    tree_close(s.tree);
}

/* Nobody who can write to the staging leads us out of it by a link. */
static void test_links_in_the_staging_are_not_followed(void **state)
{
    struct source s = large_source(1);
    struct place p = place_new();
    struct unpack *u = open_unpack(&s, &p, NULL, false);
    char *file = mem_printf("%s/tree/big", p.staging);
    const char *victim = tmpdir_path("victim");
    struct err err = ERR_INIT;
    char *bytes;

    (void)state;
    tmpdir_write(victim, "precious", 8);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(symlink(victim, file), 0);
    assert_true(give(u, &s, 0, &err) < 0);
    assert_non_null(strstr(err.text, "big"));
    bytes = tmpdir_read(victim, NULL);
    assert_string_equal(bytes, "precious");
    free(bytes);
    free(file);
    unpack_close(u);
    place_release(&p);
    tree_close(s.tree);
}

/* More entries than are synced one by one. */
static void test_many_small_files(void **state)
{
    const char *dir = tmpdir_fresh();
    struct place p = place_new();
    struct source s;
    struct unpack *u;

    (void)state;
    for (int i = 0; i < 300; i++)
        tmpdir_write(tmpdir_path("%s/%d/%d", strrchr(dir, '/') + 1, i % 7, i), "x", (size_t)i % 2);
    s = source_of(dir);
    u = open_unpack(&s, &p, NULL, false);
    give_needed(u, &s);
    finish(u, &s, &p);
    place_release(&p);
    tree_close(s.tree);
}

static void test_no_room_for_the_staging(void **state)
{
    struct source s = large_source(1);
    const char *file = tmpdir_path("plain");
    struct unpack_options o = { .manifest = s.m, .artifact = s.artifact };
    char *staging = mem_printf("%s/staging", file), *dest = mem_printf("%s/dest", file);
    struct err err = ERR_INIT;
    struct unpack *u = NULL;

    (void)state;
    tmpdir_write(file, "x", 1);
    o.staging = staging;
    o.dest = dest;
    assert_true(unpack_open(&u, &o, &err) < 0);
    assert_non_null(strstr(err.text, staging));
    assert_null(u);
    unpack_close(NULL);
    free(staging);
    free(dest);
    tree_close(s.tree);
}

/* Runs of zeros take no room, in whatever order the segments come, and the bytes are right. */
static void test_holes(void **state)
{
    enum { LEN = (17 << 20) + 300, LAST = LEN / SEGMENT_BYTES };
    unsigned char *data = mem_alloc(LEN);

    (void)state;
    memset(data + 5, 1, 70000);
    data[9 << 20] = 2;
    memset(data + (13 << 20) - 100000, 3, 200000);
    for (int upward = 0; upward < 2; upward++) {
        const char *dir = tmpdir_fresh();
        struct place p = place_new();
        struct err err = ERR_INIT;
        struct source s;
        struct unpack *u;
        struct stat st;

        tmpdir_write(in(dir, "a"), data + 100,
                     5000); /* so that segments are not cut where blocks are */
        tmpdir_write(in(dir, "sparse"), data, LEN);
        tmpdir_write(in(dir, "zeros"), data + (1 << 20), 100 << 10);
        s = source_of(dir);
        u = open_unpack(&s, &p, NULL, false);
        for (size_t i = 0; i <= LAST; i++)
            assert_ok(give(u, &s, upward ? i : LAST - i, &err), &err);
        finish(u, &s, &p);
        AUTO_FREE char *path = mem_printf("%s/sparse", p.dest);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, LEN);
        assert_true(st.st_blocks * 512 < 1 << 20);
        tree_close(s.tree);
        place_release(&p);
    }
    free(data);
}

/* Written, and all zeros at its end or everywhere: the file is shorter than it will be. Whoever goes
 * on and believes nothing finds it all the same, and the file's last byte is never left out. */
static void test_holes_are_found_again(void **state)
{
    enum { HERE = 65536, LEN = 3 * SEGMENT_BYTES + 100000, SEGMENTS = 4 };
    const char *dir = tmpdir_fresh(), *base_dir = tmpdir_fresh();
    unsigned char *data = mem_calloc(LEN, 1);
    struct err err = ERR_INIT;
    struct source s, base;

    (void)state;
    memset(data + SEGMENT_BYTES + 70000, 7, HERE);
    tmpdir_write(in(base_dir, "a"), data + SEGMENT_BYTES + 70000, HERE);
    tmpdir_write(in(dir, "a"), data + SEGMENT_BYTES + 70000, HERE);
    tmpdir_write(in(dir, "sparse"), data, LEN);
    base = source_of(base_dir);
    s = source_of(dir);
    for (size_t given = 0; given < SEGMENTS; given++) {
        struct place p = place_new();
        struct unpack_base b = { base.dir, base.m };
        struct unpack_options o = { .staging = p.staging,
                                    .dest = p.dest,
                                    .manifest = s.m,
                                    .artifact = s.artifact,
                                    .bases = &b,
                                    .nbases = 1,
                                    .verify_staged = true };
        struct unpack *u = NULL;

        assert_ok(unpack_open(&u, &o, &err), &err);
        assert_ok(give(u, &s, given, &err), &err);
        unpack_close(u);
        assert_ok(unpack_open(&u, &o, &err), &err);
        assert_false(unpack_needed(u, given));
        assert_int_equal(unpack_needed(u, SEGMENTS - 1), given != SEGMENTS - 1);
        give_needed(u, &s);
        finish(u, &s, &p);
        place_release(&p);
    }
    free(data);
    tree_close(s.tree);
    tree_close(base.tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_trees),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_kill_at_every_segment),
        cmocka_unit_test(test_spoiled_state),
        cmocka_unit_test(test_after_a_power_cut),
        cmocka_unit_test(test_checkpoint_covers_what_was_inherited),
        cmocka_unit_test(test_bytes_that_nobody_wrote),
        cmocka_unit_test(test_wrong_bytes_are_refused),
        cmocka_unit_test(test_placed_segments),
        cmocka_unit_test(test_staging_of_another_artifact),
        cmocka_unit_test(test_writing_fails),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_links_in_the_staging_are_not_followed),
        cmocka_unit_test(test_many_small_files),
        cmocka_unit_test(test_no_room_for_the_staging),
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_holes_are_found_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
