/* The link to the region node: made again for ever, to the right one only. */
#include "lib/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/pki.h"
#include "lib/tmpdir.h"
#include "uplink.h"

struct fix {
    struct loop *loop;
    struct link_identity *agent, *region;
    struct link_listener *listener;
    struct uplink *u;
    struct link *accepted;
    int ups, downs, messages, stop_at_ups;
    int closed_early; /* as the region node has seen it: opened or not, gone again */
    bool (*wanted)(struct fix *f);
    struct timer guard, look;
    bool gone;
    bool close_each, early;
};

static void guard_fired(struct timer *t)
{
    (void)t;
    fail_msg("nothing more happens");
}

static void look(struct timer *t)
{
    struct fix *f = CONTAINER_OF(t, struct fix, look);

    if ((f->stop_at_ups > 0 && f->ups >= f->stop_at_ups && f->accepted != NULL) ||
        (f->wanted != NULL && f->wanted(f)) || f->gone)
        loop_stop(f->loop);
}

static void run(struct fix *f)
{
    timer_start(f->loop, &f->guard, 20000, 0, guard_fired);
    timer_start(f->loop, &f->look, 0, 5, look);
    loop_run(f->loop);
    timer_stop(&f->guard);
    timer_stop(&f->look);
}

static void r_opened(void *ctx, struct link *l)
{
    struct fix *f = ctx;

    f->accepted = l;
    if (f->close_each)
        link_close(l, ERR_AGAIN, "later");
}

static void r_message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    (void)ctx;
    assert_int_equal(link_send(l, type, msg, NULL), 0); /* echo */
}

static void r_closed(void *ctx, struct link *l, const struct err *why)
{
    struct fix *f = ctx;

    (void)why;
    f->closed_early++;
    if (f->accepted == l)
        f->accepted = NULL;
}

static const struct link_handler region_handler = { r_opened, r_message, NULL, r_closed };

static void up(void *ctx, struct link *l)
{
    struct fix *f = ctx;
    struct msg_leave m = { { { 1 } } };

    f->ups++;
    assert_ptr_equal(uplink_link(f->u), l);
    assert_int_equal(uplink_send(f->u, MSG_LEAVE, &m, NULL), 0);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct fix *f = ctx;

    (void)l;
    (void)msg;
    f->messages += type == MSG_LEAVE;
}

static void drained(void *ctx, struct link *l)
{
    (void)ctx;
    (void)l;
}

static void down(void *ctx, struct link *l)
{
    struct fix *f = ctx;
    struct msg_leave m = { { { 1 } } };
    struct err err = ERR_INIT;

    (void)l;
    f->downs++;
    assert_null(uplink_link(f->u));
    assert_error(uplink_send(f->u, MSG_LEAVE, &m, &err), ERR_UNREACHABLE, &err, "cannot be");
}

static void gone(void *ctx)
{
    ((struct fix *)ctx)->gone = true;
}

static struct link_identity *identity(const char *ca, enum link_role role, const char *id)
{
    AUTO_FREE char *dir = mem_printf("%s/%s", ca, id);
    struct link_identity *i;
    struct err err = ERR_INIT;

    assert_ok(dir_make(dir, 0700, &err), &err);
    assert_ok(pki_make_ca(ca, "c", &err), &err);
    assert_ok(pki_issue(ca, dir, "c", role, id, &err), &err);
    assert_ok(link_identity_load(&i, dir, "r1", &err), &err);
    return i;
}

static int setup(void **state)
{
    struct fix *f = mem_alloc(sizeof(*f));
    const char *ca = tmpdir_fresh();
    struct err err = ERR_INIT;

    assert_ok(loop_new(&f->loop, &err), &err);
    f->agent = identity(ca, ROLE_AGENT, "m-01");
    f->region = identity(ca, ROLE_REGION, "r1");
    assert_ok(link_listen(&f->listener, f->loop, f->region, "127.0.0.1:0", 1u << ROLE_AGENT, 8,
                          &region_handler, f, &err),
              &err);
    *state = f;
    return 0;
}

static void start(struct fix *f, struct link_identity *self, const char *region)
{
    struct uplink_options o = { .loop = f->loop,
                                .self = self,
                                .host = "127.0.0.1",
                                .port = link_listener_port(f->listener),
                                .region = region,
                                .early = f->early,
                                .up = up,
                                .message = message,
                                .drained = drained,
                                .down = down,
                                .ctx = f };

    uplink_new(&f->u, &o);
    assert_null(uplink_link(f->u));
}

static bool no_links(struct fix *f)
{
    return link_identity_links(f->agent) + link_identity_links(f->region) == 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;

    f->stop_at_ups = 0;
    f->wanted = NULL;
    uplink_close(f->u, gone);
    run(f);
    uplink_free(f->u);
    uplink_free(NULL);
    link_listener_close(f->listener);
    f->gone = false;
    f->wanted = no_links;
    run(f);
    loop_free(f->loop);
    link_identity_free(f->agent);
    link_identity_free(f->region);
    free(f);
    return 0;
}

static void test_comes_back(void **state)
{
    struct fix *f = *state;

    start(f, f->agent, NULL);
    for (int i = 1; i <= 3; i++) {
        f->stop_at_ups = i;
        run(f);
        assert_int_equal(f->ups, i);
        assert_int_equal(f->downs, i - 1);
        link_close(f->accepted, ERR_CANCELLED, "restart");
        f->accepted = NULL;
    }
    f->stop_at_ups = 4;
    run(f);
    assert_true(f->messages > 0);
}

static bool has_refused(struct fix *f)
{
    return f->closed_early + (int)link_listener_refused(f->listener) >= 2;
}

static void test_closed_at_once(void **state)
{
    struct fix *f = *state;

    f->close_each = true;
    start(f, f->agent, "r1");
    f->wanted = has_refused;
    run(f);
    assert_true(f->ups <= f->closed_early);
}

/* The machine belongs to another region: the link never opens for us, however often it is tried. */
static void test_another_region(void **state)
{
    struct fix *f = *state;

    start(f, f->agent, "r2");
    f->wanted = has_refused;
    run(f);
    assert_int_equal(f->ups, 0);
}

static bool has_gone_up_twice(struct fix *f)
{
    return f->downs >= 2;
}

/* It says all that it has to say along with HELLO; if it is not let in, that is over each time. */
static void test_early_and_refused(void **state)
{
    struct fix *f = *state;

    f->early = true;
    link_identity_deny(f->region, ROLE_AGENT, "m-01");
    start(f, f->agent, "r1");
    f->wanted = has_gone_up_twice;
    run(f);
    assert_int_equal(f->ups, f->downs);
    assert_int_equal(f->messages + f->closed_early, 0);
}

static void test_early_comes_back(void **state)
{
    ((struct fix *)*state)->early = true;
    test_comes_back(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closed_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_region, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_and_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early_comes_back, setup, teardown),
    };

    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
