#include "io/files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/check.h"

static char root[64];

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/test_files.XXXXXX");
    assert_non_null(mkdtemp(root));
    return chdir(root);
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(dir_remove(root, NULL), 0);
    assert_false(path_exists(root));
    return 0;
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void published_is_read_back_with_its_mode(void **state)
{
    static const mode_t modes[] = { 0600, 0644, 0755, 0444 };
    mode_t old = umask(077);

    (void)state;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        AUTO_BUF got = BUF_INIT;

        assert_int_equal(file_publish("f", "hello\0there", 11, modes[i], NULL), 0);
        assert_int_equal(mode_of("f"), modes[i]);
        assert_int_equal(file_read(&got, "f", 11, NULL), 0);
        assert_int_equal(got.len, 11);
        assert_memory_equal(got.data, "hello\0there", 12);
    }
    umask(old);
}

static void empty_file(void **state)
{
    AUTO_BUF got = BUF_INIT;

    (void)state;
    assert_int_equal(file_publish("empty", "", 0, 0600, NULL), 0);
    assert_int_equal(file_read(&got, "empty", 0, NULL), 0);
    assert_int_equal(got.len, 0);
    assert_string_equal(got.data, "");
}

static void read_has_a_limit_and_appends(void **state)
{
    AUTO_BUF got = BUF_INIT;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(file_publish("f", "0123456789", 10, 0600, NULL), 0);
    buf_str_append(&got, "before:");
    assert_int_equal(file_read(&got, "f", 9, &err), -ERR_LIMIT);
    assert_string_equal(got.data, "before:");
    assert_int_equal(file_read(&got, "f", 10, &err), 0);
    assert_string_equal(got.data, "before:0123456789");
    assert_int_equal(file_read(&got, "missing", 9, &err), -ERR_NOT_FOUND);
    assert_int_equal(file_read(&got, ".", 9, &err), -ERR_IO);
}

/* A reader in a loop sees one whole version or the other, while a child publishes. */
static void publishing_is_atomic(void **state)
{
    char a[5000], b[7000];
    pid_t pid;
    int status;

    (void)state;
    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    assert_int_equal(file_publish("f", a, sizeof(a), 0600, NULL), 0);
    pid = fork();
    if (pid == 0) {
        int rc = 0;

        for (int i = 0; i < 30 && rc == 0; i++)
            rc = i % 2 == 0 ? file_publish("f", b, sizeof(b), 0600, NULL)
                            : file_publish("f", a, sizeof(a), 0600, NULL);
        _exit(rc == 0 ? 0 : 1);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        AUTO_BUF got = BUF_INIT;

        assert_int_equal(file_read(&got, "f", 10000, NULL), 0);
        assert_int_equal(got.len, got.data[0] == 'a' ? sizeof(a) : sizeof(b));
        assert_memory_equal(got.data, got.data[0] == 'a' ? a : b, got.len);
    }
    assert_int_equal(status, 0);
}

static void failed_publish_leaves_nothing(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(file_publish("no/such/f", "x", 1, 0600, &err), -ERR_NOT_FOUND);
    assert_int_equal(mkdir("d", 0755), 0);
    assert_int_equal(mkdir("d/full", 0755), 0);
    assert_int_equal(mkdir("d/full/x", 0755), 0);
    assert_int_equal(file_publish("d/full", "x", 1, 0600, &err), -ERR_IO);
    assert_int_equal(unlink("d/full"), -1); /* still a directory */
    assert_int_equal(rmdir("d/full/x"), 0);
    assert_int_equal(rmdir("d/full"), 0);
    assert_int_equal(rmdir("d"), 0); /* no temporary file is left in it */
}

static void publish_rename_moves_files_and_directories(void **state)
{
    struct err err = ERR_INIT;
    int fd = open("t", O_CREAT | O_WRONLY, 0640);

    (void)state;
    assert_int_equal(fd_write_at(fd, "data", 4, 0, NULL), 0);
    close(fd);
    assert_int_equal(file_publish_rename("t", "f", &err), 0);
    assert_true(path_exists("f"));
    assert_false(path_exists("t"));
    assert_int_equal(dir_make("d/e", 0755, &err), 0);
    assert_int_equal(file_publish_rename("d/e", "d/g", &err), 0);
    assert_true(path_is_dir("d/g"));
    assert_int_equal(file_publish_rename("t", "f", &err), -ERR_NOT_FOUND);
    assert_int_equal(dir_sync("f", &err), -ERR_IO);
}

