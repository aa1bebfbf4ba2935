#include "store/sweep.h"

#include <signal.h>
#include <sys/wait.h>

#include "io/loop.h"
#include "store/pack_check.h"
#include "store/publish_delta.h"
#include "unit/store/stocked.h"

enum { OLD_MS = 1000000, CUT_MS = 2000000 };

struct told {
    enum object_kind kinds[64];
    enum sweep_why why[64];
    struct hash names[64];
    size_t count;
    uint64_t bytes;
};

static void on_delete(void *ctx, const struct sweep_item *item)
{
    struct told *t = ctx;

    assert_true(t->count < COUNT_OF(t->kinds));
    t->kinds[t->count] = item->kind;
    t->why[t->count] = item->why;
    t->names[t->count++] = *item->name;
    t->bytes += item->bytes;
}

static struct sweep_result sweep(struct stock *k, const struct hash *keep, size_t nkeep, bool dry,
                                 struct told *t)
{
    struct sweep_options o = { .keep = keep,
                               .nkeep = nkeep,
                               .before_ms = CUT_MS,
                               .dry_run = dry,
                               .tell = t == NULL ? NULL : on_delete,
                               .ctx = t };
    struct sweep_result result;

    stock_look(k);
    assert_ok(store_sweep(k->s, k->c, &o, &result, &k->err), &k->err);
    return result;
}

static bool is_whole(struct stock *k, const struct published *p)
{
    return artifact_verify(k->s, &p->artifact, &p->pack, NULL, NULL) == 0;
}

static void test_catalog(void **state)
{
    struct stock k;
    struct published p, q;
    const struct catalog_artifact *a = NULL;
    char hex[HASH_HEX];

    (void)state;
    stock_init(&k);
    stock_look(&k);
    assert_int_equal(k.c->nartifacts, 0);
    assert_null(catalog_get(k.c, &(struct hash){ { 1 } }));
    assert_error(catalog_find(k.c, "abcd", &a, &k.err), ERR_NOT_FOUND, &k.err, "abcd");
    p = stock_publish(&k, stock_tree(1), 3);
    q = stock_publish(&k, stock_tree(2), 3);
    stock_look(&k);
    assert_int_equal(k.c->nartifacts, 2);
    assert_int_equal(k.c->nstrays, 0);
    hash_hex(&p.artifact, hex);
    hex[12] = '\0';
    assert_ok(catalog_find(k.c, hex, &a, &k.err), &k.err);
    assert_true(hash_equal(&a->hash, &p.artifact));
    assert_int_equal(a->npacks, 1);
    assert_true(a->packs[0].present && a->packs[0].kind == PACK_FULL);
    assert_int_equal(a->bytes, a->manifest_bytes + p.pack_bytes);
    assert_error(catalog_find(k.c, "abc", &a, &k.err), ERR_INVALID, &k.err, "4 to 64");
    assert_error(catalog_find(k.c, "wxyz", &a, &k.err), ERR_INVALID, &k.err, "hexadecimal");
    stock_lose(&k, OBJECT_INDEX, &p.pack);
    stock_lose(&k, OBJECT_MANIFEST, &q.artifact);
    stock_look(&k);
    assert_int_equal(k.c->nartifacts, 2);
    assert_int_equal(k.c->nstrays, 1);
    assert_true(hash_equal(&k.c->strays[0].hash, &p.pack));
    assert_int_equal(catalog_get(k.c, &p.artifact)->npacks, 0);
    assert_int_equal(catalog_get(k.c, &q.artifact)->manifest_bytes, 0);
    stock_lose(&k, OBJECT_PACK, &q.pack);
    stock_look(&k);
    assert_false(catalog_get(k.c, &q.artifact)->packs[0].present);
    stock_spoil(&k, OBJECT_INDEX, &q.pack);
    stock_look(&k);
    assert_null(catalog_get(k.c, &q.artifact));
    stock_release(&k);
}

static void test_an_ambiguous_prefix(void **state)
{
    const struct catalog_artifact *a = NULL;
    struct catalog_artifact two[2] = { 0 };
    struct catalog c = { .artifacts = two, .nartifacts = 2 };
    struct err err = ERR_INIT;

    (void)state;
    memset(two[0].hash.b, 0xab, HASH_BYTES);
    memset(two[1].hash.b, 0xab, HASH_BYTES);
    two[1].hash.b[31] = 0xac;
    assert_error(catalog_find(&c, "abab", &a, &err), ERR_CONFLICT, &err, "2 artifacts");
}

