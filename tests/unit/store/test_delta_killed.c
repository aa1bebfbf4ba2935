#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/decode.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/killer.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/delta_file.h"
#include "store/pack_source.h"
#include "store/tree.h"

enum { SEGMENTS_MAX = 16 };

/* Which segments were decoded, counted across processes. The linker leads the calls here. */
static unsigned *decoded;

int __real_delta_read_segment(struct delta_decoder *d, size_t i, unsigned char *out,
                              struct err *err);
int __wrap_delta_read_segment(struct delta_decoder *d, size_t i, unsigned char *out,
                              struct err *err);
int __real_delta_read_two(struct delta_decoder *d, size_t i, unsigned char *out_i, size_t k,
                          unsigned char *out_k, struct err *err);
int __wrap_delta_read_two(struct delta_decoder *d, size_t i, unsigned char *out_i, size_t k,
                          unsigned char *out_k, struct err *err);
int __real_full_read_segment(struct full_decoder *d, const struct full *f, const struct manifest *m,
                             size_t i, pack_read_at read, void *ctx, unsigned char *out,
                             struct err *err);
int __wrap_full_read_segment(struct full_decoder *d, const struct full *f, const struct manifest *m,
                             size_t i, pack_read_at read, void *ctx, unsigned char *out,
                             struct err *err);

int __wrap_delta_read_segment(struct delta_decoder *d, size_t i, unsigned char *out,
                              struct err *err)
{
    __atomic_fetch_add(&decoded[i], 1, __ATOMIC_SEQ_CST);
    return __real_delta_read_segment(d, i, out, err);
}

int __wrap_delta_read_two(struct delta_decoder *d, size_t i, unsigned char *out_i, size_t k,
                          unsigned char *out_k, struct err *err)
{
    __atomic_fetch_add(&decoded[i], 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&decoded[k], 1, __ATOMIC_SEQ_CST);
    return __real_delta_read_two(d, i, out_i, k, out_k, err);
}

int __wrap_full_read_segment(struct full_decoder *d, const struct full *f, const struct manifest *m,
                             size_t i, pack_read_at read, void *ctx, unsigned char *out,
                             struct err *err)
{
    __atomic_fetch_add(&decoded[i], 1, __ATOMIC_SEQ_CST);
    return __real_full_read_segment(d, f, m, i, read, ctx, out, err);
}

/* What is applied to what, again and again. */
struct scene {
    const char *base, *target, *pack, *out;
    bool tree;
    size_t kills, repeated;
    struct tree *content; /* the target's */
};

static int apply(void *arg)
{
    const struct scene *s = arg;
    struct delta_file_info info;
    struct err err = ERR_INIT;
    int r = delta_file_apply(s->base, s->pack, s->out, NULL, &info, &err);

    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    return r;
}

static bool files_equal(const char *a, const char *b)
{
    size_t la = 0, lb = 0;
    AUTO_FREE char *x = tmpdir_read(a, &la);
    AUTO_FREE char *y = tmpdir_read(b, &lb);
    struct stat sa, sb;

    return x != NULL && y != NULL && la == lb && memcmp(x, y, la) == 0 && stat(a, &sa) == 0 &&
           stat(b, &sb) == 0 && sa.st_mode == sb.st_mode;
}

static void assert_made(const struct scene *s)
{
    AUTO_FREE char *part = mem_printf("%s.part", s->out);
    AUTO_FREE char *tree = mem_printf("%s.tree", s->out);

    assert_true(s->tree ? trees_equal(s->target, s->out) : files_equal(s->target, s->out));
    assert_false(path_exists(part));
    assert_false(path_exists(tree));
}

/* Is segment i in the staging, every byte? */
static bool is_staged(const struct scene *s, size_t i)
{
    const struct manifest *m = tree_manifest(s->content);
    AUTO_FREE char *dir = mem_printf("%s.part/staging/tree", s->out);
    AUTO_FREE unsigned char *data = mem_alloc(SEGMENT_BYTES);
    size_t len = manifest_segment_bytes(m, i);
    struct hash h;

    if (tree_read_segment(dir, m, i, data, NULL) < 0)
        return false;
    h = sha256_of(data, len);
    return hash_equal(&h, &m->segments[i]);
}

