/* Of delta files: what they say of themselves, and which paths are refused. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/delta_file_internal.h"
#include "store/delta_paths.h"

/* Evenly spread bytes behind a magic number. */
static void write_noise(const char *path, const char *magic, uint64_t seed, size_t len)
{
    struct random r = { seed };
    AUTO_BUF b = BUF_INIT;

    buf_str_append(&b, magic);
    while (b.len < len)
        buf_char(&b, (char)(unsigned char)(random_next(&r) >> 40));
    tmpdir_write(path, b.data, b.len);
}

static void write_text(const char *path, uint64_t seed, size_t words, const char *end)
{
    struct random r = { seed };
    AUTO_BUF b = BUF_INIT;

    for (size_t i = 0; i < words; i++)
        buf_printf(&b, "%llu ", (unsigned long long)random_below(&r, 1 << 20));
    buf_str_append(&b, end);
    tmpdir_write(path, b.data, b.len);
}

static void two_trees(const char **base, const char **target)
{
    *base = tmpdir_fresh();
    *target = tmpdir_fresh();
    for (uint64_t i = 0; i < 2; i++) {
        const char *dir = i == 0 ? *base : *target;
        AUTO_FREE char *gz = mem_printf("%s/a/lib.so.gz", dir);
        AUTO_FREE char *same = mem_printf("%s/same.gz", dir);
        AUTO_FREE char *text = mem_printf("%s/text", dir);

        write_noise(gz, "\x1f\x8b", 5 + i, 5 << 20);
        write_noise(same, "\x1f\x8b", 9, 300000);
        write_text(text, 3, 200000, i == 0 ? "was" : "is now");
    }
}

static void assert_costs(const struct delta_file_costs *costs)
{
    assert_in_range(costs->count, 1, 2);
    assert_string_equal(costs->items[0].path, "a/lib.so.gz");
    assert_int_equal(costs->items[0].size, 5 << 20);
    assert_int_equal(costs->items[0].cost.reason, COST_PACKED);
    assert_string_equal(costs->items[0].cost.packed->name, "gzip");
    assert_int_equal(costs->packed, 1);
}

/* What the maker says, its file says too. */
static void test_report(void **state)
{
    const char *base, *target, *pack = tmpdir_path("r.pack");
    struct delta_file_costs made_costs = { .count = 0 }, costs = { .count = 0 };
    struct delta_file_options options = { .threads = 2, .costs = &made_costs };
    struct delta_file_info made, info;
    struct delta_stats made_stats, stats;
    struct err err = ERR_INIT;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(base, target, pack, &options, &made_stats, &made, &err), &err);
    assert_costs(&made_costs);
    assert_ok(delta_file_report(pack, &info, &stats, &costs, &err), &err);
    assert_costs(&costs);
    assert_true(hash_equal(&made.target, &info.target) && hash_equal(&made.base, &info.base));
    assert_memory_equal(stats.segments, made_stats.segments, sizeof(stats.segments));
    assert_memory_equal(stats.payload_bytes, made_stats.payload_bytes, sizeof(stats.payload_bytes));
    assert_int_equal(stats.groups, made_stats.groups);
    assert_int_equal(stats.covers, made_stats.covers);
    assert_int_equal(stats.covers_bytes, made_stats.covers_bytes);
    delta_file_costs_release(&made_costs);
    delta_file_costs_release(&costs);
}

/* A full pack has no base to compare with: compressed files are named, nothing is "new". */
static void test_report_of_a_full_pack(void **state)
{
    const char *base, *target, *pack = tmpdir_path("f.pack");
    struct delta_file_costs made_costs = { .count = 0 }, costs = { .count = 0 };
    struct delta_file_options options = { .costs = &made_costs };
    struct delta_file_info info;
    struct delta_stats made_stats, stats;
    struct err err = ERR_INIT;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(NULL, target, pack, &options, &made_stats, &info, &err), &err);
    assert_ok(delta_file_report(pack, &info, &stats, &costs, &err), &err);
    assert_int_equal(made_costs.count, 3);
    assert_int_equal(costs.count, 3);
    assert_int_equal(costs.packed, 2);
    assert_string_equal(costs.items[0].path, "a/lib.so.gz");
    assert_string_equal(costs.items[1].path, "text");
    assert_int_equal(costs.items[1].cost.reason, COST_NONE);
    assert_int_equal(stats.segments[SEGMENT_STORED] + stats.segments[SEGMENT_ZSTD], info.segments);
    delta_file_costs_release(&made_costs);
    delta_file_costs_release(&costs);
}

/* Every truncation is an error that names the file. */
static void test_cut(void **state)
{
    const char *base, *target, *pack = tmpdir_path("c.pack"), *cut = tmpdir_path("cut.pack");
    struct delta_file_costs costs = { .count = 0 };
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    size_t len;

    (void)state;
    two_trees(&base, &target);
    assert_ok(delta_file_make(base, target, pack, NULL, &stats, &info, &err), &err);
    AUTO_FREE char *bytes = tmpdir_read(pack, &len);
    for (size_t n = 0; n < len; n += n < 1500 ? 37 : 500000) {
        tmpdir_write(cut, bytes, n);
        assert_true(delta_file_report(cut, &info, &stats, &costs, &err) < 0);
        assert_non_null(strstr(err.text, "cut.pack"));
        assert_non_null(strstr(err.text, "was cut"));
    }
    assert_error(delta_file_report(base, &info, &stats, &costs, &err), ERR_INVALID, &err,
                 "is no file");
}

