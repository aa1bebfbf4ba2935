/* simulate_internal.h - what the files of the simulator share; not for its users.
 *
 *   simulate.c        a region from its first to its last event; the results
 *   simulate_host.c   a host: what its peer core says and hears; deaths, partitions
 *   simulate_edge.c   links between hosts, transfers and messages on them
 *   simulate_graph.c  the tracker: who is linked to whom
 *   simulate_ahead.c  memory at hand before it is needed
 *
 * A link between two hosts is an edge with two sides, 0 and 1. What is under way on it is dropped when
 * the edge's generation is another one on arrival. "At" is edge * 2 + side: one end of an edge. */
#ifndef SWARM_SIMULATE_INTERNAL_H
#define SWARM_SIMULATE_INTERNAL_H

#include "swarm/calendar.h"
#include "swarm/network.h"
#include "swarm/peer.h"
#include "swarm/simulate.h"
#include "swarm/tracker.h"

enum { EDGE_QUEUE = 4, SIMULATE_TELL_MS = 50, SIMULATE_LOOK_MS = 2000 };

#define NO_TRANSFER UINT32_MAX
#define NS_PER_MS 1000000

enum sim_event {
    SIM_NONE = 0,
    SIM_JOIN,     /* a: host */
    SIM_DIE,      /* a: host */
    SIM_NOTICE,   /* a: host; its links are closed now */
    SIM_TICK,     /* a: host; its peer core asked for it */
    SIM_SENT,     /* a: at (sender), c: leaf, d: transfer */
    SIM_LEAF,     /* a: at (receiver), b: generation, c: leaf */
    SIM_VERIFIED, /* a: at, b: generation, c: leaf, d: host */
    SIM_MESSAGE,  /* a: at (receiver), b: generation, c: message */
    SIM_OPEN,     /* a: edge, b: generation; its handshake is done */
    SIM_LOOK,     /* a: host; closes links that nobody wants */
    SIM_ASK,      /* a: host; its JOIN reaches the tracker */
    SIM_TELL,     /* the tracker tells who has other neighbours now */
    SIM_PEERS,    /* a: host; it hears that */
    SIM_TRACK,    /* a TICK of the tracker */
    SIM_CUT,      /* the partition begins */
    SIM_CUT_SEEN, /* and is noticed */
    SIM_HEALED,
};

struct sim_edge {
    uint32_t host[2];    /* the first one opened it */
    int link[2];         /* number in that host's peer core */
    uint32_t generation; /* even: free; odd: in use */
    bool open;
    bool lost;        /* nothing arrives any more */
    int64_t delay_ns; /* one way */
    /* By sending side: leaves that are being given; the first one is in the network. */
    uint32_t transfer[2];
    uint32_t leaves[2][EDGE_QUEUE];
    unsigned nleaves[2];
    int64_t said_ns[2]; /* when the last message came: on one stream none overtakes another */
};

struct sim_message {
    struct peer_event event;
    unsigned char *payload; /* leaf numbers or a bitmap */
    size_t cap;
};

struct sim_host {
    struct peer *peer; /* NULL: not there (any more) */
    int pack;
    uint32_t rack;
    bool is_node, slow, dies, dead, cut, done;
    bool ticking, looking;
    uint32_t tick; /* in the calendar, if ticking */
    int64_t tick_ns;
    int64_t joined_ns, done_ns, disk_free_ns;
    uint32_t *ats; /* its ends of edges, opening ones, too */
    size_t nats, ats_cap;
    uint32_t *by_link; /* at, by link number */
    size_t by_link_cap;
    uint32_t wanted[TRACKER_DEGREE_MAX]; /* hosts, as the tracker said last */
    size_t nwanted;
};

struct sim {
    const struct simulate_options *o;
    struct simulate_result *r;
    struct calendar *calendar;
    struct network *network;
    struct tracker *tracker;
    struct sim_host *hosts; /* the last one is the node */
    uint32_t nhosts, node;
    struct sim_edge *edges;
    size_t nedges, edges_cap;
    uint32_t *free_edges;
    size_t nfree_edges, free_edges_cap;
    struct sim_message *messages;
    size_t nmessages, messages_cap;
    uint32_t *free_messages;
    size_t nfree_messages, free_messages_cap;
    int64_t now_ns;
    bool telling, tracking, is_cut;
    uint32_t waiting; /* machines that are not done and will not die */
    uint64_t verified;
    double wire_bytes; /* of a piece, with headers */
    uint64_t random;
};

static inline int64_t sim_ms(const struct sim *s)
{
    return s->now_ns / NS_PER_MS;
}

uint64_t sim_random(struct sim *s);
void sim_put(struct sim *s, int64_t at_ns, enum sim_event kind, uint32_t a, uint32_t b, uint32_t c,
             uint32_t d);

/* simulate_host.c */
void host_start(struct sim *s, uint32_t host, bool complete);
void host_join(struct sim *s, uint32_t host);
void host_die(struct sim *s, uint32_t host);
void host_noticed(struct sim *s, uint32_t host);
void host_tick(struct sim *s, uint32_t host);
void host_hears(struct sim *s, uint32_t host, const struct peer_event *e);
void host_verified(struct sim *s, const struct calendar_event *e);
void host_drain(struct sim *s, uint32_t host); /* does what its peer core says now */
void host_count(struct sim *s, struct sim_host *h);
void host_release(struct sim_host *h);

/* simulate_edge.c */
bool edges_reach(const struct sim *s, uint32_t a, uint32_t b);
void edge_begin(struct sim *s, uint32_t from, uint32_t to); /* a handshake */
void edge_open_now(struct sim *s, uint32_t from, uint32_t to);
void edge_opened(struct sim *s, uint32_t edge, uint32_t generation);
void edge_close(struct sim *s, uint32_t edge);
void edge_lose(struct sim *s, uint32_t edge); /* what is under way is gone */
void edge_give(struct sim *s, uint32_t at, uint32_t leaf);
void edge_sent(struct sim *s, const struct calendar_event *e);
void edge_leaf(struct sim *s, const struct calendar_event *e);
void edge_say(struct sim *s, uint32_t at, const struct peer_event *e, const void *payload,
              size_t len);
void edge_message(struct sim *s, const struct calendar_event *e);
bool edge_find(const struct sim *s, uint32_t a, uint32_t b, uint32_t *ret_at);

/* simulate_ahead.c: of the events that come next; after each one */
void ahead_look(const struct sim *s);

/* simulate_graph.c */
void graph_ask(struct sim *s, uint32_t host);
void graph_lost(struct sim *s, uint32_t host);
void graph_track(struct sim *s);
void graph_tell(struct sim *s);
void graph_peers(struct sim *s, uint32_t host);
void graph_look(struct sim *s, uint32_t host);

#endif
