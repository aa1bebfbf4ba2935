#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "store/beneath.h"
#include "store/tree.h"

/* The path of a thing in dir, which tmpdir_fresh() made. */
static const char *in(const char *dir, const char *name)
{
    return tmpdir_path("%s/%s", strrchr(dir, '/') + 1, name);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    tmpdir_write(in(dir, name), text, strlen(text));
}

static struct tree *open_tree(const char *path)
{
    struct err err = ERR_INIT;
    struct tree *t = NULL;

    assert_ok(tree_open(&t, path, &err), &err);
    return t;
}

static void test_order_and_digests(void **state)
{
    static const char *const order[] = { "B", "a", "a-b", "a.txt", "a/x", "a/x/deep", "b", "link" };
    const char *dir = tmpdir_fresh();
    struct err err = ERR_INIT;
    const struct manifest *m;
    struct hash h;
    struct tree *t;

    (void)state;
    write_file(dir, "b", "");
    write_file(dir, "a.txt", "xyz");
    write_file(dir, "a/x/deep", "1234");
    write_file(dir, "a-b", "56");
    write_file(dir, "B", "");
    assert_int_equal(symlink("a/x", in(dir, "link")), 0);
    t = open_tree(dir);
    m = tree_manifest(t);
    assert_int_equal(m->nentries, COUNT_OF(order));
    for (size_t i = 0; i < COUNT_OF(order); i++)
        assert_string_equal(m->entries[i].path, order[i]);
    assert_int_equal(m->stream_bytes, 9);
    assert_ok(tree_read(t, NULL, NULL, &err), &err);
    h = merkle_segment("56xyz1234", 9);
    assert_memory_equal(&m->segments[0], &h, sizeof(h));
    h = sha256_of("1234", 4);
    assert_memory_equal(&m->entries[5].hash, &h, sizeof(h));
    tree_close(t);
    tree_close(NULL);
}

static void test_an_empty_tree(void **state)
{
    struct tree *t = open_tree(tmpdir_fresh());
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(tree_read(t, NULL, NULL, &err), &err);
    assert_int_equal(tree_manifest(t)->nentries, 0);
    assert_int_equal(tree_manifest(t)->nsegments, 0);
    tree_close(t);
}

static int note(void *ctx, size_t i, const void *data, size_t len, struct err *err)
{
    size_t *lengths = ctx;

    (void)data;
    (void)err;
    lengths[i] = len;
    return 0;
}

/* Exactly two segments, over the edges of three files. */
static void test_segments(void **state)
{
    const char *dir = tmpdir_fresh();
    char *data = mem_alloc(SEGMENT_BYTES);
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    size_t lengths[3] = { 0 };
    struct err err = ERR_INIT;
    struct tree *t;

    (void)state;
    memset(data, 'x', SEGMENT_BYTES);
    tmpdir_write(in(dir, "1"), data, SEGMENT_BYTES - 1);
    tmpdir_write(in(dir, "2"), data, 2);
    tmpdir_write(in(dir, "3"), data, SEGMENT_BYTES - 1);
    t = open_tree(dir);
    assert_int_equal(tree_manifest(t)->nsegments, 2);
    assert_ok(tree_read(t, note, lengths, &err), &err);
    assert_int_equal(lengths[0], SEGMENT_BYTES);
    assert_int_equal(lengths[1], SEGMENT_BYTES);
    assert_ok(tree_read_segment(dir, tree_manifest(t), 1, out, &err), &err);
    assert_memory_equal(out, data, SEGMENT_BYTES);
    write_file(dir, "2", "xy");
    assert_error(tree_read_segment(dir, tree_manifest(t), 1, out, &err), ERR_CORRUPT, &err,
                 "segment 1");
    write_file(dir, "2", "");
    assert_error(tree_read_segment(dir, tree_manifest(t), 1, out, &err), ERR_CORRUPT, &err,
                 "2: shorter");
    unlink(in(dir, "2"));
    assert_error(tree_read_segment(dir, tree_manifest(t), 1, out, &err), ERR_NOT_FOUND, &err,
                 "open 2");
    tree_close(t);
    free(data);
    free(out);
}