static void test_paths(void **state)
{
    const char *base, *target, *file = tmpdir_path("a-file"), *link = tmpdir_path("a-link");
    struct err err = ERR_INIT;

    (void)state;
    base = tmpdir_fresh();
    target = tmpdir_fresh();
    tmpdir_write(file, "x", 1);
    assert_int_equal(symlink(target, link), 0);
    AUTO_FREE char *inside = mem_printf("%s/p", target);
    AUTO_FREE char *inside_link = mem_printf("%s/p", link);
    AUTO_FREE char *slashes = mem_printf("%s//", base);
    AUTO_FREE char *beside = mem_printf("%s-pack", target);
    const struct {
        const char *base, *target, *pack;
        enum err_code code;
        const char *words;
    } cases[] = {
        { base, target, beside, ERR_NONE, "" },
        { NULL, target, beside, ERR_NONE, "" },
        { base, target, file, ERR_NONE, "" }, /* is replaced */
        { base, base, beside, ERR_NONE, "" },
        { tmpdir_path("none"), target, beside, ERR_NOT_FOUND, "BASE " },
        { base, tmpdir_path("none"), beside, ERR_NOT_FOUND, "TARGET " },
        { base, target, tmpdir_path("none/p"), ERR_NOT_FOUND, "its directory" },
        { base, target, tmpdir_path("a-file/p"), ERR_INVALID, "is no directory" },
        { base, target, tmpdir(), ERR_INVALID, "is a directory" },
        { base, target, base, ERR_INVALID, "is BASE itself" },
        { base, target, slashes, ERR_INVALID, "is BASE itself" },
        { base, target, inside, ERR_INVALID, "inside TARGET" },
        { base, target, inside_link, ERR_INVALID, "inside TARGET" },
        { target, base, inside_link, ERR_INVALID, "inside BASE" },
        { base, file, file, ERR_INVALID, "is TARGET itself" },
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int r = delta_paths_make(cases[i].base, cases[i].target, cases[i].pack, &err);

        if (cases[i].code == ERR_NONE)
            assert_ok(r, &err);
        else
            assert_error(r, cases[i].code, &err, cases[i].words);
    }
    assert_ok(delta_paths_apply(base, file, beside, &err), &err);
    assert_ok(delta_paths_apply(NULL, file, "no-such-file", &err), &err); /* in this directory */
    assert_error(delta_paths_apply(target, file, inside, &err), ERR_INVALID, &err, "inside BASE");
    assert_error(delta_paths_apply(NULL, file, tmpdir_path("none/o"), &err), ERR_NOT_FOUND, &err,
                 "OUT ");
}

/* What an apply works in is emptied: its inputs may not be there. */
static void test_inputs_in_the_workplace(void **state)
{
    const char *base = tmpdir_path("w.part/staging/base"), *pack = tmpdir_path("w.part/pack");
    const char *part = tmpdir_path("w.part"), *near = tmpdir_path("w.partly");
    struct err err = ERR_INIT;

    (void)state;
    tmpdir_write(base, "b", 1);
    tmpdir_write(pack, "p", 1);
    tmpdir_write(near, "n", 1);
    for (int slash = 0; slash < 2; slash++) {
        AUTO_FREE char *out = mem_printf("%s%s", tmpdir_path("w"), slash ? "/" : "");

        assert_error(delta_paths_apply(base, near, out, &err), ERR_INVALID, &err, "BASE ");
        assert_error(delta_paths_apply(part, near, out, &err), ERR_INVALID, &err, "BASE ");
        assert_error(delta_paths_apply(near, pack, out, &err), ERR_INVALID, &err, "PACK ");
        assert_ok(delta_paths_apply(near, near, out, &err), &err);
    }
}

static void test_denied(void **state)
{
    struct err err = ERR_INIT;
    const char *dir, *pack;

    (void)state;
    if (geteuid() == 0)
        skip(); /* nothing is denied to root */
    dir = tmpdir_fresh();
    pack = tmpdir_path("%s/p", dir + strlen(tmpdir()) + 1);
    assert_int_equal(chmod(dir, 0500), 0);
    assert_error(delta_paths_make(NULL, tmpdir(), pack, &err), ERR_DENIED, &err, "cannot write");
}

static void put_number(struct buf *b, size_t at, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        b->data[at + (size_t)i] = (char)(unsigned char)(v >> (8 * i));
}

