#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "swarm/simulate_internal.h"

void host_start(struct sim *s, uint32_t host, bool complete)
{
    struct sim_host *h = &s->hosts[host];
    struct peer_options options = { .seed = sim_random(s), .is_node = complete };
    struct peer_pack_options pack = { .leaves = s->o->pieces,
                                      .piece_leaves = 1,
                                      .leaf_bytes = (uint32_t)(s->o->bytes / s->o->pieces),
                                      .complete = complete };

    h->peer = peer_new(&options);
    h->pack = peer_pack_open(h->peer, &pack, sim_ms(s));
    host_drain(s, host);
}

/* It has a link to the node already, as machines have when a goal reaches them. */
void host_join(struct sim *s, uint32_t host)
{
    struct sim_host *h = &s->hosts[host];

    if (h->dead)
        return;
    h->joined_ns = s->now_ns;
    host_start(s, host, false);
    if (!edges_reach(s, host, s->node))
        return; /* when the partition ends */
    edge_open_now(s, s->node, host);
    sim_put(s, s->now_ns + s->o->far_ns, SIM_ASK, host, 0, 0, 0);
}

void host_count(struct sim *s, struct sim_host *h)
{
    struct peer_figures f = peer_pack_figures(h->peer, h->pack);

    s->r->stolen += f.stolen;
    s->r->doubled += f.doubled;
    s->r->useless += f.useless;
}

void host_release(struct sim_host *h)
{
    peer_free(h->peer);
    h->peer = NULL;
    free(h->ats);
    free(h->by_link);
}

void host_die(struct sim *s, uint32_t host)
{
    struct sim_host *h = &s->hosts[host];

    h->dead = true;
    if (h->peer == NULL)
        return; /* it never joined */
    s->r->died += !h->done;
    for (size_t i = 0; i < h->nats; i++)
        edge_lose(s, h->ats[i] / 2);
    host_count(s, h);
    peer_free(h->peer);
    h->peer = NULL;
    sim_put(s, s->now_ns + s->o->notice_ns, SIM_NOTICE, host, 0, 0, 0);
}

void host_noticed(struct sim *s, uint32_t host)
{
    while (s->hosts[host].nats > 0)
        edge_close(s, s->hosts[host].ats[0] / 2);
    graph_lost(s, host);
}

static void done(struct sim *s, struct sim_host *h, uint32_t host)
{
    if (h->done || h->is_node)
        return;
    h->done = true;
    h->done_ns = s->now_ns;
    if (!h->dies)
        s->waiting--;
    sim_put(s, s->now_ns + s->o->far_ns, SIM_ASK, host, 0, 0, 0);
}

static void say(struct sim *s, uint32_t at, enum peer_event_kind kind, const struct peer_action *a)
{
    struct peer_event e = {
        .kind = kind, .first = a->first, .count = a->count, .code = a->code, .bitmap = a->bitmap
    };

    if (kind == PEER_ON_BITMAP)
        edge_say(s, at, &e, a->bitmap.data, a->bitmap.len);
    else if (kind == PEER_ON_HAVE)
        edge_say(s, at, &e, a->leaves, a->count * sizeof(*a->leaves));
    else
        edge_say(s, at, &e, NULL, 0);
}

static void act(struct sim *s, uint32_t host, const struct peer_action *a)
{
    struct sim_host *h = &s->hosts[host];
    uint32_t at = a->kind == PEER_DONE ? 0 : h->by_link[a->link];

    switch (a->kind) {
    case PEER_BITMAP:
        say(s, at, PEER_ON_BITMAP, a);
        break;
    case PEER_HAVE:
        say(s, at, PEER_ON_HAVE, a);
        break;
    case PEER_WANT:
        say(s, at, PEER_ON_WANT, a);
        break;
    case PEER_CANCEL:
        say(s, at, PEER_ON_CANCEL, a);
        break;
    case PEER_REFUSE:
        say(s, at, PEER_ON_REFUSE, a);
        break;
    case PEER_GIVE:
        edge_give(s, at, a->first);
        break;
    case PEER_DONE:
        done(s, h, host);
        break;
    case PEER_ACCUSE: /* all of them are honest here */
    case PEER_ACTION_NONE:
        assert(false);
    }
}

/* When its core wants to hear of the time again. */
static void set_tick(struct sim *s, uint32_t host)
{
    struct sim_host *h = &s->hosts[host];
    int64_t ms = peer_next_ms(h->peer), at_ns = CALENDAR_NEVER;

    if (ms >= 0)
        at_ns = ms * NS_PER_MS > s->now_ns ? ms * NS_PER_MS : s->now_ns + 1;
    if (h->ticking && at_ns == h->tick_ns)
        return;
    h->tick_ns = at_ns;
    if (h->ticking) {
        calendar_move(s->calendar, h->tick, at_ns);
        return;
    }
    h->ticking = true;
    h->tick = calendar_put(s->calendar, at_ns, &(struct calendar_event){ SIM_TICK, host, 0, 0, 0 });
}

void host_drain(struct sim *s, uint32_t host)
{
    struct peer_action a;

    while (peer_next(s->hosts[host].peer, &a))
        act(s, host, &a);
    set_tick(s, host);
}

void host_tick(struct sim *s, uint32_t host)
{
    s->hosts[host].ticking = false;
    if (s->hosts[host].peer != NULL)
        host_hears(s, host, &(struct peer_event){ .kind = PEER_TICK });
}

void host_hears(struct sim *s, uint32_t host, const struct peer_event *e)
{
    peer_step(s->hosts[host].peer, e, sim_ms(s));
    host_drain(s, host);
}

void host_verified(struct sim *s, const struct calendar_event *event)
{
    const struct sim_edge *e = &s->edges[event->a / 2];
    struct sim_host *h = &s->hosts[event->d];
    bool closed = e->generation != event->b;

    if (h->peer == NULL)
        return;
    s->verified++;
    host_hears(s, event->d,
               &(struct peer_event){ .kind = PEER_VERIFIED,
                                     .link = closed ? -1 : e->link[event->a % 2],
                                     .pack = h->pack,
                                     .first = event->c,
                                     .count = 1 });
}
