#include <fcntl.h>
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

/* IN_FLIGHT: one being decoded, and the one being written beside it. */
enum { SEGMENTS_MAX = 128, IN_FLIGHT = 2 };

/* Which segments were decoded, counted across processes. The linker leads the calls here. */
static unsigned *decoded;

int __real_delta_read_segment(struct delta_decoder *d, size_t i, unsigned char *out,
                              struct err *err);
int __wrap_delta_read_segment(struct delta_decoder *d, size_t i, unsigned char *out,
                              struct err *err);
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
    struct delta_file_options options;
    size_t kills, repeated;
    struct tree *content;       /* the target's */
    struct hash target_id;      /* its artifact */
    bool on_disk[SEGMENTS_MAX]; /* after the last run */
    unsigned char *segment;
};

static int apply(void *arg)
{
    const struct scene *s = arg;
    struct delta_file_info info;
    struct err err = ERR_INIT;
    int r = delta_file_apply(s->base, s->pack, s->out, &s->options, &info, &err);

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

static bool is_right(const struct scene *s)
{
    return s->tree ? trees_equal(s->target, s->out) : files_equal(s->target, s->out);
}

static void assert_made(const struct scene *s)
{
    AUTO_FREE char *part = mem_printf("%s.part", s->out);

    assert_true(is_right(s));
    assert_false(path_exists(part));
}

/* What a file has of a span. Where it has not grown to yet, there will be zeros, unless somebody
 * writes there; to its last byte it grows by being written. */
static bool read_span(const char *dir, const struct entry *e, const struct span *span, void *data)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, e->path);
    bool is_end = span->in_file + span->len == e->size;
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : pread(fd, data, span->len, (off_t)span->in_file);

    if (fd >= 0)
        close(fd);
    return n >= 0 && (!is_end || (size_t)n == span->len);
}

static bool is_staged(const struct scene *s, size_t i)
{
    const struct manifest *m = tree_manifest(s->content);
    AUTO_FREE char *dir = mem_printf("%s.part/staging/tree", s->out);
    struct span span;
    struct hash h;

    memset(s->segment, 0, SEGMENT_BYTES);
    for (size_t k = 0; k < m->nentries; k++) {
        if (manifest_span(m, i, k, &span) &&
            !read_span(dir, &m->entries[k], &span, s->segment + span.in_segment))
            return false;
    }
    h = merkle_segment(s->segment, manifest_segment_bytes(m, i));
    return hash_equal(&h, &m->segments[i]);
}

/* Which segments are on disk, every byte: in the staging, or in what became of it. */
static void look(const struct scene *s, bool on_disk[SEGMENTS_MAX])
{
    char hex[HASH_HEX];
    AUTO_FREE char *moved = mem_printf("%s.part/%s", s->out, hash_hex(&s->target_id, hex));
    bool whole = path_exists(s->out) || path_exists(moved);

    for (size_t i = 0; i < tree_manifest(s->content)->nsegments; i++)
        on_disk[i] = whole || is_staged(s, i);
}

/* Applied, killed at change n (SIZE_MAX: not killed). No segment is decoded that was on disk, none
 * twice, and all that was decoded is on disk after it but for what was under way. */
static bool run(struct scene *s, size_t n, enum kill_how how)
{
    bool killed = n != SIZE_MAX, after[SEGMENTS_MAX] = { false };
    size_t under_way = 0;

    memset(decoded, 0, SEGMENTS_MAX * sizeof(*decoded));
    if (killed)
        killed = kill_at(n, how, apply, s);
    else
        assert_int_equal(apply(s), 0);
    if (!killed)
        assert_made(s);
    else if (path_exists(s->out)) /* what has its name, is whole */
        assert_true(is_right(s));
    look(s, after);
    for (size_t i = 0; i < tree_manifest(s->content)->nsegments; i++) {
        assert_true(decoded[i] <= (s->on_disk[i] ? 0 : 1));
        assert_true(after[i] || !s->on_disk[i]);
        under_way += decoded[i] > 0 && !after[i];
    }
    assert_true(under_way <= (killed ? IN_FLIGHT : 0));
    memcpy(s->on_disk, after, sizeof(after));
    s->kills += killed;
    s->repeated += under_way;
    return killed;
}

static void forget(struct scene *s)
{
    tmpdir_remove(s->out);
    memset(s->on_disk, 0, sizeof(s->on_disk));
}

/* Killed at every stride-th change, and applied again. */
static void kill_all(struct scene *s, enum kill_how how, size_t stride)
{
    forget(s);
    for (size_t n = 0; run(s, n, how); n += stride) {
        run(s, SIZE_MAX, how);
        forget(s);
    }
    assert_true(s->repeated > 0); /* else nothing was killed while it wrote */
    print_message("# %zu kills, %zu segments decoded twice\n", s->kills, s->repeated);
}

