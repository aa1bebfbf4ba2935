/* slots.h - may I restart the service now? Leases that the region node gives, max_moving at a time.
 *
 *     slots_want(s, &ask)        idempotent; asks, and asks again after a reconnect
 *     granted(ctx, service)      it is ours
 *     slots_has(s, service)      is it, still? (a lease that ran out is not)
 *     slots_free(s, service)     done, whatever the outcome, or no longer wanted
 *
 * A lease is renewed by asking again at a third of its time. One that is lost while a service is
 * being switched does not stop that: half a switch is worse than one too many. */
#ifndef AGENT_SLOTS_H
#define AGENT_SLOTS_H

#include "io/loop.h"
#include "wire/msg.h"

enum {
    SLOTS_ASK_MS = 10000, /* while waiting: the region node may have forgotten us */
    SLOTS_RENEW_MIN_MS = 1000,
};

struct slots;

void slots_new(struct slots **ret, struct loop *loop,
               int (*send)(void *ctx, enum msg_type type, const void *msg, struct err *err),
               void (*granted)(void *ctx, const char *service), void *ctx);
void slots_free_all(struct slots *s); /* frees s; says nothing */

void slots_want(struct slots *s, const struct msg_slot_ask *ask); /* copies */
bool slots_has(const struct slots *s, const char *service);
void slots_free(struct slots *s, const char *service);
void slots_message(struct slots *s, const struct msg_slot *slot);
void slots_repeat(struct slots *s); /* a new link: ask again for what is wanted or held */

#endif
