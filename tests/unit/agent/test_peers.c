/* Three machines on one loop: the tracker's word makes them connect, and drop what is not needed. */
#include "lib/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/pki.h"
#include "lib/tmpdir.h"
#include "peers.h"

enum { MACHINES = 3, PACK_BYTES = 3 * LEAF_BYTES + 5 };

struct machine {
    struct town *town;
    struct link_identity *self;
    struct exchange *x;
    struct peers *peers;
    struct exchange_fetch fetch;
    int done;
    bool gone;
};

struct town {
    struct loop *loop;
    struct work_pool *pool;
    struct machine m[MACHINES];
    struct hash pack;
    struct timer guard, look;
    bool (*wanted)(struct town *t);
};

static void guard_fired(struct timer *t)
{
    (void)t;
    fail_msg("nothing more happens");
}

static void look(struct timer *timer)
{
    struct town *t = CONTAINER_OF(timer, struct town, look);

    if (t->wanted(t))
        loop_stop(t->loop);
}

static void until(struct town *t, bool (*wanted)(struct town *t))
{
    t->wanted = wanted;
    timer_start(t->loop, &t->guard, 20000, 0, guard_fired);
    timer_start(t->loop, &t->look, 0, 5, look);
    loop_run(t->loop);
    timer_stop(&t->guard);
    timer_stop(&t->look);
}

static void join(void *ctx, const struct hash *pack, const struct bytes *bitmap)
{
    (void)ctx;
    (void)pack;
    (void)bitmap;
}

static void start(struct town *t, const char *ca, int i)
{
    struct machine *m = &t->m[i];
    AUTO_FREE char *id = mem_printf("m-%02d", MACHINES - i); /* the later one opens links */
    AUTO_FREE char *dir = mem_printf("%s/%s", ca, id);
    struct exchange_options x = { .loop = t->loop, .pool = t->pool, .dir = tmpdir_fresh() };
    struct peers_options p = { .loop = t->loop, .listen = "127.0.0.1:0" };
    struct err err = ERR_INIT;

    m->town = t;
    x.seed = (uint64_t)i;
    x.join = join;
    assert_ok(dir_make(dir, 0700, &err), &err);
    assert_ok(pki_issue(ca, dir, "c", ROLE_AGENT, id, &err), &err);
    assert_ok(link_identity_load(&m->self, dir, "r1", &err), &err);
    assert_ok(exchange_new(&m->x, &x, &err), &err);
    p.self = m->self;
    p.exchange = m->x;
    assert_ok(peers_new(&m->peers, &p, &err), &err);
}

static void seed(struct town *t)
{
    struct pack_index p = { .kind = PACK_FULL, .bytes = PACK_BYTES };
    unsigned char *bytes = mem_alloc(PACK_BYTES);
    struct hash leaves[4];
    const char *path = tmpdir_path("whole.pack");
    AUTO_BUF index = BUF_INIT;
    struct err err = ERR_INIT;

    for (size_t i = 0; i < PACK_BYTES; i++)
        bytes[i] = (unsigned char)(i * 7 / 3);
    p.leaves = leaves;
    p.nleaves = COUNT_OF(leaves);
    for (size_t i = 0; i < p.nleaves; i++)
        leaves[i] = merkle_leaf(bytes + i * LEAF_BYTES, pack_leaf_bytes(&p, i));
    pack_index_encode(&index, &p);
    t->pack = sha256_of(index.data, index.len);
    tmpdir_write(path, bytes, PACK_BYTES);
    free(bytes);
    assert_ok(exchange_seed(t->m[0].x, index.data, index.len, path, &err), &err);
}

static void fetched(struct exchange_fetch *f, int status)
{
    struct machine *m = CONTAINER_OF(f, struct machine, fetch);

    assert_ok(status, &f->err);
    m->done++;
}

