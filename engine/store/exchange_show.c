#include "base/log.h"
#include "store/exchange_internal.h"

void show_peer_begin(struct exchange_pack *p, struct exchange_link *l, struct link_pack *lp,
                     const struct msg_bitmap *m)
{
    if (lp->peer < 0)
        return;
    if (lp->shown < 0 && lp->told)
        return; /* it was told all that is here */
    if (lp->shown < 0)
        lp->shown = seeding_peer_add(p->seeding);
    if (lp->shown < 0)
        return;
    p->shown_to[lp->shown] = l;
    for (size_t i = 0; i < m->bitmap.len * 8; i++)
        if ((m->bitmap.data[i / 8] & 1u << i % 8) != 0)
            seeding_has(p->seeding, lp->shown, i);
}

void show_peer_end(struct exchange_pack *p, struct link_pack *lp)
{
    if (lp->shown < 0)
        return;
    seeding_peer_remove(p->seeding, lp->shown);
    p->shown_to[lp->shown] = NULL;
    lp->shown = -1;
    show_more(p);
}

void show_given(struct exchange_pack *p, struct exchange_link *l, uint32_t leaf)
{
    struct link_pack *lp = link_pack_find(l, &p->hash);

    if (lp == NULL || lp->shown < 0)
        return;
    seeding_given(p->seeding, lp->shown, leaf);
    show_more(p);
}

static void show(struct exchange_pack *p, struct exchange_link *l, size_t first, size_t count)
{
    struct msg_index leaves[PIECE_LEAVES_MAX];
    struct msg_have m = { p->hash, { leaves, count } };
    struct err err = ERR_INIT;

    for (size_t i = 0; i < count; i++)
        leaves[i].index = (uint32_t)(first + i);
    if (link_send(l->link, MSG_HAVE, &m, &err) < 0)
        log_debug("show a piece to %s: %s", link_peer_id(l->link), err.text);
}

void show_more(struct exchange_pack *p)
{
    size_t first, count;
    int to;

    while (p->seeding != NULL &&
           seeding_show(p->seeding, loop_now_ms(p->loop), &to, &first, &count))
        show(p, p->shown_to[to], first, count);
}

void show_idle(struct exchange *x)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&x->packs, &i)) != NULL;) {
        struct exchange_pack *p = e->value;

        if (p->seeding == NULL || p->idle_ms == loop_now_ms(x->o.loop))
            continue;
        p->idle_ms = loop_now_ms(x->o.loop);
        seeding_starves(p->seeding);
        show_more(p);
    }
}
