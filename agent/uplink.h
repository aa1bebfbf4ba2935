/* uplink.h - the link to our region node, made again for ever.
 *
 *     uplink_new(&u, &options, &err)   starts to connect
 *     up(ctx, link)                    open, or about to (early): say MACHINE first, then all that is true now
 *     message(ctx, link, type, msg)    everything that link does not handle itself
 *     down(ctx, link)                  lost; it connects again after link_backoff_ms()
 *
 * What is sent while it is down is not queued: users keep what is true and say it in up(). */
#ifndef AGENT_UPLINK_H
#define AGENT_UPLINK_H

#include "io/link.h"

enum { UPLINK_STEADY_MS = 5000 }; /* open this long, the next failure is the first again */

struct uplink_options {
    struct loop *loop;
    struct link_identity *self;
    const char *host;
    int port;
    const char *region; /* the region node's name must be this; NULL: any, the first decides */
    /* up() is called as soon as it is certain who is there, and what it says goes along with our HELLO. The
     * other side may still refuse us: then down() follows. */
    bool early;
    void (*up)(void *ctx, struct link *l);
    void (*message)(void *ctx, struct link *l, enum msg_type type, const void *msg);
    void (*drained)(void *ctx, struct link *l);
    void (*down)(void *ctx, struct link *l);
    /* NULL, or: it could not be opened. true: this is told elsewhere, and it is not to be tried again. */
    bool (*failed)(void *ctx, const struct err *why);
    void *ctx;
};

struct uplink;

void uplink_new(struct uplink **ret, const struct uplink_options *o);
/* -ERR_UNREACHABLE while it is down; -ERR_AGAIN: full, drained() tells when to try again. */
MUST_CHECK int uplink_send(struct uplink *u, enum msg_type type, const void *msg, struct err *err);
struct link *uplink_link(const struct uplink *u); /* the open link, or NULL */
/* Says BYE; gone() fires when the last link is closed (soon, from the loop), then free it. */
void uplink_close(struct uplink *u, void (*gone)(void *ctx));
void uplink_free(struct uplink *u);

#endif
