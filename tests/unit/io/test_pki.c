#include "io/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/files.h"
#include "io/link.h"
#include "io/tls.h"

static char root[64];

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/test_pki.XXXXXX");
    assert_non_null(mkdtemp(root));
    return chdir(root);
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(chdir("/"), 0);
    return dir_remove(root, NULL);
}

static char *content(const char *path)
{
    AUTO_BUF text = BUF_INIT;

    assert_int_equal(file_read(&text, path, 100000, NULL), 0);
    return buf_steal(&text);
}

static void assert_same(const char *path, const char *before, bool same)
{
    AUTO_FREE char *now = content(path);

    assert_int_equal(strcmp(now, before) == 0, same);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 0777;
}

static void ca_is_made_once(void **state)
{
    AUTO_FREE char *pem = NULL;

    (void)state;
    assert_int_equal(pki_make_ca("ca", "local-1", NULL), 0);
    pem = content("ca/ca.pem");
    assert_int_equal(pki_make_ca("ca", "local-1", NULL), 0);
    assert_same("ca/ca.pem", pem, true);
    assert_int_equal(mode_of("ca/ca.key"), 0600);
    assert_int_equal(mode_of("ca/ca.pem"), 0644);
    assert_int_equal(mode_of("ca"), 0700);
}

static void ca_is_never_replaced_by_surprise(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(pki_make_ca("ca", "a", NULL), 0);
    assert_int_equal(pki_make_ca("ca", "b", &err), -ERR_CONFLICT);
    assert_int_equal(unlink("ca/ca.key"), 0);
    assert_int_equal(pki_make_ca("ca", "a", &err), -ERR_EXISTS);
    assert_int_equal(file_publish("ca/ca.key", "", 0, 0600, NULL), 0);
    assert_int_equal(unlink("ca/ca.pem"), 0);
    assert_int_equal(pki_make_ca("ca", "a", &err), 0); /* a crash between the two */
    assert_int_equal(pki_make_ca("bad", "a/b", &err), -ERR_INVALID);
    assert_int_equal(pki_make_ca("bad", "", &err), -ERR_INVALID);
    assert_int_equal(file_publish("ca/ca.pem", "x", 1, 0600, NULL), 0);
    assert_int_equal(pki_make_ca("ca", "a", &err), -ERR_CORRUPT);
    assert_int_equal(file_publish("file", "x", 1, 0600, NULL), 0);
    assert_int_equal(pki_make_ca("file", "a", &err), -ERR_EXISTS);
}

static void identity_is_issued_once_and_loads(void **state)
{
    struct link_identity *i = NULL;
    struct err err = ERR_INIT;
    AUTO_FREE char *pem = NULL;

    (void)state;
    assert_int_equal(pki_make_ca("ca", "c-1", NULL), 0);
    assert_int_equal(pki_issue("ca", "id", "c-1", ROLE_AGENT, "m-01", &err), 0);
    assert_int_equal(mode_of("id/key.pem"), 0600);
    pem = content("id/cert.pem");
    assert_int_equal(pki_issue("ca", "id", "c-1", ROLE_AGENT, "m-01", &err), 0);
    assert_same("id/cert.pem", pem, true);
    assert_int_equal(link_identity_load(&i, "id", "eu", &err), 0);
    assert_string_equal(link_identity_id(i), "m-01");
    assert_string_equal(link_identity_cluster(i), "c-1");
    link_identity_free(i);
}

/* Each change makes the identity that is there the wrong one. */
static void identity_is_issued_anew_when_it_does_not_fit(void **state)
{
    static const struct {
        enum link_role role;
        const char *id, *ca, *spoil;
    } cases[] = {
        { ROLE_AGENT, "m-02", "ca", NULL },        { ROLE_REGION, "m-01", "ca", NULL },
        { ROLE_AGENT, "m-01", "ca2", NULL },       { ROLE_AGENT, "m-01", "ca", "id/key.pem" },
        { ROLE_AGENT, "m-01", "ca", "id/ca.pem" }, { ROLE_AGENT, "m-01", "ca", "id/cert.pem" },
    };

    (void)state;
    assert_int_equal(pki_make_ca("ca", "c", NULL), 0);
    assert_int_equal(pki_make_ca("ca2", "c", NULL), 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_FREE char *pem = NULL;
        struct link_identity *id = NULL;

        assert_int_equal(pki_issue("ca", "id", "c", ROLE_AGENT, "m-01", NULL), 0);
        pem = content("id/cert.pem");
        if (cases[i].spoil != NULL)
            assert_int_equal(file_publish(cases[i].spoil, "spoilt", 6, 0600, NULL), 0);
        assert_int_equal(pki_issue(cases[i].ca, "id", "c", cases[i].role, cases[i].id, NULL), 0);
        assert_same("id/cert.pem", pem, false);
        assert_int_equal(link_identity_load(&id, "id", NULL, NULL), 0);
        assert_string_equal(link_identity_id(id), cases[i].id);
        link_identity_free(id);
    }
}

