#include "region/sent.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

struct pack {
    struct hash hash;
    uint64_t bytes, sent, seen; /* seen: what the exchange had given when we last looked */
};

struct entry {
    struct list node; /* in all, oldest first */
    char *deployment;
    struct pack packs[PACKS_MAX];
    size_t npacks;
    bool unsaved;
};

struct sent {
    struct sent_counter source;
    struct map by_name; /* struct entry */
    struct list all;
};

struct sent *sent_new(const struct sent_counter *source)
{
    struct sent *s = mem_alloc(sizeof(*s));

    s->source = *source;
    list_init(&s->all);
    return s;
}

static void entry_free(struct sent *s, struct entry *e)
{
    map_remove(&s->by_name, e->deployment);
    list_remove(&e->node);
    free(e->deployment);
    free(e);
}

void sent_free(struct sent *s)
{
    if (s == NULL)
        return;
    LIST_EACH (&s->all, n)
        entry_free(s, CONTAINER_OF(n, struct entry, node));
    map_release(&s->by_name);
    free(s);
}

static struct entry *find_or_make(struct sent *s, const char *deployment)
{
    struct entry *e = map_get(&s->by_name, deployment);

    if (e != NULL)
        return e;
    if (s->by_name.count >= SENT_DEPLOYMENTS_MAX)
        entry_free(s, CONTAINER_OF(s->all.next, struct entry, node));
    e = mem_alloc(sizeof(*e));
    e->deployment = mem_strdup(deployment);
    list_push(&s->all, &e->node);
    map_put(&s->by_name, deployment, e);
    return e;
}

static struct pack *add_pack(struct entry *e, const struct hash *hash)
{
    for (size_t i = 0; i < e->npacks; i++) {
        if (hash_equal(&e->packs[i].hash, hash))
            return NULL;
    }
    if (e->npacks == PACKS_MAX)
        return NULL;
    e->packs[e->npacks] = (struct pack){ .hash = *hash };
    return &e->packs[e->npacks++];
}

void sent_expect(struct sent *s, const char *deployment, const struct hash *pack)
{
    struct pack *p = add_pack(find_or_make(s, deployment), pack);

    if (p != NULL)
        p->seen = s->source.given(s->source.ctx, pack);
}

void sent_look(struct sent *s, const char *deployment, bool counts)
{
    struct entry *e = map_get(&s->by_name, deployment);

    for (size_t i = 0; e != NULL && i < e->npacks; i++) {
        struct pack *p = &e->packs[i];
        uint64_t given = s->source.given(s->source.ctx, &p->hash);
        uint64_t more = given >= p->seen ? given - p->seen : given; /* it was opened anew */

        p->seen = given;
        if (!counts || more == 0)
            continue;
        p->sent += more;
        if (p->bytes == 0)
            p->bytes = s->source.bytes(s->source.ctx, &p->hash);
        e->unsaved = true;
    }
}

static void take(const struct entry *e, struct list_of *ret)
{
    struct msg_pack_sent *items = mem_calloc(PACKS_MAX, sizeof(*items));

    *ret = (struct list_of){ items, 0 };
    for (size_t i = 0; i < e->npacks; i++) {
        const struct pack *p = &e->packs[i];

        if (p->sent > 0)
            items[ret->count++] = (struct msg_pack_sent){ p->hash, p->bytes, p->sent };
    }
}

void sent_take(const struct sent *s, const char *deployment, struct list_of *ret)
{
    const struct entry *e = map_get(&s->by_name, deployment);

    *ret = (struct list_of){ NULL, 0 };
    if (e != NULL)
        take(e, ret);
}

bool sent_unsaved(struct sent *s, struct msg_counts *ret)
{
    LIST_EACH (&s->all, n) {
        struct entry *e = CONTAINER_OF(n, struct entry, node);
        struct msg_swarm *swarm;

        if (!e->unsaved)
            continue;
        e->unsaved = false;
        swarm = mem_alloc(sizeof(*swarm));
        take(e, &swarm->packs);
        *ret =
            (struct msg_counts){ .deployment = mem_strdup(e->deployment), .swarm = { swarm, 1 } };
        return true;
    }
    return false;
}

void sent_restore(struct sent *s, const struct msg_counts *saved)
{
    const struct msg_swarm *swarm = saved->swarm.items;
    const struct msg_pack_sent *packs = saved->swarm.count == 0 ? NULL : swarm->packs.items;
    struct entry *e = find_or_make(s, saved->deployment);

    for (size_t i = 0; packs != NULL && i < swarm->packs.count; i++) {
        struct pack *p = add_pack(e, &packs[i].pack);

        if (p != NULL) {
            p->bytes = packs[i].bytes;
            p->sent = packs[i].sent_bytes;
        }
    }
}
