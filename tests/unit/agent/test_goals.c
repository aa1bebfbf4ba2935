/* Documents from a region node that is not to be trusted. */
#include "lib/check.h"

#include <stdlib.h>

#include "base/hex.h"
#include "base/mem.h"
#include "goals.h"
#include "io/files.h"
#include "lib/tmpdir.h"

enum { HOUR = 3600000 };

struct cluster {
    struct secret_key root, release, goal;
    const char *dir;
    struct goals *g;
};

static const struct label rack[] = { { "rack", "a" } };

static struct secret_key secret(int n)
{
    struct secret_key k;

    memset(&k, n, sizeof(k));
    return k;
}

static const char *public_hex(const struct secret_key *k, char out[HASH_HEX])
{
    struct public_key p = key_public(k);

    hex_encode(out, p.b, KEY_BYTES);
    return out;
}

static int open_again(struct cluster *c, struct err *err)
{
    struct public_key pin = key_public(&c->root);
    struct goals_options o = {
        .root = c->dir, .pin = &pin, .machine = "m-01", .region = "r1", .labels = rack, .nlabels = 1
    };

    goals_free(c->g);
    c->g = NULL;
    return goals_open(&c->g, &o, err);
}

static int take(struct cluster *c, enum doc_kind kind, const struct buf *doc,
                struct goals_taken *taken, struct err *err)
{
    return goals_take(c->g, kind, doc->data, doc->len, taken, err);
}

static void sign_trust(struct buf *out, const struct cluster *c, int version,
                       const struct secret_key *signer, const struct secret_key *next_root,
                       const struct secret_key *goal_key, const char *deny)
{
    AUTO_BUF body = BUF_INIT;
    char root[HASH_HEX], release[HASH_HEX], goal[HASH_HEX];

    buf_reset(out);
    buf_printf(&body,
               "{\"v\":1,\"cluster\":\"c\",\"version\":%d,\"issued\":1,\"root\":\"%s\","
               "\"release\":[\"%s\"],\"goal\":[\"%s\"],\"deny\":[%s]}",
               version, public_hex(next_root, root), public_hex(&c->release, release),
               public_hex(goal_key, goal), deny);
    doc_sign(out, DOC_TRUST, body.data, body.len, signer);
}

struct spec {
    const char *service, *region, *select, *cluster, *action, *deployment;
    uint64_t generation;
    int64_t issued, expires;
    int key;
};

static void sign_goal(struct buf *out, const struct cluster *c, struct spec s)
{
    struct secret_key key = s.key == 0 ? c->goal : secret(s.key);
    AUTO_BUF body = BUF_INIT;

    buf_reset(out);
    buf_printf(&body,
               "{\"v\":1,\"cluster\":\"%s\",\"region\":\"%s\",\"service\":\"%s\","
               "\"generation\":%llu,\"issued\":%lld,\"expires\":%lld,\"deployment\":\"%s\","
               "\"release\":\"%064d\",\"rollback_to\":null,\"select\":%s,\"stage\":[],"
               "\"activate\":[],\"max_moving\":1,\"action\":\"%s\",\"urgent\":false}",
               s.cluster ? s.cluster : "c", s.region ? s.region : "r1",
               s.service ? s.service : "web", (unsigned long long)s.generation, (long long)s.issued,
               (long long)(s.expires ? s.expires : HOUR), s.deployment ? s.deployment : "d-1", 7,
               s.select ? s.select : "{}", s.action ? s.action : "run");
    doc_sign(out, DOC_GOAL, body.data, body.len, &key);
}