/* Killed once at change n, and applied again: right, and what was on disk was not decoded twice. */
static bool killed_once(struct scene *s, size_t n, enum kill_how how)
{
    size_t segments = tree_manifest(s->content)->nsegments;
    bool staged[SEGMENTS_MAX] = { false };
    unsigned repeated = 0;

    tmpdir_remove(s->out);
    memset(decoded, 0, SEGMENTS_MAX * sizeof(*decoded));
    if (!kill_at(n, how, apply, s))
        return false;
    /* What has its name, is whole. */
    if (path_exists(s->out))
        assert_true(s->tree ? trees_equal(s->target, s->out) : files_equal(s->target, s->out));
    for (size_t i = 0; i < segments; i++)
        staged[i] = decoded[i] > 0 && is_staged(s, i);
    assert_int_equal(apply(s), 0);
    assert_made(s);
    for (size_t i = 0; i < segments; i++) {
        assert_true(decoded[i] <= (staged[i] ? 1 : 2));
        repeated += decoded[i] == 2;
    }
    /* Those that were being written, and those decoded beside them. */
    assert_true(repeated <= 2 * PACK_SOURCE_TOGETHER);
    s->kills++;
    s->repeated += repeated;
    return true;
}

static void kill_all(struct scene *s, enum kill_how how)
{
    while (killed_once(s, s->kills, how))
        continue;
    assert_made(s); /* the last one came to the end by itself */
    assert_true(s->kills > 30);
    assert_true(s->repeated > 0); /* else nothing was killed while it wrote */
    print_message("# %zu kills, %zu segments decoded twice\n", s->kills, s->repeated);
    tree_close(s->content);
}

static void write_at(const char *dir, const char *name, const void *data, size_t len)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);

    tmpdir_write(path, data, len);
}

/* Two segments; files that span them, that are unchanged, that are empty. */
static void two_trees(struct scene *s)
{
    struct random r = { 19 };
    size_t len = SEGMENT_BYTES + 70000;
    unsigned char *data = mem_alloc(len);

    s->base = tmpdir_fresh();
    s->target = tmpdir_fresh();
    s->tree = true;
    for (size_t i = 0; i < len; i += 32)
        data[i] = (unsigned char)random_next(&r);
    for (int i = 0; i < 2; i++) {
        const char *dir = i == 0 ? s->base : s->target;

        write_at(dir, "a/large", data, len - 10000);
        write_at(dir, "a/same", "the same", 8);
        write_at(dir, "b/text", i == 0 ? "was" : "is now", i == 0 ? 3 : 6);
        write_at(dir, "b/empty", "", 0);
        for (size_t k = 100; k < len; k += 100000)
            data[k] ^= 255;
    }
    free(data);
}

static void make_scene(struct scene *s, bool delta)
{
    static int scenes;
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;

    s->pack = tmpdir_path("pack%d", scenes);
    s->out = tmpdir_path("out%d", scenes++);
    s->base = delta ? s->base : NULL;
    assert_ok(delta_file_make(s->base, s->target, s->pack, NULL, &stats, &info, &err), &err);
    assert_ok(tree_open(&s->content, s->target, &err), &err);
    assert_ok(tree_read(s->content, NULL, NULL, &err), &err);
}

static const char *large_of(const char *dir)
{
    return tmpdir_path("%s/a/large", strrchr(dir, '/') + 1);
}

static void test_tree(void **state)
{
    (void)state;
    for (int torn = 0; torn < 2; torn++) {
        struct scene s = { 0 };

        two_trees(&s);
        make_scene(&s, true);
        kill_all(&s, torn ? KILL_TORN : KILL_BEFORE);
    }
}

static void test_file_of_a_full_pack(void **state)
{
    struct scene s = { 0 };

    (void)state;
    two_trees(&s);
    s.target = large_of(s.target);
    s.tree = false;
    make_scene(&s, false);
    kill_all(&s, KILL_BEFORE);
}

static void test_file(void **state)
{
    struct scene s = { 0 };

    (void)state;
    two_trees(&s);
    s.base = large_of(s.base);
    s.target = large_of(s.target);
    s.tree = false;
    make_scene(&s, true);
    kill_all(&s, KILL_TORN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_file_of_a_full_pack),
    };

    decoded = shared_memory(SEGMENTS_MAX * sizeof(*decoded));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
