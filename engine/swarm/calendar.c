/* A wheel of buckets for what comes within a second, and a heap for the rest. An event's entry says only
 * which event it is; an event that is moved to a later time keeps its entry, and is put into its right
 * place when that comes up, so that the many moves of a transfer cost next to nothing. What comes up is
 * sorted when its bucket is opened. */
#include "swarm/calendar.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    CHILDREN = 4,
    ID_BITS = 24,
    BUCKET_SHIFT = 16, /* 66 us each, in which a region of 12,500 machines has some 150 events */
    BUCKETS = 1 << 16,
    CHUNK = 30,
};

#define NO_CHUNK UINT32_MAX

/* Valid as long as the event's tag is this one. */
struct entry {
    uint32_t id, tag;
};

struct chunk {
    struct entry entries[CHUNK];
    uint32_t count, next;
};

struct far {
    int64_t at_ns;
    struct entry entry;
};

/* order: how many were put before, then the id: a tie is broken by age, in one comparison. */
struct due {
    int64_t at_ns;
    uint64_t order;
};

struct slot {
    struct calendar_event event;
    uint32_t tag;
    int64_t at_ns;
    int64_t entry_ns; /* where its entry is: not after at_ns; NEVER: it has none */
    uint64_t order;   /* of a free slot: the next free one */
};

struct calendar {
    struct slot *slots;
    size_t nslots, slots_cap;
    uint32_t free_slot; /* or CALENDAR_EVENTS_MAX */
    uint64_t puts;
    int64_t bucket; /* the one that is open: its events are in due, from due_at */
    struct due *due;
    size_t due_at, ndue, due_cap;
    uint32_t *heads;  /* chunk by bucket, or NO_CHUNK */
    uint64_t *filled; /* bit by bucket: has one */
    struct chunk *chunks;
    size_t nchunks, chunks_cap;
    uint32_t free_chunk;
    struct far *far; /* a heap */
    size_t nfar, far_cap;
};

struct calendar *calendar_new(void)
{
    struct calendar *c = mem_alloc(sizeof(*c));

    c->free_slot = CALENDAR_EVENTS_MAX;
    c->free_chunk = NO_CHUNK;
    c->heads = mem_calloc(BUCKETS, sizeof(*c->heads));
    memset(c->heads, 0xff, BUCKETS * sizeof(*c->heads));
    c->filled = mem_calloc(BUCKETS / 64, sizeof(*c->filled));
    return c;
}

void calendar_free(struct calendar *c)
{
    if (c == NULL)
        return;
    free(c->slots);
    free(c->due);
    free(c->heads);
    free(c->filled);
    free(c->chunks);
    free(c->far);
    free(c);
}

/* ---- the heap ---- */

static void far_put(struct calendar *c, struct far f)
{
    size_t at = c->nfar;

    VEC_GROW(c->far, c->nfar, c->far_cap);
    c->nfar++;
    while (at > 0 && f.at_ns < c->far[(at - 1) / CHILDREN].at_ns) {
        c->far[at] = c->far[(at - 1) / CHILDREN];
        at = (at - 1) / CHILDREN;
    }
    c->far[at] = f;
}

static struct entry far_take(struct calendar *c)
{
    struct entry first = c->far[0].entry;
    struct far last = c->far[--c->nfar];
    size_t at = 0;

    for (;;) {
        size_t child = at * CHILDREN + 1, best = child;

        if (child >= c->nfar)
            break;
        for (size_t i = child + 1; i < child + CHILDREN && i < c->nfar; i++)
            if (c->far[i].at_ns < c->far[best].at_ns)
                best = i;
        if (c->far[best].at_ns >= last.at_ns)
            break;
        c->far[at] = c->far[best];
        at = best;
    }
    c->far[at] = last;
    return first;
}

/* ---- the wheel ---- */

static uint32_t take_chunk(struct calendar *c, uint32_t next)
{
    uint32_t id = c->free_chunk;

    if (id != NO_CHUNK) {
        c->free_chunk = c->chunks[id].next;
    } else {
        VEC_GROW(c->chunks, c->nchunks, c->chunks_cap);
        id = (uint32_t)c->nchunks++;
    }
    c->chunks[id].count = 0;
    c->chunks[id].next = next;
    return id;
}

static void wheel_put(struct calendar *c, int64_t bucket, struct entry e)
{
    size_t at = (size_t)bucket % BUCKETS;
    uint32_t *head = &c->heads[at];
    struct chunk *k;

    if (*head == NO_CHUNK || c->chunks[*head].count == CHUNK)
        *head = take_chunk(c, *head);
    c->filled[at / 64] |= (uint64_t)1 << at % 64;
    k = &c->chunks[*head];
    k->entries[k->count++] = e;
}

/* The next bucket after the open one that has an entry; INT64_MAX: none has. */
static int64_t next_filled(const struct calendar *c)
{
    size_t from = (size_t)(c->bucket + 1) % BUCKETS;
    uint64_t word = c->filled[from / 64] >> from % 64 << from % 64;

    for (size_t i = 0; i <= BUCKETS / 64; i++) {
        size_t at = (from / 64 + i) % (BUCKETS / 64);

        if (i > 0)
            word = c->filled[at];
        if (word != 0) {
            size_t bucket = at * 64 + (size_t)__builtin_ctzll(word);

            return c->bucket + 1 + (int64_t)((bucket + BUCKETS - from) % BUCKETS);
        }
    }
    return INT64_MAX;
}

/* ---- what is due ---- */

