#include "lib/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/pki.h"
#include "lib/tmpdir.h"
#include "store/exchange.h"

/* The path of a file in one of tmpdir's directories. */
static const char *below(const char *dir, const char *name, const char *ending)
{
    return tmpdir_path("%s/%s%s", dir + strlen(tmpdir()) + 1, name, ending);
}

/* Nodes on one loop: a region node that has a pack, machines that want it. */
enum { NODES_MAX = 5, PACK_BYTES = 37 * LEAF_BYTES + 4711, GUARD_MS = 30000 };

struct node {
    struct swarm *s;
    struct link_identity *self;
    struct link_listener *listener;
    struct exchange *x;
    const char *dir;
    struct exchange_fetch fetch;
    int done, status, joins, links;
    bool evil;   /* says that it has everything, and gives garbage */
    bool silent; /* says so, and gives nothing */
    struct link *open[16];
};

struct swarm {
    struct loop *loop;
    struct work_pool *pool;
    const char *ca;
    struct node nodes[NODES_MAX];
    int count, want_done;
    struct timer guard, kick;
    unsigned char *pack;
    struct buf index;
    struct hash id;
    const char *path;
    uint64_t stop_at_bytes; /* stop the loop when node 1 has that much */
};

static void lie(struct node *n, struct link *l, enum msg_type type, const void *msg)
{
    static unsigned char garbage[LEAF_BYTES];
    unsigned char all[(PACK_BYTES / LEAF_BYTES + 8) / 8];
    struct msg_bitmap bitmap = { n->s->id, { all, sizeof(all) } };
    const struct msg_want *want = msg;
    struct err err = ERR_INIT;

    memset(all, 0xff, sizeof(all));
    all[sizeof(all) - 1] = 0xff >> (8 - (PACK_BYTES / LEAF_BYTES + 1) % 8);
    if (type == MSG_BITMAP)
        assert_ok(link_send(l, MSG_BITMAP, &bitmap, &err), &err);
    for (uint32_t i = 0; type == MSG_WANT && n->evil && i < want->count; i++) {
        size_t left = PACK_BYTES - (want->first + i) * (size_t)LEAF_BYTES;
        struct msg_leaf leaf = { want->pack, want->first + i, { garbage, LEAF_BYTES } };

        if (left < LEAF_BYTES)
            leaf.bytes.len = left;
        assert_ok(link_send(l, MSG_LEAF, &leaf, &err), &err);
    }
}

static void opened(void *ctx, struct link *l)
{
    struct node *n = ctx;

    n->open[n->links++] = l;
    exchange_attach(n->x, l);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct node *n = ctx;
    struct swarm *s = n->s;

    if (n->evil || n->silent)
        lie(n, l, type, msg);
    else
        assert_true(exchange_message(n->x, l, type, msg));
    if (s->stop_at_bytes > 0 && s->nodes[1].fetch.have_bytes >= s->stop_at_bytes)
        loop_stop(s->loop);
}

static void drained(void *ctx, struct link *l)
{
    exchange_drained(((struct node *)ctx)->x, l);
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct node *n = ctx;

    (void)why;
    for (int i = 0; i < n->links; i++)
        if (n->open[i] == l)
            n->open[i] = n->open[--n->links];
    exchange_detach(n->x, l);
}

static const struct link_handler handler = { opened, message, drained, closed };

static void join(void *ctx, const struct hash *pack, const struct bytes *bitmap)
{
    (void)pack;
    (void)bitmap;
    ((struct node *)ctx)->joins++;
}

static void guard_fired(struct timer *t)
{
    (void)t;
    print_error("nothing more happens\n");
    abort();
}

static void start_node(struct swarm *s, struct node *n, enum link_role role, const char *id)
{
    const char *identity = below(s->ca, id, "");
    struct exchange_options o = { .loop = s->loop, .pool = s->pool, .seed = 42, .ctx = n };
    struct err err = ERR_INIT;

    n->s = s;
    if (n->dir == NULL)
        n->dir = tmpdir_fresh();
    o.dir = n->dir;
    o.join = role == ROLE_AGENT ? join : NULL;
    assert_ok(dir_make(identity, 0700, &err), &err);
    assert_ok(pki_issue(s->ca, identity, "test", role, id, &err), &err);
    assert_ok(link_identity_load(&n->self, identity, "r1", &err), &err);
    assert_ok(exchange_new(&n->x, &o, &err), &err);
    assert_ok(link_listen(&n->listener, s->loop, n->self, "127.0.0.1:0", 1u << ROLE_AGENT, 100,
                          &handler, n, &err),
              &err);
}

