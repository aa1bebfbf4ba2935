#include <stdio.h>
#include <stdlib.h>

#include "base/hex.h"
#include "base/mem.h"
#include "lib/check.h"
#include "wire/doc.h"

#define H "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct secret_key secret(unsigned char n)
{
    struct secret_key k;

    memset(k.seed, n, sizeof(k.seed));
    return k;
}

static char *public_hex(unsigned char n)
{
    struct secret_key s = secret(n);
    struct public_key p = key_public(&s);
    char *hex = mem_alloc(2 * KEY_BYTES + 1);

    hex_encode(hex, p.b, KEY_BYTES);
    return hex;
}

/* RFC 8032, section 7.1, test 1: the public key of a known seed. */
static void test_public_key(void **state)
{
    struct secret_key s;
    struct public_key p;
    char hex[2 * KEY_BYTES + 1];
    char id[KEY_ID_HEX];
    struct hash h;

    (void)state;
    assert_true(hex_decode(s.seed, KEY_BYTES,
                           "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
    p = key_public(&s);
    hex_encode(hex, p.b, KEY_BYTES);
    assert_string_equal(hex, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    h = sha256_of(p.b, KEY_BYTES);
    key_id(&p, id);
    assert_int_equal(strlen(id), 16);
    hex_encode(hex, h.b, 8);
    assert_string_equal(id, hex);
}

static void test_sign_and_open(void **state)
{
    struct secret_key one = secret(1), two = secret(2);
    struct public_key keys[2] = { key_public(&two), key_public(&one) };
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    struct bytes body;

    (void)state;
    doc_sign(&b, DOC_GOAL, "{}", 2, &one);
    assert_ok(doc_open(b.data, b.len, DOC_GOAL, keys, 2, &body, &err), &err);
    assert_int_equal(body.len, 2);
    assert_memory_equal(body.data, "{}", 2);
    assert_error(doc_open(b.data, b.len, DOC_GOAL, keys, 1, &body, &err), ERR_DENIED, &err,
                 "not trusted");
    assert_error(doc_open(b.data, b.len, DOC_RELEASE, keys, 2, &body, &err), ERR_INVALID, &err,
                 "is of kind goal");
    for (size_t len = 0; len < b.len; len++) {
        char *exact = mem_dup(b.data, len);

        assert_error(doc_open(exact, len, DOC_GOAL, keys, 2, &body, &err), ERR_INVALID, &err,
                     "goal document");
        free(exact);
    }
}

/* No byte of a document can be changed: neither of the envelope nor of the body. */
static void test_every_flipped_bit_is_refused(void **state)
{
    struct secret_key one = secret(1);
    struct public_key key = key_public(&one);
    AUTO_BUF b = BUF_INIT;
    struct bytes body;

    (void)state;
    doc_sign(&b, DOC_RELEASE, "{\"v\":1}", 7, &one);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        char *copy = mem_dup(b.data, b.len);

        copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << (bit % 8));
        assert_true(doc_open(copy, b.len, DOC_RELEASE, &key, 1, &body, NULL) < 0);
        free(copy);
    }
}

/* The type tag is signed: a goal cannot be passed off as a release. */
static void test_kind_is_signed(void **state)
{
    struct secret_key one = secret(1);
    struct public_key key = key_public(&one);
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    struct bytes body;

    (void)state;
    doc_sign(&b, DOC_GOAL, "{}", 2, &one);
    b.data[4] = DOC_RELEASE;
    assert_error(doc_open(b.data, b.len, DOC_RELEASE, &key, 1, &body, &err), ERR_DENIED, &err,
                 "signature of key");
}

static void test_names(void **state)
{
    static const char *const good[] = { "a", "web-2", "A.b_c", "9" };
    static const char *const bad[] = { "", ".a", "-a", "a/b", "a b", "..", "caf\303\251" };
    struct err err = ERR_INIT;
    char *long_name = mem_printf("%0129d", 1);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_ok(doc_check_name("service", good[i], &err), &err);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_error(doc_check_name("service", bad[i], &err), ERR_INVALID, &err, "service: ");
    assert_error(doc_check_name("service", long_name, &err), ERR_LIMIT, &err, "longer than 128");
    free(long_name);
}

/* A trust document: root key 1, release key 2, goal key 3. */
static char *trust_text(int version, const char *cluster, const char *deny)
{
    char *root = public_hex(1), *release = public_hex(2), *goal = public_hex(3);
    char *text =
        mem_printf("{\"v\":1,\"cluster\":\"%s\",\"version\":%d,\"issued\":5,\"root\":\"%s\","
                   "\"release\":[\"%s\"],\"goal\":[\"%s\"],\"deny\":[%s]}",
                   cluster, version, root, release, goal, deny);

    free(root);
    free(release);
    free(goal);
    return text;
}

static void sign_text(struct buf *out, enum doc_kind kind, const char *text, unsigned char key)
{
    struct secret_key s = secret(key);

    buf_reset(out);
    doc_sign(out, kind, text, strlen(text), &s);
}

static struct trust *open_trust(const char *deny)
{
    struct secret_key root = secret(1);
    struct public_key pin = key_public(&root);
    struct err err = ERR_INIT;
    char *text = trust_text(1, "c", deny);
    AUTO_BUF b = BUF_INIT;
    struct trust *t = NULL;

    sign_text(&b, DOC_TRUST, text, 1);
    assert_ok(trust_open(&t, NULL, &pin, b.data, b.len, &err), &err);
    free(text);
    return t;
}

static void test_trust_succession(void **state)
{
    static const struct {
        int version;
        const char *cluster;
        unsigned char key;
        const char *part; /* NULL: accepted */
    } cases[] = {
        { 1, "c", 1, NULL },
        { 2, "c", 1, NULL },
        { 2, "c", 2, "not trusted" },
        { 2, "other", 1, "is of cluster other, not of c" },
    };
    struct secret_key two = secret(2);
    struct public_key pin = key_public(&two);
    struct trust *t = open_trust("");
    struct trust *later = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    char *text;

    (void)state;
    assert_string_equal(t->cluster, "c");
    assert_int_equal(t->nrelease, 1);
    assert_int_equal(t->ngoal, 1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct trust *next = NULL;

        text = trust_text(cases[i].version, cases[i].cluster, "");
        sign_text(&b, DOC_TRUST, text, cases[i].key);
        free(text);
        if (cases[i].part == NULL)
            assert_ok(trust_open(&next, t, NULL, b.data, b.len, &err), &err);
        else
            assert_error(trust_open(&next, t, NULL, b.data, b.len, &err), ERR_DENIED, &err,
                         cases[i].part);
        trust_free(next);
    }
    text = trust_text(3, "c", "\"m-1\"");
    sign_text(&b, DOC_TRUST, text, 1);
    assert_ok(trust_open(&later, t, NULL, b.data, b.len, &err), &err);
    assert_int_equal(later->ndeny, 1);
    free(text);
    text = trust_text(2, "c", "");
    sign_text(&b, DOC_TRUST, text, 1);
    trust_free(t);
    t = NULL;
    assert_error(trust_open(&t, later, NULL, b.data, b.len, &err), ERR_DENIED, &err,
                 "version 2 is older than 3");
    sign_text(&b, DOC_TRUST, text, 2); /* signed by the pin, but another root inside */
    assert_error(trust_open(&t, NULL, &pin, b.data, b.len, &err), ERR_DENIED, &err,
                 "not the pinned one");
    free(text);
    trust_free(later);
    trust_free(NULL);
}

static void test_malformed_trust(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        { "", "not JSON" },
        { "[]", "not an object" },
        { "{\"v\":2}", "v: 2 is not in 1..1" },
        { "{\"v\":1,\"version\":0}", "version: 0 is not" },
        { "{\"v\":1,\"version\":1,\"issued\":-1}", "issued: -1 is not" },
        { "{\"v\":1,\"version\":1,\"issued\":1}", "cluster: missing" },
        { "{\"v\":1,\"version\":1,\"issued\":1,\"cluster\":\"c\"}", "root: not a key" },
        { "{\"v\":1,\"version\":1,\"issued\":1,\"cluster\":\"c\",\"root\":\"" H "\"}",
          "release: missing" },
        { "{\"v\":1,\"version\":1,\"issued\":1,\"cluster\":\"c\",\"root\":\"" H
          "\",\"release\":[\"x\"]}",
          "release[0]: not a key" },
        { "{\"v\":1,\"version\":1,\"issued\":1,\"cluster\":\"c\",\"root\":\"" H
          "\",\"release\":[],\"goal\":[],\"deny\":[7]}",
          "deny[0]: not a name" },
        { "{\"v\":1,\"relase\":[]}", "did you mean 'release'" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *copy = mem_strdup(cases[i].text);
        struct bytes body = { (unsigned char *)copy, strlen(copy) };
        struct err err = ERR_INIT;
        struct trust *t = NULL;

        assert_error(trust_parse(&t, &body, &err), ERR_INVALID, &err, cases[i].part);
        free(copy);
    }
}

/* Replaces the first `from` in the sample by `to`. */
static char *edited(const char *sample, const char *from, const char *to)
{
    const char *at = strstr(sample, from);

    assert_non_null(at);
    return mem_printf("%.*s%s%s", (int)(at - sample), sample, to, at + strlen(from));
}

static const char goal_sample[] =
    "{\"v\":1,\"cluster\":\"c\",\"region\":\"eu\",\"service\":\"web\",\"generation\":7,"
    "\"issued\":100,\"expires\":200,\"deployment\":\"d-1\",\"release\":\"" H
    "\",\"rollback_to\":null,\"select\":{\"label\":\"arch\",\"is\":\"amd64\"},"
    "\"stage\":[{\"where\":{},\"threshold\":\"ffffffffffffffff\"}],"
    "\"activate\":[{\"where\":{\"label\":\"rack\",\"is\":\"r1\"},"
    "\"threshold\":\"8000000000000000\"}],"
    "\"max_moving\":2,\"action\":\"run\",\"urgent\":true}";

static void test_goal(void **state)
{
    static const struct label in_rack[] = { { "arch", "amd64" }, { "rack", "r1" } };
    static const struct label other[] = { { "arch", "arm64" }, { "rack", "r1" } };
    struct trust *t = open_trust("");
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    struct goal *g = NULL;
    size_t active = 0;

    (void)state;
    sign_text(&b, DOC_GOAL, goal_sample, 3);
    assert_ok(goal_open(&g, t, b.data, b.len, &err), &err);
    assert_int_equal(g->generation, 7);
    assert_int_equal(g->action, GOAL_RUN);
    assert_true(g->urgent);
    assert_true(hash_is_zero(&g->rollback_to));
    assert_false(hash_is_zero(&g->release));
    assert_int_equal(g->activate[0].threshold, 0x8000000000000000ULL);
    for (int i = 0; i < 64; i++) {
        char machine[16];

        snprintf(machine, sizeof(machine), "m-%d", i);
        assert_true(goal_stages(g, machine, in_rack, 2));
        assert_false(goal_stages(g, machine, other, 2)); /* not selected */
        assert_false(goal_activates(g, machine, other, 2));
        assert_false(goal_activates(g, machine, in_rack, 1)); /* no rack */
        active += goal_activates(g, machine, in_rack, 2);
    }
    assert_in_range(active, 16, 48); /* the threshold is half of 2^64 */
    g->action = GOAL_STOP;
    assert_false(goal_stages(g, "m-1", in_rack, 2));
    goal_free(g);
    g = NULL;
    sign_text(&b, DOC_GOAL, goal_sample, 2); /* a release key may not sign goals */
    assert_error(goal_open(&g, t, b.data, b.len, &err), ERR_DENIED, &err, "not trusted");
    trust_free(t);
}

static void test_malformed_goals(void **state)
{
    static const struct {
        const char *from, *to, *part;
    } cases[] = {
        { "\"v\":1", "\"v\":3", "v: 3" },
        { "\"generation\":7", "\"generation\":0", "generation: 0" },
        { "\"region\":\"eu\"", "\"region\":\"../eu\"", "region: '../eu'" },
        { "\"service\":\"web\"", "\"service\":\"\"", "service: empty" },
        { "\"cluster\":\"c\",", "", "cluster: missing" },
        { "\"deployment\":\"d-1\"", "\"deployment\":7", "deployment: not a text" },
        { "\"release\":\"" H "\"", "\"release\":null", "release: missing, but the action is run" },
        { "\"release\":\"" H "\"", "\"release\":\"x\"", "release: not a digest" },
        { "\"select\":{\"label\"", "\"select\":{\"lebal\"", "predicate: unknown field" },
        { "\"ffffffffffffffff\"", "\"fffffffffffffff\"", "stage[0]: threshold: not 16" },
        { "\"ffffffffffffffff\"", "\"FFFFFFFFFFFFFFFF\"", "stage[0]: threshold: not 16" },
        { "\"8000000000000000\"", "7", "activate[0]: threshold: not a text" },
        { "\"where\":{}", "\"where\":[]", "stage[0]: where: not an object" },
        { "\"max_moving\":2", "\"max_moving\":-1", "max_moving: -1" },
        { "\"action\":\"run\"", "\"action\":\"go\"", "action: 'go' is not run" },
        { "\"urgent\":true", "\"urgnet\":true", "did you mean 'urgent'" },
        { "{\"v\":1", "{\"v\":1,\"v\":1", "duplicate" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *text = edited(goal_sample, cases[i].from, cases[i].to);
        struct bytes body = { (unsigned char *)text, strlen(text) };
        struct err err = ERR_INIT;
        struct goal *g = NULL;

        assert_error(goal_parse(&g, &body, &err), ERR_INVALID, &err, cases[i].part);
        assert_null(g);
        free(text);
    }
}

static const char release_sample[] =
    "{\"v\":1,\"cluster\":\"c\",\"service\":\"web\",\"commit\":\"abc\",\"created\":9,\"variant\":{}"
    ","
    "\"artifacts\":[{\"variant\":\"default\",\"artifact\":\"" H "\",\"bytes\":10,\"files\":2}],"
    "\"activate\":{\"mode\":\"process\",\"start\":[\"bin/web\",\"--port\",\"${PORT}\"],"
    "\"stop\":null,\"env\":{\"A_1\":\"x\"}},"
    "\"health\":{\"http\":\"http://127.0.0.1:${PORT}/\",\"interval\":0.2,\"timeout\":2,"
    "\"passes\":3,\"within\":30}}";

static void test_release(void **state)
{
    struct trust *t = open_trust("");
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    struct release *r = NULL;
    struct hash id;

    (void)state;
    sign_text(&b, DOC_RELEASE, release_sample, 2);
    assert_ok(release_open(&r, t, b.data, b.len, &err), &err);
    id = sha256_of(b.data, b.len);
    assert_memory_equal(&r->id, &id, sizeof(id));
    assert_int_equal(r->mode, ACTIVATE_PROCESS);
    assert_string_equal(r->start[2], "${PORT}");
    assert_null(r->start[3]);
    assert_null(r->stop);
    assert_true(r->has_health);
    assert_int_equal(r->health.interval_ms, 200);
    assert_int_equal(r->health.within_ms, 30000);
    assert_int_equal(r->health.passes, 3);
    assert_int_equal(r->artifacts[0].bytes, 10);
    assert_string_equal(json_string_value(json_object_get(r->env, "A_1")), "x");
    release_free(r);
    trust_free(t);
}

static void test_releases_that_are_fine(void **state)
{
    static const struct {
        const char *from, *to;
    } cases[] = {
        { "\"stop\":null,", "" },
        { "\"stop\":null", "\"stop\":[\"bin/stop\"]" },
        { ",\"env\":{\"A_1\":\"x\"}", "" },
        { "\"http\":\"http://127.0.0.1:${PORT}/\",", "" },
        { "\"http\":\"http://127.0.0.1:${PORT}/\"", "\"exec\":[\"bin/check\"]" },
        { "\"mode\":\"process\"", "\"mode\":\"command\"" },
        { "\"variant\":{}", "\"variant\":{\"by_label\":\"arch\"}" },
    };
    struct hash id = { { 0 } };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *text = edited(release_sample, cases[i].from, cases[i].to);
        struct bytes body = { (unsigned char *)text, strlen(text) };
        struct err err = ERR_INIT;
        struct release *r = NULL;

        assert_ok(release_parse(&r, &id, &body, &err), &err);
        release_free(r);
        free(text);
    }
}

static void test_malformed_releases(void **state)
{
    static const struct {
        const char *from, *to, *part;
    } cases[] = {
        { "\"service\":\"web\"", "\"service\":\"a/b\"", "service: 'a/b'" },
        { "\"commit\":\"abc\",", "", "commit: missing" },
        { "\"created\":9", "\"created\":\"9\"", "created: not an integer" },
        { "\"variant\":{},", "\"variant\":{\"by\":1},", "variant: unknown field 'by'" },
        { "{\"variant\":\"default\"", "{\"variant\":\"\"", "artifacts[0]: variant: empty" },
        { "\"artifact\":\"" H "\"", "\"artifact\":1", "artifacts[0]: artifact: not a digest" },
        { "\"bytes\":10", "\"bytes\":-1", "artifacts[0]: bytes: -1" },
        { "\"files\":2", "\"flies\":2", "did you mean 'files'" },
        { "[{\"variant\":\"default\",\"artifact\":\"" H "\",\"bytes\":10,\"files\":2}]", "[]",
          "artifacts: empty" },
        { "\"files\":2}]",
          "\"files\":2},{\"variant\":\"default\",\"artifact\":\"" H "\",\"bytes\":1,\"files\":1}]",
          "variant default stands twice" },
        { "\"mode\":\"process\"", "\"mode\":\"x\"", "activate: mode: 'x'" },
        { "\"start\":[\"bin/web\",\"--port\",\"${PORT}\"]", "\"start\":[]",
          "activate: start: empty" },
        { "\"bin/web\"", "\"\"", "the program's name is empty" },
        { "\"--port\"", "7", "activate: start[1]: not a text" },
        { "\"stop\":null", "\"stop\":\"x\"", "activate: stop: not an array" },
        { "\"A_1\"", "\"1A\"", "env: '1A' is not a variable's name" },
        { "{\"A_1\":\"x\"}", "{\"A\":7}", "env: A: not a text" },
        { "{\"A_1\":\"x\"}", "[]", "env: not an object" },
        { "http://127", "https://127", "http: does not begin with http://" },
        { "\"timeout\":2", "\"timeout\":2,\"exec\":[\"a\"]", "only one may be given" },
        { "\"interval\":0.2", "\"interval\":0", "health: interval: not within" },
        { "\"within\":30", "\"within\":1e300", "health: within: not within" },
        { "\"within\":30", "\"within\":\"30\"", "health: within: not a number" },
        { "\"passes\":3", "\"passes\":0", "health: passes: 0" },
        { "\"timeout\":2,", "", "health: timeout: not a number" },
    };
    struct hash id = { { 0 } };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *text = edited(release_sample, cases[i].from, cases[i].to);
        struct bytes body = { (unsigned char *)text, strlen(text) };
        struct err err = ERR_INIT;
        struct release *r = NULL;

        assert_error(release_parse(&r, &id, &body, &err), ERR_INVALID, &err, cases[i].part);
        assert_null(r);
        free(text);
    }
}

