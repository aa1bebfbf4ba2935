/* What a disk changes is neither kept nor sent. */
#include "unit/store/exchanging.h"

#include "base/checksum.h"
#include "store/exchange_internal.h"

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

static void when_one_leaf_is_missing(struct timer *t)
{
    struct swarm *s = CONTAINER_OF(t, struct swarm, kick);

    if (s->nodes[1].fetch.have_bytes != PACK_BYTES - LEAF_BYTES)
        return;
    timer_stop(t);
    loop_stop(s->loop);
}

/* One who has hashed the file vouches for it: what is not as it was then is not sent. */
static void what_is_vouched_for_is_compared(void **state)
{
    uint64_t sums[PACK_BYTES / LEAF_BYTES + 1];
    struct swarm s;

    (void)state;
    start_swarm(&s, 1);
    for (size_t i = 0; i < COUNT_OF(sums); i++) {
        size_t left = PACK_BYTES - i * LEAF_BYTES;

        sums[i] = checksum_of(s.pack + i * LEAF_BYTES, left < LEAF_BYTES ? left : LEAF_BYTES);
    }
    exchange_vouch(s.nodes[0].x, &s.id, sums);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    stop_swarm(&s);

    start_swarm(&s, 1);
    sums[3] ^= 1;
    exchange_vouch(s.nodes[0].x, &s.id, sums);
    connect_nodes(&s, 1, 0);
    start_fetch(&s, 1);
    timer_start(s.loop, &s.kick, 1, 1, when_one_leaf_is_missing);
    loop_run(s.loop);
    assert_false(exchange_has(s.nodes[1].x, &s.id, 3, 1));
    assert_false(exchange_has(s.nodes[0].x, &s.id, 3, 1));
    stop_swarm(&s);
}

static void damage_leaf(const struct swarm *s, const struct node *n, size_t leaf)
{
    char hex[HASH_HEX], bad = (char)(s->pack[leaf * LEAF_BYTES + 99] ^ 4);
    int fd = open(below(n->dir, hash_hex(&s->id, hex), ".pack"), O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, &bad, 1, (off_t)(leaf * LEAF_BYTES + 99)), 1);
    close(fd);
}

/* Nor what was verified when it came, and has changed since. */
static void rot_since_is_not_sent(void **state)
{
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    connect_nodes(&s, 2, 0);
    start_fetch(&s, 2);
    loop_run(s.loop);
    recent_drop(s.nodes[2].x, NULL, INT64_MAX); /* so that the disk is asked */
    damage_leaf(&s, &s.nodes[2], 7);

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

/* What came a moment ago is given from memory, whatever the disk says; but not for ever, nor too many. */
static void what_is_in_memory_is_sent(void **state)
{
    struct exchange_pack *p;
    struct swarm s;
    size_t count = 0;

    (void)state;
    start_swarm(&s, 2);
    connect_nodes(&s, 2, 0);
    start_fetch(&s, 2);
    loop_run(s.loop);
    p = pack_find(s.nodes[2].x, &s.id);
    for (uint32_t i = 0; i < p->index->nleaves; i++) {
        if (recent_find(p, i) == NULL)
            continue;
        damage_leaf(&s, &s.nodes[2], i);
        count++;
    }
    assert_int_equal(count, EXCHANGE_RECENT_MAX);
    assert_int_equal(s.nodes[2].x->nrecent, EXCHANGE_RECENT_MAX);

    exchange_offer(s.nodes[2].x, s.index.data, s.index.len);
    connect_nodes(&s, 1, 2);
    start_fetch(&s, 1);
    loop_run(s.loop);
    assert_has_pack(&s, 1);
    assert_int_equal(exchange_counts(s.nodes[1].x).bad_leaves, 0);

    recent_drop(s.nodes[2].x, NULL, exchange_now(s.nodes[2].x) - EXCHANGE_RECENT_MS);
    assert_int_equal(s.nodes[2].x->nrecent, EXCHANGE_RECENT_MAX);
    recent_drop(s.nodes[2].x, NULL, exchange_now(s.nodes[2].x) + 1);
    assert_int_equal(s.nodes[2].x->nrecent, 0);
    stop_swarm(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot_is_fetched_again),
        cmocka_unit_test(rot_is_not_sent),
        cmocka_unit_test(rot_since_is_not_sent),
        cmocka_unit_test(what_is_in_memory_is_sent),
        cmocka_unit_test(what_is_vouched_for_is_compared),
    };

    log_setup("test", 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