static void make_pack(struct swarm *s)
{
    struct pack_index p = { .kind = PACK_FULL, .bytes = PACK_BYTES };
    struct hash leaves[PACK_BYTES / LEAF_BYTES + 1];
    struct err err = ERR_INIT;
    uint32_t x = 12345;

    s->pack = mem_alloc(PACK_BYTES);
    for (size_t i = 0; i < PACK_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        s->pack[i] = (unsigned char)(x >> 24);
    }
    p.leaves = leaves;
    p.nleaves = COUNT_OF(leaves);
    for (size_t i = 0; i < p.nleaves; i++) {
        size_t left = PACK_BYTES - i * LEAF_BYTES;

        leaves[i] = sha256_of(s->pack + i * LEAF_BYTES, left < LEAF_BYTES ? left : LEAF_BYTES);
    }
    pack_index_encode(&s->index, &p);
    s->id = sha256_of(s->index.data, s->index.len);
    s->path = below(tmpdir_fresh(), "whole", ".pack");
    assert_ok(file_publish(s->path, s->pack, PACK_BYTES, 0600, &err), &err);
}

static void start_swarm(struct swarm *s, int machines)
{
    struct err err = ERR_INIT;

    memset(s, 0, sizeof(*s));
    s->ca = tmpdir_fresh();
    s->count = machines + 1;
    assert_ok(pki_make_ca(s->ca, "test", &err), &err);
    assert_ok(loop_new(&s->loop, &err), &err);
    assert_ok(work_pool_new(&s->pool, s->loop, 2, &err), &err);
    make_pack(s);
    start_node(s, &s->nodes[0], ROLE_REGION, "r1");
    assert_ok(exchange_seed(s->nodes[0].x, s->index.data, s->index.len, s->path, &err), &err);
    for (int i = 1; i <= machines; i++) {
        char id[8];

        snprintf(id, sizeof(id), "m%d", i);
        start_node(s, &s->nodes[i], ROLE_AGENT, id);
    }
    timer_start(s->loop, &s->guard, GUARD_MS, 0, guard_fired);
}

static void connect_nodes(struct swarm *s, int from, int to)
{
    struct err err = ERR_INIT;
    struct link *l;

    assert_ok(link_connect(&l, s->loop, s->nodes[from].self, "127.0.0.1",
                           link_listener_port(s->nodes[to].listener),
                           to == 0 ? ROLE_REGION : ROLE_AGENT, NULL, &handler, &s->nodes[from],
                           &err),
              &err);
}

static void fetched(struct exchange_fetch *f, int status)
{
    struct node *n = f->user;

    n->done++;
    n->status = status;
    if (--n->s->want_done == 0)
        loop_stop(n->s->loop);
}

static void start_fetch(struct swarm *s, int i)
{
    struct node *n = &s->nodes[i];

    n->fetch.user = n;
    s->want_done++;
    exchange_fetch_start(n->x, &n->fetch, &s->id, fetched);
}

static void stop_node(struct node *n)
{
    link_listener_close(n->listener);
    exchange_fetch_cancel(&n->fetch);
    exchange_free(n->x);
    link_identity_free(n->self);
}

/* Stops the loop when the last link is closed. */
static void when_closed(struct timer *t)
{
    struct swarm *s = CONTAINER_OF(t, struct swarm, kick);

    for (int i = 0; i < s->count; i++)
        if (s->nodes[i].links > 0 || exchange_is_busy(s->nodes[i].x))
            return;
    timer_stop(t);
    loop_stop(s->loop);
}

static void close_links(struct node *n)
{
    for (int i = 0; i < n->links; i++)
        link_close(n->open[i], ERR_CANCELLED, "the test is over");
}