static void test_deny_list(void **state)
{
    struct secret_key two = secret(2);
    struct public_key public = key_public(&two);
    struct err err = ERR_INIT;
    struct release *r = NULL;
    AUTO_BUF b = BUF_INIT;
    char id[KEY_ID_HEX], hex[HASH_HEX], *deny;
    struct trust *t;
    struct hash h;

    (void)state;
    sign_text(&b, DOC_RELEASE, release_sample, 2);
    key_id(&public, id);
    deny = mem_printf("\"%s\"", id);
    t = open_trust(deny);
    assert_error(release_open(&r, t, b.data, b.len, &err), ERR_DENIED, &err, "deny list");
    trust_free(t);
    free(deny);
    h = sha256_of(b.data, b.len);
    deny = mem_printf("\"m-9\",\"%s\"", hash_hex(&h, hex));
    t = open_trust(deny);
    assert_error(release_open(&r, t, b.data, b.len, &err), ERR_DENIED, &err, "release");
    trust_free(t);
    free(deny);
}

static void test_another_cluster(void **state)
{
    struct trust *t = open_trust("");
    char *release = edited(release_sample, "\"cluster\":\"c\"", "\"cluster\":\"x\"");
    char *goal = edited(goal_sample, "\"cluster\":\"c\"", "\"cluster\":\"x\"");
    struct err err = ERR_INIT;
    struct release *r = NULL;
    struct goal *g = NULL;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    sign_text(&b, DOC_RELEASE, release, 2);
    assert_error(release_open(&r, t, b.data, b.len, &err), ERR_DENIED, &err, "is of cluster x");
    sign_text(&b, DOC_GOAL, goal, 3);
    assert_error(goal_open(&g, t, b.data, b.len, &err), ERR_DENIED, &err, "is of cluster x");
    free(release);
    free(goal);
    trust_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public_key),
        cmocka_unit_test(test_sign_and_open),
        cmocka_unit_test(test_every_flipped_bit_is_refused),
        cmocka_unit_test(test_kind_is_signed),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_trust_succession),
        cmocka_unit_test(test_malformed_trust),
        cmocka_unit_test(test_goal),
        cmocka_unit_test(test_malformed_goals),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_releases_that_are_fine),
        cmocka_unit_test(test_malformed_releases),
        cmocka_unit_test(test_deny_list),
        cmocka_unit_test(test_another_cluster),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