static int setup(void **state)
{
    struct cluster *c = mem_alloc(sizeof(*c));
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;

    c->root = secret(1);
    c->release = secret(2);
    c->goal = secret(3);
    c->dir = tmpdir_fresh();
    assert_ok(open_again(c, &err), &err);
    assert_null(goals_trust(c->g));
    sign_trust(&doc, c, 1, &c->root, &c->root, &c->goal, "");
    assert_ok(take(c, DOC_TRUST, &doc, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_TRUST);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct cluster *c = *state;

    goals_free(c->g);
    free(c);
    return 0;
}

static void test_generations_only_rise(void **state)
{
    struct cluster *c = *state;
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF two = BUF_INIT;
    AUTO_BUF other = BUF_INIT;
    AUTO_BUF one = BUF_INIT;

    sign_goal(&one, c, (struct spec){ .generation = 1 });
    sign_goal(&two, c, (struct spec){ .generation = 2 });
    sign_goal(&other, c, (struct spec){ .generation = 2, .deployment = "d-2" });
    assert_ok(take(c, DOC_GOAL, &two, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_GOAL);
    assert_string_equal(taken.service, "web");
    /* In this life and in every next one. */
    for (int life = 0; life < 3; life++) {
        assert_int_equal(goals_floor(c->g, "web"), 2);
        assert_int_equal(goals_of(c->g, "web")->generation, 2);
        assert_ok(take(c, DOC_GOAL, &two, &taken, &err), &err);
        assert_int_equal(taken.change, GOALS_SAME);
        assert_error(take(c, DOC_GOAL, &one, &taken, &err), ERR_FENCED, &err, "older than 2");
        assert_error(take(c, DOC_GOAL, &other, &taken, &err), ERR_CONFLICT, &err, "two contents");
        assert_non_null(strstr(goals_last_refusal(c->g, "web"), "equivocation"));
        assert_int_equal(goals_refused(c->g, REFUSED_OLDER), 1);
        assert_int_equal(goals_refused(c->g, REFUSED_EQUIVOCATION), 1);
        assert_int_equal(goals_refused_all(c->g), 2);
        assert_ok(open_again(c, &err), &err);
    }
}

static void test_refusals(void **state)
{
    static const struct {
        struct spec spec;
        enum err_code code;
        const char *text;
        enum goals_refusal why;
    } cases[] = {
        { { .generation = 1, .region = "r2" }, ERR_DENIED, "for region r2", REFUSED_REGION },
        { { .generation = 1, .cluster = "d" }, ERR_DENIED, "cluster d", REFUSED_DENIED },
        { { .generation = 1, .key = 2 }, ERR_DENIED, "not trusted", REFUSED_DENIED },
        { { .generation = 1, .select = "{\"label\":\"rack\",\"is\":\"b\"}" },
          ERR_DENIED,
          "does not select",
          REFUSED_SELECT },
        { { .generation = 1, .action = "fly" }, ERR_INVALID, "action", REFUSED_MALFORMED },
        { { .generation = 1, .service = "a.tmp-b" }, ERR_INVALID, ".tmp-", REFUSED_MALFORMED },
    };
    struct cluster *c = *state;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct goals_taken taken;
        struct err err = ERR_INIT;
        AUTO_BUF doc = BUF_INIT;
        uint64_t before = goals_refused(c->g, cases[i].why);

        sign_goal(&doc, c, cases[i].spec);
        assert_error(take(c, DOC_GOAL, &doc, &taken, &err), cases[i].code, &err, cases[i].text);
        assert_int_equal(goals_refused(c->g, cases[i].why), before + 1);
        assert_int_equal(taken.change, GOALS_SAME);
        assert_null(goals_of(c->g, "web"));
    }
    assert_string_equal(goals_refusal_name(REFUSED_EQUIVOCATION), "equivocation");
    assert_string_equal(goals_refusal_name(REFUSED_END), "none");
}

static void test_selected_by_own_labels(void **state)
{
    struct cluster *c = *state;
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;

    sign_goal(&doc, c,
              (struct spec){ .generation = 1,
                             .select = "{\"all\":[{\"label\":\"rack\",\"is\":\"a\"},{\"label\":"
                                       "\"region\",\"is\":\"r1\"},{\"label\":\"machine\",\"is\":"
                                       "\"m-01\"}]}" });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    /* Removing a service concerns machines that select has left, too. */
    sign_goal(&doc, c,
              (struct spec){ .generation = 2,
                             .action = "absent",
                             .select = "{\"label\":\"rack\",\"is\":\"b\"}" });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_GOAL);
}

