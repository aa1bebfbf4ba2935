#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/peer_internal.h"

/* ---- what others want ---- */

static void refuse(struct peer *p, struct peer_view *v, uint32_t first, uint32_t count,
                   enum err_code code)
{
    struct peer_queued *q = peer_push(p, PEER_REFUSE, v);

    q->first = first;
    q->count = count;
    q->code = code;
}

static bool have_range(const struct peer_pack *k, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!bitmap_get(&k->have, (size_t)first + i))
            return false;
    return true;
}

/* Each hop of a piece takes as many times its own time as are given at once: the fewer pieces, the more that
 * is of the whole. (By simulation: 5 for 64 pieces, 6 for 128, 8 for 256 and more.) */
void peer_up_set_most(struct peer *p)
{
    size_t most = 0;

    for (size_t i = 0; i < p->npacks; i++)
        if (p->packs[i]->used && peer_pieces(p->packs[i]) > most)
            most = peer_pieces(p->packs[i]);
    most = PEER_UPLOADS_LEAST + most / PEER_UPLOADS_PIECES;
    most = most < PEER_UPLOADS ? most : PEER_UPLOADS;
    p->most_uploads = p->o.is_node ? (most * 3 + 1) / 2 : most;
}

/* As few at a time as fill the uplink, for what a machine has whole it can pass on, and two halves it
 * cannot. At the beginning all downlinks are empty, and two are enough; later what a machine gets from
 * us shares its downlink with what it gets from others. */
static size_t uploads(const struct peer *p)
{
    size_t most = p->most_uploads;

    return p->gifts / PEER_UPLOADS_GIFTS + PEER_UPLOADS_FIRST < most
               ? (size_t)p->gifts / PEER_UPLOADS_GIFTS + PEER_UPLOADS_FIRST
               : most;
}

static size_t count_admitted(const struct peer *p, const struct peer_pack *k)
{
    size_t n = 0;

    LIST_EACH (&k->wanting, w)
        n += CONTAINER_OF(w, struct peer_view, wanting)->nwants;
    LIST_EACH (&p->serving, w) {
        const struct peer_view *v = peer_view_find(CONTAINER_OF(w, struct peer_link, serving), k);

        n += v != NULL && v->nwants == 0;
    }
    return n;
}

/* Who has most of those that wait for their first leaf. */
static struct peer_view *most_complete(const struct peer_pack *k)
{
    struct peer_view *most = NULL;

    LIST_EACH (&k->wanting, n) {
        struct peer_view *v = CONTAINER_OF(n, struct peer_view, wanting);

        if ((v->link->giving == 0 || v->nwants > 1) && (most == NULL || v->has.set > most->has.set))
            most = v;
    }
    return most;
}

/* A question that waits behind many is better asked of somebody else, at once: that of the most complete
 * machine goes. True: v's own is the one. */
static bool is_one_too_many(struct peer *p, const struct peer_view *v)
{
    struct peer_pack *k = v->pack;
    struct peer_view *most;
    struct peer_want w;

    if (p->o.is_node || count_admitted(p, k) < uploads(p) + PEER_WAITING)
        return false;
    most = most_complete(k);
    if (most == NULL || most->has.set <= v->has.set)
        return true;
    w = most->wants[most->nwants - 1];
    peer_up_cancel(p, most, w.first, w.count);
    refuse(p, most, w.first, w.count, ERR_AGAIN);
    return false;
}

void peer_up_want(struct peer *p, struct peer_view *v, uint32_t first, uint32_t count,
                  int64_t now_ms)
{
    struct peer_pack *k = v->pack;

    if (count == 0 || count > PIECE_LEAVES_MAX || !have_range(k, first, count)) {
        refuse(p, v, first, count, ERR_NOT_FOUND);
        return;
    }
    if (v->link->wanted + count > PEER_QUEUE_MAX || is_one_too_many(p, v)) {
        refuse(p, v, first, count, ERR_AGAIN);
        return;
    }
    VEC_GROW(v->wants, v->nwants, v->wants_cap);
    v->wants[v->nwants++] = (struct peer_want){ first, count };
    v->link->wanted += count;
    p->queued += count;
    if (k->shows)
        peer_show_wanted(v, first);
    if (list_empty(&k->wanting) && k->up_pass < p->up_now)
        k->up_pass = p->up_now; /* turns that it did not need are not saved up */
    if (v->nwants == 1)
        list_push(&k->wanting, &v->wanting);
    (void)peer_up_give(p, now_ms);
}

static void drop_want(struct peer_view *v, size_t i)
{
    v->nwants--;
    memmove(v->wants + i, v->wants + i + 1, (v->nwants - i) * sizeof(*v->wants));
    if (v->nwants == 0)
        list_remove(&v->wanting);
}

static void wants_less(struct peer *p, struct peer_view *v, uint32_t count)
{
    v->link->wanted -= count;
    p->queued -= count;
}

/* Takes the overlap out of one want; what is left on its far side is a want of its own. */
static void cut(struct peer *p, struct peer_view *v, size_t i, uint32_t first, uint32_t end)
{
    struct peer_want *w = &v->wants[i];
    uint32_t w_end = w->first + w->count;
    uint32_t from = first > w->first ? first : w->first, to = end < w_end ? end : w_end;

    wants_less(p, v, to - from);
    if (from == w->first) {
        w->first = to;
        w->count = w_end - to;
        if (w->count == 0)
            drop_want(v, i);
        return;
    }
    w->count = from - w->first;
    if (to == w_end)
        return;
    VEC_GROW(v->wants, v->nwants, v->wants_cap);
    v->wants[v->nwants++] = (struct peer_want){ to, w_end - to };
}