static void test_modes(void **state)
{
    const char *dir = tmpdir_fresh();
    const struct manifest *m;
    struct tree *t;

    (void)state;
    write_file(dir, "d/f", "x");
    chmod(in(dir, "d/f"), 0111);
    chmod(in(dir, "d"), 02555); /* set-gid of a directory is inherited, not meant */
    t = open_tree(dir);
    m = tree_manifest(t);
    assert_int_equal(m->entries[0].mode, 0755);
    assert_int_equal(m->entries[1].mode, 0511);
    tree_close(t);
    chmod(in(dir, "d"), 0755);
}

static void make_socket(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_true(strlen(path) < sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
}

static void refused(const char *dir, const char *part)
{
    struct err err = ERR_INIT;
    struct tree *t = NULL;

    assert_error(tree_open(&t, dir, &err), ERR_INVALID, &err, part);
    assert_non_null(strstr(err.text, dir));
    assert_null(t);
}

static void test_what_is_refused(void **state)
{
    const char *dir;

    (void)state;
    dir = tmpdir_fresh();
    make_socket(in(dir, "s"));
    refused(dir, "/s: is a socket: remove it");
    dir = tmpdir_fresh();
    assert_int_equal(mkfifo(in(dir, "p"), 0600), 0);
    refused(dir, "/p: is a fifo: remove it");
    dir = tmpdir_fresh();
    write_file(dir, "su", "x");
    chmod(in(dir, "su"), 04755);
    refused(dir, "chmod ug-s it");
    dir = tmpdir_fresh();
    assert_int_equal(symlink("/etc/passwd", in(dir, "l")), 0);
    refused(dir, "make it relative and inside the tree");
    dir = tmpdir_fresh();
    assert_int_equal(symlink("../x", in(dir, "l")), 0);
    refused(dir, "leaves the tree");
    dir = tmpdir_fresh();
    write_file(dir, "a\nb", "x");
    refused(dir, "rename or remove $'a\\x0ab': path: has a control character");
    dir = tmpdir_fresh();
    write_file(dir, "\377", "x");
    refused(dir, "rename or remove $'\\xff': path: not valid UTF-8");
}

static void test_a_single_file(void **state)
{
    const char *dir = tmpdir_fresh();
    struct err err = ERR_INIT;
    struct tree *t;

    (void)state;
    write_file(dir, "server", "binary");
    write_file(dir, "other", "x");
    assert_int_equal(symlink("server", in(dir, "current")), 0);
    t = open_tree(in(dir, "current")); /* the path itself may be a link */
    assert_int_equal(tree_manifest(t)->nentries, 1);
    assert_string_equal(tree_manifest(t)->entries[0].path, "server");
    assert_ok(tree_read(t, NULL, NULL, &err), &err);
    tree_close(t);
    assert_int_equal(mkfifo(in(dir, "p"), 0600), 0);
    t = NULL;
    assert_error(tree_open(&t, in(dir, "p"), &err), ERR_INVALID, &err, "is a fifo");
    assert_error(tree_open(&t, in(dir, "none"), &err), ERR_NOT_FOUND, &err, "none");
}

static void test_changes_while_reading(void **state)
{
    const char *dir = tmpdir_fresh();
    struct err err = ERR_INIT;
    struct tree *t;

    (void)state;
    write_file(dir, "f", "1234");
    t = open_tree(dir);
    write_file(dir, "f", "12345");
    assert_error(tree_read(t, NULL, NULL, &err), ERR_CONFLICT, &err, "/f: changed");
    write_file(dir, "f", "123");
    assert_error(tree_read(t, NULL, NULL, &err), ERR_CONFLICT, &err, "/f: changed");
    unlink(in(dir, "f"));
    assert_error(tree_read(t, NULL, NULL, &err), ERR_NOT_FOUND, &err, "open f");
    assert_int_equal(symlink("/etc/passwd", in(dir, "f")), 0);
    assert_true(tree_read(t, NULL, NULL, &err) < 0); /* never through a link */
    tree_close(t);
}

static void test_open_beneath(void **state)
{
    const char *dir = tmpdir_fresh();
    struct err err = ERR_INIT;
    int root = open(dir, O_RDONLY | O_DIRECTORY);
    int fd = -1;
    char *deep = mem_printf("d/%0*d", PATH_MAX_BYTES + 5, 0);

    (void)state;
    write_file(dir, "d/e/f", "x");
    assert_int_equal(symlink("d", in(dir, "l")), 0);
    assert_int_equal(symlink("f", in(dir, "d/e/g")), 0);
    assert_ok(tree_open_beneath(&fd, root, "d/e/f", O_RDONLY, 0, &err), &err);
    close(fd);
    assert_true(tree_open_beneath(&fd, root, "l/e/f", O_RDONLY, 0, &err) < 0);
    assert_true(tree_open_beneath(&fd, root, "d/e/g", O_RDONLY, 0, &err) < 0);
    assert_error(tree_open_beneath(&fd, root, "d/none/f", O_RDONLY, 0, &err), ERR_NOT_FOUND, &err,
                 "open d/none/f");
    assert_error(tree_open_beneath(&fd, root, deep, O_RDONLY, 0, &err), ERR_LIMIT, &err,
                 "too long");
    free(deep);
    close(root);
}

static ino_t inode_of(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    close(fd);
    return st.st_ino;
}

/* One directory after the other, back and forth, and with names that begin alike: always the file
 * that the path names, never one behind a link, and nothing stays open. */
static void test_beneath(void **state)
{
    static const char *const paths[] = { "a/f",   "a/g",  "ab/f",   "a/b/f",  "f",
                                         "a/b/g", "a/f",  "none/f", "a/none", "l/f",
                                         "a/l",   "ab/f", "f",      "a/b/f" };
    const char *dir = tmpdir_fresh();
    int root = open(dir, O_RDONLY | O_DIRECTORY);
    struct beneath b = BENEATH(root);
    struct err err = ERR_INIT;

    (void)state;
    write_file(dir, "a/f", "1");
    write_file(dir, "a/g", "2");
    write_file(dir, "a/b/f", "3");
    write_file(dir, "a/b/g", "4");
    write_file(dir, "ab/f", "5");
    write_file(dir, "f", "6");
    assert_int_equal(symlink("a", in(dir, "l")), 0);
    assert_int_equal(symlink("f", in(dir, "a/l")), 0);
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        int x = -1, y = -1;
        int plain = tree_open_beneath(&x, root, paths[i], O_RDONLY, 0, NULL);

        assert_int_equal(beneath_open(&y, &b, paths[i], O_RDONLY, 0, &err), plain);
        if (plain == 0)
            assert_int_equal(inode_of(x), inode_of(y));
    }
    beneath_release(&b);
    assert_int_equal(b.fd, -1);
    close(root);
}

