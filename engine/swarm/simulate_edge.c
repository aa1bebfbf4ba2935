#include <string.h>

#include "base/mem.h"
#include "swarm/simulate_internal.h"

enum {
    HANDSHAKE_TRIPS = 6, /* one way each: TCP, TLS 1.3, HELLO */
    PART_BYTES = 65536,  /* of a leaf, that the kernel takes at a time */
};

static struct sim_edge *edge_of(struct sim *s, uint32_t at)
{
    return &s->edges[at / 2];
}

bool edges_reach(const struct sim *s, uint32_t a, uint32_t b)
{
    return s->hosts[a].peer != NULL && s->hosts[b].peer != NULL &&
           (!s->is_cut || s->hosts[a].cut == s->hosts[b].cut);
}

bool edge_find(const struct sim *s, uint32_t a, uint32_t b, uint32_t *ret_at)
{
    const struct sim_host *h = &s->hosts[a];

    for (size_t i = 0; i < h->nats; i++) {
        if (s->edges[h->ats[i] / 2].host[h->ats[i] % 2 ^ 1] != b)
            continue;
        *ret_at = h->ats[i];
        return true;
    }
    return false;
}

static uint32_t take_edge(struct sim *s)
{
    if (s->nfree_edges > 0)
        return s->free_edges[--s->nfree_edges];
    VEC_GROW(s->edges, s->nedges, s->edges_cap);
    s->edges[s->nedges] = (struct sim_edge){ .generation = 0 };
    return (uint32_t)s->nedges++;
}

static bool is_near(const struct sim *s, uint32_t a, uint32_t b)
{
    return !s->hosts[a].is_node && !s->hosts[b].is_node && s->hosts[a].rack == s->hosts[b].rack;
}

static uint32_t edge_new(struct sim *s, uint32_t from, uint32_t to)
{
    uint32_t edge = take_edge(s);
    struct sim_edge *e = &s->edges[edge];

    *e = (struct sim_edge){ .host = { from, to }, .generation = e->generation + 1 };
    e->transfer[0] = e->transfer[1] = NO_TRANSFER;
    e->delay_ns = is_near(s, from, to) ? s->o->near_ns : s->o->far_ns;
    for (uint32_t side = 0; side < 2; side++) {
        struct sim_host *h = &s->hosts[e->host[side]];

        VEC_GROW(h->ats, h->nats, h->ats_cap);
        h->ats[h->nats++] = edge * 2 + side;
    }
    return edge;
}

static void open_side(struct sim *s, uint32_t at)
{
    struct sim_edge *e = edge_of(s, at);
    struct sim_host *h = &s->hosts[e->host[at % 2]];
    int link = peer_link_open(h->peer, s->hosts[e->host[at % 2 ^ 1]].is_node, sim_ms(s));

    e->link[at % 2] = link;
    while (h->by_link_cap <= (size_t)link)
        VEC_GROW(h->by_link, h->by_link_cap, h->by_link_cap);
    h->by_link[link] = at;
}

static void open_both(struct sim *s, uint32_t edge)
{
    struct sim_edge *e = &s->edges[edge];

    e->open = true;
    open_side(s, edge * 2);
    open_side(s, edge * 2 + 1);
    host_drain(s, e->host[0]);
    host_drain(s, s->edges[edge].host[1]);
}

void edge_begin(struct sim *s, uint32_t from, uint32_t to)
{
    uint32_t edge = edge_new(s, from, to);
    const struct sim_edge *e = &s->edges[edge];

    sim_put(s, s->now_ns + s->o->handshake_ns + HANDSHAKE_TRIPS * e->delay_ns, SIM_OPEN, edge,
            e->generation, 0, 0);
}

void edge_open_now(struct sim *s, uint32_t from, uint32_t to)
{
    open_both(s, edge_new(s, from, to));
}

static void forget(struct sim *s, uint32_t host, uint32_t at)
{
    struct sim_host *h = &s->hosts[host];

    for (size_t i = 0; i < h->nats; i++) {
        if (h->ats[i] == at) {
            h->ats[i] = h->ats[--h->nats];
            return;
        }
    }
}