static void test_keep_young_and_old(void **state)
{
    struct published p[4];
    struct sweep_result r;
    struct told told = { 0 };
    struct stock k;

    (void)state;
    stock_init(&k);
    for (size_t i = 0; i < 4; i++) {
        p[i] = stock_publish(&k, stock_tree(i + 1), 3);
        if (i != 2)
            stock_age(&k, &p[i], OLD_MS);
    }
    stock_lose(&k, OBJECT_INDEX,
               &p[3].pack); /* a sweep was killed there: manifest and pack are left */
    r = sweep(&k, &p[0].artifact, 1, true, &told);
    assert_int_equal(r.kept, 1);
    assert_int_equal(r.young, 1);
    assert_int_equal(r.deleted, 2);
    assert_int_equal(told.count, 5);
    assert_int_equal(told.bytes, r.bytes);
    assert_true(is_whole(&k, &p[1]));
    told = (struct told){ 0 };
    r = sweep(&k, &p[0].artifact, 1, false, &told);
    assert_int_equal(r.deleted, 2);
    assert_int_equal(r.objects, 5);
    assert_true(is_whole(&k, &p[0]) && is_whole(&k, &p[2]));
    assert_false(stock_has(&k, OBJECT_PACK, &p[1].pack));
    assert_false(stock_has(&k, OBJECT_PACK, &p[3].pack));
    r = sweep(&k, &p[0].artifact, 1, false, NULL);
    assert_int_equal(r.objects, 0);
    stock_release(&k);
}

/* A pack that has lost its index is kept if the caller names it. */
static void test_a_stray_that_is_wanted(void **state)
{
    struct hash keep[2];
    struct published p;
    struct stock k;

    (void)state;
    stock_init(&k);
    p = stock_publish(&k, stock_tree(1), 3);
    stock_lose(&k, OBJECT_INDEX, &p.pack);
    stock_age(&k, &p, OLD_MS);
    keep[0] = p.artifact;
    keep[1] = p.pack;
    assert_int_equal(sweep(&k, keep, 2, false, NULL).objects, 0);
    assert_int_equal(sweep(&k, keep, 1, false, NULL).objects, 1);
    stock_release(&k);
}

static void test_putting_renews(void **state)
{
    const char *dir = stock_tree(1);
    struct published p;
    struct stock k;
    int64_t put_ms = 0;
    bool gone = true;

    (void)state;
    stock_init(&k);
    p = stock_publish(&k, dir, 3);
    stock_age(&k, &p, OLD_MS);
    assert_ok(store_put_time(k.s, OBJECT_PACK, &p.pack, &put_ms, &k.err), &k.err);
    assert_int_equal(put_ms, OLD_MS);
    (void)stock_publish(&k, dir, 3);
    assert_ok(store_put_time(k.s, OBJECT_PACK, &p.pack, &put_ms, &k.err), &k.err);
    assert_true(put_ms > CUT_MS && put_ms <= wall_ms() + 1000);
    assert_ok(store_expire(k.s, OBJECT_PACK, &p.pack, CUT_MS, &gone, &k.err), &k.err);
    assert_false(gone);
    assert_int_equal(sweep(&k, NULL, 0, false, NULL).young, 1);
    assert_true(is_whole(&k, &p));
    stock_lose(&k, OBJECT_PACK, &p.pack);
    assert_ok(store_expire(k.s, OBJECT_PACK, &p.pack, CUT_MS, &gone, &k.err), &k.err);
    assert_true(gone);
    assert_error(store_put_time(k.s, OBJECT_PACK, &p.pack, &put_ms, &k.err), ERR_NOT_FOUND, &k.err,
                 "pack");
    stock_release(&k);
}

/* A build that publishes the artifact just before its n-th object would go. */
struct builder {
    struct stock *k;
    const char *dir;
    size_t at, calls;
};

static void publish_meanwhile(void *ctx, const struct sweep_item *item)
{
    struct builder *b = ctx;

    (void)item;
    if (b->calls++ == b->at)
        (void)stock_publish(b->k, b->dir, 3);
}

static void test_a_build_at_the_same_time(void **state)
{
    (void)state;
    for (size_t at = 0; at < 3; at++) {
        struct stock k;
        struct builder b = { &k, stock_tree(7), at, 0 };
        struct sweep_options o = { .before_ms = CUT_MS, .tell = publish_meanwhile, .ctx = &b };
        struct sweep_result r;
        struct published p;

        stock_init(&k);
        p = stock_publish(&k, b.dir, 3);
        stock_age(&k, &p, OLD_MS);
        stock_look(&k);
        assert_ok(store_sweep(k.s, k.c, &o, &r, &k.err), &k.err);
        assert_int_equal(r.deleted, 0);
        assert_int_equal(r.young, 1);
        assert_true(is_whole(&k, &p));
        stock_release(&k);
    }
}

static void die(void *ctx, const struct sweep_item *item)
{
    size_t *left = ctx;

    (void)item;
    if ((*left)-- == 0)
        raise(SIGKILL);
}

