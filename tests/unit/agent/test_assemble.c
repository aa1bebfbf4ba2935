#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "assemble.h"
#include "base/mem.h"
#include "io/files.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "releases.h"
#include "store/publish.h"

/* An artifact in a store, its manifest and its pack as a file. */
struct made {
    const char *tree, *pack;
    struct buf manifest, index;
    struct published p;
};

static void make(struct made *m, uint64_t seed)
{
    struct random r = { seed };
    struct store *s;
    struct store_object *o;
    struct err err = ERR_INIT;
    unsigned char *bytes;

    memset(m, 0, sizeof(*m));
    m->tree = tmpdir_fresh();
    m->pack = tmpdir_path("pack-%llu", (unsigned long long)seed);
    tree_random(m->tree, &r, 30, true);
    assert_ok(store_open(&s, tmpdir_fresh(), &err), &err);
    assert_ok(artifact_publish(s, m->tree, NULL, &m->p, &err), &err);
    assert_ok(store_get(s, OBJECT_MANIFEST, &m->p.artifact, &m->manifest, &err), &err);
    assert_ok(store_get(s, OBJECT_INDEX, &m->p.pack, &m->index, &err), &err);
    assert_ok(store_open_object(s, OBJECT_PACK, &m->p.pack, &o, &err), &err);
    bytes = mem_alloc(store_object_bytes(o));
    assert_ok(store_object_read(o, bytes, store_object_bytes(o), 0, &err), &err);
    tmpdir_write(m->pack, bytes, store_object_bytes(o));
    free(bytes);
    store_object_close(o);
    store_close(s);
}

static void unmake(struct made *m)
{
    buf_release(&m->manifest);
    buf_release(&m->index);
}

/* Takes all that is needed from m's full pack, whose file is at path. */
static int apply(struct assembly *a, const struct made *m, const char *path, struct err *err)
{
    struct pack_index *x = NULL;
    struct offer *offer;
    struct plan plan = { .npacks = 0 };
    struct bitmap here = { NULL, 0, 0 };
    size_t refused = 0;
    int r;

    assert_ok(pack_index_parse(&x, m->index.data, m->index.len, err), err);
    offer_new(&offer, &m->p.pack, x);
    pack_index_free(x);
    assert_ok(assembly_plan(a, &offer, 1, &here, &plan, err), err);
    r = assembly_apply(a, offer, path, &plan.take[0], &refused, err);
    assert_int_equal(refused, 0);
    plan_release(&plan);
    offer_free(offer);
    return r;
}

static const struct receipt receipt = {
    .deployment = "d-1", .wanted_bytes = 5, .seed_bytes = 3, .peer_bytes = 2, .saved_bytes = 7
};

static struct assembly_spec spec_of(const char *dir, const struct made *m, const char *doc)
{
    struct assembly_spec spec = { .dir = dir, .artifact = m->p.artifact };

    spec.doc = (struct bytes){ (unsigned char *)(uintptr_t)doc, strlen(doc) };
    spec.release = sha256_of(doc, strlen(doc));
    spec.manifest = (struct bytes){ (unsigned char *)m->manifest.data, m->manifest.len };
    return spec;
}

static bool is_whole(const char *dir, const struct assembly_spec *spec, const struct made *m)
{
    AUTO_FREE char *base = releases_path(dir, &spec->release);
    AUTO_FREE char *tree = mem_printf("%s/tree", base);
    AUTO_BUF doc = BUF_INIT;
    struct err err = ERR_INIT;

    assert_ok(releases_verify(dir, &spec->release, &spec->artifact, &err), &err);
    assert_ok(releases_read_doc(dir, &spec->release, &doc, &err), &err);
    return trees_equal(tree, m->tree);
}

static void test_from_nothing_and_from_a_base(void **state)
{
    const char *dir = tmpdir_fresh();
    struct made m;
    struct assembly_spec one, two;
    struct assembly *a;
    struct err err = ERR_INIT;

    (void)state;
    make(&m, 7);
    one = spec_of(dir, &m, "release one");
    assembly_new(&a, &one);
    assert_ok(assembly_prepare(a, &err), &err);
    assert_true(assembly_needed_bytes(a) > 0);
    assert_false(assembly_is_resumed(a));
    assert_int_equal(assembly_local_bytes(a), 0);
    assert_int_equal(assembly_stream_bytes(a), m.p.stream_bytes);
    assert_false(releases_has(dir, &one.release));
    assert_error(assembly_finish(a, &receipt, &err), ERR_AGAIN, &err, "are missing");
    assert_ok(apply(a, &m, m.pack, &err), &err);
    assert_int_equal(assembly_needed_bytes(a), 0);
    assert_ok(assembly_finish(a, &receipt, &err), &err);
    assembly_free(a);
    assert_true(is_whole(dir, &one, &m));
    /* The same tree in another release: nothing is to be fetched. */
    two = spec_of(dir, &m, "release two");
    two.base = one.release;
    assembly_new(&a, &two);
    assert_ok(assembly_prepare(a, &err), &err);
    assert_int_equal(assembly_needed_bytes(a), 0);
    assert_int_equal(assembly_local_bytes(a), m.p.stream_bytes);
    assert_ok(assembly_finish(a, &receipt, &err), &err);
    assembly_free(a);
    assert_true(is_whole(dir, &two, &m));
    unmake(&m);
}

