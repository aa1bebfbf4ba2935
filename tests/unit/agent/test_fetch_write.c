/* What is damaged on this disk between the arrival of its last leaf and the end. */
#include "unit/store/exchanging.h"

#include "delta/full.h"
#include "fetch_write.h"
#include "lib/trees.h"
#include "store/exchange_internal.h"

/* A large one is verified by its leaves alone. */
enum {
    SMALL_BYTES = 9 * 1000 * 1000,
    LARGE_BYTES = (FULL_ALIGNED_FROM - 1) * SEGMENT_BYTES + LEAF_BYTES + 77,
};
enum size { SMALL, LARGE };

struct scene {
    struct swarm s;
    unsigned char *stream;
    size_t bytes;
    struct hash segments[FULL_ALIGNED_FROM];
    struct entry file;
    struct manifest m;
    struct buf manifest, pack, index;
    struct reference reference;
    struct writer *writer;
    const char *dir, *to;
    bool placed;  /* the pack is the stream itself: its leaves are written to their places */
    bool refused; /* its index tells that it is wrong */
    int lost, done, status;
    struct err err;
};

static int add(void *ctx, const void *data, size_t len, uint64_t offset, struct err *err)
{
    struct buf *pack = ctx;

    (void)err;
    while (pack->len < offset)
        buf_char(pack, 0);
    if (offset == pack->len)
        buf_append(pack, data, len);
    else
        memcpy(pack->data + offset, data, len);
    return 0;
}

/* No two leaves are the same. */
static void make_stream(struct scene *t)
{
    struct random r = { 11 };
    size_t len;

    t->stream = mem_alloc(t->bytes);
    random_fill(&r, t->stream, SEGMENT_BYTES);
    for (size_t at = SEGMENT_BYTES; at < t->bytes; at += len) {
        len = t->bytes - at < SEGMENT_BYTES ? t->bytes - at : SEGMENT_BYTES;
        memcpy(t->stream + at, t->stream, len);
    }
    for (size_t at = 0; at + 2 < t->bytes; at += LEAF_BYTES) {
        t->stream[at] = (unsigned char)(at / LEAF_BYTES);
        t->stream[at + 1] = (unsigned char)(at / LEAF_BYTES >> 8);
    }
}

static void make_manifest(struct scene *t)
{
    static char name[] = "file";
    size_t segments = (t->bytes + SEGMENT_BYTES - 1) / SEGMENT_BYTES;

    make_stream(t);
    if (!t->placed)
        memset(t->stream, 'x', 1000000);
    t->file = (struct entry){ .kind = ENTRY_FILE, .mode = 0644, .path = name };
    t->file.size = t->bytes;
    t->file.hash = sha256_of(t->stream, t->bytes);
    t->m = (struct manifest){ &t->file, 1, t->bytes, t->segments, segments };
    for (size_t i = 0; i < segments; i++)
        t->segments[i] =
            merkle_segment(t->stream + i * SEGMENT_BYTES, manifest_segment_bytes(&t->m, i));
    manifest_encode(&t->manifest, &t->m);
    t->reference.artifact = sha256_of(t->manifest.data, t->manifest.len);
    t->reference.is_file = true;
}

/* wrong: its second segment is not what the manifest says. */
static void encode_pack(struct scene *t, bool wrong)
{
    struct full_encoder *e;
    struct err err = ERR_INIT;
    uint64_t bytes;

    t->stream[SEGMENT_BYTES + 5] ^= wrong;
    assert_ok(full_encoder_new(&e, t->m.nsegments, 1, add, &t->pack, &err), &err);
    for (size_t i = 0; i < t->m.nsegments; i++)
        assert_ok(full_encoder_add(e, t->stream + i * SEGMENT_BYTES,
                                   manifest_segment_bytes(&t->m, i), &err),
                  &err);
    assert_ok(full_encoder_finish(e, &t->reference.artifact, &bytes, &err), &err);
    full_encoder_free(e);
    t->stream[SEGMENT_BYTES + 5] ^= wrong;
}

static void seed_pack(struct scene *t)
{
    struct pack_index p = { .kind = PACK_FULL, .bytes = t->pack.len };
    const char *path = below(tmpdir_fresh(), "real", ".pack");
    struct err err = ERR_INIT;

    p.target = t->reference.artifact;
    p.nleaves = (t->pack.len + LEAF_BYTES - 1) / LEAF_BYTES;
    p.leaves = mem_calloc(p.nleaves, sizeof(*p.leaves));
    for (size_t i = 0; i < p.nleaves; i++)
        p.leaves[i] = merkle_leaf(t->pack.data + i * LEAF_BYTES, pack_leaf_bytes(&p, i));
    pack_index_encode(&t->index, &p);
    free(p.leaves);
    t->reference.pack = t->s.id = sha256_of(t->index.data, t->index.len);
    tmpdir_write(path, t->pack.data, t->pack.len);
    assert_ok(exchange_seed(t->s.nodes[0].x, t->index.data, t->index.len, path, &err), &err);
}

