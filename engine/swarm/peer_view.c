#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/peer_internal.h"

struct peer_view *peer_view_find(const struct peer_link *l, const struct peer_pack *k)
{
    for (size_t i = 0; i < l->nviews; i++)
        if (l->views[i]->pack == k)
            return l->views[i];
    return NULL;
}

static void insert_view(struct peer_pack *k, struct peer_view *v, size_t at)
{
    VEC_GROW(k->views, k->nviews, k->views_cap);
    memmove(k->views + at + 1, k->views + at, (k->nviews - at) * sizeof(struct peer_view *));
    k->views[at] = v;
    k->nviews++;
}

static void remove_view(struct peer_pack *k, const struct peer_view *v)
{
    size_t at = --k->nviews;

    while (k->views[at] != v)
        at--;
    memmove(k->views + at, k->views + at + 1, (k->nviews - at) * sizeof(struct peer_view *));
}

struct peer_view *peer_view_get(struct peer *p, struct peer_link *l, struct peer_pack *k)
{
    struct peer_view *v = peer_view_find(l, k);

    if (v != NULL)
        return v;
    v = mem_alloc(sizeof(*v));
    v->link = l;
    v->pack = k;
    v->to_node = l->to_node;
    v->window = PEER_NODE_ASKS;
    v->served = p->gifts;
    bitmap_init(&v->has, k->leaves);
    list_init(&v->wanting);
    insert_view(k, v, l->to_node ? 0 : k->nviews);
    VEC_GROW(l->views, l->nviews, l->views_cap);
    l->views[l->nviews++] = v;
    return v;
}

void peer_view_free(struct peer *p, struct peer_view *v)
{
    struct peer_link *l = v->link;

    peer_down_drop(p, v);
    peer_up_drop(p, v);
    if (v->pack->shows)
        peer_show_end(v);
    rarity_remove_all(&v->pack->rarity, &v->has);
    bitmap_release(&v->has);
    remove_view(v->pack, v);
    v->pack->nslow -= v->slow;
    for (size_t i = 0; i < l->nviews; i++)
        if (l->views[i] == v)
            l->views[i] = l->views[--l->nviews];
    free(v->wants);
    free(v);
}
