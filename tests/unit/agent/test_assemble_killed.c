/* A release is staged, and the agent killed at every change of the file system that it makes. KILL_STRIDE
 * and KILL_SEGMENTS in the environment: for the long run of all of it (`make soak-kills`). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "assemble.h"
#include "base/mem.h"
#include "delta/decode.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/killer.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "releases.h"
#include "store/publish.h"
#include "store/publish_delta.h"
#include "store/tree.h"

/* One segment after the other: decoded, written. */
enum { SEGMENTS_MAX = 128, IN_FLIGHT = 1 };

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
    decoded[i]++;
    return __real_delta_read_segment(d, i, out, err);
}

int __wrap_full_read_segment(struct full_decoder *d, const struct full *f, const struct manifest *m,
                             size_t i, pack_read_at read, void *ctx, unsigned char *out,
                             struct err *err)
{
    decoded[i]++;
    return __real_full_read_segment(d, f, m, i, read, ctx, out, err);
}

/* A release as it comes from the region: its artifact, and one pack of it as a file. */
struct coming {
    const char *tree, *pack_path;
    const char *doc;
    struct hash artifact, pack;
    struct buf manifest, index;
};

/* On the machine: where, and what runs there now. */
struct scene {
    const char *dir;
    const struct coming *coming;
    struct hash base; /* a release, or zero */
    const struct manifest *m;
    bool on_disk[SEGMENTS_MAX]; /* after the last run */
    unsigned char *segment;
    size_t kills, repeated;
};

static struct hash release_of(const struct coming *c)
{
    return sha256_of(c->doc, strlen(c->doc));
}

static int apply(struct assembly *a, const struct coming *c, struct err *err)
{
    struct pack_index *x = NULL;
    struct offer *offer;
    struct plan plan = { .npacks = 0 };
    struct bitmap here = { NULL, 0, 0 };
    size_t refused = 0;
    int r = pack_index_parse(&x, c->index.data, c->index.len, err);

    if (r < 0)
        return r;
    offer_new(&offer, &c->pack, x);
    pack_index_free(x);
    r = assembly_read(a, offer, c->pack_path, err);
    if (r == 0)
        r = assembly_plan(a, &offer, 1, &here, &plan, err);
    if (r == 0)
        r = assembly_apply(a, offer, c->pack_path, &plan.take[0], &refused, err);
    plan_release(&plan);
    offer_free(offer);
    return r == 0 && refused > 0 ? err_set(err, ERR_CORRUPT, "segments were refused") : r;
}

/* As an agent does that finds itself at any point of it. */
static int stage(void *arg)
{
    const struct scene *s = arg;
    const struct coming *c = s->coming;
    struct receipt receipt = {
        .deployment = "d-1", .wanted_bytes = 5, .seed_bytes = 3, .peer_bytes = 2, .saved_bytes = 7
    };
    struct assembly_spec spec = {
        .dir = s->dir, .artifact = c->artifact, .release = release_of(c), .base = s->base
    };
    struct assembly *a = NULL;
    struct err err = ERR_INIT;
    int r = 0;

    spec.doc = (struct bytes){ (unsigned char *)(uintptr_t)c->doc, strlen(c->doc) };
    spec.manifest = (struct bytes){ (unsigned char *)c->manifest.data, c->manifest.len };
    if (!releases_has(s->dir, &spec.release)) {
        assembly_new(&a, &spec);
        r = assembly_prepare(a, &err);
        if (r == 0 && assembly_needed_bytes(a) > 0)
            r = apply(a, c, &err);
        if (r == 0)
            r = assembly_finish(a, &receipt, &err);
        assembly_free(a);
    }
    if (r == 0)
        r = releases_verify(s->dir, &spec.release, &spec.artifact, &err);
    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    return r;
}

