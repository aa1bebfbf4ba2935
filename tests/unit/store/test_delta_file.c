#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/delta_file.h"

/* A tree, and one that differs here and there. */
static void two_trees(const char **base, const char **target)
{
    struct random r = { 11 };
    size_t len = 5 << 20;
    unsigned char *data = mem_alloc(len);

    *base = tmpdir_fresh();
    *target = tmpdir_fresh();
    random_fill(&r, data, len);
    for (int i = 0; i < 2; i++) {
        const char *dir = i == 0 ? *base : *target;

        AUTO_FREE char *large = mem_printf("%s/bin/large", dir);
        AUTO_FREE char *same = mem_printf("%s/lib/same", dir);
        AUTO_FREE char *text = mem_printf("%s/text", dir);
        AUTO_FREE char *empty = mem_printf("%s/empty", dir);
        AUTO_FREE char *link = mem_printf("%s/link", dir);

        tmpdir_write(large, data, len - (size_t)i * 1000);
        tmpdir_write(same, "the same", 8);
        tmpdir_write(text, i == 0 ? "was" : "is now", i == 0 ? 3 : 6);
        tmpdir_write(empty, "", 0);
        assert_int_equal(symlink("bin/large", link), 0);
        for (size_t k = 100; k < len; k += 100000)
            data[k] ^= 255;
    }
    free(data);
}

static void same_info(const struct delta_file_info *a, const struct delta_file_info *b)
{
    assert_true(hash_equal(&a->base, &b->base) && hash_equal(&a->target, &b->target));
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->files, b->files);
    assert_int_equal(a->stream_bytes, b->stream_bytes);
    assert_int_equal(a->file_bytes, b->file_bytes);
    assert_int_equal(a->pack_bytes, b->pack_bytes);
    assert_int_equal(a->segments, b->segments);
}

static void test_tree(void **state)
{
    const char *base, *target, *pack = tmpdir_path("tree.pack"), *out = tmpdir_path("tree.out");
    struct delta_file_options options = { .level = 6, .threads = 3 };
    struct delta_file_info made, seen, applied;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    struct stat a, b;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(base, target, pack, &options, &stats, &made, &err), &err);
    assert_true(made.file_bytes < 10000);
    assert_true(made.tree);
    assert_int_equal(stats.segments[SEGMENT_DELTA], 2);
    assert_ok(delta_file_info(pack, &seen, &err), &err);
    same_info(&made, &seen);
    assert_ok(delta_file_apply(base, pack, out, NULL, &applied, &err), &err);
    same_info(&made, &applied);
    assert_true(trees_equal(target, out));
    /* What did not change is not written again. */
    assert_int_equal(stat(tmpdir_path("tree.out/lib/same"), &a), 0);
    AUTO_FREE char *same = mem_printf("%s/lib/same", base);
    assert_int_equal(stat(same, &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    AUTO_FREE char *slash = mem_printf("%s2//", out);
    assert_ok(delta_file_apply(base, pack, slash, NULL, &applied, &err), &err);
    assert_true(trees_equal(target, slash));
    assert_error(delta_file_apply(base, pack, out, NULL, &applied, &err), ERR_EXISTS, &err,
                 "there already");
    assert_error(delta_file_apply(target, pack, tmpdir_path("o2"), NULL, &applied, &err),
                 ERR_INVALID, &err, "another base");
    assert_error(delta_file_apply(NULL, pack, tmpdir_path("o2"), NULL, &applied, &err), ERR_INVALID,
                 &err, "give the base");
}

static void test_full_and_one_file(void **state)
{
    const char *base, *target, *pack = tmpdir_path("one.pack");
    struct delta_file_info made, applied;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    size_t la, lb;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(NULL, target, pack, NULL, &stats, &made, &err), &err);
    assert_int_equal(made.kind, PACK_FULL);
    assert_ok(delta_file_apply(NULL, pack, tmpdir_path("full.out"), NULL, &applied, &err), &err);
    assert_true(trees_equal(target, tmpdir_path("full.out")));

    AUTO_FREE char *from = mem_printf("%s/bin/large", base);
    AUTO_FREE char *to = mem_printf("%s/bin/large", target);
    assert_ok(delta_file_make(from, to, pack, NULL, &stats, &made, &err), &err);
    assert_false(made.tree);
    assert_ok(delta_file_apply(from, pack, tmpdir_path("one.out"), NULL, &applied, &err), &err);
    AUTO_FREE char *a = tmpdir_read(to, &la);
    AUTO_FREE char *b = tmpdir_read(tmpdir_path("one.out"), &lb);
    assert_int_equal(la, lb);
    assert_memory_equal(a, b, la);
    assert_false(path_exists(tmpdir_path("one.out.part")));
    assert_false(path_exists(tmpdir_path("one.out.tree")));
}