static void stop_swarm(struct swarm *s)
{
    s->stop_at_bytes = 0;
    for (int i = 0; i < s->count; i++)
        close_links(&s->nodes[i]);
    timer_start(s->loop, &s->kick, 1, 1, when_closed);
    loop_run(s->loop);
    for (int i = 0; i < s->count; i++)
        stop_node(&s->nodes[i]);
    timer_stop(&s->guard);
    work_pool_free(s->pool);
    loop_free(s->loop);
    free(s->pack);
    buf_release(&s->index);
}

static void assert_has_pack(struct swarm *s, int i)
{
    const char *path = exchange_path(s->nodes[i].x, &s->id);
    size_t len;
    char *got;

    assert_int_equal(s->nodes[i].status, 0);
    assert_non_null(path);
    got = tmpdir_read(path, &len);
    assert_int_equal(len, PACK_BYTES);
    assert_memory_equal(got, s->pack, PACK_BYTES);
    free(got);
}

static void one_machine_fetches_from_the_region(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES);
    assert_int_equal(s.nodes[1].fetch.have_bytes, PACK_BYTES);
    assert_int_equal(s.nodes[1].fetch.total_bytes, PACK_BYTES);
    assert_true(s.nodes[1].joins >= 2); /* when it began and when it was done */
    stop_swarm(&s);
}

static void machines_trade(void **state)
{
    struct swarm s;
    uint64_t seed = 0, peer = 0;

    (void)state;
    start_swarm(&s, 4);
    for (int i = 1; i <= 4; i++) {
        connect_nodes(&s, i, 0);
        for (int k = 1; k < i; k++)
            connect_nodes(&s, i, k);
        start_fetch(&s, i);
    }
    loop_run(s.loop);
    for (int i = 1; i <= 4; i++) {
        assert_has_pack(&s, i);
        seed += s.nodes[i].fetch.seed_bytes;
        peer += s.nodes[i].fetch.peer_bytes;
    }
    assert_int_equal(seed + peer, 4 * (uint64_t)PACK_BYTES);
    assert_true(peer > 0);
    stop_swarm(&s);
}

/* Half-way everything is dropped; what was verified is not fetched again. */
static void it_goes_on_where_it_was(void **state)
{
    struct swarm s;
    uint64_t had;

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    s.stop_at_bytes = PACK_BYTES / 2;
    start_fetch(&s, 1);
    loop_run(s.loop);
    had = s.nodes[1].fetch.have_bytes;
    assert_true(had >= PACK_BYTES / 2 && had < PACK_BYTES);
    stop_swarm(&s);

    {
        const char *dir = s.nodes[1].dir;

        memset(&s.nodes, 0, sizeof(s.nodes));
        start_swarm(&s, 0);
        s.nodes[1].dir = dir;
        s.count = 2;
        start_node(&s, &s.nodes[1], ROLE_AGENT, "m1");
    }
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_true(exchange_counts(s.nodes[0].x).sent_bytes <= PACK_BYTES - had);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES); /* it remembers where from */
    stop_swarm(&s);
}

/* A leaf that rots on disk between two runs is found and fetched again. */
static void rot_is_fetched_again(void **state)
{
    struct swarm s;
    const char *dir;
    char hex[HASH_HEX], *bytes;
    const char *path;
    size_t len;

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    dir = s.nodes[1].dir;
    path = below(dir, hash_hex(&s.id, hex), ".pack");
    stop_swarm(&s);
    bytes = tmpdir_read(path, &len);
    bytes[5 * LEAF_BYTES + 17] ^= 1;
    tmpdir_write(path, bytes, len);
    free(bytes);

    start_swarm(&s, 0);
    s.nodes[1].dir = dir;
    s.count = 2;
    start_node(&s, &s.nodes[1], ROLE_AGENT, "m1");
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, LEAF_BYTES);
    stop_swarm(&s);
}

/* A machine that gives wrong bytes: they are thrown away, it is refused, the fetch completes. */
static void wrong_bytes_are_thrown_away(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    s.nodes[2].evil = true;
    connect_nodes(&s, 1, 2);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES);
    assert_true(exchange_counts(s.nodes[1].x).bad_leaves > 0);
    stop_swarm(&s);
}

static void object_done(struct exchange_object *o, int status)
{
    struct swarm *s = o->user;

    s->nodes[1].status = status;
    loop_stop(s->loop);
}