static char *tree_of(const struct scene *s, bool staged)
{
    struct hash release = release_of(s->coming);
    AUTO_FREE char *path =
        staged ? releases_staging(s->dir, &release) : releases_path(s->dir, &release);

    return mem_printf("%s/%s", path, staged ? "staging/tree" : "tree");
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

static bool is_in(const struct scene *s, const char *dir, size_t i)
{
    const struct manifest *m = s->m;
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

/* In the staging, the tree that it becomes, or the release. */
static bool is_on_disk(const struct scene *s, size_t i)
{
    struct hash release = release_of(s->coming);
    AUTO_FREE char *staging = tree_of(s, true);
    AUTO_FREE char *tree = tree_of(s, false);
    AUTO_FREE char *tmp = releases_staging(s->dir, &release);
    AUTO_FREE char *moved = mem_printf("%s/tree", tmp);

    return is_in(s, staging, i) || is_in(s, moved, i) || is_in(s, tree, i);
}

static void forget(struct scene *s)
{
    struct hash release = release_of(s->coming);
    AUTO_FREE char *staging = releases_staging(s->dir, &release);
    AUTO_FREE char *path = releases_path(s->dir, &release);

    tmpdir_remove(staging);
    tmpdir_remove(path);
    memset(s->on_disk, 0, sizeof(s->on_disk));
}

static void assert_made(const struct scene *s)
{
    struct hash release = release_of(s->coming);
    AUTO_FREE char *staging = releases_staging(s->dir, &release);
    AUTO_FREE char *tree = tree_of(s, false);

    assert_true(trees_equal(s->coming->tree, tree));
    assert_false(path_exists(staging));
}

/* Staged, killed at change n (SIZE_MAX: not killed). No segment is decoded that was on disk, none
 * twice, and all that was decoded is on disk after it but for what was under way. */
static bool run(struct scene *s, size_t n, enum kill_how how)
{
    bool killed = n != SIZE_MAX, after[SEGMENTS_MAX] = { false };
    struct hash release = release_of(s->coming);
    AUTO_FREE char *path = releases_path(s->dir, &release);
    AUTO_FREE char *tree = tree_of(s, false);
    size_t under_way = 0;

    memset(decoded, 0, SEGMENTS_MAX * sizeof(*decoded));
    if (killed)
        killed = kill_at(n, how, stage, s);
    else
        assert_int_equal(stage(s), 0);
    if (!killed)
        assert_made(s);
    else if (path_exists(path)) /* what has its name, is whole */
        assert_true(trees_equal(s->coming->tree, tree));
    for (size_t i = 0; i < s->m->nsegments; i++) {
        after[i] = is_on_disk(s, i);
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

/* Killed at every stride-th change, and staged again; it is staged in the end. */
static void kill_all(struct scene *s, enum kill_how how, size_t stride)
{
    struct err err = ERR_INIT;
    struct manifest *m = NULL;

    assert_ok(manifest_parse(&m, s->coming->manifest.data, s->coming->manifest.len, &err), &err);
    assert_true(m->nsegments <= SEGMENTS_MAX);
    s->m = m;
    s->segment = mem_alloc(SEGMENT_BYTES);
    s->kills = s->repeated = 0;
    forget(s);
    for (size_t n = 0; run(s, n, how); n += stride) {
        run(s, SIZE_MAX, how);
        forget(s);
    }
    assert_true(s->repeated > 0); /* else nothing was killed while it wrote */
    print_message("# %zu kills, %zu segments decoded twice\n", s->kills, s->repeated);
    free(s->segment);
    manifest_free(m);
}

/* Mostly zeros, so that many segments cost little. Of some segments nothing changes. */
static void write_tree(const char *dir, size_t segments, bool second)
{
    struct random r = { 23 };
    size_t len = segments * SEGMENT_BYTES + 50000;
    unsigned char *data = mem_calloc(len, 1);
    const char *name = strrchr(dir, '/') + 1;

    for (size_t at = 0; at + 4096 <= len; at += 1 << 19)
        random_fill(&r, data + at, 4096);
    for (size_t i = 50; second && i < len; i += SEGMENT_BYTES / 2 + 5000) {
        if (i / SEGMENT_BYTES % 5 != 3)
            data[i] ^= 255;
    }
    tmpdir_write(tmpdir_path("%s/a/large", name), data, len);
    tmpdir_write(tmpdir_path("%s/a/same", name), "the same", 8);
    tmpdir_write(tmpdir_path("%s/b/text", name), second ? "is" : "was", second ? 2 : 3);
    free(data);
}

static void take_pack(struct coming *c, struct store *s, const struct hash *pack, const char *name)
{
    struct store_object *o;
    struct err err = ERR_INIT;
    unsigned char *bytes;

    c->pack = *pack;
    c->pack_path = tmpdir_path("%s", name);
    assert_ok(store_get(s, OBJECT_MANIFEST, &c->artifact, &c->manifest, &err), &err);
    assert_ok(store_get(s, OBJECT_INDEX, pack, &c->index, &err), &err);
    assert_ok(store_open_object(s, OBJECT_PACK, pack, &o, &err), &err);
    bytes = mem_alloc(store_object_bytes(o));
    assert_ok(store_object_read(o, bytes, store_object_bytes(o), 0, &err), &err);
    tmpdir_write(c->pack_path, bytes, store_object_bytes(o));
    free(bytes);
    store_object_close(o);
}

static void forget_coming(struct coming *c)
{
    buf_release(&c->manifest);
    buf_release(&c->index);
}

/* The first release by its full pack, then the second by a delta. */
static void kill_both(size_t segments, size_t stride)
{
    struct coming first = { .doc = "release one" }, second = { .doc = "release two" };
    struct published one, two;
    struct published_delta delta;
    struct scene s = { .dir = tmpdir_fresh(), .coming = &first };
    struct store *store;
    struct err err = ERR_INIT;

    first.tree = tmpdir_fresh();
    second.tree = tmpdir_fresh();
    write_tree(first.tree, segments, false);
    write_tree(second.tree, segments, true);
    assert_ok(store_open(&store, tmpdir_fresh(), &err), &err);
    assert_ok(artifact_publish(store, first.tree, NULL, &one, &err), &err);
    assert_ok(artifact_publish(store, second.tree, NULL, &two, &err), &err);
    struct delta_side from = { one.artifact, one.pack }, to = { two.artifact, two.pack };
    assert_ok(artifact_publish_delta(store, &from, &to, NULL, &delta, &err), &err);
    first.artifact = one.artifact;
    second.artifact = two.artifact;
    take_pack(&first, store, &one.pack, "first.pack");
    take_pack(&second, store, &delta.pack, "second.pack");
    store_close(store);
    kill_all(&s, KILL_BEFORE, stride); /* and it is staged now */
    assert_true(s.kills > 30 / stride);
    s.coming = &second;
    s.base = release_of(&first);
    kill_all(&s, KILL_TORN, stride);
    assert_true(s.kills > 30 / stride);
    published_delta_release(&delta);
    forget_coming(&first);
    forget_coming(&second);
}

static void test_killed_at_every_change(void **state)
{
    (void)state;
    kill_both(1, 1);
}

static size_t setting(const char *name, size_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : (size_t)strtoul(text, NULL, 10);
}

/* Much is on disk when it is killed, and much is not. */
static void test_many_segments(void **state)
{
    (void)state;
    kill_both(setting("KILL_SEGMENTS", 12), setting("KILL_STRIDE", 13));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_every_change),
        cmocka_unit_test(test_many_segments),
    };

    decoded = shared_memory(SEGMENTS_MAX * sizeof(*decoded));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
