#include "store/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "store/exchange_internal.h"

enum { LINK_KEY = 32, BAD_KEY = NAME_MAX_BYTES + 3 };

static const char *link_key(const struct link *l, char key[LINK_KEY])
{
    snprintf(key, LINK_KEY, "%p", (const void *)l);
    return key;
}

static void tick(struct timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, tick);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&x->packs, &i)) != NULL;) {
        struct exchange_pack *p = e->value;

        pack_save(p);
        tally_pack(p);
    }
    recent_drop(x, NULL, exchange_now(x) - EXCHANGE_RECENT_MS);
    tally_tick(x);
    object_tick(x);
}

int exchange_new(struct exchange **ret, const struct exchange_options *o, struct err *err)
{
    struct exchange *x;
    int rv = dir_make(o->dir, 0700, err);

    if (rv < 0)
        return rv;
    x = mem_alloc(sizeof(*x));
    x->o = *o;
    x->dir = mem_strdup(o->dir);
    x->peer = peer_new(&(struct peer_options){ .seed = o->seed, .is_node = o->join == NULL });
    list_init(&x->links);
    list_init(&x->object_gets);
    list_init(&x->arriving);
    list_init(&x->recent);
    x->gap_us = EXCHANGE_TICK_MS * 1000; /* rare until they come */
    timer_start(o->loop, &x->tick, EXCHANGE_TICK_MS, EXCHANGE_TICK_MS, tick);
    *ret = x;
    return 0;
}

static void free_objects(struct exchange *x)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&x->objects, &i)) != NULL;) {
        buf_release(e->value);
        free(e->value);
    }
    map_release(&x->objects);
}

void exchange_free(struct exchange *x)
{
    struct map_entry *e;

    if (x == NULL)
        return;
    timer_stop(&x->tick);
    timer_stop(&x->due);
    timer_stop(&x->gather);
    for (size_t i = 0; (e = map_next(&x->packs, &i)) != NULL;)
        pack_free(x, e->value);
    map_release(&x->packs);
    peer_free(x->peer);
    free(x->numbers);
    free(x->slots);
    free_objects(x);
    map_release(&x->bad);
    map_release(&x->by_link);
    free(x->dir);
    free(x);
}

struct exchange_link *link_find(const struct exchange *x, const struct link *l)
{
    char key[LINK_KEY];

    return map_get(&x->by_link, link_key(l, key));
}

static void take_number(struct exchange *x, struct exchange_link *l)
{
    size_t need = (size_t)l->number + 1;

    if (x->nnumbers < need) {
        x->nnumbers = need < 2 * x->nnumbers ? 2 * x->nnumbers : need;
        x->numbers = mem_realloc(x->numbers, x->nnumbers * sizeof(struct exchange_link *));
    }
    x->numbers[l->number] = l;
}

void exchange_attach(struct exchange *x, struct link *link)
{
    struct exchange_link *l = mem_alloc(sizeof(*l));
    char key[LINK_KEY];

    l->x = x;
    l->link = link;
    l->is_seed = link_peer_role(link) == ROLE_REGION;
    list_push(&x->links, &l->node);
    link_set_low_water(link, EXCHANGE_OUT_LOW);
    map_put(&x->by_link, link_key(link, key), l);
    l->number = peer_link_open(x->peer, l->is_seed, exchange_now(x));
    take_number(x, l);
    exchange_act(x);
    object_link_opened(x);
}

void exchange_link_free(struct exchange_link *l)
{
    for (size_t i = 0; i < l->nremotes; i++)
        buf_release(&l->remotes[i].bitmap);
    free(l->remotes);
    free(l);
}

void exchange_detach(struct exchange *x, struct link *link)
{
    struct exchange_link *l = link_find(x, link);
    char key[LINK_KEY];

    if (l == NULL)
        return;
    map_remove(&x->by_link, link_key(link, key));
    list_remove(&l->node);
    peer_link_close(x->peer, l->number, exchange_now(x));
    x->numbers[l->number] = NULL;
    object_link_closed(l);
    l->link = NULL;
    l->gone = true;
    if (l->reading == 0)
        exchange_link_free(l);
    exchange_act(x);
}

static void on_swarm(struct exchange_link *l, const struct hash *pack, struct peer_event *e)
{
    const struct exchange_pack *p = pack_find(l->x, pack);

    e->link = l->number;
    e->pack = p == NULL ? -1 : p->number;
    if (e->pack >= 0)
        exchange_step(l->x, e);
}

