#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/peer_internal.h"

/* ---- the queue of actions ---- */

struct peer_queued *peer_push(struct peer *p, enum peer_action_kind kind, const struct peer_view *v)
{
    VEC_GROW(p->actions, p->nactions, p->actions_cap);
    p->actions[p->nactions] =
        (struct peer_queued){ .kind = kind, .link = v->link->number, .pack = v->pack->number };
    return &p->actions[p->nactions++];
}

void peer_push_range(struct peer *p, enum peer_action_kind kind, struct peer_view *v,
                     uint32_t first, uint32_t count)
{
    struct peer_queued *q;

    if (kind == PEER_WANT || kind == PEER_GIVE)
        peer_tell_haves(p, v); /* in good company */
    q = peer_push(p, kind, v);
    q->first = first;
    q->count = count;
}

void peer_accuse(struct peer *p, const struct peer_view *v, const char *why)
{
    peer_push(p, PEER_ACCUSE, v)->why = why;
}

void peer_accuse_link(struct peer *p, const struct peer_link *l, const char *why)
{
    VEC_GROW(p->actions, p->nactions, p->actions_cap);
    p->actions[p->nactions++] =
        (struct peer_queued){ .kind = PEER_ACCUSE, .link = l->number, .pack = -1, .why = why };
}

static struct msg_index *room_for(struct peer *p, size_t leaves)
{
    if (p->leaves_cap < leaves) {
        p->leaves = mem_realloc(p->leaves, leaves * sizeof(*p->leaves));
        p->leaves_cap = leaves;
    }
    return p->leaves;
}

/* What has come since the last HAVE and the other side lacks. */
static size_t untold(struct peer *p, struct peer_view *v)
{
    const struct peer_pack *k = v->pack;
    size_t end = k->norder - v->tell_at > HAVES_MAX ? v->tell_at + HAVES_MAX : k->norder;
    struct msg_index *leaves = room_for(p, end - v->tell_at);
    size_t n = 0;

    for (size_t i = v->tell_at; i < end; i++) {
        leaves[n].index = k->order[i];
        n += !bitmap_get(&v->has, k->order[i]);
    }
    v->tell_at = (uint32_t)end;
    return n;
}

static bool fill_have(struct peer *p, struct peer_view *v, struct peer_action *a)
{
    size_t n = a->count;

    if (n == 0) {
        v->having = false;
        n = untold(p, v);
        if (v->tell_at < v->pack->norder)
            peer_tell_haves(p, v);
    } else {
        room_for(p, n);
        for (size_t i = 0; i < n; i++)
            p->leaves[i].index = a->first + (uint32_t)i;
    }
    a->leaves = p->leaves;
    a->count = (uint32_t)n;
    return n > 0;
}

static void fill_bitmap(struct peer *p, struct peer_view *v, struct peer_action *a)
{
    const struct peer_pack *k = v->pack;
    size_t len = bitmap_size(&k->have);

    v->telling = false;
    v->told = true;
    v->tell_at = (uint32_t)k->norder;
    a->bitmap = (struct bytes){ k->have.bytes, len };
    if (!k->shows)
        return;
    if (p->zeros_cap < len) { /* the rest by HAVE, piece by piece */
        free(p->zeros);
        p->zeros = mem_alloc(len);
        p->zeros_cap = len;
    }
    a->bitmap.data = p->zeros;
}

bool peer_next(struct peer *p, struct peer_action *ret)
{
    while (p->action_at < p->nactions) {
        const struct peer_queued *q = &p->actions[p->action_at++];
        struct peer_view *v;

        *ret = (struct peer_action){ .kind = q->kind,
                                     .link = q->link,
                                     .pack = q->pack,
                                     .first = q->first,
                                     .count = q->count,
                                     .code = q->code,
                                     .why = q->why };
        if (q->kind == PEER_ACTION_NONE)
            continue;
        if (q->kind != PEER_HAVE && q->kind != PEER_BITMAP)
            return true;
        v = peer_view_find(p->links[q->link], p->packs[q->pack]);
        if (v == NULL)
            continue;
        if (q->kind == PEER_BITMAP)
            fill_bitmap(p, v, ret);
        else if (!fill_have(p, v, ret))
            continue;
        return true;
    }
    p->action_at = p->nactions = 0;
    return false;
}

/* ---- what we have ---- */

void peer_tell_bitmap(struct peer *p, struct peer_view *v)
{
    if (v->telling)
        return;
    v->telling = true;
    peer_push(p, PEER_BITMAP, v);
}

void peer_tell_haves(struct peer *p, struct peer_view *v)
{
    if (v->having || !v->heard || !v->told || v->tell_at >= v->pack->norder)
        return;
    v->having = true;
    peer_push(p, PEER_HAVE, v);
}

/* Who wants no more of it, or hears of everybody, has time. */
static bool is_far(const struct peer_view *v)
{
    return v->to_node || bitmap_full(&v->has);
}

static void tell(struct peer *p, struct peer_pack *k, bool far)
{
    for (size_t i = 0; i < k->nviews; i++) {
        struct peer_view *v = k->views[i];

        if (is_far(v) == far)
            peer_tell_haves(p, v);
    }
}

void peer_tell_new(struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    if (k->tell_far_ms == 0)
        peer_wake(p, k->tell_far_ms = now_ms + PEER_NODE_HAVE_MS);
    if (peer_up_idles(p)) {
        tell(p, k, false);
        k->tell_ms = 0;
    } else if (k->tell_ms == 0) {
        peer_wake(p, k->tell_ms = now_ms + PEER_HAVE_MS);
    }
}

void peer_tell_due(struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    if (k->tell_ms > 0 && (k->tell_ms <= now_ms || peer_up_idles(p))) {
        tell(p, k, false);
        k->tell_ms = 0;
    }
    if (k->tell_far_ms > 0 && k->tell_far_ms <= now_ms) {
        tell(p, k, true);
        k->tell_far_ms = 0;
    }
    if (k->tell_ms > 0)
        peer_wake(p, k->tell_ms);
    if (k->tell_far_ms > 0)
        peer_wake(p, k->tell_far_ms);
}