/* What the tracker says to machine i: connect to machine to, called id. */
static void tell(struct town *t, int i, int to, const char *id)
{
    AUTO_FREE char *right = mem_printf("m-%02d", MACHINES - to);
    struct msg_peer list[2] = {
        { id == NULL ? right : (char *)(uintptr_t)id, (char *)(uintptr_t) "127.0.0.1",
          (uint16_t)peers_port(t->m[to].peers), RACK_SAME },
        { (char *)(uintptr_t)link_identity_id(t->m[i].self), (char *)(uintptr_t) "127.0.0.1",
          (uint16_t)peers_port(t->m[i].peers), RACK_SAME }, /* oneself: not to be connected to */
    };
    struct msg_peers m = { t->pack, { list, 2 } };

    peers_set(t->m[i].peers, &m);
}

static bool both_done(struct town *t)
{
    return t->m[1].done == 1 && t->m[2].done == 1;
}

static void gone(void *ctx)
{
    ((struct machine *)ctx)->gone = true;
}

static bool all_gone(struct town *t)
{
    return t->m[0].gone && t->m[1].gone && t->m[2].gone;
}

static void setup_town(struct town *t)
{
    struct err err = ERR_INIT;
    const char *ca = tmpdir_fresh();

    memset(t, 0, sizeof(*t));
    assert_ok(loop_new(&t->loop, &err), &err);
    assert_ok(work_pool_new(&t->pool, t->loop, 1, &err), &err);
    assert_ok(pki_make_ca(ca, "c", &err), &err);
    for (int i = 0; i < MACHINES; i++)
        start(t, ca, i);
    seed(t);
}

static void close_town(struct town *t)
{
    for (int i = t->m[0].gone ? 1 : 0; i < MACHINES; i++)
        peers_close(t->m[i].peers, gone, &t->m[i]);
    until(t, all_gone);
    work_pool_free(t->pool);
    for (int i = 0; i < MACHINES; i++) {
        exchange_fetch_cancel(&t->m[i].fetch);
        peers_free(t->m[i].peers);
        exchange_free(t->m[i].x);
        link_identity_free(t->m[i].self);
    }
    loop_free(t->loop);
}

/* 0 has it, 1 is told of 0, 2 is told of 1 alone. */
static void test_a_pack_travels(void **state)
{
    struct exchange_tally tallies[MACHINES] = { { 0 } };
    struct town t;

    (void)state;
    setup_town(&t);
    for (int i = 1; i < MACHINES; i++) {
        t.m[i].fetch.tally = &tallies[i];
        exchange_fetch_start(t.m[i].x, &t.m[i].fetch, &t.pack, fetched);
    }
    tell(&t, 1, 0, NULL);
    tell(&t, 2, 1, NULL);
    until(&t, both_done);
    for (int i = 1; i < MACHINES; i++) {
        struct peers_edges edges = peers_edges(t.m[i].peers, &t.pack);

        assert_int_equal(tallies[i].bytes, PACK_BYTES);
        assert_int_equal(tallies[i].near_bytes, PACK_BYTES);
        assert_int_equal(tallies[i].far_bytes, 0);
        assert_int_equal(edges.named, 1);
        assert_int_equal(edges.stale, 0);
        tell(&t, i, i - 1, NULL); /* again: it is the same edge */
        assert_int_equal(peers_edges(t.m[i].peers, &t.pack).named, 1);
    }
    assert_int_equal(exchange_given_bytes(t.m[0].x, &t.pack), PACK_BYTES);
    assert_int_equal(t.m[1].fetch.peer_bytes, PACK_BYTES);
    assert_int_equal(t.m[1].fetch.seed_bytes, 0);
    assert_int_equal(t.m[2].fetch.peer_bytes, PACK_BYTES);
    peers_forget(t.m[1].peers, &t.pack);
    peers_forget(t.m[1].peers, &t.pack);
    close_town(&t);
}

/* A link beside those of peers, from one machine to another. */
struct spare {
    struct link *link;
    bool opened, told, closed;
    char why[512];
};

static void spare_opened(void *ctx, struct link *l)
{
    (void)l;
    ((struct spare *)ctx)->opened = true;
}

static void spare_message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    (void)l;
    (void)type;
    (void)msg;
    ((struct spare *)ctx)->told = true;
}

static void spare_closed(void *ctx, struct link *l, const struct err *why)
{
    struct spare *s = ctx;

    (void)l;
    s->closed = true;
    snprintf(s->why, sizeof(s->why), "%s", why->text);
}

