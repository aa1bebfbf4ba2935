/* A release is staged, and the agent killed at every change of the file system that it makes. */
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

enum { SEGMENTS_MAX = 16 };

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
    struct receipt receipt = { "d-1", 5, 3, 2, 7 };
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

static bool is_staged(const struct scene *s, const struct manifest *m, size_t i)
{
    AUTO_FREE char *dir = tree_of(s, true);
    AUTO_FREE unsigned char *data = mem_alloc(SEGMENT_BYTES);
    size_t len = manifest_segment_bytes(m, i);
    struct hash h;

    if (tree_read_segment(dir, m, i, data, NULL) < 0)
        return false;
    h = sha256_of(data, len);
    return hash_equal(&h, &m->segments[i]);
}

static bool killed_once(struct scene *s, const struct manifest *m, size_t n, enum kill_how how)
{
    struct hash release = release_of(s->coming);
    AUTO_FREE char *staging = releases_staging(s->dir, &release);
    AUTO_FREE char *path = releases_path(s->dir, &release);
    AUTO_FREE char *tree = tree_of(s, false);
    bool staged[SEGMENTS_MAX] = { false };

    tmpdir_remove(staging);
    tmpdir_remove(path);
    memset(decoded, 0, SEGMENTS_MAX * sizeof(*decoded));
    if (!kill_at(n, how, stage, s))
        return false;
    if (path_exists(path))
        assert_true(trees_equal(s->coming->tree, tree));
    for (size_t i = 0; i < m->nsegments; i++)
        staged[i] = decoded[i] > 0 && is_staged(s, m, i);
    assert_int_equal(stage(s), 0);
    assert_true(trees_equal(s->coming->tree, tree));
    assert_false(path_exists(staging));
    for (size_t i = 0; i < m->nsegments; i++)
        assert_true(decoded[i] <= (staged[i] ? 1 : 2));
    return true;
}

static void kill_all(struct scene *s, enum kill_how how)
{
    struct err err = ERR_INIT;
    struct manifest *m = NULL;
    size_t kills = 0;

    assert_ok(manifest_parse(&m, s->coming->manifest.data, s->coming->manifest.len, &err), &err);
    while (killed_once(s, m, kills, how))
        kills++;
    assert_true(kills > 30);
    print_message("# %zu kills\n", kills);
    manifest_free(m);
}

static void write_tree(const char *dir, bool second)
{
    struct random r = { 23 };
    size_t len = SEGMENT_BYTES + 50000;
    unsigned char *data = mem_alloc(len);
    const char *name = strrchr(dir, '/') + 1;

    for (size_t i = 0; i < len; i += 32)
        data[i] = (unsigned char)random_next(&r);
    for (size_t i = 50; second && i < len; i += 90000)
        data[i] ^= 255;
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

static void forget(struct coming *c)
{
    buf_release(&c->manifest);
    buf_release(&c->index);
}

/* The first release by its full pack, then the second by a delta. */
static void test_killed_at_every_change(void **state)
{
    struct coming first = { .doc = "release one" }, second = { .doc = "release two" };
    struct published one, two;
    struct published_delta delta;
    struct scene s = { .dir = tmpdir_fresh(), .coming = &first };
    struct store *store;
    struct err err = ERR_INIT;

    (void)state;
    first.tree = tmpdir_fresh();
    second.tree = tmpdir_fresh();
    write_tree(first.tree, false);
    write_tree(second.tree, true);
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
    kill_all(&s, KILL_BEFORE); /* and it is staged now */
    s.coming = &second;
    s.base = release_of(&first);
    kill_all(&s, KILL_TORN);
    published_delta_release(&delta);
    forget(&first);
    forget(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_every_change),
    };

    decoded = shared_memory(SEGMENTS_MAX * sizeof(*decoded));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
