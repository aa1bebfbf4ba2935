#include "uplink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

struct uplink {
    struct uplink_options o;
    char *host, *region;
    struct link *link; /* started or open */
    bool up;           /* up() was called, and down() was not */
    bool open;         /* the other side has accepted us */
    struct timer retry;
    int attempt;
    int64_t open_since_ms;
    char told[508];          /* the last reason that was logged */
    void (*gone)(void *ctx); /* closing, when set */
};

static void connect_now(struct uplink *u);

static void retry_now(struct timer *t)
{
    connect_now(CONTAINER_OF(t, struct uplink, retry));
}

static void say_gone(struct timer *t)
{
    struct uplink *u = CONTAINER_OF(t, struct uplink, retry);

    u->gone(u->o.ctx);
}

/* The same failure again and again is worth one line. */
static void tell(struct uplink *u, const struct err *why)
{
    if (strcmp(u->told, why->text) == 0)
        return;
    snprintf(u->told, sizeof(u->told), "%s", why->text);
    log_warn("region node %s:%d: %s", u->host, u->o.port, why->text);
}

static void retry_later(struct uplink *u)
{
    timer_start(u->o.loop, &u->retry, link_backoff_ms(u->attempt++), 0, retry_now);
}

static void again(struct uplink *u, const struct err *why, bool was_open)
{
    if (!was_open && u->o.failed != NULL && u->o.failed(u->o.ctx, why))
        return;
    tell(u, why);
    retry_later(u);
}

static void go_up(void *ctx, struct link *l)
{
    struct uplink *u = ctx;

    u->up = true;
    u->o.up(u->o.ctx, l);
}

static void opened(void *ctx, struct link *l)
{
    struct uplink *u = ctx;

    u->open = true;
    u->open_since_ms = loop_now_ms(u->o.loop);
    u->told[0] = '\0';
    if (u->region == NULL)
        u->region = mem_strdup(link_peer_id(l));
    log_info("connected to region %s at %s:%d", link_peer_id(l), u->host, u->o.port);
    if (!u->up)
        go_up(u, l);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct uplink *u = ctx;

    u->o.message(u->o.ctx, l, type, msg);
}

static void drained(void *ctx, struct link *l)
{
    struct uplink *u = ctx;

    u->o.drained(u->o.ctx, l);
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct uplink *u = ctx;
    bool was_open = u->open, was_up = u->up;

    /* One that accepts us and closes at once is not asked again at once, for ever. */
    if (was_open && loop_now_ms(u->o.loop) - u->open_since_ms >= UPLINK_STEADY_MS)
        u->attempt = 0;
    u->link = NULL;
    u->open = u->up = false;
    if (was_up)
        u->o.down(u->o.ctx, l);
    if (u->gone != NULL)
        u->gone(u->o.ctx);
    else
        again(u, why, was_open);
}

static const struct link_handler handler = { opened, message, drained, closed };

static void connect_now(struct uplink *u)
{
    struct err err = ERR_INIT;

    if (link_connect(&u->link, u->o.loop, u->o.self, u->host, u->o.port, ROLE_REGION, u->region,
                     &handler, u, &err) == 0) {
        if (u->o.early)
            link_set_early(u->link, go_up);
        return;
    }
    u->link = NULL;
    again(u, &err, false);
}

void uplink_new(struct uplink **ret, const struct uplink_options *o)
{
    struct uplink *u = mem_alloc(sizeof(*u));

    u->o = *o;
    u->host = mem_strdup(o->host);
    u->region = o->region == NULL ? NULL : mem_strdup(o->region);
    *ret = u;
    timer_start(o->loop, &u->retry, 0, 0, retry_now);
}

int uplink_send(struct uplink *u, enum msg_type type, const void *msg, struct err *err)
{
    if (!u->up)
        return err_set(err, ERR_UNREACHABLE, "the region node cannot be reached");
    return link_send(u->link, type, msg, err);
}

struct link *uplink_link(const struct uplink *u)
{
    return u->up ? u->link : NULL;
}

void uplink_close(struct uplink *u, void (*gone)(void *ctx))
{
    u->gone = gone;
    timer_stop(&u->retry);
    if (u->link != NULL)
        link_close(u->link, ERR_CANCELLED, "the agent stops");
    else
        timer_start(u->o.loop, &u->retry, 0, 0, say_gone);
}

void uplink_free(struct uplink *u)
{
    if (u == NULL)
        return;
    timer_stop(&u->retry);
    free(u->host);
    free(u->region);
    free(u);
}
