#include "swarm/calendar.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

enum { CHILDREN = 4, ID_BITS = 24 };

/* order: how many were put before, then the id: a tie is broken by age, in one comparison. */
struct entry {
    int64_t at_ns;
    uint64_t order;
};

struct slot {
    struct calendar_event event;
    uint32_t at; /* where in the heap; of a free slot: the next free one */
};

struct calendar {
    struct entry *heap;
    size_t count, cap;
    struct slot *slots;
    size_t nslots, slots_cap;
    uint32_t free_slot; /* or nslots */
    bool has_free;
    uint64_t puts;
};

struct calendar *calendar_new(void)
{
    return mem_alloc(sizeof(struct calendar));
}

void calendar_free(struct calendar *c)
{
    if (c == NULL)
        return;
    free(c->heap);
    free(c->slots);
    free(c);
}

static bool before(const struct entry *a, const struct entry *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static uint32_t id_of(const struct entry *e)
{
    return (uint32_t)(e->order & (CALENDAR_EVENTS_MAX - 1));
}

static void place(struct calendar *c, size_t at, const struct entry *e)
{
    c->heap[at] = *e;
    c->slots[id_of(e)].at = (uint32_t)at;
}

static void sift_up(struct calendar *c, size_t at, struct entry e)
{
    while (at > 0) {
        size_t parent = (at - 1) / CHILDREN;

        if (!before(&e, &c->heap[parent]))
            break;
        place(c, at, &c->heap[parent]);
        at = parent;
    }
    place(c, at, &e);
}

static void sift_down(struct calendar *c, size_t at, struct entry e)
{
    for (;;) {
        size_t first = at * CHILDREN + 1, best = first;

        if (first >= c->count)
            break;
        for (size_t i = first + 1; i < first + CHILDREN && i < c->count; i++)
            if (before(&c->heap[i], &c->heap[best]))
                best = i;
        if (!before(&c->heap[best], &e))
            break;
        place(c, at, &c->heap[best]);
        at = best;
    }
    place(c, at, &e);
}

static uint32_t take_slot(struct calendar *c)
{
    uint32_t id = c->free_slot;

    if (c->has_free) {
        c->has_free = c->slots[id].at != id;
        c->free_slot = c->slots[id].at;
        return id;
    }
    assert(c->nslots < CALENDAR_EVENTS_MAX);
    VEC_GROW(c->slots, c->nslots, c->slots_cap);
    return (uint32_t)c->nslots++;
}

/* The last of the chain of free slots names itself. */
static void give_slot(struct calendar *c, uint32_t id)
{
    c->slots[id].at = c->has_free ? c->free_slot : id;
    c->free_slot = id;
    c->has_free = true;
}

static struct entry entry_of(struct calendar *c, uint32_t id, int64_t at_ns)
{
    return (struct entry){ at_ns, c->puts++ << ID_BITS | id };
}

uint32_t calendar_put(struct calendar *c, int64_t at_ns, const struct calendar_event *e)
{
    uint32_t id = take_slot(c);

    c->slots[id].event = *e;
    VEC_GROW(c->heap, c->count, c->cap);
    c->count++;
    sift_up(c, c->count - 1, entry_of(c, id, at_ns));
    return id;
}

static void resettle(struct calendar *c, size_t at, struct entry e)
{
    if (at > 0 && before(&e, &c->heap[(at - 1) / CHILDREN]))
        sift_up(c, at, e);
    else
        sift_down(c, at, e);
}

void calendar_move(struct calendar *c, uint32_t id, int64_t at_ns)
{
    resettle(c, c->slots[id].at, entry_of(c, id, at_ns));
}

void calendar_drop(struct calendar *c, uint32_t id)
{
    size_t at = c->slots[id].at;
    struct entry last = c->heap[--c->count];

    if (at < c->count)
        resettle(c, at, last);
    give_slot(c, id);
}

bool calendar_next(struct calendar *c, int64_t *ret_at_ns, struct calendar_event *ret)
{
    uint32_t id;

    if (c->count == 0 || c->heap[0].at_ns == CALENDAR_NEVER)
        return false;
    id = id_of(&c->heap[0]);
    *ret_at_ns = c->heap[0].at_ns;
    *ret = c->slots[id].event;
    calendar_drop(c, id);
    return true;
}