static void scene_init(struct scene *t, enum size size, bool wrong, bool placed)
{
    memset(t, 0, sizeof(*t));
    t->bytes = size == LARGE ? LARGE_BYTES : SMALL_BYTES;
    t->refused = size == LARGE && wrong;
    t->placed = placed;
    start_swarm(&t->s, 2);
    make_manifest(t);
    encode_pack(t, wrong);
    seed_pack(t);
    t->dir = tmpdir_fresh();
    t->to = below(tmpdir_fresh(), "file", "");
}

/* Node 1 has all of the pack. */
static void scene_start(struct scene *t, bool wrong)
{
    scene_init(t, SMALL, wrong, false);
    connect_nodes(&t->s, 1, 0);
    start_fetch(&t->s, 1);
    loop_run(t->s.loop);
    assert_int_equal(t->s.nodes[1].status, 0);
}

static void came(struct exchange_fetch *f, int status)
{
    struct node *n = f->user;
    struct scene *t = CONTAINER_OF(n->s, struct scene, s);

    assert_int_equal(status, 0);
    writer_fetched(t->writer);
}

static void writer_done(void *ctx, int status, const struct err *err)
{
    struct scene *t = ctx;

    t->done++;
    t->status = status;
    t->err = *err;
    loop_stop(t->s.loop);
}

static void writer_opened(void *ctx)
{
    struct scene *t = ctx;
    struct node *n = &t->s.nodes[1];
    struct pack_index *index = NULL;
    struct err err = ERR_INIT;

    assert_ok(pack_index_parse(&index, t->index.data, t->index.len, &err), &err);
    if (t->refused) {
        assert_error(writer_place(t->writer, index, &n->fetch.placed, &err), ERR_CORRUPT, &err,
                     "segment 1");
        pack_index_free(index);
        writer_stop(t->writer);
        writer_done(t, -(int)err.code, &err);
        return;
    }
    assert_ok(writer_place(t->writer, index, &n->fetch.placed, &err), &err);
    pack_index_free(index);
    assert_true((n->fetch.placed != NULL) == t->placed);
    if (!t->placed) {
        writer_fetched(t->writer);
        return;
    }
    n->fetch.user = n;
    exchange_fetch_start(n->x, &n->fetch, &t->s.id, came);
    connect_nodes(&t->s, 1, 0);
}

static void writer_lost(void *ctx, bool look)
{
    struct scene *t = ctx;
    struct node *n = &t->s.nodes[1];

    t->lost++;
    if (look)
        exchange_close(n->x, &t->s.id);
    exchange_fetch_start(n->x, &n->fetch, &t->s.id, came);
}

static void write_some(struct scene *t)
{
    struct node *n = &t->s.nodes[1];
    AUTO_FREE char *packs = mem_printf("%s/packs", t->dir);
    struct writer_options o = { .loop = t->s.loop,
                                .pool = t->s.pool,
                                .exchange = n->x,
                                .reference = &t->reference,
                                .dir = t->dir,
                                .to = t->to,
                                .opened = writer_opened,
                                .lost = writer_lost,
                                .done = writer_done,
                                .ctx = t };
    struct err err = ERR_INIT;

    assert_int_equal(symlink(n->dir, packs), 0);
    assert_ok(writer_start(&t->writer, &o, &t->manifest, &err), &err);
    loop_run(t->s.loop);
}

/* Node 1 writes what it has, or what comes. */
static void write_all(struct scene *t)
{
    if (t->writer == NULL)
        write_some(t);
    while (t->done == 0) /* another fetch may stop it, too */
        loop_run(t->s.loop);
    assert_int_equal(t->done, 1);
}

static void scene_stop(struct scene *t)
{
    stop_swarm(&t->s);
    writer_free(t->writer);
    free(t->stream);
    buf_release(&t->manifest);
    buf_release(&t->pack);
    buf_release(&t->index);
}

static void assert_written(struct scene *t)
{
    size_t len;
    char *got = tmpdir_read(t->to, &len);

    assert_ok(t->status, &t->err);
    assert_non_null(got);
    assert_int_equal(len, t->bytes);
    assert_memory_equal(got, t->stream, t->bytes);
    free(got);
}

static const char *pack_of_node_1(struct scene *t)
{
    char hex[HASH_HEX];

    return below(t->s.nodes[1].dir, hash_hex(&t->s.id, hex), ".pack");
}

static void damage_file(const char *path, const void *good, size_t at)
{
    char bad = (char)(((const char *)good)[at] ^ 4);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
    close(fd);
}

static void damage(struct scene *t, size_t at)
{
    damage_file(pack_of_node_1(t), t->pack.data, at);
}

static void when_noticed(struct timer *t)
{
    struct swarm *s = CONTAINER_OF(t, struct swarm, kick);

    if (exchange_has(s->nodes[1].x, &s->id, 3, 1))
        return;
    timer_stop(t);
    loop_stop(s->loop);
}