/* Whole, by its digest; claims a manifest that is larger compressed than it can be. */
static void write_claim(const char *pack, unsigned char raw, unsigned char frame)
{
    enum { DIGEST_AT = 29, REST_AT = DIGEST_AT + HASH_BYTES, BYTES = 200 };
    unsigned char file[BYTES] = { 'S', 'L', 'B', '2', 'f', raw, [21] = frame };
    struct sha256 *sha = sha256_new();
    struct hash digest;

    sha256_add(sha, file, DIGEST_AT);
    sha256_add(sha, file + REST_AT, BYTES - REST_AT);
    digest = sha256_done(sha);
    sha256_free(sha);
    memcpy(file + DIGEST_AT, digest.b, HASH_BYTES);
    tmpdir_write(pack, file, BYTES);
}

static void test_bad_files(void **state)
{
    const char *pack = tmpdir_path("bad.pack");
    struct delta_file_info info;
    struct err err = ERR_INIT;

    (void)state;
    assert_error(delta_file_info(tmpdir_path("none"), &info, &err), ERR_NOT_FOUND, &err, "none");
    tmpdir_write(pack, "SLB2", 4);
    assert_error(delta_file_info(pack, &info, &err), ERR_INVALID, &err, "ends after 4 bytes");
    tmpdir_write(pack, "SLB0f                                                                ", 68);
    assert_error(delta_file_info(pack, &info, &err), ERR_INVALID, &err,
                 "this version of `engine delta make`");
    tmpdir_write(pack, "SLB2f                                                                ", 68);
    assert_error(delta_file_info(pack, &info, &err), ERR_CORRUPT, &err, "is damaged");
    write_claim(pack, 1, 100);
    assert_error(delta_file_info(pack, &info, &err), ERR_INVALID, &err, "a frame of 100 bytes");
}

static void small_pair(const char **base, const char **target)
{
    *base = tmpdir_path("small.old");
    *target = tmpdir_path("small.new");
    tmpdir_write(*base, "The quick brown fox jumps over the lazy dog", 43);
    tmpdir_write(*target, "The quick brown cat jumps over the lazy dog", 43);
}

/* Every bit of a pack, and every bit of its base. */
static void test_every_flipped_bit_is_found(void **state)
{
    const char *base, *target, *pack = tmpdir_path("flip.pack"), *out = tmpdir_path("flip.out");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;

    (void)state;
    small_pair(&base, &target);
    for (int delta = 0; delta < 2; delta++) {
        assert_ok(delta_file_make(delta ? base : NULL, target, pack, NULL, &stats, &info, &err),
                  &err);
        for (int of_base = 0; of_base <= delta; of_base++) {
            const char *path = of_base ? base : pack;
            size_t len = 0;
            AUTO_FREE char *bytes = tmpdir_read(path, &len);

            for (size_t bit = 0; bit < 8 * len; bit++) {
                bytes[bit / 8] ^= (char)(1 << bit % 8);
                tmpdir_write(path, bytes, len);
                assert_true(delta_file_apply(delta ? base : NULL, pack, out, NULL, &info, &err) <
                            0);
                assert_false(path_exists(out));
                bytes[bit / 8] ^= (char)(1 << bit % 8);
            }
            tmpdir_write(path, bytes, len);
        }
        assert_ok(delta_file_apply(delta ? base : NULL, pack, out, NULL, &info, &err), &err);
        tmpdir_remove(out);
    }
}

