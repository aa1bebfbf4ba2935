#include "lib/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/dir.h"
#include "store/export.h"
#include "store/publish.h"
#include "store/publish_delta.h"
#include "store/replicate.h"

/* An origin with one artifact of about 6 MiB, and an empty store of our own. */
struct stage {
    struct store *origin, *own;
    char *origin_dir, *own_dir, *partial;
    struct published what;
};

static void stage_init(struct stage *s)
{
    struct err err = ERR_INIT;
    struct random random = { 42 };
    size_t len = 6 << 20;
    unsigned char *data = mem_alloc(len);
    char *file;

    s->origin_dir = mem_strdup(tmpdir_fresh());
    s->own_dir = mem_strdup(tmpdir_fresh());
    s->partial = mem_printf("%s/partial", s->own_dir);
    file = mem_printf("%s/tree/app", tmpdir_fresh());
    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t v = random_next(&random);

        memcpy(data + i, &v, 8);
    }
    tmpdir_write(file, data, len);
    assert_ok(store_open(&s->origin, s->origin_dir, &err), &err);
    assert_ok(store_open(&s->own, s->own_dir, &err), &err);
    assert_ok(artifact_publish(s->origin, file, NULL, &s->what, &err), &err);
    free(file);
    free(data);
}

static void stage_release(struct stage *s)
{
    store_close(s->origin);
    store_close(s->own);
    free(s->origin_dir);
    free(s->own_dir);
    free(s->partial);
}

static struct replication *begin(struct stage *s)
{
    struct err err = ERR_INIT;
    struct replication *r = NULL;

    assert_ok(replication_new(&r, s->origin, s->own, s->partial, &s->what.artifact, &err), &err);
    assert_ok(replication_want(r, &s->what.pack, &err), &err);
    return r;
}

static int run(struct replication *r, struct err *err)
{
    int n;

    while ((n = replication_step(r, err)) > 0)
        continue;
    return n;
}

/* Changes one byte of a published (read-only) file. */
static void flip(const char *path, long offset)
{
    int fd;
    unsigned char c;

    assert_int_equal(chmod(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &c, 1, offset), 1);
    c ^= 0x40;
    assert_int_equal(pwrite(fd, &c, 1, offset), 1);
    close(fd);
}

static void arrives_and_verifies(void **state)
{
    struct err err = ERR_INIT;
    struct stage s;
    struct replication *r;
    AUTO_BUF path = BUF_INIT;
    uint64_t origin;

    (void)state;
    stage_init(&s);
    r = begin(&s);
    assert_ok(replication_want(r, &s.what.pack, &err), &err); /* twice is once */
    assert_int_equal(r->npacks, 1);
    assert_ok(run(r, &err), &err);
    assert_true(r->packs[0].complete);
    assert_int_equal(r->bytes, s.what.pack_bytes);
    assert_int_equal(r->total, s.what.pack_bytes);
    assert_true(r->origin_bytes > s.what.pack_bytes);
    origin = r->origin_bytes;
    assert_ok(artifact_verify(s.own, &s.what.artifact, &s.what.pack, NULL, &err), &err);
    dir_store_path(s.own, OBJECT_PACK, &s.what.pack, &path);
    assert_int_equal(access(path.data, R_OK), 0);
    assert_int_equal(replication_step(r, &err), 0);
    replication_free(r);

    /* Who has it already needs no origin at all. */
    tmpdir_remove(s.origin_dir);
    r = begin(&s);
    assert_ok(run(r, &err), &err);
    assert_int_equal(r->origin_bytes, origin);
    replication_free(r);
    stage_release(&s);
}

static void an_interrupted_one_goes_on(void **state)
{
    struct err err = ERR_INIT;
    struct stage s;
    struct replication *r;
    AUTO_BUF path = BUF_INIT;
    char hex[HASH_HEX];
    char *part;

    (void)state;
    stage_init(&s);
    r = begin(&s);
    while (r->bytes < REPLICATE_STEP_BYTES)
        assert_true(replication_step(r, &err) > 0);
    assert_true(r->bytes < r->total);
    replication_free(r); /* as a kill would leave it */

    /* What was verified is not read again: the origin's part of it may even be damaged since. */
    dir_store_path(s.origin, OBJECT_PACK, &s.what.pack, &path);
    flip(path.data, 1000);
    r = begin(&s);
    assert_ok(run(r, &err), &err);
    assert_ok(artifact_verify(s.own, &s.what.artifact, &s.what.pack, NULL, &err), &err);
    part = mem_printf("%s/%s.part", s.partial, hash_hex(&s.what.pack, hex));
    assert_int_not_equal(access(part, F_OK), 0);
    free(part);
    replication_free(r);
    stage_release(&s);
}