/* Somebody wanted a leaf, which was damaged by then: all that was here is not here any more. */
static void damage_that_was_noticed(void **state)
{
    struct scene t;

    (void)state;
    scene_start(&t, false);
    recent_drop(t.s.nodes[1].x, NULL, INT64_MAX); /* so that the disk is asked */
    damage(&t, 3 * LEAF_BYTES + 17);
    exchange_offer(t.s.nodes[2].x, t.index.data, t.index.len);
    connect_nodes(&t.s, 2, 1);
    start_fetch(&t.s, 2);
    timer_start(t.s.loop, &t.s.kick, 1, 1, when_noticed);
    loop_run(t.s.loop);
    assert_false(exchange_has(t.s.nodes[1].x, &t.s.id, 3, 1));
    write_all(&t);
    assert_written(&t);
    assert_int_equal(t.lost, 1);
    scene_stop(&t);
}

/* Nobody has noticed, until a segment is not what it should be. */
static void damage_that_is_met(void **state)
{
    struct scene t;

    (void)state;
    scene_start(&t, false);
    damage(&t, 3 * LEAF_BYTES + 17);
    write_all(&t);
    assert_written(&t);
    assert_int_equal(t.lost, 1);
    scene_stop(&t);
}

static void the_table_is_damaged(void **state)
{
    struct scene t;

    (void)state;
    scene_start(&t, false);
    damage(&t, 0);
    write_all(&t);
    assert_written(&t);
    assert_int_equal(t.lost, 1);
    scene_stop(&t);
}

static void a_pack_that_vanishes(void **state)
{
    struct scene t;

    (void)state;
    scene_start(&t, false);
    assert_int_equal(unlink(pack_of_node_1(&t)), 0);
    write_all(&t);
    assert_written(&t);
    assert_int_equal(t.lost, 1);
    scene_stop(&t);
}

/* A leaf that lies at its place already, in a segment that is not whole yet. */
static void damage_at_its_place(void **state)
{
    const struct bitmap *have;
    size_t leaf = 1;
    struct scene t;

    (void)state;
    scene_init(&t, SMALL, false, true);
    t.s.stop_at_bytes = 4 * LEAF_BYTES;
    write_some(&t);
    t.s.stop_at_bytes = 0;
    have = exchange_bitmap(t.s.nodes[1].x, &t.s.id);
    assert_true(have->set < SEGMENT_BYTES / LEAF_BYTES);
    while (!bitmap_get(have, leaf))
        leaf++;
    damage_file(below(t.dir, "staging/tree/file", ""), t.stream, leaf * LEAF_BYTES);
    write_all(&t);
    assert_written(&t);
    assert_int_equal(t.lost, 1);
    scene_stop(&t);
}

/* Stopped half-way, and looked at again, as by the next run: no leaf is believed because a bitmap names
 * it, and no segment is there before its leaves are. */
static void a_large_one_is_verified_by_its_leaves(void **state)
{
    const struct bitmap *have;
    struct node *n;
    struct scene t;
    size_t leaf = 1;

    (void)state;
    scene_init(&t, LARGE, false, true);
    n = &t.s.nodes[1];
    t.s.stop_at_bytes = LARGE_BYTES / 4;
    write_some(&t);
    t.s.stop_at_bytes = 0;
    have = exchange_bitmap(n->x, &t.s.id);
    assert_true(have->set < have->bits);
    while (!bitmap_get(have, leaf))
        leaf++;
    damage_file(below(t.dir, "staging/tree/file", ""), t.stream, (leaf - 1) * LEAF_BYTES + 5);
    exchange_close(n->x, &t.s.id);
    exchange_fetch_start(n->x, &n->fetch, &t.s.id, came);
    write_all(&t);
    assert_written(&t);
    assert_int_equal(t.lost, 0);
    scene_stop(&t);
}

/* Nothing of it is fetched. */
static void a_large_one_that_is_wrong(void **state)
{
    struct scene t;

    (void)state;
    scene_init(&t, LARGE, true, true);
    write_all(&t);
    assert_int_equal(t.status, -(int)ERR_CORRUPT);
    assert_false(path_exists(t.to));
    scene_stop(&t);
}

/* It came as the index has it, which is not what the manifest has: no use in asking for ever. */
static void a_pack_that_is_wrong(void **state)
{
    struct scene t;

    (void)state;
    scene_start(&t, true);
    write_all(&t);
    assert_error(t.status, ERR_CORRUPT, &t.err, "fetched again");
    assert_int_equal(t.lost, WRITER_LOST_MAX);
    assert_false(path_exists(t.to));
    scene_stop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_that_was_noticed),
        cmocka_unit_test(damage_that_is_met),
        cmocka_unit_test(the_table_is_damaged),
        cmocka_unit_test(a_pack_that_vanishes),
        cmocka_unit_test(damage_at_its_place),
        cmocka_unit_test(a_pack_that_is_wrong),
        cmocka_unit_test(a_large_one_is_verified_by_its_leaves),
        cmocka_unit_test(a_large_one_that_is_wrong),
    };

    log_setup("test", 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