static bool before(const struct due *a, const struct due *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

/* Where among those that are still to come it is, or would be. */
static size_t due_find(const struct calendar *c, const struct due *d)
{
    size_t from = c->due_at, to = c->ndue;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (before(&c->due[middle], d))
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static void due_put(struct calendar *c, const struct due *d)
{
    size_t at = due_find(c, d);

    VEC_GROW(c->due, c->ndue, c->due_cap);
    memmove(c->due + at + 1, c->due + at, (c->ndue - at) * sizeof(*c->due));
    c->due[at] = *d;
    c->ndue++;
}

static void due_remove(struct calendar *c, const struct slot *s)
{
    size_t at = due_find(c, &(struct due){ s->at_ns, s->order });

    c->ndue--;
    memmove(c->due + at, c->due + at + 1, (c->ndue - at) * sizeof(*c->due));
}

static int64_t bucket_of(int64_t at_ns)
{
    return at_ns < 0 ? 0 : at_ns >> BUCKET_SHIFT;
}

static bool is_due(const struct calendar *c, const struct slot *s)
{
    return s->at_ns != CALENDAR_NEVER && bucket_of(s->at_ns) <= c->bucket;
}

/* Makes an entry for its time. */
static void enter(struct calendar *c, uint32_t id)
{
    struct slot *s = &c->slots[id];
    int64_t bucket = bucket_of(s->at_ns);
    struct entry e = { id, ++s->tag };

    s->entry_ns = s->at_ns;
    if (s->at_ns == CALENDAR_NEVER)
        return;
    if (bucket <= c->bucket)
        due_put(c, &(struct due){ s->at_ns, s->order });
    else if (bucket - c->bucket < BUCKETS)
        wheel_put(c, bucket, e);
    else
        far_put(c, (struct far){ s->at_ns, e });
}

/* Its bucket is open: the event is due, or was moved to a later time, or is another one. */
static void come_up(struct calendar *c, struct entry e)
{
    struct slot *s = &c->slots[e.id];

    if (s->tag == e.tag)
        enter(c, e.id);
}

static void empty_bucket(struct calendar *c, int64_t bucket)
{
    size_t at = (size_t)bucket % BUCKETS;
    uint32_t chunk = c->heads[at];

    c->heads[at] = NO_CHUNK;
    c->filled[at / 64] &= ~((uint64_t)1 << at % 64);
    for (uint32_t k = chunk; k != NO_CHUNK; k = c->chunks[k].next)
        for (uint32_t i = 0; i < c->chunks[k].count; i++)
            __builtin_prefetch(&c->slots[c->chunks[k].entries[i].id]);
    while (chunk != NO_CHUNK) {
        struct chunk k = c->chunks[chunk];

        c->chunks[chunk].next = c->free_chunk;
        c->free_chunk = chunk;
        chunk = k.next;
        for (uint32_t i = 0; i < k.count; i++)
            come_up(c, k.entries[i]);
    }
}

static bool open_next(struct calendar *c)
{
    int64_t near = next_filled(c), far = c->nfar > 0 ? bucket_of(c->far[0].at_ns) : INT64_MAX;
    int64_t bucket = near < far ? near : far;

    if (bucket == INT64_MAX)
        return false;
    c->bucket = bucket;
    c->due_at = c->ndue = 0;
    if (near == bucket)
        empty_bucket(c, bucket);
    while (c->nfar > 0 && bucket_of(c->far[0].at_ns) <= bucket)
        come_up(c, far_take(c));
    return true;
}

/* ---- events ---- */

static uint32_t take_slot(struct calendar *c)
{
    uint32_t id = c->free_slot;

    if (id != CALENDAR_EVENTS_MAX) {
        c->free_slot = (uint32_t)c->slots[id].order;
        return id;
    }
    assert(c->nslots < CALENDAR_EVENTS_MAX);
    VEC_GROW(c->slots, c->nslots, c->slots_cap);
    c->slots[c->nslots].tag = 0;
    return (uint32_t)c->nslots++;
}

/* What entries it has are of an event that is no more. */
static void give_slot(struct calendar *c, uint32_t id)
{
    c->slots[id].tag++;
    c->slots[id].order = c->free_slot;
    c->free_slot = id;
}

uint32_t calendar_put(struct calendar *c, int64_t at_ns, const struct calendar_event *e)
{
    uint32_t id = take_slot(c);
    struct slot *s = &c->slots[id];

    s->event = *e;
    s->at_ns = at_ns;
    s->order = c->puts++ << ID_BITS | id;
    enter(c, id);
    return id;
}

void calendar_move(struct calendar *c, uint32_t id, int64_t at_ns)
{
    struct slot *s = &c->slots[id];

    if (is_due(c, s)) {
        due_remove(c, s);
        s->entry_ns = CALENDAR_NEVER;
    }
    s->at_ns = at_ns;
    s->order = c->puts++ << ID_BITS | id;
    if (at_ns < s->entry_ns)
        enter(c, id);
}

void calendar_drop(struct calendar *c, uint32_t id)
{
    if (is_due(c, &c->slots[id]))
        due_remove(c, &c->slots[id]);
    give_slot(c, id);
}

bool calendar_next(struct calendar *c, int64_t *ret_at_ns, struct calendar_event *ret)
{
    uint32_t id;

    while (c->due_at == c->ndue)
        if (!open_next(c))
            return false;
    *ret_at_ns = c->due[c->due_at].at_ns;
    id = (uint32_t)(c->due[c->due_at++].order & (CALENDAR_EVENTS_MAX - 1));
    *ret = c->slots[id].event;
    give_slot(c, id);
    return true;
}

const struct calendar_event *calendar_peek(const struct calendar *c, size_t ahead)
{
    if (c->due_at + ahead >= c->ndue)
        return NULL;
    return &c->slots[c->due[c->due_at + ahead].order & (CALENDAR_EVENTS_MAX - 1)].event;
}