/* Each run is killed at its n-th change, until one comes to the end. */
static void kill_again_and_again(struct scene *s, size_t n)
{
    size_t kills = 0;

    forget(s);
    while (run(s, n, KILL_TORN))
        kills++;
    assert_true(kills > 2);
    print_message("# killed %zu times in a row\n", kills);
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

/* Mostly zeros, so that many segments cost little: no segment is all zeros. */
static unsigned char *thin_bytes(struct random *r, size_t len)
{
    unsigned char *data = mem_calloc(len, 1);

    for (size_t at = 0; at + 4096 <= len; at += 1 << 19)
        random_fill(r, data + at, 4096);
    return data;
}

/* `segments` and some: a file of that many, of which a few segments change not at all, and files of
 * which some span a segment's end; one that is unchanged has a segment for itself. */
static void many_segments(struct scene *s, size_t segments)
{
    struct random r = { 29 };
    size_t len = segments * SEGMENT_BYTES + 70000, same = 2 * SEGMENT_BYTES;
    unsigned char *data = thin_bytes(&r, len);

    s->base = tmpdir_fresh();
    s->target = tmpdir_fresh();
    s->tree = true;
    for (int i = 0; i < 2; i++) {
        const char *dir = i == 0 ? s->base : s->target;

        write_at(dir, "a/large", data, len);
        write_at(dir, "b/same", data + 1000, same);
        for (unsigned char k = 0; k < 12; k++) {
            AUTO_FREE char *name = mem_printf("c/%u", k);

            write_at(dir, name, data + k * 9000UL, 700000);
        }
        for (size_t k = 0; k < len; k += SEGMENT_BYTES / 2 + 5000) {
            if (k / SEGMENT_BYTES % 5 != 3)
                data[k] ^= 255;
        }
        memmove(data + 1000 + same, data + 1000 + same + 64, 100000);
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
    s->target_id = info.target;
    s->segment = mem_alloc(SEGMENT_BYTES);
    assert_ok(tree_open(&s->content, s->target, &err), &err);
    assert_ok(tree_read(s->content, NULL, NULL, &err), &err);
}

static void scene_release(struct scene *s)
{
    free(s->segment);
    tree_close(s->content);
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
        kill_all(&s, torn ? KILL_TORN : KILL_BEFORE, 1);
        assert_true(s.kills > 30);
        scene_release(&s);
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
    kill_all(&s, KILL_BEFORE, 1);
    assert_true(s.kills > 30);
    scene_release(&s);
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
    kill_all(&s, KILL_TORN, 1);
    assert_true(s.kills > 30);
    scene_release(&s);
}

static size_t setting(const char *name, size_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : (size_t)strtoul(text, NULL, 10);
}

/* Much is on disk when it is killed, and much is not. KILL_STRIDE and KILL_SEGMENTS in the
 * environment: for the long run of all of it (`make soak-kills`). */
static void kill_scene_of_many(bool tree, bool delta, unsigned threads, enum kill_how how)
{
    struct scene s = { .options = { .threads = threads } };

    many_segments(&s, setting("KILL_SEGMENTS", 12));
    if (!tree) {
        s.base = large_of(s.base);
        s.target = large_of(s.target);
        s.tree = false;
    }
    make_scene(&s, delta);
    assert_in_range(tree_manifest(s.content)->nsegments, 12, SEGMENTS_MAX);
    kill_all(&s, how, setting("KILL_STRIDE", 47));
    kill_again_and_again(&s, 40);
    scene_release(&s);
}

static void test_many_segments_of_a_tree(void **state)
{
    (void)state;
    kill_scene_of_many(true, true, 2, KILL_TORN);
}

static void test_many_segments_on_one_thread(void **state)
{
    (void)state;
    kill_scene_of_many(true, true, 1, KILL_BEFORE);
}

static void test_many_segments_of_a_file(void **state)
{
    (void)state;
    kill_scene_of_many(false, true, 2, KILL_BEFORE);
}

static void test_many_segments_of_a_full_pack(void **state)
{
    (void)state;
    kill_scene_of_many(true, false, 2, KILL_TORN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_file_of_a_full_pack),
        cmocka_unit_test(test_many_segments_of_a_tree),
        cmocka_unit_test(test_many_segments_on_one_thread),
        cmocka_unit_test(test_many_segments_of_a_file),
        cmocka_unit_test(test_many_segments_of_a_full_pack),
    };

    decoded = shared_memory(SEGMENTS_MAX * sizeof(*decoded));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
