/* A machine that knows pin and secret gets a certificate and, on the same connection, a link; nobody else does. */
#include "lib/check.h"

#include <stdio.h>

#include "base/mem.h"
#include "io/enrol.h"
#include "io/files.h"
#include "io/tls.h"
#include "lib/tmpdir.h"

/* A region node and one who asks, on one loop. */
struct scene {
    struct loop *loop;
    const char *ca_dir, *dir;
    struct pki_ca *ca;
    struct link_identity *self, *theirs;
    struct link_listener *listener;
    struct timer quiet;
    struct enrol_options o;
    unsigned char secret[SECRET_BYTES];
    EVP_PKEY *other; /* is signed instead of who asks */
    bool replayed;   /* the request is of another connection */
    int port, asked, opened, accepted;
    char id[NAME_MAX_BYTES + 1]; /* of who was accepted */
    struct err why;              /* why our link ended */
};

static int judge(void *ctx, const struct msg_enrol *ask, struct pki_signed *ret, struct err *err)
{
    struct scene *s = ctx;
    AUTO_BUF request = BUF_INIT;
    struct bytes bytes = ask->request;
    int rv;

    s->asked++;
    if (ask->secret.len != SECRET_BYTES || memcmp(ask->secret.data, s->secret, SECRET_BYTES) != 0)
        return err_set(err, ERR_DENIED, "the secret is wrong");
    if (s->other != NULL) {
        assert_ok(pki_request(s->other, NULL, &request, err), err);
        bytes = (struct bytes){ (unsigned char *)request.data, request.len };
    }
    rv = pki_sign(s->ca, ROLE_AGENT, &bytes, ret, err);
    ret->binding.b[0] ^= s->replayed;
    return rv;
}

static void accepted(void *ctx, struct link *l)
{
    struct scene *s = ctx;

    s->accepted++;
    assert_int_equal(link_peer_role(l), ROLE_AGENT);
    snprintf(s->id, sizeof(s->id), "%s", link_peer_id(l));
}

static void opened(void *ctx, struct link *l)
{
    ((struct scene *)ctx)->opened++;
    link_close(l, ERR_CANCELLED, "seen");
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    (void)ctx;
    (void)l;
    (void)type;
    (void)msg;
}

static void gone(void *ctx, struct link *l, const struct err *why)
{
    (void)ctx;
    (void)l;
    (void)why;
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    (void)l;
    ((struct scene *)ctx)->why = *why;
}

static const struct link_handler accepting = { accepted, message, NULL, gone };
static const struct link_handler connecting = { opened, message, NULL, closed };

static void start(struct scene *s)
{
    struct err err = ERR_INIT;
    const char *identity = tmpdir_fresh();

    memset(s, 0, sizeof(*s));
    s->ca_dir = tmpdir_fresh();
    s->dir = tmpdir_fresh();
    memset(s->secret, 7, SECRET_BYTES);
    assert_ok(loop_new(&s->loop, &err), &err);
    assert_ok(pki_make_ca(s->ca_dir, "test", &err), &err);
    assert_ok(pki_ca_open(&s->ca, s->ca_dir, "test", &err), &err);
    assert_ok(pki_issue(s->ca_dir, identity, "test", ROLE_REGION, "r1", &err), &err);
    assert_ok(link_identity_load(&s->self, identity, "r1", &err), &err);
    assert_ok(link_listen(&s->listener, s->loop, s->self, "127.0.0.1:0", 1u << ROLE_AGENT, 10,
                          &accepting, s, &err),
              &err);
    link_listener_set_enrol(s->listener, &(struct link_enrol){ judge, s });
    s->port = link_listener_port(s->listener);
    memcpy(s->o.secret, s->secret, SECRET_BYTES);
    assert_ok(pki_pin(s->ca_dir, &s->o.pin, &err), &err);
}

static void when_quiet(struct timer *t)
{
    struct scene *s = CONTAINER_OF(t, struct scene, quiet);

    if (link_identity_links(s->self) + link_identity_links(s->theirs) == 0)
        loop_stop(s->loop);
}

static void until_quiet(struct scene *s)
{
    timer_start(s->loop, &s->quiet, 0, 5, when_quiet);
    loop_run(s->loop);
    timer_stop(&s->quiet);
}