static void objects_come_in_chunks(void **state)
{
    struct exchange_object o = { 0 };
    unsigned char *big = mem_alloc(3 * OBJECT_CHUNK + 5);
    struct hash h;
    struct swarm s;

    (void)state;
    memset(big, 'x', 3 * OBJECT_CHUNK + 5);
    h = sha256_of(big, 3 * OBJECT_CHUNK + 5);
    start_swarm(&s, 1);
    exchange_offer(s.nodes[0].x, big, 3 * OBJECT_CHUNK + 5);
    o.user = &s;
    exchange_object_start(s.nodes[1].x, &o, &h, 1 << 20, object_done);
    connect_nodes(&s, 1, 0); /* it waits for a link */
    loop_run(s.loop);
    assert_int_equal(s.nodes[1].status, 0);
    assert_int_equal(o.out.len, 3 * OBJECT_CHUNK + 5);
    buf_release(&o.out);
    exchange_object_start(s.nodes[1].x, &o, &h, 1 << 20, object_done); /* from memory */
    loop_run(s.loop);
    assert_int_equal(s.nodes[1].status, 0);
    buf_release(&o.out);
    stop_swarm(&s);
    free(big);
}

static void forgotten_packs_are_deleted(void **state)
{
    struct swarm s;
    char hex[HASH_HEX];

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_true(path_exists(below(s.nodes[1].dir, hash_hex(&s.id, hex), ".pack")));
    exchange_forget(s.nodes[1].x, &s.id);
    assert_false(path_exists(below(s.nodes[1].dir, hex, ".pack")));
    assert_null(exchange_path(s.nodes[1].x, &s.id));
    /* And fetched again over the same link: the release before is deployed once more. */
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    stop_swarm(&s);
}

/* Over the same link: forgotten on both sides of it, fetched again, and that many times. */
static void forgotten_packs_are_fetched_again(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    connect_nodes(&s, 1, 0);
    connect_nodes(&s, 1, 2);
    for (int i = 0; i < 3; i++) {
        start_fetch(&s, 1);
        loop_run(s.loop);
        assert_has_pack(&s, 1);
        assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes,
                         (uint64_t)PACK_BYTES * (uint64_t)(i + 1));
        exchange_forget(s.nodes[1].x, &s.id);
    }
    stop_swarm(&s);
}

/* One that has everything and answers nothing: its pieces are asked of the other. */
static void silence_stops_nothing(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    s.nodes[2].silent = true;
    connect_nodes(&s, 1, 2);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(s.nodes[1].fetch.seed_bytes, PACK_BYTES);
    stop_swarm(&s);
}

/* What a seed's disk has changed is not sent; the rest is, and the missing part comes from elsewhere. */
static void rot_is_not_sent(void **state)
{
    struct swarm s;
    struct err err = ERR_INIT;
    const char *rotten;

    (void)state;
    start_swarm(&s, 2);
    rotten = below(tmpdir_fresh(), "rotten", ".pack");
    s.pack[7 * LEAF_BYTES] ^= 1;
    tmpdir_write(rotten, s.pack, PACK_BYTES);
    s.pack[7 * LEAF_BYTES] ^= 1;
    assert_ok(exchange_seed(s.nodes[2].x, s.index.data, s.index.len, rotten, &err), &err);
    connect_nodes(&s, 1, 0);
    connect_nodes(&s, 1, 2);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(exchange_counts(s.nodes[1].x).bad_leaves, 0);
    stop_swarm(&s);
}

static void fetch_some(struct swarm *s, int i, size_t first, size_t count)
{
    struct node *n = &s->nodes[i];
    struct bitmap want;

    bitmap_init(&want, PACK_BYTES / LEAF_BYTES + 1);
    for (size_t leaf = first; leaf < first + count; leaf++)
        bitmap_put(&want, leaf, true);
    n->fetch.user = n;
    s->want_done++;
    exchange_fetch_some(n->x, &n->fetch, &s->id, &want, fetched);
    bitmap_release(&want);
    loop_run(s->loop);
}

/* Some leaves, some others of the same pack, nothing at all; then it is closed, a leaf rots on disk, and
 * only that comes again. */
