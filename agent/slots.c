#include "slots.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"

struct slot {
    struct slots *owner;
    struct msg_slot_ask ask; /* texts are ours */
    bool granted;
    int64_t until_ms; /* of the lease */
    struct timer again;
};

struct slots {
    struct loop *loop;
    struct map services; /* struct slot */
    int (*send)(void *ctx, enum msg_type type, const void *msg, struct err *err);
    void (*granted)(void *ctx, const char *service);
    void *ctx;
};

void slots_new(struct slots **ret, struct loop *loop,
               int (*send)(void *ctx, enum msg_type type, const void *msg, struct err *err),
               void (*granted)(void *ctx, const char *service), void *ctx)
{
    struct slots *s = mem_alloc(sizeof(*s));

    s->loop = loop;
    s->send = send;
    s->granted = granted;
    s->ctx = ctx;
    *ret = s;
}

static void slot_free(struct slot *slot)
{
    timer_stop(&slot->again);
    free(slot->ask.service);
    free(slot->ask.deployment);
    free(slot);
}

void slots_free_all(struct slots *s)
{
    struct map_entry *e;

    if (s == NULL)
        return;
    for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;)
        slot_free(e->value);
    map_release(&s->services);
    free(s);
}

/* If the link is down, slots_repeat() asks when it is up again. */
static void ask_now(struct slot *slot)
{
    (void)!slot->owner->send(slot->owner->ctx, MSG_SLOT_ASK, &slot->ask, NULL);
}

static void ask_again(struct timer *t)
{
    ask_now(CONTAINER_OF(t, struct slot, again));
}

static bool is_same(const struct msg_slot_ask *a, const struct msg_slot_ask *b)
{
    return strcmp(a->deployment, b->deployment) == 0 && hash_equal(&a->release, &b->release) &&
           a->generation == b->generation;
}

void slots_want(struct slots *s, const struct msg_slot_ask *ask)
{
    struct slot *slot = map_get(&s->services, ask->service);

    if (slot != NULL && is_same(&slot->ask, ask))
        return;
    if (slot == NULL) {
        slot = mem_alloc(sizeof(*slot));
        slot->owner = s;
        map_put(&s->services, ask->service, slot);
    } else {
        free(slot->ask.service);
        free(slot->ask.deployment);
    }
    slot->ask = *ask;
    slot->ask.service = mem_strdup(ask->service);
    slot->ask.deployment = mem_strdup(ask->deployment);
    slot->granted = false;
    timer_start(s->loop, &slot->again, SLOTS_ASK_MS, SLOTS_ASK_MS, ask_again);
    ask_now(slot);
}

bool slots_has(const struct slots *s, const char *service)
{
    const struct slot *slot = map_get(&s->services, service);

    return slot != NULL && slot->granted && loop_now_ms(s->loop) < slot->until_ms;
}

void slots_free(struct slots *s, const char *service)
{
    struct slot *slot = map_remove(&s->services, service);

    if (slot == NULL)
        return;
    (void)!s->send(s->ctx, MSG_SLOT_FREE, &slot->ask, NULL);
    slot_free(slot);
}

void slots_message(struct slots *s, const struct msg_slot *m)
{
    struct slot *slot = map_get(&s->services, m->service);
    int64_t renew = (int64_t)m->lease_ms / 3;
    bool before;

    if (slot == NULL || strcmp(slot->ask.deployment, m->deployment) != 0) {
        /* Granted after we gave it up: give it back at once, not when the lease has run out. */
        struct msg_slot_ask back = { .service = m->service, .deployment = m->deployment };

        if (m->granted != 0)
            (void)!s->send(s->ctx, MSG_SLOT_FREE, &back, NULL);
        return;
    }
    before = slot->granted;
    slot->granted = m->granted != 0;
    if (!slot->granted)
        return;
    if (renew < SLOTS_RENEW_MIN_MS)
        renew = SLOTS_RENEW_MIN_MS;
    slot->until_ms = loop_now_ms(s->loop) + (int64_t)m->lease_ms;
    timer_start(s->loop, &slot->again, renew, renew, ask_again);
    if (!before)
        s->granted(s->ctx, slot->ask.service);
}

void slots_repeat(struct slots *s)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;)
        ask_now(e->value);
}