static void a_damaged_partial_leaf_is_read_again(void **state)
{
    struct err err = ERR_INIT;
    struct stage s;
    struct replication *r;
    char hex[HASH_HEX];
    char *part;

    (void)state;
    stage_init(&s);
    r = begin(&s);
    while (r->bytes < REPLICATE_STEP_BYTES)
        assert_true(replication_step(r, &err) > 0);
    replication_free(r);
    part = mem_printf("%s/%s.part", s.partial, hash_hex(&s.what.pack, hex));
    flip(part, 3 * LEAF_BYTES + 17);
    free(part);
    r = begin(&s);
    assert_ok(run(r, &err), &err);
    assert_ok(artifact_verify(s.own, &s.what.artifact, &s.what.pack, NULL, &err), &err);
    replication_free(r);
    stage_release(&s);
}

static void a_wrong_leaf_is_refused_and_healed_later(void **state)
{
    struct err err = ERR_INIT;
    struct stage s;
    struct replication *r;
    AUTO_BUF path = BUF_INIT;
    bool has = true;

    (void)state;
    stage_init(&s);
    dir_store_path(s.origin, OBJECT_PACK, &s.what.pack, &path);
    flip(path.data, 5 * LEAF_BYTES);
    r = begin(&s);
    assert_error(run(r, &err), ERR_CORRUPT, &err, "leaf 5");
    assert_error(run(r, &err), ERR_CORRUPT, &err, "leaf 5"); /* as often as one asks */
    assert_int_equal(r->bytes, 5 * LEAF_BYTES);
    assert_ok(store_has(s.own, OBJECT_INDEX, &s.what.pack, &has, &err), &err);
    assert_false(has);
    flip(path.data, 5 * LEAF_BYTES); /* the origin is repaired */
    assert_ok(run(r, &err), &err);
    assert_true(r->packs[0].complete);
    replication_free(r);
    stage_release(&s);
}

/* A pack whose leaves match its index, but whose segments are not the manifest's. */
static void a_pack_that_lies_is_thrown_away(void **state)
{
    struct err err = ERR_INIT;
    struct stage s;
    struct replication *r = NULL;
    struct pack_index *index = NULL;
    AUTO_BUF path = BUF_INIT;
    AUTO_BUF bytes = BUF_INIT;
    char *liar, *data, *part;
    char hex[HASH_HEX];
    size_t len = 0;
    struct hash id;

    (void)state;
    stage_init(&s);
    assert_ok(store_get_index(s.origin, &s.what.pack, &index, &err), &err);
    dir_store_path(s.origin, OBJECT_PACK, &s.what.pack, &path);
    data = tmpdir_read(path.data, &len);
    data[len - 1] ^= 1;
    for (size_t i = 0; i < index->nleaves; i++)
        index->leaves[i] = merkle_leaf(data + i * LEAF_BYTES, pack_leaf_bytes(index, i));
    pack_index_encode(&bytes, index);
    assert_ok(store_put(s.origin, OBJECT_INDEX, bytes.data, bytes.len, &id, &err), &err);
    liar = mem_printf("%s/liar", tmpdir_fresh());
    tmpdir_write(liar, data, len);
    assert_ok(store_put_file(s.origin, OBJECT_PACK, &id, liar, &err), &err);
    assert_ok(replication_new(&r, s.origin, s.own, s.partial, &s.what.artifact, &err), &err);
    assert_ok(replication_want(r, &id, &err), &err);
    assert_error(run(r, &err), ERR_CORRUPT, &err, "pack ");
    part = mem_printf("%s/%s.part", s.partial, hash_hex(&id, hex));
    assert_int_not_equal(access(part, F_OK), 0);
    assert_false(r->packs[0].complete);
    assert_int_equal(r->bytes, 0);
    assert_error(run(r, &err), ERR_CORRUPT, &err, "pack ");
    replication_free(r);
    free(part);
    free(liar);
    free(data);
    pack_index_free(index);
    stage_release(&s);
}