static void some_leaves_are_fetched(void **state)
{
    struct swarm s;
    const struct bitmap *have;
    uint64_t seed = 0, peer = 0;

    (void)state;
    start_swarm(&s, 1);
    connect_nodes(&s, 1, 0);
    assert_null(exchange_leaves(s.nodes[1].x, &s.id, &seed, &peer));
    fetch_some(&s, 1, 3, 2);
    assert_int_equal(s.nodes[1].fetch.total_bytes, 2 * LEAF_BYTES);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, 2 * LEAF_BYTES);
    assert_true(exchange_given_ms(s.nodes[0].x, &s.id) > 0);
    assert_int_equal(exchange_given_ms(s.nodes[1].x, &s.id), 0);
    fetch_some(&s, 1, 4, 3);
    assert_int_equal(s.nodes[1].fetch.have_bytes, 3 * LEAF_BYTES);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, 4 * LEAF_BYTES);
    have = exchange_leaves(s.nodes[1].x, &s.id, &seed, &peer);
    assert_non_null(have);
    assert_int_equal(have->set, 4);
    assert_int_equal(seed, 4 * LEAF_BYTES);
    assert_int_equal(peer, 0);
    fetch_some(&s, 1, 0, 0);
    assert_int_equal(s.nodes[1].fetch.total_bytes, 0);
    assert_non_null(exchange_path(s.nodes[1].x, &s.id));
    {
        AUTO_FREE char *path = mem_strdup(exchange_path(s.nodes[1].x, &s.id));
        FILE *f = fopen(path, "r+");

        exchange_close(s.nodes[1].x, &s.id);
        exchange_close(s.nodes[1].x, &s.id); /* harmless */
        assert_non_null(f);
        assert_int_equal(fseek(f, 5L * LEAF_BYTES + 9, SEEK_SET), 0);
        assert_int_equal(fputs("rot", f) < 0, false);
        assert_int_equal(fclose(f), 0);
    }
    assert_null(exchange_path(s.nodes[1].x, &s.id));
    fetch_some(&s, 1, 3, 4);
    assert_int_equal(s.nodes[1].fetch.have_bytes, 4 * LEAF_BYTES);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, 5 * LEAF_BYTES);
    stop_swarm(&s);
}

static void when_one_leaf_is_missing(struct timer *t)
{
    struct swarm *s = CONTAINER_OF(t, struct swarm, kick);

    if (s->nodes[1].fetch.have_bytes != PACK_BYTES - LEAF_BYTES)
        return;
    timer_stop(t);
    loop_stop(s->loop);
}

/* Nor what was verified when it came, and has changed since. */
static void rot_since_is_not_sent(void **state)
{
    struct swarm s;
    char hex[HASH_HEX], bad = 0;
    const char *path;
    int fd;

    (void)state;
    start_swarm(&s, 2);
    connect_nodes(&s, 2, 0);
    start_fetch(&s, 2);
    loop_run(s.loop);
    path = below(s.nodes[2].dir, hash_hex(&s.id, hex), ".pack");
    bad = (char)(s.pack[7 * LEAF_BYTES + 99] ^ 4);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, &bad, 1, 7 * LEAF_BYTES + 99), 1);
    close(fd);

    exchange_offer(s.nodes[2].x, s.index.data, s.index.len);
    connect_nodes(&s, 1, 2);
    start_fetch(&s, 1);
    timer_start(s.loop, &s.kick, 1, 1, when_one_leaf_is_missing);
    loop_run(s.loop);
    assert_false(exchange_has(s.nodes[1].x, &s.id, 7, 1));
    connect_nodes(&s, 1, 0);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(exchange_counts(s.nodes[1].x).bad_leaves, 0);
    stop_swarm(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_machine_fetches_from_the_region),
        cmocka_unit_test(machines_trade),
        cmocka_unit_test(it_goes_on_where_it_was),
        cmocka_unit_test(some_leaves_are_fetched),
        cmocka_unit_test(rot_is_fetched_again),
        cmocka_unit_test(wrong_bytes_are_thrown_away),
        cmocka_unit_test(objects_come_in_chunks),
        cmocka_unit_test(forgotten_packs_are_deleted),
        cmocka_unit_test(forgotten_packs_are_fetched_again),
        cmocka_unit_test(rot_is_not_sent),
        cmocka_unit_test(rot_since_is_not_sent),
        cmocka_unit_test(silence_stops_nothing),
    };

    log_setup("test", 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