static void test_expiry(void **state)
{
    struct cluster *c = *state;
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;
    const struct goal *g;

    sign_goal(&doc, c, (struct spec){ .generation = 1, .issued = 1000, .expires = 5000 });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    g = goals_of(c->g, "web");
    assert_true(goals_is_live(c->g, g, 0));
    assert_true(goals_is_live(c->g, g, 4999));
    assert_false(goals_is_live(c->g, g, 5000));
    /* A clock that was set back does not revive it: something was signed later. */
    sign_goal(&doc, c, (struct spec){ .generation = 1, .service = "api", .issued = 6000 });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    assert_false(goals_is_live(c->g, g, 0));
    assert_ok(open_again(c, &err), &err);
    assert_false(goals_is_live(c->g, goals_of(c->g, "web"), 0));
}

static void test_trust_changes(void **state)
{
    struct cluster *c = *state;
    struct secret_key root2 = secret(11), goal2 = secret(13);
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;

    sign_goal(&doc, c, (struct spec){ .generation = 4 });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    /* Not by the next root key, but by the one in force. */
    sign_trust(&doc, c, 2, &root2, &root2, &goal2, "");
    assert_error(take(c, DOC_TRUST, &doc, &taken, &err), ERR_DENIED, &err, "");
    sign_trust(&doc, c, 2, &c->root, &root2, &goal2, "");
    assert_ok(take(c, DOC_TRUST, &doc, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_TRUST);
    /* The goal was signed by a key that is trusted no more; the floor stays. */
    assert_null(goals_of(c->g, "web"));
    assert_int_equal(goals_floor(c->g, "web"), 4);
    /* The kept file is believed after a restart, though the pin is of the root before. */
    assert_ok(open_again(c, &err), &err);
    assert_int_equal(goals_trust(c->g)->version, 2);
    assert_ok(take(c, DOC_TRUST, &doc, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_SAME);
    sign_trust(&doc, c, 1, &root2, &root2, &goal2, "");
    assert_error(take(c, DOC_TRUST, &doc, &taken, &err), ERR_DENIED, &err, "older than 2");
    sign_trust(&doc, c, 2, &root2, &root2, &goal2, "\"m-09\"");
    assert_error(take(c, DOC_TRUST, &doc, &taken, &err), ERR_CONFLICT, &err, "other bytes");
    sign_goal(&doc, c, (struct spec){ .generation = 5, .key = 13 });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    assert_int_equal(goals_of(c->g, "web")->generation, 5);
}

static void test_nothing_without_trust(void **state)
{
    struct cluster *c = *state;
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;

    c->dir = tmpdir_fresh();
    assert_ok(open_again(c, &err), &err);
    sign_goal(&doc, c, (struct spec){ .generation = 1 });
    assert_error(take(c, DOC_GOAL, &doc, &taken, &err), ERR_DENIED, &err, "no trust document");
    assert_error(take(c, DOC_NONE, &doc, &taken, &err), ERR_INVALID, &err, "unknown kind");
    assert_error(take(c, DOC_TRUST, &doc, &taken, &err), ERR_INVALID, &err, "");
}

/* What a kill, or a stranger's hand, can leave in the directory. */
static void test_damaged_directories(void **state)
{
    struct cluster *c = *state;
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;
    const char *name = c->dir + strlen(tmpdir()) + 1;
    const char *goal = tmpdir_path("%s/goals/web.doc", name);
    const char *floor = tmpdir_path("%s/floor/web", name);
    const char *trust = tmpdir_path("%s/trust.doc", name);

    sign_goal(&doc, c, (struct spec){ .generation = 3 });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    tmpdir_write(tmpdir_path("%s/floor/web.tmp-0011", name), "7", 1);
    /* Only the document came to the disk: it is not in force, and is taken again. */
    sign_goal(&doc, c, (struct spec){ .generation = 4 });
    tmpdir_write(goal, doc.data, doc.len);
    assert_ok(open_again(c, &err), &err);
    assert_null(goals_of(c->g, "web"));
    assert_int_equal(goals_floor(c->g, "web"), 3);
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    assert_int_equal(goals_of(c->g, "web")->generation, 4);
    /* A goal that is not what it was: the same one is taken again. */
    tmpdir_write(goal, "rubbish", 7);
    assert_ok(open_again(c, &err), &err);
    assert_null(goals_of(c->g, "web"));
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_GOAL);
    /* Without floors we would believe anything old: better not to start. */
    tmpdir_write(floor, "x", 1);
    assert_error(open_again(c, &err), ERR_CORRUPT, &err, "not a floor");
    tmpdir_remove(floor);
    tmpdir_write(trust, "x", 1);
    assert_error(open_again(c, &err), ERR_CORRUPT, &err, "not a trust file");
}

static void test_releases(void **state)
{
    static const char body[] =
        "{\"v\":1,\"cluster\":\"c\",\"service\":\"web\",\"commit\":\"1111\",\"created\":5,"
        "\"variant\":{\"by_label\":\"rack\"},\"artifacts\":[{\"variant\":\"a\",\"artifact\":"
        "\"0000000000000000000000000000000000000000000000000000000000000001\",\"bytes\":1,"
        "\"files\":1}],\"activate\":{\"mode\":\"process\",\"start\":[\"x\"],\"stop\":null,"
        "\"env\":{}},\"health\":null}";
    struct cluster *c = *state;
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;
    AUTO_BUF trust = BUF_INIT;
    AUTO_FREE char *deny = NULL;
    struct hash id;
    char hex[HASH_HEX];

    doc_sign(&doc, DOC_RELEASE, body, sizeof(body) - 1, &c->goal);
    assert_error(take(c, DOC_RELEASE, &doc, &taken, &err), ERR_DENIED, &err, "not trusted");
    buf_reset(&doc);
    doc_sign(&doc, DOC_RELEASE, body, sizeof(body) - 1, &c->release);
    id = sha256_of(doc.data, doc.len);
    assert_null(goals_release(c->g, &id));
    assert_ok(take(c, DOC_RELEASE, &doc, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_RELEASE);
    assert_ok(take(c, DOC_RELEASE, &doc, &taken, &err), &err);
    assert_int_equal(taken.change, GOALS_SAME);
    assert_string_equal(goals_release(c->g, &id)->commit, "1111");
    assert_string_equal(goals_variant(c->g, goals_release(c->g, &id)), "a");
    assert_int_equal(goals_release_doc(c->g, &id)->len, doc.len);
    /* A trust document that says nothing against it leaves it; one that denies it does not. */
    sign_trust(&trust, c, 2, &c->root, &c->root, &c->goal, "");
    assert_ok(take(c, DOC_TRUST, &trust, &taken, &err), &err);
    assert_non_null(goals_release(c->g, &id));
    deny = mem_printf("\"%s\"", hash_hex(&id, hex));
    sign_trust(&trust, c, 3, &c->root, &c->root, &c->goal, deny);
    assert_ok(take(c, DOC_TRUST, &trust, &taken, &err), &err);
    assert_null(goals_release(c->g, &id));
    assert_true(goals_denies(c->g, hash_hex(&id, hex)));
    assert_false(goals_denies(c->g, "m-02"));
    assert_error(take(c, DOC_RELEASE, &doc, &taken, &err), ERR_DENIED, &err, "deny list");
}

static void test_another_region(void **state)
{
    struct cluster *c = *state;
    struct goals_taken taken;
    struct err err = ERR_INIT;
    AUTO_BUF doc = BUF_INIT;
    size_t i = 0;

    sign_goal(&doc, c, (struct spec){ .generation = 3 });
    assert_ok(take(c, DOC_GOAL, &doc, &taken, &err), &err);
    assert_string_equal(goals_next(c->g, &i)->service, "web");
    assert_null(goals_next(c->g, &i));
    goals_set_region(c->g, "r1");
    assert_non_null(goals_of(c->g, "web"));
    goals_set_region(c->g, "r2");
    assert_null(goals_of(c->g, "web"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_generations_only_rise),  TEST(test_refusals),
        TEST(test_selected_by_own_labels), TEST(test_expiry),
        TEST(test_trust_changes),          TEST(test_nothing_without_trust),
        TEST(test_damaged_directories),    TEST(test_releases),
        TEST(test_another_region),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
