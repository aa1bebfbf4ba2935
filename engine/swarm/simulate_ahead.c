#include "base/prefetch.h"
#include "swarm/simulate_internal.h"

/* What the events that come next will touch is brought into the caches, see peer_prefetch(): the edge
 * first, which names the host, which has the peer core. The further an event is away, the earlier the
 * hop. */

enum { STRIDE = 2 };

static bool is_of_edge(const struct calendar_event *e)
{
    return e->kind == SIM_SENT || e->kind == SIM_LEAF || e->kind == SIM_VERIFIED ||
           e->kind == SIM_MESSAGE;
}

/* Something may be asked of every link, or said to it. */
static bool is_of_all_links(const struct sim *s, const struct calendar_event *e)
{
    return e->kind == SIM_TICK || e->kind == SIM_LEAF || e->kind == SIM_VERIFIED ||
           (e->kind == SIM_MESSAGE && s->messages[e->c].event.kind == PEER_ON_REFUSE);
}

static void bring_place(const struct sim *s, const struct calendar_event *e)
{
    if (is_of_edge(e))
        prefetch(&s->edges[e->a / 2], sizeof(struct sim_edge));
    else if (e->kind == SIM_TICK)
        prefetch(&s->hosts[e->a], sizeof(struct sim_host));
}

static void bring_host(const struct sim *s, const struct calendar_event *e)
{
    if (is_of_edge(e))
        prefetch(&s->hosts[s->edges[e->a / 2].host[e->a % 2]], sizeof(struct sim_host));
}

static void bring_peer(const struct sim *s, const struct calendar_event *e, int hop)
{
    const struct sim_host *h = NULL;
    int link = -1;

    if (e->kind == SIM_TICK) {
        h = &s->hosts[e->a];
    } else if (is_of_edge(e) && s->edges[e->a / 2].open) {
        h = &s->hosts[s->edges[e->a / 2].host[e->a % 2]];
        link = s->edges[e->a / 2].link[e->a % 2];
    }
    if (h != NULL && h->peer != NULL)
        peer_prefetch(h->peer, link, h->pack, is_of_all_links(s, e), hop);
}

void ahead_look(const struct sim *s)
{
    for (int stage = 0; stage < PEER_HOPS + 2; stage++) {
        const struct calendar_event *e =
            calendar_peek(s->calendar, (size_t)(PEER_HOPS + 2 - stage) * STRIDE);

        if (e == NULL)
            continue;
        if (stage == 0)
            bring_place(s, e);
        else if (stage == 1)
            bring_host(s, e);
        else
            bring_peer(s, e, stage - 2);
    }
}