/* Of FULL_ALIGNED_FROM segments, all stored, of which nothing is there but what is said of them. */
static struct hash put_large(struct store *store, bool lies, struct hash *ret_artifact)
{
    enum { HEADER = 1, LEAVES = HEADER + (FULL_ALIGNED_FROM - 1) * MERKLE_FANOUT + 1 };
    static char name[] = "app";
    struct hash leaves[LEAVES], segments[FULL_ALIGNED_FROM], id;
    struct entry file = { .kind = ENTRY_FILE, .mode = 0644, .path = name };
    struct manifest m = { &file, 1, 0, segments, FULL_ALIGNED_FROM };
    struct pack_index x = { .kind = PACK_FULL, .leaves = leaves, .nleaves = LEAVES };
    struct err err = ERR_INIT;
    AUTO_BUF bytes = BUF_INIT;

    memset(leaves, 5, sizeof(leaves));
    memset(&file.hash, 6, sizeof(file.hash));
    for (size_t i = 0; i < FULL_ALIGNED_FROM; i++)
        segments[i] = merkle_segment_of(leaves + HEADER + i * MERKLE_FANOUT,
                                        i + 1 < FULL_ALIGNED_FROM ? MERKLE_FANOUT : 1);
    file.size = m.stream_bytes = (uint64_t)(FULL_ALIGNED_FROM - 1) * SEGMENT_BYTES + 1;
    manifest_encode(&bytes, &m);
    assert_ok(store_put(store, OBJECT_MANIFEST, bytes.data, bytes.len, ret_artifact, &err), &err);
    buf_reset(&bytes);
    x.target = *ret_artifact;
    x.bytes = full_header_bytes(m.nsegments) + m.stream_bytes;
    leaves[HEADER + 3 * MERKLE_FANOUT].b[0] ^= lies;
    pack_index_encode(&bytes, &x);
    assert_ok(store_put(store, OBJECT_INDEX, bytes.data, bytes.len, &id, &err), &err);
    return id;
}

/* Before anything of it is read: it is not even there. */
static void an_index_that_lies_is_refused(void **state)
{
    struct err err = ERR_INIT;
    struct replication *r = NULL;
    struct hash artifact, pack;
    struct stage s;

    (void)state;
    stage_init(&s);
    for (int lies = 0; lies < 2; lies++) {
        pack = put_large(s.origin, lies == 1, &artifact);
        assert_ok(replication_new(&r, s.origin, s.own, s.partial, &artifact, &err), &err);
        assert_ok(replication_want(r, &pack, &err), &err);
        if (lies == 1)
            assert_error(run(r, &err), ERR_CORRUPT, &err, "segment 3");
        else
            assert_error(run(r, &err), ERR_NOT_FOUND, &err, "pack ");
        replication_free(r);
    }
    stage_release(&s);
}

/* From an artifact that differs in one byte. */
static struct hash add_delta(struct stage *s, unsigned char version)
{
    struct err err = ERR_INIT;
    struct delta_side to = { s->what.artifact, s->what.pack }, from;
    AUTO_FREE char *dest = mem_printf("%s/out", tmpdir_fresh()), *app = NULL;
    struct published base;
    struct published_delta delta;
    struct catalog *c = NULL;
    int fd;

    assert_ok(catalog_read(&c, s->origin, &err), &err);
    assert_ok(artifact_export(s->origin, catalog_get(c, &s->what.artifact), dest, &err), &err);
    catalog_free(c);
    app = mem_printf("%s/app", dest);
    assert_int_equal(chmod(app, 0644), 0);
    fd = open(app, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &version, 1, 1000), 1);
    close(fd);
    assert_ok(artifact_publish(s->origin, dest, NULL, &base, &err), &err);
    from = (struct delta_side){ base.artifact, base.pack };
    assert_ok(artifact_publish_delta(s->origin, &from, &to, NULL, &delta, &err), &err);
    published_delta_release(&delta);
    return delta.pack;
}