/* A file of a few KB that claims manifests of zeros, of that many bytes each. */
static void write_claim(const char *path, size_t each)
{
    size_t raw = 2 * each, bound = ZSTD_compressBound(raw), len;
    unsigned char *zeros = mem_calloc(raw, 1);
    AUTO_BUF b = BUF_INIT;
    struct hash h;
    int fd;

    buf_reserve(&b, DELTA_FILE_HEAD_BYTES + bound);
    memset(b.data, 0, DELTA_FILE_HEAD_BYTES);
    len = ZSTD_compress(b.data + DELTA_FILE_HEAD_BYTES, bound, zeros, raw, 1);
    assert_false(ZSTD_isError(len));
    free(zeros);
    b.len = DELTA_FILE_HEAD_BYTES + len;
    memcpy(b.data, "SLB2d", 5);
    put_number(&b, 5, each);
    put_number(&b, 13, each);
    put_number(&b, 21, len);
    tmpdir_write(path, b.data, b.len);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(delta_file_digest(fd, b.len, &h, NULL), 0);
    close(fd);
    memcpy(b.data + DELTA_FILE_DIGEST_AT, h.b, HASH_BYTES);
    tmpdir_write(path, b.data, b.len);
}

/* No memory is taken for what a file of that size cannot hold. */
static void test_claims(void **state)
{
    const char *path = tmpdir_path("claim.pack");
    struct delta_file_info info;
    struct err err = ERR_INIT;

    (void)state;
    write_claim(path, 40 << 20);
    assert_error(delta_file_info(path, &info, &err), ERR_LIMIT, &err,
                 "cannot hold manifests of 83886080");
    write_claim(path, 1 << 20);
    assert_error(delta_file_info(path, &info, &err), ERR_INVALID, &err, "manifest");
}

/* What compresses best: a deep tree of empty directories, on both sides. */
static void test_manifests_that_compress_well(void **state)
{
    enum { DIRS = 60000 };
    struct manifest m = { .entries = mem_calloc(DIRS + 3, sizeof(*m.entries)) };
    AUTO_FREE char *name = mem_alloc(201);
    AUTO_FREE char *top = NULL;
    AUTO_BUF head = BUF_INIT;
    struct delta d = { 0 };
    struct err err = ERR_INIT;
    uint64_t raw = 0;

    (void)state;
    memset(name, 'n', 200);
    top = mem_printf("%s/%s/%s", name, name, name);
    m.entries[m.nentries++].path = mem_strdup(name);
    m.entries[m.nentries++].path = mem_printf("%s/%s", name, name);
    m.entries[m.nentries++].path = mem_strdup(top);
    for (int i = 0; i < DIRS; i++)
        m.entries[m.nentries++].path = mem_printf("%s/%06d", top, i);
    for (size_t i = 0; i < m.nentries; i++) {
        m.entries[i].kind = ENTRY_DIR;
        m.entries[i].mode = 0755;
    }
    assert_ok(delta_file_head(&head, true, &m, &m, &d, &err), &err);
    for (int i = 7; i >= 0; i--)
        raw = raw << 8 | (unsigned char)head.data[5 + i];
    raw *= 2;
    assert_true(raw > 60 << 20);
    assert_true(raw < (uint64_t)(head.len - DELTA_FILE_HEAD_BYTES) * 2048 + (16 << 20));
    for (size_t i = 0; i < m.nentries; i++)
        free(m.entries[i].path);
    free(m.entries);
}

struct appearing {
    const char *out;
    bool tree;
};

/* Somebody makes OUT while it is being made. */
static int appear(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    const struct appearing *a = ctx;

    (void)done;
    (void)total;
    if (strcmp(what, "apply") == 0 && a->tree)
        assert_true(mkdir(a->out, 0755) == 0 || path_is_dir(a->out));
    else if (strcmp(what, "apply") == 0)
        tmpdir_write(a->out, "theirs", 6);
    return 0;
}

static void test_out_appears(void **state)
{
    const char *base, *target;

    (void)state;
    two_trees(&base, &target);
    for (int tree = 0; tree <= 1; tree++) {
        const char *pack = tmpdir_path("appears%d.pack", tree);
        struct appearing a = { tmpdir_path("appears%d.out", tree), tree };
        struct delta_file_options o = { .progress = appear, .ctx = &a };
        AUTO_FREE char *b = mem_printf("%s%s", base, tree ? "" : "/text");
        AUTO_FREE char *t = mem_printf("%s%s", target, tree ? "" : "/text");
        struct delta_file_info info;
        struct delta_stats stats;
        struct err err = ERR_INIT;
        char *theirs;

        assert_ok(delta_file_make(b, t, pack, NULL, &stats, &info, &err), &err);
        assert_error(delta_file_apply(b, pack, a.out, &o, &info, &err), ERR_EXISTS, &err,
                     "is there already");
        theirs = tree ? NULL : tmpdir_read(a.out, NULL);
        assert_true(tree || strcmp(theirs, "theirs") == 0);
        free(theirs);
        tmpdir_remove(a.out);
        assert_ok(delta_file_apply(b, pack, a.out, NULL, &info, &err), &err);
        assert_true(path_is_dir(a.out) == tree);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_report_of_a_full_pack),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_inputs_in_the_workplace),
        cmocka_unit_test(test_denied),
        cmocka_unit_test(test_out_appears),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_manifests_that_compress_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