static void test_every_truncation_is_found(void **state)
{
    const char *base, *target, *pack = tmpdir_path("cut.pack"), *out = tmpdir_path("cut.out");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;

    (void)state;
    small_pair(&base, &target);
    for (int delta = 0; delta < 2; delta++) {
        size_t len = 0;

        assert_ok(delta_file_make(delta ? base : NULL, target, pack, NULL, &stats, &info, &err),
                  &err);
        AUTO_FREE char *bytes = tmpdir_read(pack, &len);
        while (len-- > 0) {
            tmpdir_write(pack, bytes, len);
            assert_true(delta_file_info(pack, &info, &err) < 0);
            assert_true(delta_file_apply(delta ? base : NULL, pack, out, NULL, &info, &err) < 0);
            assert_false(path_exists(out));
        }
    }
}

/* OUT.part is ours only if it looks like it. */
static void test_what_lies_in_the_way(void **state)
{
    const char *base, *target, *pack = tmpdir_path("way.pack"), *out = tmpdir_path("way.out");
    const char *precious = tmpdir_path("way.out.part/precious");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    char hex[HASH_HEX];

    (void)state;
    small_pair(&base, &target);
    assert_ok(delta_file_make(base, target, pack, NULL, &stats, &info, &err), &err);
    tmpdir_write(precious, "x", 1);
    assert_error(delta_file_apply(base, pack, out, NULL, &info, &err), ERR_EXISTS, &err,
                 "holds precious");
    assert_true(path_exists(precious));
    tmpdir_remove(tmpdir_path("way.out.part"));
    /* A tree of another artifact that an apply to the same OUT left. */
    tmpdir_write(tmpdir_path("way.out.part/%s/small.new", hash_hex(&info.base, hex)), "wrong", 5);
    tmpdir_write(tmpdir_path("way.out.tree/small.new"), "wrong", 5);
    assert_ok(delta_file_apply(base, pack, out, NULL, &info, &err), &err);
    AUTO_FREE char *a = tmpdir_read(out, NULL);
    assert_memory_equal(a, "The quick brown cat", 19);
    assert_true(path_exists(tmpdir_path("way.out.tree/small.new")));
    assert_false(path_exists(tmpdir_path("way.out.part")));
    /* OUT is there, and not what the pack makes: it stays, whatever is in OUT.part. */
    tmpdir_write(out, "mine", 4);
    assert_int_equal(mkdir(tmpdir_path("way.out.part"), 0755), 0);
    assert_error(delta_file_apply(base, pack, out, NULL, &info, &err), ERR_EXISTS, &err,
                 "there already");
    AUTO_FREE char *b = tmpdir_read(out, NULL);
    assert_string_equal(b, "mine");
}

/* Stops after n steps, each time one more, as if it were killed between two segments. */
static int stop_later(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    int *left = ctx;

    (void)what;
    (void)done;
    (void)total;
    return (*left)-- > 0 ? 0 : -1;
}

static void test_resumes(void **state)
{
    const char *base, *target, *pack = tmpdir_path("r.pack"), *out = tmpdir_path("r.out");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    int left = 0, tries = 0, r;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(base, target, pack, NULL, &stats, &info, &err), &err);
    do {
        struct delta_file_options o = { .progress = stop_later, .ctx = &left };

        left = tries++ < 2 ? tries : 3; /* hash, begin of apply, one segment */
        r = delta_file_apply(base, pack, out, &o, &info, &err);
        if (r < 0)
            assert_int_equal(err.code, ERR_CANCELLED);
        assert_true(tries < 10);
    } while (r < 0);
    assert_true(tries > 2);
    assert_true(trees_equal(target, out));
}

/* Changes the target once its digests are known. */
static int change_later(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    const char *path = ctx;
    size_t len;

    (void)done;
    (void)total;
    if (strcmp(what, "encode") == 0) {
        AUTO_FREE char *data = tmpdir_read(path, &len);

        memset(data + len / 2, 0, 1000);
        tmpdir_write(path, data, len);
    }
    return 0;
}

