/* link_ends.h - two ends of links on one loop, for the tests of link: each end counts what it sees,
 * and a test sets what it does. */
#ifndef UNIT_IO_LINK_ENDS_H
#define UNIT_IO_LINK_ENDS_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link_private.h"
#include "io/pki.h"

struct end {
    struct fix *f;
    int opened, closed, drained, messages;
    struct err why;
    struct link *link; /* the last that opened or was started */
    void (*on_open)(struct end *e, struct link *l);
    void (*on_message)(struct end *e, struct link *l, enum msg_type type, const void *msg);
    void (*on_drained)(struct end *e, struct link *l);
    uint64_t next; /* expected or next number */
    bool in_call;
};

struct fix {
    char dir[64];
    struct loop *loop;
    struct link_identity *region, *agent, *stranger, *foreign;
    struct link_listener *listener;
    struct end server, client;
    struct timer guard, beat;
    int stop_after_closed; /* loop_stop() when so many ends are closed */
    struct link *stuck;
    int raw_fd; /* of tests that speak badly */
};

static inline void maybe_stop(struct fix *f)
{
    if (f->server.closed + f->client.closed == f->stop_after_closed)
        loop_stop(f->loop);
}

static inline void opened(void *ctx, struct link *l)
{
    struct end *e = ctx;

    e->opened++;
    e->link = l;
    if (e->on_open != NULL)
        e->on_open(e, l);
}

static inline void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct end *e = ctx;

    e->messages++;
    if (e->on_message != NULL)
        e->on_message(e, l, type, msg);
}

static inline void drained(void *ctx, struct link *l)
{
    struct end *e = ctx;

    assert_false(e->in_call);
    e->drained++;
    if (e->on_drained != NULL)
        e->on_drained(e, l);
}

static inline void closed(void *ctx, struct link *l, const struct err *why)
{
    struct end *e = ctx;

    (void)l;
    assert_false(e->in_call);
    e->closed++;
    e->why = *why;
    maybe_stop(e->f);
}

static const struct link_handler handler = { opened, message, drained, closed };

static inline void on_guard(struct timer *t)
{
    (void)t;
    fail_msg("the test hangs");
}

static inline struct link_identity *identity(struct fix *f, const char *ca, const char *cluster,
                                             enum link_role role, const char *id)
{
    AUTO_FREE char *ca_dir = mem_printf("%s/%s", f->dir, ca);
    AUTO_FREE char *out = mem_printf("%s/%s-%s", f->dir, ca, id);
    struct link_identity *i = NULL;

    assert_int_equal(pki_make_ca(ca_dir, cluster, NULL), 0);
    assert_int_equal(pki_issue(ca_dir, out, cluster, role, id, NULL), 0);
    assert_int_equal(link_identity_load(&i, out, "eu", NULL), 0);
    return i;
}

static inline int group_setup(void **state)
{
    struct fix *f = mem_alloc(sizeof(*f));

    log_setup("test", open("/dev/null", O_WRONLY | O_CLOEXEC));
    snprintf(f->dir, sizeof(f->dir), "/tmp/test_link.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->region = identity(f, "ca", "c", ROLE_REGION, "eu");
    f->agent = identity(f, "ca", "c", ROLE_AGENT, "m-01");
    f->stranger = identity(f, "other-ca", "c", ROLE_AGENT, "m-01");
    f->foreign = identity(f, "foreign-ca", "d", ROLE_AGENT, "m-01");
    *state = f;
    return 0;
}

static inline int group_teardown(void **state)
{
    struct fix *f = *state;

    link_identity_free(f->region);
    link_identity_free(f->agent);
    link_identity_free(f->stranger);
    link_identity_free(f->foreign);
    assert_int_equal(dir_remove(f->dir, NULL), 0);
    free(f);
    return 0;
}

static inline void listen_for(struct fix *f, unsigned roles, size_t max_links)
{
    assert_int_equal(link_listen(&f->listener, f->loop, f->region, "127.0.0.1:0", roles, max_links,
                                 &handler, &f->server, NULL),
                     0);
}

static inline int setup(void **state)
{
    struct fix *f = *state;

    memset(&f->server, 0, sizeof(f->server));
    memset(&f->client, 0, sizeof(f->client));
    f->server.f = f->client.f = f;
    f->stop_after_closed = 2;
    f->raw_fd = -1;
    link_identity_set_times(f->region, LINK_OPEN_MS, LINK_PING_MS, LINK_SILENT_MS);
    link_identity_set_times(f->agent, LINK_OPEN_MS, LINK_PING_MS, LINK_SILENT_MS);
    assert_int_equal(loop_new(&f->loop, NULL), 0);
    timer_start(f->loop, &f->guard, 30000, 0, on_guard);
    listen_for(f, 1U << ROLE_AGENT, 1000);
    return 0;
}

static inline void stop(void *loop)
{
    loop_stop(loop);
}

static inline int teardown(void **state)
{
    struct fix *f = *state;

    link_listener_close(f->listener);
    timer_stop(&f->guard);
    /* What the listener ended is freed by posts: let them run. */
    loop_post(f->loop, stop, f->loop);
    loop_run(f->loop);
    if (f->raw_fd >= 0)
        close(f->raw_fd);
    loop_free(f->loop);
    return 0;
}

/* The listener has refused somebody: its side may see the end later than the other. */
static inline void until_refused(struct fix *f)
{
    while (link_listener_refused(f->listener) == 0) {
        loop_post(f->loop, stop, f->loop);
        loop_run(f->loop);
    }
}

/* One end as the agent `self`, towards the listener. */
static inline void connect_as(struct fix *f, struct link_identity *self, enum link_role role,
                              const char *id)
{
    f->client.in_call = true;
    assert_int_equal(link_connect(&f->client.link, f->loop, self, "127.0.0.1",
                                  link_listener_port(f->listener), role, id, &handler, &f->client,
                                  NULL),
                     0);
    f->client.in_call = false;
}

static inline void send_number(struct end *e, struct link *l, uint64_t n)
{
    struct msg_number *numbers = mem_calloc(1, sizeof(*numbers));
    struct msg_quantile q = { .ask = n, .matching = 7, .thresholds = { numbers, 1 } };

    numbers->value = n;
    e->in_call = true;
    assert_int_equal(link_send(l, MSG_QUANTILE, &q, NULL), 0);
    e->in_call = false;
    free(numbers);
}

static inline void close_on_open(struct end *e, struct link *l)
{
    e->in_call = true;
    link_close(l, ERR_CANCELLED, "enough");
    link_close(l, ERR_INTERNAL, "twice is harmless");
    e->in_call = false;
}

static inline void count_crowd(struct end *e, struct link *l)
{
    send_number(e, l, 1);
}

static inline void close_after_one(struct end *e, struct link *l, enum msg_type type,
                                   const void *msg)
{
    (void)e;
    (void)type;
    (void)msg;
    link_close(l, ERR_NONE, "");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