static void end(struct scene *s)
{
    link_listener_close(s->listener);
    until_quiet(s);
    link_identity_free(s->self);
    link_identity_free(s->theirs);
    pki_ca_free(s->ca);
    EVP_PKEY_free(s->other);
    loop_free(s->loop);
}

/* Until the link has ended on both sides. */
static void ask(struct scene *s)
{
    struct err err = ERR_INIT;
    struct link *l;

    if (s->theirs == NULL)
        assert_ok(link_identity_enrol(&s->theirs, s->dir, "", &s->o, &err), &err);
    assert_ok(link_connect(&l, s->loop, s->theirs, "127.0.0.1", s->port, ROLE_REGION, NULL,
                           &connecting, s, &err),
              &err);
    until_quiet(s);
}

static bool has_files(const struct scene *s)
{
    AUTO_FREE char *cert = mem_printf("%s/cert.pem", s->dir);

    return path_exists(cert);
}

/* It was not let in, and has nothing. */
static void assert_denied(struct scene *s, const char *why)
{
    assert_int_equal(s->why.code, ERR_DENIED);
    if (strstr(s->why.text, why) == NULL)
        fail_msg("'%s' does not say '%s'", s->why.text, why);
    assert_int_equal(s->opened + s->accepted, 0);
    assert_false(link_identity_is_enrolled(s->theirs));
    assert_false(has_files(s));
}

static void who_knows_pin_and_secret_becomes_a_member(void **state)
{
    struct scene s;
    struct err err = ERR_INIT;

    (void)state;
    start(&s);
    ask(&s);
    assert_true(link_identity_is_enrolled(s.theirs));
    assert_int_equal(s.opened, 1); /* on the connection on which it asked */
    assert_int_equal(s.accepted, 1);
    assert_int_equal(strncmp(s.id, "m-", 2), 0);
    assert_string_equal(s.id, link_identity_id(s.theirs));
    assert_string_equal(link_identity_cluster(s.theirs), "test");
    assert_int_equal(link_listener_refused(s.listener), 0);
    ask(&s); /* with its certificate */
    assert_int_equal(s.accepted, 2);
    link_identity_free(s.theirs);
    assert_ok(link_identity_enrol(&s.theirs, s.dir, "", &s.o, &err), &err);
    assert_true(link_identity_is_enrolled(s.theirs)); /* from the files */
    assert_string_equal(s.id, link_identity_id(s.theirs));
    ask(&s);
    assert_int_equal(s.accepted, 3);
    assert_int_equal(s.asked, 1);
    end(&s);
}

static void a_wrong_secret_is_refused(void **state)
{
    struct scene s;

    (void)state;
    start(&s);
    s.o.secret[3] ^= 1;
    ask(&s);
    assert_denied(&s, "the secret is wrong");
    assert_int_equal(link_listener_refused(s.listener), 1);
    end(&s);
}

static void to_a_wrong_pin_no_secret_is_told(void **state)
{
    struct scene s;

    (void)state;
    start(&s);
    s.o.pin.b[0] ^= 1;
    ask(&s);
    assert_denied(&s, "not the cluster that the pin names");
    assert_int_equal(s.asked, 0);
    end(&s);
}

/* Who sends what somebody else has signed gets somebody else's certificate, and no link. */
static void a_request_of_another_connection_opens_nothing(void **state)
{
    struct scene s;

    (void)state;
    start(&s);
    s.replayed = true;
    ask(&s);
    assert_int_equal(s.opened + s.accepted, 0);
    assert_int_equal(s.why.code, ERR_CANCELLED);
    assert_true(link_identity_is_enrolled(s.theirs)); /* it has the key, after all: */
    ask(&s);
    assert_int_equal(s.accepted, 1);
    assert_int_equal(s.asked, 1);
    end(&s);
}

static void an_answer_for_another_key_is_not_taken(void **state)
{
    struct scene s;
    struct err err = ERR_INIT;

    (void)state;
    start(&s);
    s.other = pki_own_key(tmpdir_fresh(), &err);
    assert_non_null(s.other);
    ask(&s);
    assert_denied(&s, "not that CA's certificate of our key");
    end(&s);
}

