#include "region/leases.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

struct slot {
    struct list node;
    char *machine;
    int64_t until_ms; /* of a lease */
    bool leased;
};

struct slot_service {
    char *name;
    uint64_t generation, max_moving;
    bool urgent;
    struct list leases, queue;
    struct map slots; /* machine -> struct slot, leased or queued */
    size_t used, waiting;
};

struct leases {
    struct map services;
};

struct leases *leases_new(void)
{
    return mem_alloc(sizeof(struct leases));
}

static void slot_free(struct slot_service *v, struct slot *slot)
{
    map_remove(&v->slots, slot->machine);
    list_remove(&slot->node);
    if (slot->leased)
        v->used--;
    else
        v->waiting--;
    free(slot->machine);
    free(slot);
}

static void empty(struct slot_service *v, struct list *head)
{
    LIST_EACH (head, n)
        slot_free(v, CONTAINER_OF(n, struct slot, node));
}

void leases_free(struct leases *s)
{
    struct map_entry *e;

    if (s == NULL)
        return;
    for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;) {
        struct slot_service *v = e->value;

        empty(v, &v->leases);
        empty(v, &v->queue);
        map_release(&v->slots);
        free(v->name);
        free(v);
    }
    map_release(&s->services);
    free(s);
}

static struct slot_service *service_of(struct leases *s, const char *name)
{
    struct slot_service *v = map_get(&s->services, name);

    if (v != NULL)
        return v;
    v = mem_alloc(sizeof(*v));
    v->name = mem_strdup(name);
    list_init(&v->leases);
    list_init(&v->queue);
    map_put(&s->services, name, v);
    return v;
}

void leases_goal(struct leases *s, const char *service, uint64_t generation, uint64_t max_moving,
                 bool urgent)
{
    struct slot_service *v = service_of(s, service);

    if (generation < v->generation)
        return;
    if (generation > v->generation)
        empty(v, &v->queue);
    v->generation = generation;
    v->max_moving = max_moving;
    v->urgent = urgent;
}

static struct slot *slot_new(struct slot_service *v, const char *machine)
{
    struct slot *slot = mem_alloc(sizeof(*slot));

    slot->machine = mem_strdup(machine);
    list_init(&slot->node);
    map_put(&v->slots, machine, slot);
    return slot;
}

static void lease(struct slot_service *v, struct slot *slot, int64_t until_ms)
{
    list_remove(&slot->node);
    list_push(&v->leases, &slot->node);
    slot->leased = true;
    slot->until_ms = until_ms;
    v->used++;
}

bool leases_ask(struct leases *s, const char *service, const char *machine, uint64_t generation,
                int64_t now_ms)
{
    struct slot_service *v = service_of(s, service);
    struct slot *slot = map_get(&v->slots, machine);

    if (slot != NULL && slot->leased && slot->until_ms > now_ms) {
        slot->until_ms = now_ms + SLOT_LEASE_MS;
        return true;
    }
    if (generation != v->generation || v->generation == 0)
        return false;
    if (slot != NULL && slot->leased) { /* ran out: to the end of the queue like anybody else */
        slot_free(v, slot);
        slot = NULL;
    }
    if (slot == NULL) {
        if (v->waiting >= LEASES_QUEUE_MAX)
            return false;
        slot = slot_new(v, machine);
        list_push(&v->queue, &slot->node);
        v->waiting++;
    }
    if (v->used >= v->max_moving || v->queue.next != &slot->node)
        return false;
    v->waiting--;
    lease(v, slot, now_ms + SLOT_LEASE_MS);
    return true;
}

void leases_restore(struct leases *s, const char *service, const char *machine, int64_t until_ms)
{
    struct slot_service *v = service_of(s, service);

    if (map_get(&v->slots, machine) == NULL)
        lease(v, slot_new(v, machine), until_ms);
}

bool leases_give(struct leases *s, const char *service, const char *machine)
{
    struct slot_service *v = map_get(&s->services, service);
    struct slot *slot = v == NULL ? NULL : map_get(&v->slots, machine);
    bool leased;

    if (slot == NULL)
        return false;
    leased = slot->leased;
    slot_free(v, slot);
    return leased;
}

void leases_drop(struct leases *s, const char *machine)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;) {
        struct slot_service *v = e->value;
        struct slot *slot = map_get(&v->slots, machine);

        if (slot != NULL && !slot->leased)
            slot_free(v, slot);
    }
}

static size_t grant(struct slot_service *v, int64_t now_ms, struct slot_grant *out, size_t max)
{
    size_t n = 0;

    while (n < max && v->used < v->max_moving && !list_empty(&v->queue)) {
        struct slot *slot = CONTAINER_OF(v->queue.next, struct slot, node);

        v->waiting--;
        lease(v, slot, now_ms + SLOT_LEASE_MS);
        out[n++] = (struct slot_grant){ v->name, slot->machine };
    }
    return n;
}

size_t leases_step(struct leases *s, int64_t now_ms, struct slot_grant *out, size_t max)
{
    struct map_entry *e;
    size_t n = 0;

    for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;) {
        struct slot_service *v = e->value;

        LIST_EACH (&v->leases, node) {
            struct slot *slot = CONTAINER_OF(node, struct slot, node);

            if (slot->until_ms <= now_ms)
                slot_free(v, slot);
        }
    }
    for (int urgent = 1; urgent >= 0; urgent--) {
        for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;) {
            struct slot_service *v = e->value;

            if (v->urgent == (urgent == 1))
                n += grant(v, now_ms, out + n, max - n);
        }
    }
    return n;
}

int64_t leases_next_ms(const struct leases *s)
{
    struct map_entry *e;
    int64_t next = -1;

    for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;) {
        struct slot_service *v = e->value;

        LIST_EACH (&v->leases, node) {
            struct slot *slot = CONTAINER_OF(node, struct slot, node);

            if (next < 0 || slot->until_ms < next)
                next = slot->until_ms;
        }
    }
    return next;
}

void leases_each(const struct leases *s,
                 void (*fn)(void *ctx, const char *service, const char *machine, int64_t until_ms),
                 void *ctx)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&s->services, &i)) != NULL;) {
        struct slot_service *v = e->value;

        LIST_EACH (&v->leases, node) {
            struct slot *slot = CONTAINER_OF(node, struct slot, node);

            fn(ctx, v->name, slot->machine, slot->until_ms);
        }
    }
}

size_t leases_used(const struct leases *s, const char *service)
{
    struct slot_service *v = map_get(&s->services, service);

    return v == NULL ? 0 : v->used;
}

size_t leases_waiting(const struct leases *s, const char *service)
{
    struct slot_service *v = map_get(&s->services, service);

    return v == NULL ? 0 : v->waiting;
}

bool leases_holds(const struct leases *s, const char *service, const char *machine)
{
    struct slot_service *v = map_get(&s->services, service);
    struct slot *slot = v == NULL ? NULL : map_get(&v->slots, machine);

    return slot != NULL && slot->leased;
}
