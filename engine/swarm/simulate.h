/* simulate.h - a swarm of many machines in virtual time: the state machines of production (peer.h,
 * tracker.h) over a model of links, disks and failures. Pure: the same options give the same result.
 *
 *     struct simulate_result r;
 *     simulate_swarm(&options, progress, ctx, &r);
 *     simulate_result_release(&r);
 *
 * Regions know nothing of each other and are simulated one after the other. In each, one node has the
 * pack and a link to every machine, and is the tracker; machines join, are linked as the tracker says,
 * fetch, give, and stay when they are complete. A leaf of the simulation is a piece: what one machine
 * asks another for at a time. The model:
 *
 *   - a transfer shares uplink and downlink with others as network.h says, and arrives when its last
 *     byte does (a piece is passed on whole), after the latency of the link: near inside a rack, far
 *     between racks and to the node;
 *   - messages take that latency, and no room, and half the time of the 64 KiB of a leaf that the kernel
 *     takes at once: the link lets them pass between the parts of a leaf (io/link.h). Where a shaped link
 *     that is full has a queue standing before it, that adds to the latency of both;
 *   - a new link costs a handshake; a piece that arrived is hashed and written, one after the other;
 *   - a slow machine has both rates divided; a dying one falls silent at a random moment before
 *     size/rate has passed, and its neighbours notice that only after a while, or by themselves;
 *   - a partition cuts some machines off from the others and the node, for a time.
 *
 * A machine's ratio is its time from joining to having all, over the bound of its region: size/rate x
 * (1 + log2(machines)/pieces), of which no schedule with equal links is ever better (Mundinger, Weber
 * and Weiss, "Optimal scheduling of peer-to-peer file dissemination", 2006). Rate is the smaller one of
 * up and down. */
#ifndef SWARM_SIMULATE_H
#define SWARM_SIMULATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIMULATE_MACHINES_MAX = 1000000,
    SIMULATE_REGION_MAX = 50000, /* machines of one region */
    SIMULATE_PIECES_MAX = 8192,
};

struct simulate_options {
    uint32_t machines, regions; /* in all regions; spread evenly */
    double bytes;               /* of the pack */
    uint32_t pieces;
    double up, down;         /* of a machine, bytes a second */
    double node_up;          /* of a region's node */
    uint32_t rack;           /* machines in one; 0: racks are unknown */
    double slow_share;       /* 0 … 1 */
    double slow_factor;      /* how many times slower these are */
    double die_share;        /* 0 … 1 */
    int64_t join_ns;         /* the time in which all of them join */
    int64_t near_ns, far_ns; /* latency, one way */
    int64_t queue_ns;        /* that a full link has standing before it, up and down; 0: none */
    int64_t handshake_ns;    /* beyond the round trips of a new link */
    int64_t notice_ns;       /* until the links of a dead machine are closed */
    double verify;           /* bytes a second that a machine hashes and writes */
    double headers;          /* of TCP/IP and TLS, and what is sent again, per byte: 0.05 is 5 % */
    double cut_share;        /* of a region's machines, cut off … */
    int64_t cut_ns, cut_until_ns;
    uint64_t seed;
};

/* What a user gets who says nothing else: a 10 GB pack, 1 Gbit/s, 1,000 machines in one region. */
struct simulate_options simulate_defaults(void);

struct simulate_result {
    uint32_t healthy;  /* machines that were neither slow nor died */
    uint32_t slow;     /* and did not die */
    uint32_t died;     /* before they had all */
    uint32_t stranded; /* healthy or slow, and never had all: a defect */
    double bound_s;    /* of the largest region */
    double *ratios;    /* of the healthy ones, ascending; the result's */
    double p50, p99, p999, max;
    double slow_max; /* the slow ones': over the same bound */
    double node_copies,
        node_copies_max;          /* of the pack, sent by nodes: mean and largest of a region */
    double sent_bytes, far_bytes; /* by machines and nodes; of these, by machines to another rack */
    uint64_t transfers, stolen, doubled, useless; /* pieces */
    uint64_t events;
    double virtual_s; /* until the last machine of the slowest region */
};

/* After every hundredth part of a region: how much of all is done, 0 … 1. */
typedef void simulate_progress(void *ctx, uint32_t region, double done);

void simulate_swarm(const struct simulate_options *o, simulate_progress *progress, void *ctx,
                    struct simulate_result *ret);
void simulate_result_release(struct simulate_result *r);

#endif