static void who_is_banned_does_not_come_back_by_enrolling(void **state)
{
    struct scene s;
    struct err err = ERR_INIT;
    char id[NAME_MAX_BYTES + 1];
    EVP_PKEY *key;

    (void)state;
    start(&s);
    key = pki_own_key(s.dir, &err);
    assert_non_null(key);
    assert_ok(pki_name_of_key(key, id, &err), &err);
    EVP_PKEY_free(key);
    link_identity_deny(s.self, ROLE_AGENT, id);
    ask(&s);
    assert_denied(&s, "is banned here");
    assert_int_equal(link_listener_refused(s.listener), 1);
    end(&s);
}

/* Who has a certificate by now, and is not let in for another reason, counts as any other. */
static void who_enrols_where_there_is_no_room_is_refused(void **state)
{
    struct scene s;

    (void)state;
    start(&s);
    link_listener_set_limits(s.listener, LINK_OPENING_LINKS, LINK_OPENING_SHARE, 0);
    ask(&s);
    assert_int_equal(s.why.code, ERR_AGAIN);
    assert_int_equal(s.opened + s.accepted, 0);
    assert_true(link_identity_is_enrolled(s.theirs));
    assert_int_equal(link_listener_refused(s.listener), 1);
    end(&s);
}

static void nobody_there(void **state)
{
    struct scene s;

    (void)state;
    start(&s);
    link_listener_close(s.listener);
    s.listener = NULL;
    ask(&s);
    assert_int_equal(s.why.code, ERR_UNREACHABLE);
    end(&s);
}

/* Until there is a certificate nobody gets in. */
static void who_is_not_enrolled_accepts_nobody(void **state)
{
    struct scene s;
    struct err err = ERR_INIT;
    struct link_listener *theirs;
    struct link *l;

    (void)state;
    start(&s);
    assert_ok(link_identity_enrol(&s.theirs, s.dir, "", &s.o, &err), &err);
    assert_ok(link_listen(&theirs, s.loop, s.theirs, "127.0.0.1:0", 1u << ROLE_REGION, 10,
                          &accepting, &s, &err),
              &err);
    assert_ok(link_connect(&l, s.loop, s.self, "127.0.0.1", link_listener_port(theirs), ROLE_AGENT,
                           NULL, &connecting, &s, &err),
              &err);
    until_quiet(&s);
    assert_int_equal(s.opened + s.accepted, 0);
    assert_int_equal(link_listener_refused(theirs), 1);
    link_listener_close(theirs);
    end(&s);
}

static void what_is_no_request_is_not_signed(void **state)
{
    struct scene s;
    struct hash binding = sha256_of("x", 1);
    struct err err = ERR_INIT;
    EVP_PKEY *key;

    (void)state;
    start(&s);
    key = pki_own_key(s.dir, &err);
    assert_non_null(key);
    for (int named = 0; named < 2; named++) {
        AUTO_BUF request = BUF_INIT;
        struct pki_signed out = { .role = ROLE_NONE };
        struct bytes bytes;

        assert_ok(pki_request(key, named ? &binding : NULL, &request, &err), &err);
        bytes = (struct bytes){ (unsigned char *)request.data, request.len };
        for (size_t i = 0; i < request.len; i += 7) {
            request.data[i] ^= 0x20;
            assert_int_equal(pki_sign(s.ca, ROLE_AGENT, &bytes, &out, &err), -ERR_INVALID);
            request.data[i] ^= 0x20;
        }
        assert_int_equal(out.ca.len + out.certificate.len, 0);
        assert_ok(pki_sign(s.ca, ROLE_AGENT, &bytes, &out, &err), &err);
        assert_int_equal(out.bound, named);
        assert_true(!named || hash_equal(&out.binding, &binding));
        pki_signed_release(&out);
    }
    EVP_PKEY_free(key);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_knows_pin_and_secret_becomes_a_member),
        cmocka_unit_test(a_wrong_secret_is_refused),
        cmocka_unit_test(to_a_wrong_pin_no_secret_is_told),
        cmocka_unit_test(a_request_of_another_connection_opens_nothing),
        cmocka_unit_test(an_answer_for_another_key_is_not_taken),
        cmocka_unit_test(who_is_banned_does_not_come_back_by_enrolling),
        cmocka_unit_test(who_enrols_where_there_is_no_room_is_refused),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(who_is_not_enrolled_accepts_nobody),
        cmocka_unit_test(what_is_no_request_is_not_signed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