static void publish_new_replaces_nothing(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(file_publish("n", "new", 3, 0600, &err), &err);
    assert_ok(file_publish("o", "old", 3, 0600, &err), &err);
    assert_ok(dir_make("nd", 0755, &err), &err);
    assert_ok(dir_make("od", 0755, &err), &err);
    assert_int_equal(symlink("nowhere", "ol"), 0);
    assert_error(file_publish_new("n", "o", &err), ERR_EXISTS, &err, "o: is there already");
    assert_error(file_publish_new("n", "od", &err), ERR_EXISTS, &err, "od: is there already");
    assert_error(file_publish_new("n", "ol", &err), ERR_EXISTS, &err, "ol: is there already");
    assert_error(file_publish_new("nd", "od", &err), ERR_EXISTS, &err, "od: is there already");
    assert_error(file_publish_new("n", "none/n", &err), ERR_NOT_FOUND, &err, "rename n to none/n");
    assert_error(file_publish_new("none", "p", &err), ERR_NOT_FOUND, &err, "none");
    assert_ok(file_publish_new("n", "p", &err), &err);
    assert_ok(file_publish_new("nd", "pd", &err), &err);
    assert_true(path_exists("p") && path_is_dir("pd") && path_exists("o"));
    assert_false(path_exists("n") || path_exists("nd"));
}

static void directories_are_made_with_parents(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(dir_make("a/b//c/", 0755, &err), 0);
    assert_int_equal(dir_make("a/b/c", 0755, &err), 0);
    assert_true(path_is_dir("a/b/c"));
    assert_int_equal(file_publish("a/f", "", 0, 0600, NULL), 0);
    assert_int_equal(dir_make("a/f", 0755, &err), -ERR_EXISTS);
    assert_int_equal(dir_make("a/f/g", 0755, &err), -ERR_EXISTS);
    assert_true(path_exists("a/f"));
    assert_false(path_is_dir("a/f"));
}

static void removal_does_not_follow_links(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(dir_make("keep", 0755, NULL), 0);
    assert_int_equal(file_publish("keep/f", "x", 1, 0600, NULL), 0);
    assert_int_equal(dir_make("gone/sub", 0755, NULL), 0);
    assert_int_equal(symlink("../../keep", "gone/sub/link"), 0);
    assert_int_equal(symlink("nowhere", "gone/dangling"), 0);
    assert_int_equal(chmod("gone/sub", 0000), 0); /* as some build tools leave them */
    assert_int_equal(dir_remove("gone", &err), 0);
    assert_false(path_exists("gone"));
    assert_true(path_exists("keep/f"));
    assert_int_equal(dir_remove("gone", &err), 0); /* missing is fine */
    assert_int_equal(symlink("keep", "link"), 0);
    assert_int_equal(dir_remove("link", &err), 0);
    assert_true(path_exists("keep/f"));
}

/* Deeper than there are descriptors, and than a path can be long. */
static void deep_trees_are_removed(void **state)
{
    int fd = -1;

    (void)state;
    assert_int_equal(mkdir("deep", 0755), 0);
    fd = open("deep", O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 3000; i++) {
        int next;

        assert_int_equal(mkdirat(fd, i % 2 == 0 ? "d" : "deep.1", 0755), 0);
        next = openat(fd, i % 2 == 0 ? "d" : "deep.1", O_RDONLY | O_DIRECTORY);
        close(fd);
        fd = next;
    }
    close(fd);
    assert_int_equal(dir_remove("deep", NULL), 0);
    assert_false(path_exists("deep"));
}

static void reads_and_writes_at_offsets(void **state)
{
    int fd = open("f", O_CREAT | O_RDWR, 0600);
    struct err err = ERR_INIT;
    char got[4];

    (void)state;
    assert_int_equal(fd_write_at(fd, "abcd", 4, 100, &err), 0);
    assert_int_equal(fd_read_at(fd, got, 4, 100, &err), 0);
    assert_memory_equal(got, "abcd", 4);
    assert_int_equal(fd_read_at(fd, got, 4, 101, &err), -ERR_CORRUPT);
    close(fd);
    assert_int_equal(fd_read_at(fd, got, 4, 0, &err), -ERR_IO);
    assert_int_equal(fd_write_at(fd, got, 4, 0, &err), -ERR_IO);
}

static void reads_the_end(void **state)
{
    AUTO_BUF all = BUF_INIT;
    AUTO_BUF end = BUF_INIT;

    (void)state;
    assert_int_equal(file_publish("log", "one\ntwo\n", 8, 0600, NULL), 0);
    assert_int_equal(file_read_end(&all, "log", 100, NULL), 0);
    assert_string_equal(all.data, "one\ntwo\n");
    assert_int_equal(file_read_end(&end, "log", 4, NULL), 0);
    assert_string_equal(end.data, "two\n");
    assert_int_equal(file_read_end(&end, "no-log", 4, NULL), -ERR_NOT_FOUND);
}

