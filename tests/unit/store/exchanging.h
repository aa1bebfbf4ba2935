/* exchanging.h - a swarm of exchanges over real links on one loop, for the tests of exchange. */
#ifndef UNIT_STORE_EXCHANGING_H
#define UNIT_STORE_EXCHANGING_H

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
static inline const char *below(const char *dir, const char *name, const char *ending)
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

static inline void lie(struct node *n, struct link *l, enum msg_type type, const void *msg)
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

static inline void opened(void *ctx, struct link *l)
{
    struct node *n = ctx;

    n->open[n->links++] = l;
    exchange_attach(n->x, l);
}

static inline void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
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

static inline void drained(void *ctx, struct link *l)
{
    exchange_drained(((struct node *)ctx)->x, l);
}

static inline void closed(void *ctx, struct link *l, const struct err *why)
{
    struct node *n = ctx;

    (void)why;
    for (int i = 0; i < n->links; i++)
        if (n->open[i] == l)
            n->open[i] = n->open[--n->links];
    exchange_detach(n->x, l);
}

static const struct link_handler handler = { opened, message, drained, closed };

static inline void join(void *ctx, const struct hash *pack, const struct bytes *bitmap)
{
    (void)pack;
    (void)bitmap;
    ((struct node *)ctx)->joins++;
}

static inline void guard_fired(struct timer *t)
{
    (void)t;
    print_error("nothing more happens\n");
    abort();
}

static inline void start_node(struct swarm *s, struct node *n, enum link_role role, const char *id)
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

static inline void make_pack(struct swarm *s)
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

        leaves[i] = merkle_leaf(s->pack + i * LEAF_BYTES, left < LEAF_BYTES ? left : LEAF_BYTES);
    }
    pack_index_encode(&s->index, &p);
    s->id = sha256_of(s->index.data, s->index.len);
    s->path = below(tmpdir_fresh(), "whole", ".pack");
    assert_ok(file_publish(s->path, s->pack, PACK_BYTES, 0600, &err), &err);
}

static inline void start_swarm(struct swarm *s, int machines)
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

static inline void connect_nodes(struct swarm *s, int from, int to)
{
    struct err err = ERR_INIT;
    struct link *l;

    assert_ok(link_connect(&l, s->loop, s->nodes[from].self, "127.0.0.1",
                           link_listener_port(s->nodes[to].listener),
                           to == 0 ? ROLE_REGION : ROLE_AGENT, NULL, &handler, &s->nodes[from],
                           &err),
              &err);
}

static inline void fetched(struct exchange_fetch *f, int status)
{
    struct node *n = f->user;

    n->done++;
    n->status = status;
    if (--n->s->want_done == 0)
        loop_stop(n->s->loop);
}

static inline void start_fetch(struct swarm *s, int i)
{
    struct node *n = &s->nodes[i];

    n->fetch.user = n;
    s->want_done++;
    exchange_fetch_start(n->x, &n->fetch, &s->id, fetched);
}

static inline void stop_node(struct node *n)
{
    link_listener_close(n->listener);
    exchange_fetch_cancel(&n->fetch);
    exchange_free(n->x);
    link_identity_free(n->self);
}

/* Stops the loop when the last link is closed. */
static inline void when_closed(struct timer *t)
{
    struct swarm *s = CONTAINER_OF(t, struct swarm, kick);

    for (int i = 0; i < s->count; i++)
        if (s->nodes[i].links > 0 || exchange_is_busy(s->nodes[i].x))
            return;
    timer_stop(t);
    loop_stop(s->loop);
}

static inline void close_links(struct node *n)
{
    for (int i = 0; i < n->links; i++)
        link_close(n->open[i], ERR_CANCELLED, "the test is over");
}

static inline void stop_swarm(struct swarm *s)
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

static inline void assert_has_pack(struct swarm *s, int i)
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

#endif
