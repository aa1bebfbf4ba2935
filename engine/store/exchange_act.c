#include "base/log.h"
#include "store/exchange_internal.h"

int64_t exchange_now(const struct exchange *x)
{
    return loop_now_ms(x->o.loop);
}

static void on_due(struct timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, due);

    exchange_step(x, &(struct peer_event){ .kind = PEER_TICK });
}

void exchange_act_soon(struct exchange *x)
{
    x->due_ms = exchange_now(x);
    timer_start(x->o.loop, &x->due, 0, 0, on_due);
}

static void set_timer(struct exchange *x)
{
    int64_t at_ms = peer_next_ms(x->peer), now_ms = exchange_now(x);

    if (at_ms < 0)
        timer_stop(&x->due);
    else if (!x->due.active || at_ms < x->due_ms)
        timer_start(x->o.loop, &x->due, at_ms > now_ms ? at_ms - now_ms : 0, 0, on_due);
    else
        return;
    x->due_ms = at_ms;
}

/* A message that does not fit is given back: what it should have said is said later. */
static void say(struct exchange *x, struct exchange_link *l, const struct peer_action *a,
                enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    if (link_send(l->link, type, msg, &err) == 0)
        return;
    log_debug("%s to %s: %s", msg_name(type), link_peer_id(l->link), err.text);
    peer_step(x->peer,
              &(struct peer_event){ .kind = PEER_UNSENT,
                                    .what = a->kind,
                                    .link = a->link,
                                    .pack = a->pack,
                                    .first = a->first,
                                    .count = a->count },
              exchange_now(x));
}

static void say_bitmap(struct exchange *x, struct exchange_link *l, const struct peer_action *a)
{
    struct msg_bitmap m = { x->slots[a->pack]->hash, a->bitmap };

    say(x, l, a, MSG_BITMAP, &m);
}

static void say_have(struct exchange *x, struct exchange_link *l, const struct peer_action *a)
{
    struct msg_have m = { x->slots[a->pack]->hash,
                          { (struct msg_index *)(uintptr_t)a->leaves, a->count } };

    say(x, l, a, MSG_HAVE, &m);
}

static void say_range(struct exchange *x, struct exchange_link *l, const struct peer_action *a)
{
    const struct hash *pack = &x->slots[a->pack]->hash;

    if (a->kind == PEER_REFUSE) {
        struct msg_refuse m = { *pack, a->first, a->count, (uint16_t)a->code };

        x->counts.refused++;
        say(x, l, a, MSG_REFUSE, &m);
    } else if (a->kind == PEER_CANCEL) {
        struct msg_cancel m = { *pack, a->first, a->count };

        say(x, l, a, MSG_CANCEL, &m);
    } else {
        struct msg_want m = { *pack, a->first, a->count };

        say(x, l, a, MSG_WANT, &m);
    }
}

static void act(struct exchange *x, const struct peer_action *a)
{
    struct exchange_link *l = a->link < 0 ? NULL : x->numbers[a->link];

    if (a->kind == PEER_DONE)
        pack_finish(x->slots[a->pack], 0);
    else if (a->kind == PEER_BITMAP)
        say_bitmap(x, l, a);
    else if (a->kind == PEER_HAVE)
        say_have(x, l, a);
    else if (a->kind == PEER_GIVE)
        give_start(x, a);
    else if (a->kind == PEER_ACCUSE && a->pack >= 0)
        tally_was_bad(x->slots[a->pack], l, a->why);
    else if (a->kind == PEER_ACCUSE)
        link_was_bad(l, a->why);
    else
        say_range(x, l, a);
}

void exchange_act(struct exchange *x)
{
    struct peer_action a;

    if (x->acting)
        return; /* further up the stack somebody does */
    x->acting = true;
    while (peer_next(x->peer, &a))
        act(x, &a);
    x->acting = false;
    set_timer(x);
}

void exchange_step(struct exchange *x, const struct peer_event *e)
{
    peer_step(x->peer, e, exchange_now(x));
    exchange_act(x);
}
