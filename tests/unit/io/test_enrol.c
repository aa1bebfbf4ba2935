/* A machine that knows pin and secret gets a certificate, and can use it; nobody else does. */
#include "lib/check.h"

#include <pthread.h>

#include "base/mem.h"
#include "io/enrol.h"
#include "io/link.h"
#include "io/pki.h"
#include "lib/tmpdir.h"

enum { TIMEOUT_MS = 10000 };

/* A region node on its loop, and one who asks, on a thread of its own because asking blocks. */
struct scene {
    struct loop *loop;
    const char *ca, *dir;
    struct link_identity *self, *theirs;
    struct link_listener *listener;
    struct timer quiet;
    struct enrol_options o;
    unsigned char secret[SECRET_BYTES];
    int rv, opened, asked;
    struct err err;
};

static int judge(void *ctx, const struct msg_enrol *ask, struct buf *ret_ca, struct buf *ret_cert,
                 struct err *err)
{
    struct scene *s = ctx;

    s->asked++;
    if (ask->secret.len != SECRET_BYTES || memcmp(ask->secret.data, s->secret, SECRET_BYTES) != 0)
        return err_set(err, ERR_DENIED, "the secret is wrong");
    return pki_sign(s->ca, "test", ROLE_AGENT, &ask->request, ret_ca, ret_cert, err);
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

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct scene *s = ctx;

    (void)l;
    (void)why;
    loop_stop(s->loop);
}

static const struct link_handler handler = { opened, message, NULL, closed };

static void start(struct scene *s)
{
    struct err err = ERR_INIT;
    const char *identity = tmpdir_fresh();

    memset(s, 0, sizeof(*s));
    s->ca = tmpdir_fresh();
    s->dir = tmpdir_fresh();
    memset(s->secret, 7, SECRET_BYTES);
    assert_ok(loop_new(&s->loop, &err), &err);
    assert_ok(pki_make_ca(s->ca, "test", &err), &err);
    assert_ok(pki_issue(s->ca, identity, "test", ROLE_REGION, "r1", &err), &err);
    assert_ok(link_identity_load(&s->self, identity, "r1", &err), &err);
    assert_ok(link_listen(&s->listener, s->loop, s->self, "127.0.0.1:0", 1u << ROLE_AGENT, 10,
                          &handler, s, &err),
              &err);
    link_listener_set_enrol(s->listener, &(struct link_enrol){ judge, s });
    s->o = (struct enrol_options){ .host = "127.0.0.1", .timeout_ms = TIMEOUT_MS };
    s->o.port = link_listener_port(s->listener);
    memcpy(s->o.secret, s->secret, SECRET_BYTES);
    assert_ok(pki_pin(s->ca, &s->o.pin, &err), &err);
}

static void when_quiet(struct timer *t)
{
    struct scene *s = CONTAINER_OF(t, struct scene, quiet);

    if (link_identity_links(s->self) + link_identity_links(s->theirs) == 0)
        loop_stop(s->loop);
}

static void end(struct scene *s)
{
    link_listener_close(s->listener);
    timer_start(s->loop, &s->quiet, 0, 5, when_quiet);
    loop_run(s->loop);
    timer_stop(&s->quiet);
    link_identity_free(s->self);
    link_identity_free(s->theirs);
    loop_free(s->loop);
}

static void answered(void *arg)
{
    loop_stop(arg);
}

static void *ask_thread(void *arg)
{
    struct scene *s = arg;

    s->rv = enrol(s->dir, &s->o, &s->err);
    loop_post(s->loop, answered, s->loop);
    return NULL;
}

static void ask(struct scene *s)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, ask_thread, s), 0);
    loop_run(s->loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void who_knows_pin_and_secret_becomes_a_member(void **state)
{
    struct scene s;
    struct link *l;

    (void)state;
    start(&s);
    ask(&s);
    assert_ok(s.rv, &s.err);
    assert_int_equal(link_listener_refused(s.listener), 0);
    assert_ok(link_identity_load(&s.theirs, s.dir, "", &s.err), &s.err);
    assert_int_equal(strncmp(link_identity_id(s.theirs), "m-", 2), 0);
    assert_ok(link_connect(&l, s.loop, s.theirs, "127.0.0.1", s.o.port, ROLE_REGION, "r1", &handler,
                           &s, &s.err),
              &s.err);
    loop_run(s.loop);
    assert_true(s.opened > 0);
    ask(&s);
    assert_ok(s.rv, &s.err);
    assert_int_equal(s.asked, 1); /* it is a member already */
    end(&s);
}

static void a_wrong_secret_is_refused(void **state)
{
    struct scene s;

    (void)state;
    start(&s);
    s.o.secret[3] ^= 1;
    ask(&s);
    assert_int_equal(s.rv, -ERR_DENIED);
    assert_non_null(strstr(s.err.text, "the secret is wrong"));
    end(&s);
}

static void to_a_wrong_pin_no_secret_is_told(void **state)
{
    struct scene s;

    (void)state;
    start(&s);
    s.o.pin.b[0] ^= 1;
    ask(&s);
    assert_int_equal(s.rv, -ERR_DENIED);
    assert_int_equal(s.asked, 0);
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
    assert_int_equal(s.rv, -ERR_UNREACHABLE);
    end(&s);
}

static void what_is_no_request_is_not_signed(void **state)
{
    struct scene s;
    AUTO_BUF request = BUF_INIT;
    AUTO_BUF ca = BUF_INIT;
    AUTO_BUF cert = BUF_INIT;
    struct bytes bytes;

    (void)state;
    start(&s);
    assert_ok(pki_request(s.dir, &request, &s.err), &s.err);
    bytes = (struct bytes){ (unsigned char *)request.data, request.len };
    for (size_t i = 0; i < request.len; i += 7) {
        request.data[i] ^= 0x20;
        assert_int_equal(pki_sign(s.ca, "test", ROLE_AGENT, &bytes, &ca, &cert, &s.err),
                         -ERR_INVALID);
        request.data[i] ^= 0x20;
    }
    assert_int_equal(ca.len + cert.len, 0);
    assert_ok(pki_sign(s.ca, "test", ROLE_AGENT, &bytes, &ca, &cert, &s.err), &s.err);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_knows_pin_and_secret_becomes_a_member),
        cmocka_unit_test(a_wrong_secret_is_refused),
        cmocka_unit_test(to_a_wrong_pin_no_secret_is_told),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(what_is_no_request_is_not_signed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
