/* A cluster's keys are made once, completed if a start was killed half-way, and never replaced. */
#include "lib/check.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/keys.h"
#include "io/files.h"
#include "io/link.h"
#include "lib/tmpdir.h"

static struct keys *open_keys(const char *dir, const char *cluster)
{
    struct keys *k = NULL;
    struct err err = ERR_INIT;

    assert_ok(keys_open(&k, dir, cluster, &err), &err);
    return k;
}

static void made_once(void **state)
{
    const char *dir = tmpdir_fresh();
    struct keys *a = open_keys(dir, NULL), *b = open_keys(dir, "another");
    struct stat st;

    (void)state;
    assert_memory_equal(a->cluster, "local-", 6);
    assert_string_equal(a->cluster, b->cluster);
    assert_string_equal(a->root_pub, b->root_pub);
    assert_memory_equal(&a->goal, &b->goal, sizeof(a->goal));
    assert_int_equal(a->trust_doc.len, b->trust_doc.len);
    assert_memory_equal(a->trust_doc.data, b->trust_doc.data, a->trust_doc.len);
    assert_int_equal(b->trust->version, 1);
    assert_int_equal(stat(tmpdir_path("%s", ""), &st), 0);
    keys_free(a);
    keys_free(b);
}

static void secrets_are_private(void **state)
{
    static const char *const names[] = { "root.key", "release.key", "goal.key", "ca.key" };
    const char *dir = tmpdir_fresh();

    (void)state;
    keys_free(open_keys(dir, "c1"));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", dir, names[i]);
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

/* Killed after each file: the next start makes what is missing, for the same cluster. */
static void completed(void **state)
{
    static const char *const names[] = { "trust.doc", "root.pub", "goal.key" };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *dir = tmpdir_fresh();
        struct keys *k = open_keys(dir, "c1");
        AUTO_FREE char *path = mem_printf("%s/%s", dir, names[i]);
        AUTO_FREE char *doc = mem_printf("%s/trust.doc", dir);
        AUTO_FREE char *root = mem_strdup(k->root_pub);

        keys_free(k);
        assert_int_equal(unlink(path), 0);
        unlink(doc); /* it is the last one to be made */
        k = open_keys(dir, "other");
        assert_string_equal(k->cluster, "c1");
        assert_string_equal(k->root_pub, root);
        assert_true(path_exists(path));
        keys_free(k);
    }
}

static void damage_is_told(void **state)
{
    static const struct {
        const char *name, *text;
        enum err_code code;
        const char *part;
    } cases[] = {
        { "root.key", "abc\n", ERR_INVALID, "root.key: not 64 hexadecimal digits" },
        { "goal.key", "", ERR_INVALID, "goal.key: not 64" },
        { "cluster", "../x\n", ERR_INVALID, "cluster" },
        { "trust.doc", "SLD1", ERR_INVALID, "" },
        /* Another root key: the trust document is not its. */
        { "root.key", "0000000000000000000000000000000000000000000000000000000000000001\n",
          ERR_DENIED, "" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *dir = tmpdir_fresh();
        AUTO_FREE char *path = mem_printf("%s/%s", dir, cases[i].name);
        struct err err = ERR_INIT;
        struct keys *k = NULL;

        keys_free(open_keys(dir, "c1"));
        tmpdir_write(path, cases[i].text, strlen(cases[i].text));
        assert_error(keys_open(&k, dir, NULL, &err), cases[i].code, &err, cases[i].part);
    }
}

static void identities(void **state)
{
    const char *dir = tmpdir_fresh(), *out = tmpdir_fresh();
    struct keys *k = open_keys(dir, "c1");
    struct link_identity *id = NULL;
    struct err err = ERR_INIT;
    AUTO_FREE char *pin = mem_printf("%s/root.pub", out);
    AUTO_FREE char *text = NULL;

    (void)state;
    assert_ok(keys_issue(k, out, ROLE_REGION, "eu", &err), &err);
    assert_ok(keys_issue(k, out, ROLE_REGION, "eu", &err), &err); /* again: harmless */
    text = tmpdir_read(pin, NULL);
    assert_non_null(text);
    assert_memory_equal(text, k->root_pub, 64);
    assert_ok(link_identity_load(&id, out, "eu", &err), &err);
    assert_string_equal(link_identity_id(id), "eu");
    assert_string_equal(link_identity_cluster(id), "c1");
    link_identity_free(id);
    assert_error(keys_issue(k, out, ROLE_REGION, "../eu", &err), ERR_INVALID, &err, "region");
    keys_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_once),  cmocka_unit_test(secrets_are_private),
        cmocka_unit_test(completed),  cmocka_unit_test(damage_is_told),
        cmocka_unit_test(identities),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