static void test_the_target_changes(void **state)
{
    const char *base, *target, *pack = tmpdir_path("c.pack");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;

    (void)state;
    for (int full = 0; full < 2; full++) {
        two_trees(&base, &target);
        AUTO_FREE char *large = mem_printf("%s/bin/large", target);
        struct delta_file_options options = { .threads = 2,
                                              .progress = change_later,
                                              .ctx = large };

        assert_error(
            delta_file_make(full ? NULL : base, target, pack, &options, &stats, &info, &err),
            ERR_CONFLICT, &err, "changed while");
        assert_false(path_exists(pack));
    }
}

/* What did not change from one to the other is not read again to be encoded: it is looked at once more. */
static void test_what_was_equal_changes(void **state)
{
    const char *base, *target, *pack = tmpdir_path("e.pack");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    char same[5000];

    (void)state;
    for (int i = 0; i < 2; i++) {
        two_trees(&base, &target);
        AUTO_FREE char *in_base = mem_printf("%s/same-to-be", base);
        AUTO_FREE char *in_target = mem_printf("%s/same-to-be", target);
        struct delta_file_options options = { .threads = 1 + (unsigned)i,
                                              .progress = change_later,
                                              .ctx = i == 0 ? in_base : in_target };

        memset(same, 'x', sizeof(same));
        tmpdir_write(in_base, same, sizeof(same));
        tmpdir_write(in_target, same, sizeof(same));
        assert_error(delta_file_make(base, target, pack, &options, &stats, &info, &err),
                     ERR_CONFLICT, &err, "same-to-be: changed while");
        assert_false(path_exists(pack));
    }
}

static size_t files_beside(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

struct others {
    const char *stale, *locked, *foreign;
    bool looked;
};

static int look_at_others(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct others *o = ctx;

    (void)done;
    (void)total;
    if (strcmp(what, "test") == 0 && !o->looked) {
        o->looked = true;
        assert_false(path_exists(o->stale));
        assert_true(path_exists(o->locked));
        assert_true(path_exists(o->foreign));
    }
    return 0;
}

/* Who was killed while it made a pack left it half made: the next one takes that away, and nothing that
 * somebody works on, or that has another name. */
static void test_what_a_kill_left(void **state)
{
    const char *base, *target, *dir = tmpdir_fresh();
    AUTO_FREE char *pack = mem_printf("%s/k.pack", dir);
    AUTO_FREE char *stale = mem_printf("%s/k.pack.making.aB3xyz", dir);
    AUTO_FREE char *locked = mem_printf("%s/k.pack.making.123456", dir);
    AUTO_FREE char *foreign = mem_printf("%s/k.pack.making.notes.txt", dir);
    AUTO_FREE char *backup = mem_printf("%s/k.pack.making.backup", dir);
    struct others others = { stale, locked, foreign, false };
    struct delta_file_options options = { .progress = look_at_others, .ctx = &others };
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    int fd;

    (void)state;
    two_trees(&base, &target);
    tmpdir_write(stale, "half", 4);
    tmpdir_write(locked, "half", 4);
    tmpdir_write(foreign, "mine", 4);
    tmpdir_write(backup, "mine", 4);
    assert_int_equal(chmod(stale, 0600) | chmod(locked, 0600) | chmod(backup, 0644), 0);
    fd = open(locked, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_ok(delta_file_make(base, target, pack, &options, &stats, &info, &err), &err);
    assert_true(others.looked);
    assert_int_equal(files_beside(dir), 4);
    close(fd);
    assert_ok(delta_file_make(base, target, pack, NULL, &stats, &info, &err), &err);
    assert_int_equal(files_beside(dir), 3);
}

static bool can_clone(const char *path)
{
    int from = open(path, O_RDONLY), to = open(tmpdir_path("clone"), O_WRONLY | O_CREAT, 0600);
    bool can = ioctl(to, FICLONE, from) == 0;

    close(from);
    close(to);
    return can;
}

/* One file that did not change is not written again, and may have another name. */
static void test_an_unchanged_file(void **state)
{
    const char *base = tmpdir_path("was"), *target = tmpdir_path("is"),
               *pack = tmpdir_path("u.pack");
    const char *out = tmpdir_path("u.out"), *renamed = tmpdir_path("was.before");
    struct random r = { 5 };
    size_t len = (9 << 20) + 1, got;
    char *data = mem_alloc(len);
    struct delta_file_info made, seen_info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    struct stat a, b;

    (void)state;
    random_fill(&r, data, len);
    tmpdir_write(base, data, len);
    tmpdir_write(target, data, len);
    assert_ok(delta_file_make(base, target, pack, NULL, &stats, &made, &err), &err);
    assert_true(made.file_bytes < 300); /* no digest of a segment that did not change */
    assert_int_equal(stats.segments[SEGMENT_COPY], 3);
    assert_ok(delta_file_info(pack, &seen_info, &err), &err);
    same_info(&made, &seen_info);
    /* The base, too, may have another name by now. */
    assert_int_equal(rename(base, renamed), 0);
    base = renamed;
    assert_ok(delta_file_apply(base, pack, out, NULL, &made, &err), &err);
    AUTO_FREE char *seen = tmpdir_read(out, &got);
    assert_int_equal(got, len);
    assert_memory_equal(seen, data, len);
    assert_int_equal(stat(base, &a), 0);
    assert_int_equal(stat(out, &b), 0);
    assert_true(a.st_ino == b.st_ino || can_clone(base));
    free(data);
}

/* A base that is not what it was is no base. */
static void test_a_changed_base(void **state)
{
    const char *base, *target, *pack = tmpdir_path("b.pack"), *out = tmpdir_path("b.out");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    size_t len;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(base, target, pack, NULL, &stats, &info, &err), &err);
    AUTO_FREE char *large = mem_printf("%s/bin/large", base);
    AUTO_FREE char *data = tmpdir_read(large, &len);
    data[len - 1] ^= 64;
    tmpdir_write(large, data, len);
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct delta_file_options o = { .threads = threads };

        assert_error(delta_file_apply(base, pack, out, &o, &info, &err), ERR_INVALID, &err,
                     "another base");
        assert_non_null(strstr(err.text, "bin/large: its bytes are others"));
        assert_false(path_exists(out));
        assert_false(path_exists(tmpdir_path("b.out.part")));
    }
}