static void give_message_back(struct sim *s, uint32_t message)
{
    VEC_GROW(s->free_messages, s->nfree_messages, s->free_messages_cap);
    s->free_messages[s->nfree_messages++] = message;
}

void edge_lose(struct sim *s, uint32_t edge)
{
    struct sim_edge *e = &s->edges[edge];

    e->lost = true;
    for (int side = 0; side < 2; side++) {
        if (e->transfer[side] != NO_TRANSFER)
            network_break(s->network, e->transfer[side], s->now_ns);
        e->transfer[side] = NO_TRANSFER;
    }
}

void edge_close(struct sim *s, uint32_t edge)
{
    struct sim_edge *e = &s->edges[edge];
    uint32_t host[2] = { e->host[0], e->host[1] };
    int link[2] = { e->link[0], e->link[1] };
    bool open = e->open;

    edge_lose(s, edge);
    forget(s, host[0], edge * 2);
    forget(s, host[1], edge * 2 + 1);
    e->generation++;
    VEC_GROW(s->free_edges, s->nfree_edges, s->free_edges_cap);
    s->free_edges[s->nfree_edges++] = edge;
    for (int side = 0; open && side < 2; side++) {
        if (s->hosts[host[side]].peer == NULL)
            continue;
        peer_link_close(s->hosts[host[side]].peer, link[side], sim_ms(s));
        host_drain(s, host[side]);
    }
}

void edge_opened(struct sim *s, uint32_t edge, uint32_t generation)
{
    struct sim_edge *e = &s->edges[edge];

    if (e->generation != generation)
        return;
    if (edges_reach(s, e->host[0], e->host[1]))
        open_both(s, edge);
    else
        edge_close(s, edge);
}

/* ---- pieces: one after the other on a link, side by side on different ones ---- */

static void start_next(struct sim *s, uint32_t at)
{
    struct sim_edge *e = edge_of(s, at);
    unsigned side = at % 2;
    struct calendar_event sent = { SIM_SENT, at, 0, e->leaves[side][0], 0 };

    e->transfer[side] = network_start(s->network, e->host[side], e->host[side ^ 1], s->wire_bytes,
                                      s->now_ns, &sent);
}

/* A link that is stuck takes a few more leaves into its buffers, then no more. */
void edge_give(struct sim *s, uint32_t at, uint32_t leaf)
{
    struct sim_edge *e = edge_of(s, at);
    unsigned side = at % 2;

    if (e->nleaves[side] == EDGE_QUEUE)
        return;
    e->leaves[side][e->nleaves[side]++] = leaf;
    if (e->nleaves[side] == 1 && !e->lost)
        start_next(s, at);
}

static void count_sent(struct sim *s, const struct sim_edge *e, unsigned side)
{
    const struct sim_host *from = &s->hosts[e->host[side]], *to = &s->hosts[e->host[side ^ 1]];
    double bytes = s->o->bytes / s->o->pieces;

    s->r->sent_bytes += bytes;
    if (!from->is_node && from->rack != to->rack)
        s->r->far_bytes += bytes;
}

/* What stands in the queues of links that are full: before the sender's uplink and before the receiver's
 * downlink. */
static int64_t queued_ns(const struct sim *s, const struct sim_edge *e, unsigned side)
{
    if (s->o->queue_ns == 0)
        return 0;
    return s->o->queue_ns * (network_is_full(s->network, e->host[side], NETWORK_UP) +
                             network_is_full(s->network, e->host[side ^ 1], NETWORK_DOWN));
}

/* A leaf is sent in parts, and messages pass between them; what the link has taken already goes first. */
static int64_t part_ns(const struct sim *s, const struct sim_edge *e, unsigned side)
{
    double rate =
        e->transfer[side] == NO_TRANSFER ? 0 : network_rate(s->network, e->transfer[side]);

    return rate > 0 ? (int64_t)(PART_BYTES / 2 / rate * 1e9) : 0;
}