/* Prepared, dropped, prepared again; finished with the wrong pack, cancelled, then with the right. */
static void test_again_after_failures(void **state)
{
    const char *dir = tmpdir_fresh();
    struct made m, other;
    struct assembly_spec one;
    struct assembly *a;
    struct err err = ERR_INIT;
    AUTO_BUF kept = BUF_INIT;

    (void)state;
    make(&m, 8);
    make(&other, 9);
    one = spec_of(dir, &m, "release one");
    assert_false(assembly_kept_manifest(dir, &one.release, &one.artifact, &kept));
    assembly_new(&a, &one);
    assert_ok(assembly_prepare(a, &err), &err);
    assembly_free(a);
    assert_true(assembly_kept_manifest(dir, &one.release, &one.artifact, &kept));
    assert_int_equal(kept.len, m.manifest.len);
    assert_false(assembly_kept_manifest(dir, &one.release, &other.p.artifact, &kept));
    assembly_new(&a, &one);
    assert_ok(assembly_prepare(a, &err), &err);
    assert_true(assembly_is_resumed(a));
    assert_ok(assembly_prepare(a, &err), &err);
    assert_error(apply(a, &m, other.pack, &err), ERR_CORRUPT, &err, "");
    assert_false(releases_has(dir, &one.release));
    assert_error(apply(a, &m, "/nonexistent", &err), ERR_NOT_FOUND, &err, "");
    assert_ok(apply(a, &m, m.pack, &err), &err);
    assert_ok(assembly_finish(a, &receipt, &err), &err);
    assembly_free(a);
    assert_true(is_whole(dir, &one, &m));
    unmake(&m);
    unmake(&other);
}

static void test_cancelled(void **state)
{
    const char *dir = tmpdir_fresh();
    struct made m;
    struct assembly_spec one;
    struct assembly *a;
    struct err err = ERR_INIT;

    (void)state;
    make(&m, 10);
    one = spec_of(dir, &m, "release one");
    assembly_new(&a, &one);
    assert_ok(assembly_prepare(a, &err), &err);
    assembly_cancel(a);
    assert_error(apply(a, &m, m.pack, &err), ERR_CANCELLED, &err, "another release");
    assembly_free(a);
    assembly_free(NULL);
    assert_false(releases_has(dir, &one.release));
    unmake(&m);
}

static void test_manifests_that_lie(void **state)
{
    const char *dir = tmpdir_fresh();
    struct made m;
    struct assembly_spec one;
    struct assembly *a;
    struct err err = ERR_INIT;

    (void)state;
    make(&m, 11);
    one = spec_of(dir, &m, "release one");
    one.manifest.len--;
    assembly_new(&a, &one);
    assert_error(assembly_prepare(a, &err), ERR_CORRUPT, &err, "not the artifact's");
    assembly_free(a);
    one.artifact = sha256_of(one.manifest.data, one.manifest.len);
    assembly_new(&a, &one);
    assert_error(assembly_prepare(a, &err), ERR_INVALID, &err, "");
    assembly_free(a);
    unmake(&m);
}

/* A pack with one flipped bit, anywhere: nothing of it is published. */
static void test_flipped_bits(void **state)
{
    struct made m;
    size_t len;
    char *bytes;

    (void)state;
    make(&m, 12);
    bytes = tmpdir_read(m.pack, &len);
    for (size_t at = 0; at < len; at += len / 12 + 1) {
        const char *dir = tmpdir_fresh();
        const char *bad = tmpdir_path("bad.pack");
        struct assembly_spec one = spec_of(dir, &m, "release one");
        struct assembly *a;
        struct err err = ERR_INIT;

        bytes[at] = (char)(bytes[at] ^ 4);
        tmpdir_write(bad, bytes, len);
        bytes[at] = (char)(bytes[at] ^ 4);
        assembly_new(&a, &one);
        assert_ok(assembly_prepare(a, &err), &err);
        assert_error(apply(a, &m, bad, &err), ERR_CORRUPT, &err, "");
        assert_false(releases_has(dir, &one.release));
        assert_ok(apply(a, &m, m.pack, &err), &err);
        assert_ok(assembly_finish(a, &receipt, &err), &err);
        assembly_free(a);
    }
    free(bytes);
    unmake(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_nothing_and_from_a_base),
        cmocka_unit_test(test_again_after_failures),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_manifests_that_lie),
        cmocka_unit_test(test_flipped_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
