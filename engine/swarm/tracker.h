/* tracker.h - the swarm of one pack: who is linked to whom.
 *
 * The tracker owns edges, peers own pieces. Its graph is nearly random and regular, because equal
 * degrees beat "first come, first linked" by a third in the time of the last machine: every peer
 * that still wants something has TRACKER_DEGREE links, as many as possible in its own rack but at
 * least TRACKER_REMOTE outside of it (a quota, not a filter: a rack never starves behind its own
 * door), and at least TRACKER_USEFUL to peers that have something, if there are any. The region
 * node is not in the graph: it is every machine's link and seed from the start.
 *
 * A newcomer enters by splicing: an edge u-v becomes u-p-v, so that nobody else's degree changes.
 * While the swarm has at most TRACKER_DEGREE + 1 peers, everyone sees everyone. Where splicing is
 * impossible a degree may grow up to TRACKER_DEGREE_MAX. When a peer goes, its neighbours are
 * linked to each other. Complete peers want nothing, so no links are made for their sake.
 *
 *     tracker_step(t, &event, now)                one thing that happened
 *     while ((peer = tracker_changed(t)))         whose set is another one now
 *         n = tracker_peers(t, peer, out);        what to tell it
 *
 * Pure: time is an argument (ms of a steady clock), randomness comes from the seed; the same events
 * give the same graph. Cost: O(degree) a step, but TICK, which looks at the lost ones.
 *
 * Sources: random regular meshes and splicing, Kraken's announcement of 2019 and its simulation;
 * local quota with remote links, own simulation (2 of 10 remote cost 1-2 % of time and leave 5 % of
 * the bytes between racks). */
#ifndef SWARM_TRACKER_H
#define SWARM_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRACKER_DEGREE = 10,
    TRACKER_REMOTE = 2,
    TRACKER_USEFUL = 2,
    TRACKER_DEGREE_MAX = 16,
    TRACKER_LOST_MS = 2000, /* after a link is lost the peer is replaced */
    TRACKER_PEERS_MAX = 65536,
};

enum tracker_event_kind {
    TRACKER_NONE = 0,
    TRACKER_JOIN,  /* wants or has the pack; again: has more now, or is back */
    TRACKER_LEAVE, /* neither wants nor has it any longer */
    TRACKER_LOST,  /* its link to us broke: it may come back in TRACKER_LOST_MS */
    TRACKER_MOVED, /* where it is reached has changed: its neighbours are to be told */
    TRACKER_TICK,  /* time has passed, see tracker_next_ms() */
};

struct tracker_event {
    enum tracker_event_kind kind;
    const char *peer; /* not of TICK */
    const char *rack; /* of JOIN: its failure domain, "" or NULL: unknown */
    bool some;        /* of JOIN: has at least one leaf */
    bool complete;    /* of JOIN: has all of them */
};

struct tracker;

struct tracker *tracker_new(uint64_t seed);
void tracker_free(struct tracker *t);

/* A JOIN beyond TRACKER_PEERS_MAX is ignored: that machine is served by the region node alone. */
void tracker_step(struct tracker *t, const struct tracker_event *e, int64_t now_ms);

/* Takes one peer whose set changed, newcomers first; NULL: none. Borrowed until the next step. */
const char *tracker_changed(struct tracker *t);

/* The whole set that the peer should keep, now (lost ones are not in it); borrowed likewise. */
size_t tracker_peers(const struct tracker *t, const char *peer,
                     const char *out[TRACKER_DEGREE_MAX]);

int64_t tracker_next_ms(const struct tracker *t); /* when a TICK is due, or -1 */
size_t tracker_count(const struct tracker *t);

#endif