static void a_delta_that_was_collected_is_left_out(void **state)
{
    struct err err = ERR_INIT;
    struct stage s;
    struct hash gone, half, there, again;
    struct replication *r;
    uint64_t bytes;

    (void)state;
    stage_init(&s);
    gone = add_delta(&s, 1);
    half = add_delta(&s, 2);
    there = add_delta(&s, 3);
    assert_ok(store_delete(s.origin, OBJECT_INDEX, &gone, &err), &err);
    assert_ok(store_delete(s.origin, OBJECT_PACK, &gone, &err), &err);
    assert_ok(store_delete(s.origin, OBJECT_PACK, &half, &err), &err); /* under our hands */
    r = begin(&s);
    assert_ok(replication_want(r, &gone, &err), &err);
    assert_ok(replication_want(r, &half, &err), &err);
    assert_ok(replication_want(r, &there, &err), &err);
    assert_ok(run(r, &err), &err);
    assert_true(r->packs[0].complete);
    assert_true(r->packs[1].lost && !r->packs[1].complete);
    assert_true(r->packs[2].lost && !r->packs[2].complete);
    assert_true(r->packs[3].complete);
    assert_int_equal(r->bytes, r->total);
    assert_int_equal(r->total, s.what.pack_bytes + r->packs[3].bytes);

    /* It was made again, and is wanted again. */
    bytes = r->total;
    again = add_delta(&s, 1);
    assert_true(hash_equal(&again, &gone));
    assert_ok(replication_want(r, &gone, &err), &err);
    assert_false(r->packs[1].lost);
    assert_ok(run(r, &err), &err);
    assert_true(r->packs[1].complete);
    assert_true(r->total > bytes && r->bytes == r->total);
    replication_free(r);
    stage_release(&s);
}

static void errors_are_told(void **state)
{
    struct err err = ERR_INIT;
    struct stage s;
    struct replication *r = NULL;
    struct hash other;

    (void)state;
    stage_init(&s);
    memset(&other, 7, sizeof(other));
    assert_ok(replication_new(&r, s.origin, s.own, s.partial, &other, &err), &err);
    assert_error(run(r, &err), ERR_NOT_FOUND, &err, "manifest");
    replication_free(r);
    assert_ok(replication_new(&r, s.origin, s.own, s.partial, &s.what.artifact, &err), &err);
    assert_ok(replication_want(r, &other, &err), &err); /* the first one is never given up */
    assert_error(run(r, &err), ERR_NOT_FOUND, &err, "pack 070707");
    assert_error(run(r, &err), ERR_NOT_FOUND, &err, "pack 070707");
    replication_free(r);
    r = begin(&s);
    assert_ok(run(r, &err), &err);
    for (unsigned char i = 10; r->npacks < PACKS_MAX; i++) {
        memset(&other, i, sizeof(other));
        assert_ok(replication_want(r, &other, &err), &err);
    }
    memset(&other, 1, sizeof(other));
    assert_error(replication_want(r, &other, &err), ERR_LIMIT, &err, "packs");
    replication_free(r);

    /* The pack of another artifact. */
    tmpdir_write(tmpdir_path("other"), "hello", 5);
    {
        struct published second;

        assert_ok(artifact_publish(s.origin, tmpdir_path("other"), NULL, &second, &err), &err);
        assert_ok(replication_new(&r, s.origin, s.own, s.partial, &second.artifact, &err), &err);
        assert_ok(replication_want(r, &s.what.pack, &err), &err);
        assert_error(run(r, &err), ERR_INVALID, &err, "another artifact");
    }
    replication_free(r);
    stage_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrives_and_verifies),
        cmocka_unit_test(an_interrupted_one_goes_on),
        cmocka_unit_test(a_damaged_partial_leaf_is_read_again),
        cmocka_unit_test(a_wrong_leaf_is_refused_and_healed_later),
        cmocka_unit_test(a_pack_that_lies_is_thrown_away),
        cmocka_unit_test(an_index_that_lies_is_refused),
        cmocka_unit_test(a_delta_that_was_collected_is_left_out),
        cmocka_unit_test(errors_are_told),
    };

    return cmocka_run_group_tests_name("replicate", tests, NULL, NULL);
}