static const struct link_handler spare_handler = { spare_opened, spare_message, NULL,
                                                   spare_closed };

static struct spare *current; /* what until() looks at */

static bool spare_is_closed(struct town *t)
{
    (void)t;
    return current->closed;
}

static bool spare_is_told(struct town *t)
{
    (void)t;
    return current->told;
}

static bool one_has_all(struct town *t)
{
    return t->m[1].done == 1;
}

static void open_spare(struct town *t, struct spare *s, int from, int to)
{
    struct err err = ERR_INIT;

    *s = (struct spare){ .link = NULL };
    assert_ok(link_connect(&s->link, t->loop, t->m[from].self, "127.0.0.1",
                           peers_port(t->m[to].peers), ROLE_AGENT, link_identity_id(t->m[to].self),
                           &spare_handler, s, &err),
              &err);
    current = s;
}

/* Both may connect to each other at the same time: one link stays, for both the same one. */
static void test_one_link_between_two(void **state)
{
    struct spare back, again;
    struct town t;

    (void)state;
    setup_town(&t);
    exchange_fetch_start(t.m[1].x, &t.m[1].fetch, &t.pack, fetched);
    tell(&t, 1, 0, NULL);
    until(&t, one_has_all);
    open_spare(&t, &back, 0, 1); /* 1 is the opener: this one goes */
    until(&t, spare_is_closed);
    assert_non_null(strstr(back.why, "another link to the same machine"));
    peers_forget(t.m[1].peers, &t.pack); /* it opens no other link of its own meanwhile */
    open_spare(&t, &again, 1, 0);
    until(&t, spare_is_told);
    open_spare(&t, &back, 1, 0); /* the opener has begun anew: its first link goes */
    until(&t, spare_is_told);
    current = &again;
    until(&t, spare_is_closed);
    assert_true(again.opened && back.opened && !back.closed);
    assert_non_null(strstr(again.why, "another link to the same machine"));
    link_close(back.link, ERR_CANCELLED, "the test ends");
    current = &back;
    until(&t, spare_is_closed);
    close_town(&t);
}

/* It is tried until it is let in: then it is told what the other side has. */
static bool spare_is_let_in(struct town *t)
{
    if (current->closed)
        open_spare(t, current, 0, 1);
    return current->told;
}

/* The one with the greater id has lost the link, and the other does not know: its host was switched off, say. */
static void test_a_half_dead_link_is_replaced(void **state)
{
    struct spare back;
    struct town t;

    (void)state;
    setup_town(&t);
    link_identity_set_times(t.m[1].self, 1000, LINK_PING_MS, LINK_SILENT_MS);
    exchange_fetch_start(t.m[1].x, &t.m[1].fetch, &t.pack, fetched);
    tell(&t, 1, 0, NULL);
    until(&t, one_has_all);
    open_spare(&t, &back, 0, 1);
    until(&t, spare_is_closed); /* it may have been begun before the other one was open */
    until(&t, spare_is_let_in);
    link_close(back.link, ERR_CANCELLED, "the test ends");
    until(&t, spare_is_closed);
    close_town(&t);
}

/* Only the one with the greater id was told, or its neighbour cannot reach it. */
static void test_the_other_side_does_not_come(void **state)
{
    struct town t;

    (void)state;
    setup_town(&t);
    exchange_fetch_start(t.m[1].x, &t.m[1].fetch, &t.pack, fetched);
    tell(&t, 0, 1, NULL);
    until(&t, one_has_all);
    close_town(&t);
}

static bool zero_is_alone(struct town *t)
{
    const char *banned[BANNED_MAX];

    return t->m[0].gone && peers_banned(t->m[1].peers, &t->pack, banned) == 1 &&
           strcmp(banned[0], link_identity_id(t->m[0].self)) == 0;
}