/* Hard links of one file are files like any other, and names that differ in case are two names. */
static void test_links_and_cases(void **state)
{
    static const char *const order[] = { "A", "B", "a", "d", "d/F", "d/f" };
    const char *dir = tmpdir_fresh();
    const struct manifest *m;
    struct err err = ERR_INIT;
    struct tree *t = NULL;

    (void)state;
    write_file(dir, "a", "the same");
    write_file(dir, "B", "other");
    write_file(dir, "d/f", "small");
    assert_int_equal(link(in(dir, "a"), in(dir, "A")), 0);
    assert_int_equal(link(in(dir, "a"), in(dir, "d/F")), 0);
    assert_ok(tree_open(&t, dir, &err), &err);
    assert_ok(tree_read(t, NULL, NULL, &err), &err);
    m = tree_manifest(t);
    assert_int_equal(m->nentries, COUNT_OF(order));
    for (size_t i = 0; i < COUNT_OF(order); i++)
        assert_string_equal(m->entries[i].path, order[i]);
    assert_true(hash_equal(&m->entries[0].hash, &m->entries[2].hash));
    assert_true(hash_equal(&m->entries[0].hash, &m->entries[4].hash));
    assert_int_equal(m->stream_bytes, 3 * 8 + 5 + 5);
    tree_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_digests),
        cmocka_unit_test(test_an_empty_tree),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_a_single_file),
        cmocka_unit_test(test_changes_while_reading),
        cmocka_unit_test(test_open_beneath),
        cmocka_unit_test(test_beneath),
        cmocka_unit_test(test_links_and_cases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