void peer_up_cancel(struct peer *p, struct peer_view *v, uint32_t first, uint32_t count)
{
    uint32_t end = count > UINT32_MAX - first ? UINT32_MAX : first + count;

    for (size_t i = v->nwants; i-- > 0;) {
        const struct peer_want *w = &v->wants[i];

        if (w->first < end && w->first + w->count > first)
            cut(p, v, i, first, end);
    }
}

void peer_up_drop(struct peer *p, struct peer_view *v)
{
    for (size_t i = 0; i < v->nwants; i++)
        wants_less(p, v, v->wants[i].count);
    v->nwants = 0;
    list_remove(&v->wanting);
}

/* ---- who is given something ---- */

static int64_t stuck_at_ms(const struct peer *p, const struct peer_link *l)
{
    double usual_ms = 4 * p->give_ms > PEER_STUCK_MS ? 4 * p->give_ms : PEER_STUCK_MS;

    return l->giving_ms + (p->give_ms > 0 ? (int64_t)usual_ms : PEER_STUCK_FIRST_MS);
}

bool peer_up_is_stuck(const struct peer *p, const struct peer_link *l, int64_t now_ms)
{
    return l->giving > 0 && stuck_at_ms(p, l) <= now_ms;
}

/* A link that takes what it is given too slowly does not hold up the others. Who was given something
 * first is the first to be stuck, and is at the head. */
static bool all_slots_taken(struct peer *p, int64_t now_ms)
{
    size_t taken = p->nserving;

    LIST_EACH (&p->serving, n) {
        int64_t until_ms = stuck_at_ms(p, CONTAINER_OF(n, struct peer_link, serving));

        if (taken < uploads(p))
            return false;
        if (until_ms > now_ms) {
            p->stuck_ms = until_ms;
            return true;
        }
        taken--;
    }
    return false;
}

/* The least complete comes first, which is what keeps the last machine close behind the first. Those
 * that have equally much take turns. A node chose when it showed: there the first comes first. */
static struct peer_view *next_view(const struct peer_pack *k)
{
    struct peer_view *best = NULL;

    LIST_EACH (&k->wanting, n) {
        struct peer_view *v = CONTAINER_OF(n, struct peer_view, wanting);

        if (v->link->giving > 0)
            continue;
        if (k->shows)
            return v;
        if (best == NULL || v->has.set < best->has.set ||
            (v->has.set == best->has.set && v->served < best->served))
            best = v;
    }
    return best;
}

static struct peer_view *next_to_serve(const struct peer *p)
{
    struct peer_view *best = NULL;

    for (size_t i = 0; i < p->npacks; i++) {
        const struct peer_pack *k = p->packs[i];
        struct peer_view *v;

        if (!k->used || list_empty(&k->wanting) ||
            (best != NULL && k->up_pass >= best->pack->up_pass))
            continue;
        v = next_view(k);
        if (v != NULL)
            best = v;
    }
    return best;
}

static bool may_send(struct peer *p, int64_t now_ms)
{
    int64_t wait_ms = bucket_wait_ms(&p->up, now_ms);

    if (wait_ms == 0)
        return true;
    peer_wake(p, now_ms + wait_ms);
    return false;
}

static void give(struct peer *p, struct peer_view *v, int64_t now_ms)
{
    struct peer_pack *k = v->pack;
    struct peer_link *l = v->link;
    uint32_t leaf = v->wants[0].first++;

    wants_less(p, v, 1);
    if (--v->wants[0].count == 0) {
        drop_want(v, 0);
        if (v->nwants > 0) { /* the next piece waits behind those of others */
            list_remove(&v->wanting);
            list_push(&k->wanting, &v->wanting);
        }
    }
    v->served = ++p->gifts;
    p->nserving += l->giving++ == 0;
    l->giving_ms = now_ms;
    list_remove(&l->serving);
    list_push(&p->serving, &l->serving);
    bucket_take(&p->up, k->leaf_bytes, now_ms);
    k->up_pass += (double)k->leaf_bytes / k->weight;
    p->up_now = k->up_pass;
    k->figures.given++;
    peer_push_range(p, PEER_GIVE, v, leaf, 1);
    if (k->shows) {
        peer_show_given(v, leaf);
        peer_show_more(p, k, now_ms);
    }
    peer_check_soon(p, now_ms);
}

bool peer_up_give(struct peer *p, int64_t now_ms)
{
    p->stuck_ms = -1;
    while (p->queued > 0 && !all_slots_taken(p, now_ms)) {
        struct peer_view *v = next_to_serve(p);

        if (v == NULL)
            return false;
        if (!may_send(p, now_ms))
            return false;
        give(p, v, now_ms);
    }
    return p->queued == 0;
}

void peer_up_sent(struct peer *p, struct peer_link *l, int64_t now_ms)
{
    double took_ms = (double)(now_ms - l->giving_ms);

    if (l->giving == 0)
        return;
    p->give_ms = p->give_ms > 0 ? p->give_ms * 0.9 + took_ms * 0.1 : took_ms;
    if (--l->giving > 0)
        return;
    list_remove(&l->serving);
    p->nserving--;
}

bool peer_up_idles(const struct peer *p)
{
    return p->queued < PEER_QUEUE_LOW;
}