static void on_have(struct exchange_link *l, const struct msg_have *m)
{
    on_swarm(l, &m->pack,
             &(struct peer_event){ .kind = PEER_ON_HAVE,
                                   .leaves = m->leaves.items,
                                   .count = (uint32_t)m->leaves.count });
}

/* Of a pack that is not here there is nothing to give. */
static void on_want(struct exchange_link *l, const struct msg_want *m)
{
    const struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct msg_refuse refuse = { m->pack, m->first, m->count, ERR_NOT_FOUND };
    struct err err = ERR_INIT;

    if (p != NULL && p->number >= 0) {
        on_swarm(
            l, &m->pack,
            &(struct peer_event){ .kind = PEER_ON_WANT, .first = m->first, .count = m->count });
        return;
    }
    l->x->counts.refused++;
    if (link_send(l->link, MSG_REFUSE, &refuse, &err) < 0)
        log_debug("refuse %s: %s", link_peer_id(l->link), err.text);
}

static void on_refuse(struct exchange_link *l, const struct msg_refuse *m)
{
    on_swarm(l, &m->pack,
             &(struct peer_event){ .kind = PEER_ON_REFUSE,
                                   .first = m->first,
                                   .count = m->count,
                                   .code = (enum err_code)m->code });
}

static void on_cancel(struct exchange_link *l, const struct msg_cancel *m)
{
    on_swarm(l, &m->pack,
             &(struct peer_event){ .kind = PEER_ON_CANCEL, .first = m->first, .count = m->count });
}

bool exchange_message(struct exchange *x, struct link *link, enum msg_type type, const void *msg)
{
    struct exchange_link *l;

    if (type < MSG_BITMAP || type > MSG_CANCEL)
        return false;
    l = link_find(x, link);
    if (l == NULL)
        return true; /* a late message of a link that was detached */
    if (type == MSG_BITMAP)
        pack_on_bitmap(l, msg);
    else if (type == MSG_HAVE)
        on_have(l, msg);
    else if (type == MSG_WANT)
        on_want(l, msg);
    else if (type == MSG_LEAF)
        pack_on_leaf(l, msg);
    else if (type == MSG_REFUSE)
        on_refuse(l, msg);
    else if (type == MSG_CANCEL)
        on_cancel(l, msg);
    else if (type == MSG_OBJECT_ASK)
        object_on_ask(l, msg);
    else
        object_on_object(l, msg);
    return true;
}

void exchange_drained(struct exchange *x, struct link *link)
{
    struct exchange_link *l = link_find(x, link);

    if (l == NULL)
        return;
    pack_leave_rest(l);
    give_room(l);
}

void exchange_limit(struct exchange *x, uint64_t up_bytes, uint64_t down_bytes)
{
    peer_limit(x->peer, up_bytes, down_bytes, exchange_now(x));
    exchange_act_soon(x);
}

bool exchange_is_busy(const struct exchange *x)
{
    return x->works > 0;
}

/* A region node and a machine may have the same name. */
static const char *bad_key(bool is_seed, const char *id, char key[BAD_KEY])
{
    snprintf(key, BAD_KEY, "%c %s", is_seed ? 'r' : 'a', id);
    return key;
}

bool exchange_is_banned(const struct exchange *x, const char *id)
{
    char key[BAD_KEY];

    return (uintptr_t)map_get(&x->bad, bad_key(false, id, key)) >= EXCHANGE_BAD_MAX;
}

void link_was_bad(struct exchange_link *l, const char *what)
{
    const char *id = link_peer_id(l->link);
    char key[BAD_KEY];
    uintptr_t count = (uintptr_t)map_get(&l->x->bad, bad_key(l->is_seed, id, key)) + 1;

    map_put(&l->x->bad, key, (void *)count); /* NOLINT: a counter, not a pointer */
    l->x->counts.bad_leaves++;
    log_warn("%s sent %s (%u so far)", id, what, (unsigned)count);
    if (count != EXCHANGE_BAD_MAX)
        return; /* not yet, or not again: more of it was on its way */
    l->x->counts.banned++;
    link_ban(l->link, ERR_CORRUPT, what);
}

struct exchange_counts exchange_counts(const struct exchange *x)
{
    return x->counts;
}