/* Whoever is banned is remembered with the packs that it was named for. */
static void test_who_is_banned_is_named(void **state)
{
    const char *banned[BANNED_MAX];
    struct town t;

    (void)state;
    setup_town(&t);
    for (int i = 1; i < MACHINES; i++)
        exchange_fetch_start(t.m[i].x, &t.m[i].fetch, &t.pack, fetched);
    tell(&t, 1, 0, NULL);
    tell(&t, 2, 1, NULL);
    until(&t, both_done);
    assert_int_equal(peers_banned(t.m[1].peers, &t.pack, banned), 0);
    link_identity_deny(t.m[1].self, ROLE_AGENT, link_identity_id(t.m[0].self));
    peers_close(t.m[0].peers, gone, &t.m[0]); /* the link ends */
    until(&t, zero_is_alone);
    tell(&t, 1, 2, NULL); /* it is named no more, and remembered */
    assert_int_equal(peers_banned(t.m[1].peers, &t.pack, banned), 1);
    peers_forget(t.m[1].peers, &t.pack);
    assert_int_equal(peers_banned(t.m[1].peers, &t.pack, banned), 0);
    close_town(&t);
}

static bool edge_is_stale(struct town *t)
{
    return peers_edges(t->m[1].peers, &t->pack).stale > 0;
}

/* Nobody is there, and the tracker names it again and again: one edge, of no use. */
static void test_who_is_dead_is_stale(void **state)
{
    char id[] = "m-77", host[] = "127.0.0.1";
    struct msg_peer dead = { id, host, 1, RACK_OTHER };
    struct town t;

    (void)state;
    setup_town(&t);
    for (int i = 0; i < 3; i++) {
        struct msg_peers m = { t.pack, { &dead, 1 } };

        peers_set(t.m[1].peers, &m);
        until(&t, edge_is_stale);
    }
    assert_int_equal(peers_edges(t.m[1].peers, &t.pack).named, 1);
    assert_int_equal(peers_edges(t.m[1].peers, &t.pack).stale, 1);
    dead.port = 2; /* it has moved: another edge */
    peers_set(t.m[1].peers, &(struct msg_peers){ t.pack, { &dead, 1 } });
    assert_int_equal(peers_edges(t.m[1].peers, &t.pack).named, 2);
    peers_forget(t.m[1].peers, &t.pack);
    assert_int_equal(peers_edges(t.m[1].peers, &t.pack).named, 0);
    close_town(&t);
}

static bool has_been_refused(struct town *t)
{
    (void)t;
    return true;
}

/* A machine that is not who the tracker says is not spoken with; the right address then is. */
static void test_a_wrong_name_is_not_believed(void **state)
{
    struct town t;

    (void)state;
    setup_town(&t);
    exchange_fetch_start(t.m[1].x, &t.m[1].fetch, &t.pack, fetched);
    t.m[2].done = 1;
    tell(&t, 1, 0, "m-77");
    until(&t, has_been_refused);
    assert_int_equal(t.m[1].done, 0);
    tell(&t, 1, 0, NULL);
    until(&t, both_done);
    close_town(&t);
}

static void test_addresses_that_cannot_be_used(void **state)
{
    struct town t;
    struct peers_options p = { 0 };
    struct peers *peers = NULL;
    struct err err = ERR_INIT;

    (void)state;
    setup_town(&t);
    p = (struct peers_options){ t.loop, t.m[0].self, t.m[0].x, "192.0.2.1:1", NULL };
    assert_true(peers_new(&peers, &p, &err) < 0);
    assert_non_null(strstr(err.text, "listen for peers"));
    close_town(&t);
}

static void test_host_for_others(void **state)
{
    static const struct {
        const char *listen, *host;
    } cases[] = {
        { "127.0.0.1:0", "127.0.0.1" }, { "[::1]:7000", "::1" }, { "m1.example:1", "m1.example" },
        { "0.0.0.0:7000", "" },         { "[::]:7000", "" },     { ":7000", "" }
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *host = peers_host(cases[i].listen);

        assert_string_equal(host, cases[i].host);
        free(host);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_for_others),
        cmocka_unit_test(test_a_pack_travels),
        cmocka_unit_test(test_who_is_dead_is_stale),
        cmocka_unit_test(test_one_link_between_two),
        cmocka_unit_test(test_a_half_dead_link_is_replaced),
        cmocka_unit_test(test_the_other_side_does_not_come),
        cmocka_unit_test(test_who_is_banned_is_named),
        cmocka_unit_test(test_a_wrong_name_is_not_believed),
        cmocka_unit_test(test_addresses_that_cannot_be_used),
    };

    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