static void no_space_has_its_own_code(void **state)
{
    int fd = open("/dev/full", O_WRONLY);
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(fd_write_at(fd, "abcd", 4, 0, &err), -ERR_NO_SPACE);
    close(fd);
}

static void check_reserved(const char *path, bool takes_blocks)
{
    struct err err = ERR_INIT;
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_reserve(fd, 0, &err), 0);
    assert_int_equal(fd_reserve(fd, 1 << 20, &err), 0);
    assert_int_equal(fd_reserve(fd, 1 << 16, &err), 0); /* never shorter */
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 1 << 20);
    assert_int_equal(st.st_blocks > 0, takes_blocks);
    if (!takes_blocks) /* a disk would be filled before it says so */
        assert_int_equal(fd_reserve(fd, (uint64_t)1 << 50, &err), -ERR_NO_SPACE);
    close(fd);
    unlink(path);
}

static void space_is_reserved(void **state)
{
    char path[64];
    struct statfs fs;

    (void)state;
    snprintf(path, sizeof(path), "/dev/shm/test_files.%d", (int)getpid());
    if (statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS_MAGIC)
        check_reserved(path, false);
    if (statfs(".", &fs) == 0 && fs.f_type != TMPFS_MAGIC)
        check_reserved("reserved", true);
}

static void lock_is_exclusive_until_closed(void **state)
{
    struct err err = ERR_INIT;
    int a = -1, b = -1;

    (void)state;
    assert_int_equal(file_lock(&a, "lock", &err), 0);
    assert_int_equal(file_lock(&b, "lock", &err), -ERR_EXISTS);
    close(a);
    assert_int_equal(file_lock(&b, "lock", &err), 0);
    close(b);
    assert_int_equal(file_lock(&b, "no/lock", &err), -ERR_NOT_FOUND);
}

static void real_path(void **state)
{
    AUTO_BUF got = BUF_INIT;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(symlink(".", "here"), 0);
    assert_int_equal(path_real(&got, "here/here", &err), 0);
    assert_string_equal(got.data, root);
    assert_int_equal(path_real(&got, "missing", &err), -ERR_NOT_FOUND);
}

static void zeros_stay_holes(void **state)
{
    enum { LEN = 700000, BLOCK = 64 << 10 };
    unsigned char *data = calloc(1, LEN), *seen = malloc(LEN);
    size_t parts[] = { 0, 1, 100, BLOCK, 3 * BLOCK + 7, 5 * BLOCK - 1, LEN };
    struct err err = ERR_INIT;
    struct stat st;

    (void)state;
    assert_non_null(data);
    assert_non_null(seen);
    data[3] = 1;
    data[5 * BLOCK - 1] = 2;
    data[8 * BLOCK] = 3;
    for (size_t n = sizeof(parts) / sizeof(*parts) - 1; n > 0;
         n--) { /* all, then cut off earlier */
        int fd = open("sparse", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        for (size_t i = n; i > 0; i--)
            assert_int_equal(fd_write_sparse(fd, data + parts[i - 1], parts[i] - parts[i - 1],
                                             parts[i - 1], parts[n], &err),
                             0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, parts[n]);
        for (size_t from = 0; from < parts[n]; from += BLOCK / 2 + from / 3) {
            size_t len = parts[n] - from < 2 * BLOCK ? parts[n] - from : 2 * BLOCK;

            memset(seen, 9, LEN);
            assert_int_equal(fd_read_sparse(fd, seen, len, from, &err), 0);
            assert_memory_equal(seen, data + from, len);
        }
        assert_int_equal(fd_read_sparse(fd, seen, LEN, 1, &err), -ERR_CORRUPT);
        assert_int_equal(fd_read_at(fd, seen, parts[n], 0, &err), 0);
        assert_memory_equal(seen, data, parts[n]);
        if (n == 6)
            assert_true(st.st_blocks * 512 <= 5 * BLOCK);
        close(fd);
    }
    free(data);
    free(seen);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(published_is_read_back_with_its_mode),
        T(empty_file),
        T(read_has_a_limit_and_appends),
        T(publishing_is_atomic),
        T(failed_publish_leaves_nothing),
        T(publish_rename_moves_files_and_directories),
        T(publish_new_replaces_nothing),
        T(directories_are_made_with_parents),
        T(removal_does_not_follow_links),
        T(deep_trees_are_removed),
        T(reads_and_writes_at_offsets),
        T(reads_the_end),
        T(zeros_stay_holes),
        T(no_space_has_its_own_code),
        T(space_is_reserved),
        T(lock_is_exclusive_until_closed),
        T(real_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
