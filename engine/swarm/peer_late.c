#include "swarm/peer_internal.h"

/* Leaves that come although no question waits for them any more. */

void peer_late_note(struct peer_view *v, uint32_t leaf)
{
    struct peer_link *l = v->link;

    l->late++;
    l->taken[l->taken_at++ % PEER_TAKEN] = (struct peer_taken){ leaf, v->pack->number + 1 };
}

bool peer_late_is_answer(struct peer_link *l, const struct peer_pack *k, uint32_t leaf)
{
    for (size_t i = 0; i < PEER_TAKEN; i++) {
        if (l->taken[i].pack != k->number + 1 || l->taken[i].leaf != leaf)
            continue;
        l->taken[i].pack = 0;
        return true;
    }
    return false;
}

bool peer_late_may_come(struct peer *p, struct peer_link *l, const struct peer_view *v)
{
    static const char why[] = "leaves that nobody asked it for";

    if (l->late > 0) {
        l->late--;
        return true;
    }
    if (++l->unasked < PEER_UNASKED_MAX)
        return false;
    l->unasked = 0;
    if (v != NULL)
        peer_accuse(p, v, why);
    else
        peer_accuse_link(p, l, why);
    return false;
}