static void test_killed_at_every_deletion(void **state)
{
    (void)state;
    for (size_t at = 0; at < 6; at++) {
        struct published p, q, spared;
        struct stock k;
        int status = 0;
        pid_t pid;

        stock_init(&k);
        p = stock_publish(&k, stock_tree(1), 3);
        q = stock_publish(&k, stock_tree(2), 3);
        spared = stock_publish(&k, stock_tree(3), 3);
        stock_age(&k, &p, OLD_MS);
        stock_age(&k, &q, OLD_MS);
        stock_age(&k, &spared, OLD_MS);
        stock_look(&k);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct sweep_options o = {
                .keep = &spared.artifact, .nkeep = 1, .before_ms = CUT_MS, .tell = die, .ctx = &at
            };
            struct sweep_result r;

            (void)!store_sweep(k.s, k.c, &o, &r, NULL);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        stock_check_indexes(&k);
        (void)sweep(&k, &spared.artifact, 1, false, NULL);
        stock_look(&k);
        assert_int_equal(k.c->nartifacts, 1);
        assert_int_equal(k.c->nstrays, 0);
        assert_true(is_whole(&k, &spared));
        stock_release(&k);
    }
}

/* --- deltas --- */

static void age_delta(struct stock *k, const struct hash *pack)
{
    stock_age_one(k, OBJECT_INDEX, pack, OLD_MS);
    stock_age_one(k, OBJECT_PACK, pack, OLD_MS);
}

static bool has_delta(struct stock *k, const struct hash *pack)
{
    bool index = stock_has(k, OBJECT_INDEX, pack);

    assert_int_equal(stock_has(k, OBJECT_PACK, pack), index);
    return index;
}

static void test_deltas_stay_between_what_is_kept(void **state)
{
    struct stock k;
    struct published v[3];
    struct hash d01, d12, d02;
    struct told t = { .count = 0 };
    struct sweep_result r;

    (void)state;
    stock_init(&k);
    for (unsigned char i = 0; i < 3; i++) {
        v[i] = stock_version(&k, i);
        stock_age(&k, &v[i], OLD_MS);
    }
    d01 = stock_delta(&k, &v[0], &v[1]);
    d12 = stock_delta(&k, &v[1], &v[2]);
    d02 = stock_delta(&k, &v[0], &v[2]);
    age_delta(&k, &d01);
    age_delta(&k, &d12);
    age_delta(&k, &d02);

    /* v[1] is needed no more: both deltas that have to do with it go, and the third stays. */
    r = sweep(&k, (struct hash[]){ v[0].artifact, v[2].artifact }, 2, true, &t);
    assert_int_equal(r.kept, 2);
    assert_int_equal(r.deleted, 1);
    assert_int_equal(r.deltas, 1);
    assert_int_equal(t.count, 7); /* d12: 2; v[1]: its pack, d01 and the manifest */
    for (size_t i = 0; i < t.count; i++)
        assert_int_equal(t.why[i], hash_equal(&t.names[i], &d12) ? SWEEP_BASELESS : SWEEP_UNNEEDED);
    assert_true(has_delta(&k, &d12)); /* it only looked */
    r = sweep(&k, (struct hash[]){ v[0].artifact, v[2].artifact }, 2, false, NULL);
    assert_int_equal(r.objects, 7);
    assert_false(has_delta(&k, &d01));
    assert_false(has_delta(&k, &d12));
    assert_true(has_delta(&k, &d02));
    assert_true(is_whole(&k, &v[0]) && is_whole(&k, &v[2]));
    stock_check_indexes(&k);
    stock_release(&k);
}

static void test_a_young_delta_stays_without_its_base(void **state)
{
    struct stock k;
    struct published base, target;
    struct hash delta;

    (void)state;
    stock_init(&k);
    base = stock_version(&k, 0);
    target = stock_version(&k, 1);
    stock_age(&k, &base, OLD_MS);
    delta = stock_delta(&k, &base, &target); /* now */
    assert_int_equal(sweep(&k, &target.artifact, 1, false, NULL).deleted, 1);
    assert_true(has_delta(&k, &delta));
    age_delta(&k, &delta);
    assert_int_equal(sweep(&k, (struct hash[]){ target.artifact, delta }, 2, false, NULL).deltas,
                     0); /* named itself */
    assert_true(has_delta(&k, &delta));
    assert_int_equal(sweep(&k, &target.artifact, 1, false, NULL).deltas, 1);
    assert_false(has_delta(&k, &delta));
    assert_string_equal(sweep_why_name(SWEEP_BASELESS), "baseless");
    stock_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_catalog),
        cmocka_unit_test(test_an_ambiguous_prefix),
        cmocka_unit_test(test_keep_young_and_old),
        cmocka_unit_test(test_a_stray_that_is_wanted),
        cmocka_unit_test(test_putting_renews),
        cmocka_unit_test(test_a_build_at_the_same_time),
        cmocka_unit_test(test_killed_at_every_deletion),
        cmocka_unit_test(test_deltas_stay_between_what_is_kept),
        cmocka_unit_test(test_a_young_delta_stays_without_its_base),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