/* Stops after the first segment; then what it left is changed, or is in use. */
static void test_what_was_left_is_not_believed(void **state)
{
    const char *base, *target, *pack = tmpdir_path("l.pack"), *out = tmpdir_path("l.out");
    const char *state_path = tmpdir_path("l.out.part/staging/state");
    const char *large = tmpdir_path("l.out.part/staging/tree/bin/large");
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    size_t len = 0;
    int lock;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(NULL, target, pack, NULL, &stats, &info, &err), &err);
    for (int what = 0; what < 3; what++) {
        int left = what == 1 ? 2 : 3; /* of test_resumes(): no segment; one */
        struct delta_file_options o = { .progress = stop_later, .ctx = &left };

        assert_error(delta_file_apply(NULL, pack, out, &o, &info, &err), ERR_CANCELLED, &err, "");
        AUTO_FREE char *bytes = tmpdir_read(what == 0 ? large : state_path, &len);
        if (what == 0) { /* a bit of what was written */
            bytes[len / 2] = (char)(bytes[len / 2] ^ 1);
            tmpdir_write(large, bytes, len);
        } else if (what == 1) { /* it says that all is written */
            bytes[len - 1] = bytes[len - 2] = 3;
            tmpdir_write(state_path, bytes, len);
        } else {
            lock = open(tmpdir_path("l.out.part"), O_RDONLY | O_DIRECTORY);
            assert_int_equal(flock(lock, LOCK_EX), 0);
            assert_error(delta_file_apply(NULL, pack, out, NULL, &info, &err), ERR_CONFLICT, &err,
                         "another process");
            close(lock);
        }
        assert_ok(delta_file_apply(NULL, pack, out, NULL, &info, &err), &err);
        assert_true(trees_equal(target, out));
        tmpdir_remove(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_full_and_one_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_every_flipped_bit_is_found),
        cmocka_unit_test(test_every_truncation_is_found),
        cmocka_unit_test(test_what_lies_in_the_way),
        cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_what_was_left_is_not_believed),
        cmocka_unit_test(test_the_target_changes),
        cmocka_unit_test(test_what_was_equal_changes),
        cmocka_unit_test(test_what_a_kill_left),
        cmocka_unit_test(test_an_unchanged_file),
        cmocka_unit_test(test_a_changed_base),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
