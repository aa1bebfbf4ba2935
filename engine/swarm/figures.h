/* figures.h - how well the swarm of a deployment did: what machines tell of their fetches, added up.
 *
 * Each machine tells its region node (PROGRESS, struct msg_fetch) the truth of now, which replaces what it
 * told before; the region node adds its machines up anew each time (COUNTS, struct msg_swarm), and
 * the control plane its regions. So nothing is counted twice, whatever is told again after a
 * restart, and what goes upward has the same size for ten machines and for ten thousand.
 *
 *     f = figures_new()
 *     figures_add(f, progress)             a machine whose progress passed figures_check(), and was
 *                                          cut by figures_cut()
 *     figures_take(f, &swarm)              what a region tells
 *     figures_merge(f, &swarm)             and what the control plane makes of it
 *
 * What the figures say, and what they do not:
 *
 *   ratio     time / (bytes / rate) of one machine's attempt. time: from the first byte that it asked for
 *             (the release's manifest) until the last leaf that it needed was verified and
 *             written; decoding afterwards is not in it. bytes: of the packs' leaves that came
 *             in that time, so that one that needs a delta, or went on after a restart, is
 *             measured by what it had to fetch. rate: the limit that the machine was given
 *             (--limit-down); or else the speed that its network interface says; or else the
 *             most bytes that came to it in any one second. The last one flatters, because a
 *             swarm that is slow for everybody all the time looks like a slow link: how many
 *             machines were measured by which is told beside it. Several services that fetch at
 *             a time share the rate, and each looks slower for it.
 *   rated     machines that have a ratio: done, and bytes / rate is FIGURES_BOUND_MS at least. Below
 *             that, latencies and not wires are measured.
 *   late      machines that still fetch, and have taken FIGURES_LATE of bytes / rate already, and
 *             FIGURES_LATE_MS
 *   times     the same time, of all that are done and had something to fetch
 *   near, far bytes from machines of the own rack (label rack) and of others; where either end has
 *             no rack it is neither. From region nodes it is neither, too.
 *   stolen    leaves asked of a second machine because the first was overdue; doubled: because
 *             nothing else was left to ask for; useless: came although they were here; bad: did not match
 *             their digest
 *   edges     machines that the tracker named; stale: of these, such as could not be connected to, or
 *             said nothing of the pack after PEERS_MUTE_MS (agent/peers.h)
 *   packs     what the region node has sent of each pack since the plan of the deployment came; over the
 *             pack's size these are the copies that seeds sent
 *   offenders machines of the region that others banned, with the number of those
 *
 * A machine may lie about itself. What is absurd is refused (figures_check) and counted; what is
 * not moves the counts of one machine, and at worst the maximum. Pure. */
#ifndef SWARM_FIGURES_H
#define SWARM_FIGURES_H

#include "base/map.h"
#include "swarm/spread.h"
#include "wire/msg.h"

#define FIGURES_BYTES_MAX ((uint64_t)LEAVES_MAX * LEAF_BYTES) /* of all packs of a release */
#define FIGURES_RATE_MAX (UINT64_C(1000000000000) / 8)        /* 1 Tbit/s */

enum {
    FIGURES_BOUND_MS = 1000,
    FIGURES_LATE = 1500, /* thousandths of bytes / rate */
    FIGURES_LATE_MS = 10000,
    FIGURES_RATIO_MAX = 1000000, /* thousandths; what is above counts as that */
    FIGURES_MS_MAX = 7 * 86400 * 1000,
    FIGURES_RATE_MIN = 1000,
    FIGURES_EDGES_MAX = 65536,
    FIGURES_ACCUSED_MAX = 256, /* machines that are remembered as accused */
};

struct figures {
    struct msg_swarm sums; /* its lists stay empty */
    struct spread ratios, times;
    struct map accused; /* machine -> how often, as uintptr_t */
    size_t naccused;
};

struct figures *figures_new(void);
void figures_free(struct figures *f); /* NULL is fine */

/* May a machine tell this? limit_bytes: the most that it can have fetched, or 0 if that is not known.
 * -ERR_INVALID: no machine can, with the reason; nothing of it is to be used. */
MUST_CHECK int figures_check(const struct msg_progress *p, uint64_t limit_bytes, struct err *err);
/* A machine that others harm for hours asks for the same leaves again and again, and so may one that lies
 * say: what is more than a few times all leaves is cut to that. */
void figures_cut(struct msg_progress *p, uint64_t limit_bytes);
/* Thousandths of bytes / rate that ms are; 0: it is not rated. */
uint64_t figures_ratio(const struct msg_fetch *f);

void figures_add(struct figures *f, const struct msg_progress *p);
void figures_refused(struct figures *f, uint64_t times);
void figures_accuse(struct figures *f, const char *machine);

/* Gives the lists: codec_release() of the COUNTS that it is put into frees them. */
void figures_take(const struct figures *f, struct msg_swarm *ret);
/* Adds a region's. Buckets that there are not are left out. */
void figures_merge(struct figures *f, const struct msg_swarm *m);

/* Bytes between racks, thousandths of those whose racks are known; -1: none are. */
int figures_cross_rack(const struct msg_swarm *m);
/* Copies of a pack that were sent, in thousandths: the most of any; 0: none. */
uint64_t figures_copies(const struct msg_swarm *m);

#endif
