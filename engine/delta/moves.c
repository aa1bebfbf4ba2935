#include "delta/moves.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct claim {
    uint64_t from, to; /* of the base */
    uint64_t t;
};

static int by_base(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;

    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->t < y->t ? -1 : x->t > y->t;
}

static bool stronger(const struct claim *a, const struct claim *b)
{
    uint64_t la = a->to - a->from, lb = b->to - b->from;

    return la != lb ? la > lb : a->t < b->t;
}

/* A heap of claims, the strongest on top. */
struct heap {
    const struct claim **items;
    size_t count;
};

static void push(struct heap *h, const struct claim *c)
{
    size_t i = h->count++;

    while (i > 0 && stronger(c, h->items[(i - 1) / 2])) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = c;
}

static void pop(struct heap *h)
{
    const struct claim *last = h->items[--h->count];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= h->count)
            break;
        if (child + 1 < h->count && stronger(h->items[child + 1], h->items[child]))
            child++;
        if (!stronger(h->items[child], last))
            break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = last;
}

static void emit(struct moves *m, uint64_t from, const struct claim *c)
{
    int64_t shift = (int64_t)(c->t - c->from);

    if (m->count > 0 && m->items[m->count - 1].shift == shift)
        return;
    if (m->count > 0 && m->items[m->count - 1].from == from)
        m->count--;
    m->items[m->count++] = (struct interval){ from, shift };
}

void moves_init(struct moves *m, const struct cover *covers, size_t count)
{
    struct claim *claims = mem_calloc(count + 1, sizeof(*claims));
    struct heap heap = { mem_calloc(count + 1, sizeof(*heap.items)), 0 };
    uint64_t at = 0;
    size_t next = 0;

    /* Every claim begins and ends an interval at most once. */
    m->items = mem_calloc(2 * count + 1, sizeof(*m->items));
    m->count = 0;
    for (size_t i = 0; i < count; i++)
        claims[i] = (struct claim){ covers[i].s, covers[i].s + covers[i].length, covers[i].t };
    qsort(claims, count, sizeof(*claims), by_base);
    while (next < count || heap.count > 0) {
        while (heap.count > 0 && heap.items[0]->to <= at)
            pop(&heap);
        if (heap.count == 0) {
            if (next == count)
                break;
            at = claims[next].from;
        }
        while (next < count && claims[next].from <= at)
            push(&heap, &claims[next++]);
        emit(m, at, heap.items[0]);
        at = next < count && claims[next].from < heap.items[0]->to ? claims[next].from
                                                                   : heap.items[0]->to;
    }
    free(claims);
    free(heap.items);
    m->items = mem_realloc(m->items, (m->count + 1) * sizeof(*m->items));
}

void moves_release(struct moves *m)
{
    free(m->items);
    *m = (struct moves){ NULL, 0 };
}

uint64_t moves_at(const struct moves *m, uint64_t at)
{
    size_t low = 0, high = m->count;

    if (m->count == 0)
        return at;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (m->items[middle].from <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return at + (uint64_t)m->items[low == 0 ? 0 : low - 1].shift;
}
