#include <stdio.h>
#include <stdlib.h>

#include "swarm/simulate_internal.h"

enum { NAME = 16 };

static const char *name_of(uint32_t host, char name[NAME])
{
    snprintf(name, NAME, "m%u", host);
    return name;
}

static void tell_later(struct sim *s)
{
    int64_t at_ms;

    if (!s->telling) {
        s->telling = true;
        sim_put(s, s->now_ns + (int64_t)SIMULATE_TELL_MS * NS_PER_MS, SIM_TELL, 0, 0, 0, 0);
    }
    at_ms = tracker_next_ms(s->tracker);
    if (at_ms >= 0 && !s->tracking) {
        s->tracking = true;
        sim_put(s, (at_ms + 1) * NS_PER_MS, SIM_TRACK, 0, 0, 0, 0);
    }
}

static void tell(struct sim *s, const char *name)
{
    uint32_t host = (uint32_t)strtoul(name + 1, NULL, 10);

    sim_put(s, s->now_ns + s->o->far_ns, SIM_PEERS, host, 0, 0, 0);
}

void graph_ask(struct sim *s, uint32_t host)
{
    const struct sim_host *h = &s->hosts[host];
    char name[NAME], rack[NAME];
    struct tracker_event e = { .kind = TRACKER_JOIN, .peer = name_of(host, name) };
    const char *first;

    if (!edges_reach(s, host, s->node))
        return;
    if (s->o->rack > 0)
        snprintf(rack, sizeof(rack), "r%u", h->rack);
    e.rack = s->o->rack > 0 ? rack : NULL;
    e.some = peer_pack_has(h->peer, h->pack)->set > 0;
    e.complete = h->done;
    tracker_step(s->tracker, &e, sim_ms(s));
    first = tracker_changed(s->tracker); /* who joined hears at once */
    if (first != NULL)
        tell(s, first);
    tell_later(s);
}

void graph_lost(struct sim *s, uint32_t host)
{
    char name[NAME];
    struct tracker_event e = { .kind = TRACKER_LOST, .peer = name_of(host, name) };

    tracker_step(s->tracker, &e, sim_ms(s));
    tell_later(s);
}

void graph_track(struct sim *s)
{
    s->tracking = false;
    tracker_step(s->tracker, &(struct tracker_event){ .kind = TRACKER_TICK }, sim_ms(s));
    tell_later(s);
}

void graph_tell(struct sim *s)
{
    const char *name;

    s->telling = false;
    while ((name = tracker_changed(s->tracker)) != NULL)
        tell(s, name);
}

void graph_peers(struct sim *s, uint32_t host)
{
    struct sim_host *h = &s->hosts[host];
    const char *names[TRACKER_DEGREE_MAX];
    char name[NAME];
    uint32_t at;

    if (!edges_reach(s, host, s->node))
        return;
    h->nwanted = tracker_peers(s->tracker, name_of(host, name), names);
    for (size_t i = 0; i < h->nwanted; i++) {
        h->wanted[i] = (uint32_t)strtoul(names[i] + 1, NULL, 10);
        if (!edge_find(s, host, h->wanted[i], &at) && edges_reach(s, host, h->wanted[i]))
            edge_begin(s, host, h->wanted[i]);
    }
    if (!h->looking) {
        h->looking = true;
        sim_put(s, s->now_ns + (int64_t)SIMULATE_LOOK_MS * NS_PER_MS, SIM_LOOK, host, 0, 0, 0);
    }
}

static bool is_wanted(const struct sim_host *h, uint32_t other)
{
    for (size_t i = 0; i < h->nwanted; i++)
        if (h->wanted[i] == other)
            return true;
    return false;
}

/* A machine closes the links that it opened itself and that the tracker names no more. */
void graph_look(struct sim *s, uint32_t host)
{
    struct sim_host *h = &s->hosts[host];

    h->looking = false;
    if (h->peer == NULL)
        return;
    for (size_t i = h->nats; i-- > 0;) {
        const struct sim_edge *e = &s->edges[h->ats[i] / 2];

        if (i < h->nats && e->host[0] == host && e->open && !is_wanted(h, e->host[1]))
            edge_close(s, h->ats[i] / 2);
    }
}