static void send_message(struct sim *s, uint32_t at, uint32_t message)
{
    struct sim_edge *e = edge_of(s, at);
    unsigned side = at % 2;
    int64_t at_ns = s->now_ns + e->delay_ns + queued_ns(s, e, side) + part_ns(s, e, side);

    if (at_ns < e->said_ns[side])
        at_ns = e->said_ns[side];
    e->said_ns[side] = at_ns;
    sim_put(s, at_ns, SIM_MESSAGE, at ^ 1, e->generation, message, 0);
}

/* The calendar only has transfers of open edges: these are broken off before an edge is closed. */
void edge_sent(struct sim *s, const struct calendar_event *event)
{
    uint32_t at = event->a, leaf = event->c;
    struct sim_edge *e = edge_of(s, at);
    unsigned side = at % 2;
    uint32_t host = e->host[side];
    int64_t wait_ns = queued_ns(s, e, side);

    network_finish(s->network, event->d, s->now_ns);
    e->transfer[side] = NO_TRANSFER;
    count_sent(s, e, side);
    sim_put(s, s->now_ns + e->delay_ns + wait_ns, SIM_LEAF, at ^ 1, e->generation, leaf, 0);
    memmove(e->leaves[side], e->leaves[side] + 1, --e->nleaves[side] * sizeof(e->leaves[0][0]));
    if (e->nleaves[side] > 0)
        start_next(s, at);
    host_hears(s, host,
               &(struct peer_event){ .kind = PEER_SENT,
                                     .link = e->link[side],
                                     .pack = s->hosts[host].pack,
                                     .first = leaf,
                                     .count = 1 });
}

void edge_leaf(struct sim *s, const struct calendar_event *event)
{
    const struct sim_edge *e = edge_of(s, event->a);
    uint32_t host = e->host[event->a % 2];
    struct sim_host *h = &s->hosts[host];
    double ns = s->o->bytes / s->o->pieces / s->o->verify * 1e9;

    if (e->generation != event->b || e->lost || h->peer == NULL)
        return;
    s->r->transfers++;
    if (peer_takes(h->peer, e->link[event->a % 2], h->pack, event->c, sim_ms(s))) {
        if (h->disk_free_ns < s->now_ns)
            h->disk_free_ns = s->now_ns;
        h->disk_free_ns += (int64_t)ns;
        sim_put(s, h->disk_free_ns, SIM_VERIFIED, event->a, event->b, event->c, host);
    }
    host_drain(s, host);
}

/* ---- messages ---- */

static uint32_t take_message(struct sim *s)
{
    if (s->nfree_messages > 0)
        return s->free_messages[--s->nfree_messages];
    VEC_GROW(s->messages, s->nmessages, s->messages_cap);
    s->messages[s->nmessages] = (struct sim_message){ .payload = NULL };
    return (uint32_t)s->nmessages++;
}

void edge_say(struct sim *s, uint32_t at, const struct peer_event *e, const void *payload,
              size_t len)
{
    uint32_t id;
    struct sim_message *m;

    if (edge_of(s, at)->lost)
        return;
    id = take_message(s);
    m = &s->messages[id];
    while (m->cap < len)
        VEC_GROW(m->payload, m->cap, m->cap);
    m->event = *e;
    if (len > 0)
        memcpy(m->payload, payload, len);
    send_message(s, at, id);
}

void edge_message(struct sim *s, const struct calendar_event *event)
{
    const struct sim_edge *e = edge_of(s, event->a);
    uint32_t host = e->host[event->a % 2];
    struct sim_message m = s->messages[event->c];

    if (e->generation == event->b && !e->lost && s->hosts[host].peer != NULL) {
        m.event.link = e->link[event->a % 2];
        m.event.pack = s->hosts[host].pack;
        if (m.event.kind == PEER_ON_BITMAP)
            m.event.bitmap.data = m.payload;
        else if (m.event.kind == PEER_ON_HAVE)
            m.event.leaves = (const struct msg_index *)(const void *)m.payload;
        host_hears(s, host, &m.event);
    }
    give_message_back(s, event->c);
}