static void issuing_refuses(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(pki_issue("ca", "id", "c", ROLE_AGENT, "m", &err), -ERR_NOT_FOUND);
    assert_int_equal(pki_make_ca("ca", "c", NULL), 0);
    assert_int_equal(pki_make_ca("ca2", "c", NULL), 0);
    assert_int_equal(pki_issue("ca", "id", "other", ROLE_AGENT, "m", &err), -ERR_CONFLICT);
    assert_int_equal(pki_issue("ca", "id", "c", ROLE_NONE, "m", &err), -ERR_INVALID);
    assert_int_equal(pki_issue("ca", "id", "c", ROLE_AGENT, "..", &err), -ERR_INVALID);
    assert_int_equal(pki_issue("ca", "id", "c", ROLE_AGENT, "a b", &err), -ERR_INVALID);
    assert_int_equal(rename("ca2/ca.key", "ca/ca.key"), 0);
    assert_int_equal(pki_issue("ca", "id", "c", ROLE_AGENT, "m", &err), -ERR_CORRUPT);
    assert_int_equal(file_publish("ca/ca.key", "x", 1, 0600, NULL), 0);
    assert_int_equal(pki_issue("ca", "id", "c", ROLE_AGENT, "m", &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.text, "issue identity spiffe://c/agent/m: "));
    assert_false(path_exists("id"));
}

static void loading_tells_which_file(void **state)
{
    static const char *const files[] = { "ca.pem", "cert.pem", "key.pem" };
    struct link_identity *i = NULL;

    (void)state;
    assert_int_equal(pki_make_ca("ca", "c", NULL), 0);
    for (size_t k = 0; k < COUNT_OF(files); k++) {
        AUTO_FREE char *path = mem_printf("id/%s", files[k]);
        struct err err = ERR_INIT;

        assert_int_equal(pki_issue("ca", "id", "c", ROLE_AGENT, "m", NULL), 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(link_identity_load(&i, "id", NULL, &err), -ERR_INVALID);
        assert_non_null(strstr(err.text, path));
    }
}

static void names(void **state)
{
    static const struct {
        const char *uri;
        bool ok;
    } cases[] = {
        { "spiffe://c/agent/m-01", true },   { "spiffe://local-1.x/control/A_b.c", true },
        { "spiffe://c/region/eu", true },    { "spiffe://c/worker/w", true },
        { "spiffe://c/none/m", false },      { "spiffe://c/agents/m", false },
        { "spiffe://c/agen/m", false },      { "spiffe://c/agent/", false },
        { "spiffe:///agent/m", false },      { "spiffe://c/agent", false },
        { "spiffe://c//m", false },          { "spiffe://c/agent/m/x", false },
        { "spiffe://c/agent/..", false },    { "spiffe://../agent/m", false },
        { "spiffe://c/agent/m%20", false },  { "https://c/agent/m", false },
        { "spiffe://c/agent/m?x=1", false }, { "", false },
        { "spiffe://c:80/agent/m", false },
    };
    struct tls_name name;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(tls_name_parse(&name, cases[i].uri), cases[i].ok);
    assert_true(tls_name_parse(&name, "spiffe://c-1/worker/w-7"));
    assert_string_equal(name.cluster, "c-1");
    assert_string_equal(name.id, "w-7");
    assert_int_equal(name.role, ROLE_WORKER);
    assert_string_equal(role_name(ROLE_CONTROL), "control");
    assert_string_equal(role_name(ROLE_NONE), "none");
    assert_string_equal(role_name((enum link_role)99), "none");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ca_is_made_once),
        T(ca_is_never_replaced_by_surprise),
        T(identity_is_issued_once_and_loads),
        T(identity_is_issued_anew_when_it_does_not_fit),
        T(issuing_refuses),
        T(loading_tells_which_file),
        T(names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
