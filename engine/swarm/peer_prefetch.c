#include <stddef.h>

#include "base/prefetch.h"
#include "swarm/peer_internal.h"

/* A step of one machine among ten thousand finds nothing of it in the processor's caches, and each
 * pointer that it follows would cost as much as hundreds of its operations. So those who know what comes
 * have each hop brought before the next one needs it. */

enum { VIEWS_MAX = 16 };

static void bring_all_views(const struct peer_pack *k, int hop)
{
    for (size_t i = 0; i < k->nviews && i < VIEWS_MAX; i++) {
        const struct peer_view *v = k->views[i];

        if (hop == 4) {
            prefetch(v, offsetof(struct peer_view, wants));
        } else {
            prefetch(v->link, sizeof(*v->link));
            prefetch(v->has.bytes, k->rarity.words * sizeof(uint64_t));
        }
    }
}

static void bring_view(const struct peer_pack *k, const struct peer_link *l, int hop)
{
    if (l->nviews == 0)
        return;
    if (hop == 4)
        prefetch(l->views[0], sizeof(*l->views[0]));
    else
        prefetch(l->views[0]->has.bytes, k->rarity.words * sizeof(uint64_t));
}

static void bring_pack(const struct peer_pack *k, bool all)
{
    prefetch(k->rarity.planes, k->rarity.words * k->rarity.nplanes * sizeof(uint64_t));
    prefetch(k->todo, k->rarity.words * sizeof(*k->todo));
    prefetch(k->asked, k->nasked * sizeof(*k->asked));
    if (all)
        prefetch(k->views, VIEWS_MAX * sizeof(struct peer_view *));
}

void peer_prefetch(const struct peer *p, int link, int pack, bool all, int hop)
{
    const struct peer_pack *k = hop < 2 ? NULL : p->packs[pack];
    const struct peer_link *l = hop < 2 || link < 0 ? NULL : p->links[link];

    if (hop == 0) {
        prefetch(p, sizeof(*p));
    } else if (hop == 1) {
        prefetch(&p->packs[pack], sizeof(struct peer_pack *));
        prefetch(p->actions, PREFETCH_LINE);
        if (link >= 0)
            prefetch(&p->links[link], sizeof(struct peer_link *));
    } else if (hop == 2) {
        prefetch(k, sizeof(*k));
        if (l != NULL)
            prefetch(l, sizeof(*l));
    } else if (hop == 3) {
        bring_pack(k, all);
        if (l != NULL && l->nviews > 0)
            prefetch(l->views, sizeof(struct peer_view *));
    } else if (all) {
        bring_all_views(k, hop);
    } else if (l != NULL) {
        bring_view(k, l, hop);
    }
}
