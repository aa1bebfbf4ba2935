#include "store/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "store/exchange_internal.h"

enum { LINK_KEY = 32 };

static const char *link_key(const struct link *l, char key[LINK_KEY])
{
    snprintf(key, LINK_KEY, "%p", (const void *)l);
    return key;
}

static void tick(struct timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, tick);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&x->packs, &i)) != NULL;)
        pack_tick(e->value, x);
    object_tick(x);
    give_more(x);
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
    list_init(&x->links);
    list_init(&x->wanting);
    list_init(&x->serving);
    list_init(&x->object_gets);
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
    timer_stop(&x->up_again);
    timer_stop(&x->down_again);
    for (size_t i = 0; (e = map_next(&x->packs, &i)) != NULL;)
        pack_free(x, e->value);
    map_release(&x->packs);
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

struct link_pack *link_pack_find(struct exchange_link *l, const struct hash *hash)
{
    for (size_t i = 0; i < l->npacks; i++)
        if (hash_equal(&l->packs[i].hash, hash))
            return &l->packs[i];
    return NULL;
}

struct link_pack *link_pack_get(struct exchange_link *l, const struct hash *hash)
{
    struct link_pack *found = link_pack_find(l, hash);

    if (found != NULL)
        return found;
    if (l->npacks == EXCHANGE_LINK_PACKS_MAX)
        return NULL;
    VEC_GROW(l->packs, l->npacks, l->packs_cap);
    l->packs[l->npacks] = (struct link_pack){ .hash = *hash, .peer = -1, .shown = -1 };
    return &l->packs[l->npacks++];
}

void link_pack_drop(struct exchange_link *l, struct link_pack *lp)
{
    l->remote_bytes -= lp->remote.len;
    buf_release(&lp->remote);
    *lp = l->packs[--l->npacks];
}

void exchange_attach(struct exchange *x, struct link *link)
{
    struct exchange_link *l = mem_alloc(sizeof(*l));
    char key[LINK_KEY];

    l->x = x;
    l->link = link;
    l->is_seed = link_peer_role(link) == ROLE_REGION;
    list_push(&x->links, &l->node);
    list_init(&l->wanting);
    list_init(&l->serving);
    link_set_low_water(link, EXCHANGE_OUT_LOW);
    map_put(&x->by_link, link_key(link, key), l);
    pack_link_opened(l);
    object_link_opened(x);
}

void exchange_link_free(struct exchange_link *l)
{
    for (size_t i = 0; i < l->npacks; i++)
        buf_release(&l->packs[i].remote);
    free(l->packs);
    free(l->wants);
    free(l);
}

void exchange_detach(struct exchange *x, struct link *link)
{
    struct exchange_link *l = link_find(x, link);
    char key[LINK_KEY];

    if (l == NULL)
        return;
    map_remove(&x->by_link, link_key(link, key));
    list_remove(&l->wanting);
    list_remove(&l->serving);
    pack_link_closed(l);
    object_link_closed(l);
    list_remove(&l->node);
    l->link = NULL;
    l->gone = true;
    if (l->reading == 0)
        exchange_link_free(l);
    give_more(x);
}

bool exchange_message(struct exchange *x, struct link *link, enum msg_type type, const void *msg)
{
    struct exchange_link *l;

    if (type < MSG_BITMAP || type > MSG_OBJECT)
        return false;
    l = link_find(x, link);
    if (l == NULL)
        return true; /* a late message of a link that was detached */
    if (type == MSG_BITMAP)
        pack_on_bitmap(l, msg);
    else if (type == MSG_HAVE)
        pack_on_have(l, msg);
    else if (type == MSG_WANT)
        give_on_want(l, msg);
    else if (type == MSG_LEAF)
        pack_on_leaf(l, msg);
    else if (type == MSG_REFUSE)
        pack_on_refuse(l, msg);
    else if (type == MSG_OBJECT_ASK)
        object_on_ask(l, msg);
    else
        object_on_object(l, msg);
    return true;
}

void exchange_drained(struct exchange *x, struct link *link)
{
    struct exchange_link *l = link_find(x, link);

    if (l != NULL)
        pack_leave_rest(l);
    give_more(x);
}

void exchange_limit(struct exchange *x, uint64_t up_bytes, uint64_t down_bytes)
{
    int64_t now_ms = loop_now_ms(x->o.loop);

    bucket_set(&x->up, up_bytes, now_ms);
    bucket_set(&x->down, down_bytes, now_ms);
    timer_start(x->o.loop, &x->up_again, 0, 0, give_again);
    timer_start(x->o.loop, &x->down_again, 0, 0, pack_ask_again);
}

bool exchange_is_busy(const struct exchange *x)
{
    return x->works > 0;
}

bool exchange_is_banned(const struct exchange *x, const char *id)
{
    return (uintptr_t)map_get(&x->bad, id) >= EXCHANGE_BAD_MAX;
}

void link_was_bad(struct exchange_link *l, const char *what)
{
    const char *id = link_peer_id(l->link);
    uintptr_t count = (uintptr_t)map_get(&l->x->bad, id) + 1;

    map_put(&l->x->bad, id, (void *)count); /* NOLINT: a counter, not a pointer */
    l->x->counts.bad_leaves++;
    log_warn("%s sent %s (%u so far)", id, what, (unsigned)count);
    if (count < EXCHANGE_BAD_MAX)
        return;
    l->x->counts.banned++;
    link_close(l->link, ERR_CORRUPT, what);
}

struct exchange_counts exchange_counts(const struct exchange *x)
{
    return x->counts;
}
