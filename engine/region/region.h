/* region.h - the region node: its region's replica store, seed, tracker, goal relay and memory.
 *
 *   to the control plane   one link, connected with backoff for ever: receives documents, plans and
 *                          what to replicate; answers FLEET and QUANTILE; sends REPLICA and COUNTS
 *   to the origin store    reads manifests, indexes and packs (store/replicate.h)
 *   to the agents          a listener for role agent: relays trust, releases, sources and goals,
 *                          leases slots, seeds packs (store/exchange.h), tells who the peers are
 *
 * An artifact is kept as long as a goal names a release with it, or the control plane has asked for
 * it and no goal has named it yet. Nothing is deleted while the control plane is away.
 *
 * It holds no signing key and decides nothing about a deployment: it verifies what it relays, and
 * refuses older goals than it has. Without a control plane it serves the last goals until they
 * expire. It may be killed at any instant: everything that it needs is in its data directory:
 *   DATA/lock            one process at a time
 *   DATA/region.db       documents, machines, their last reports, what their fetches came to, what was
 *                        sent of each pack for each deployment, leases, what to replicate
 *   DATA/store/          its own blob store      DATA/partial/   packs on their way
 *
 *     region_new(&r, loop, &options, &err)    loads, listens, connects
 *     loop_run(loop)                          ...
 *     region_close(r, closed, arg)            closes all links, saves; then closed(arg), from the
 *                                             loop, once; then region_free(r)
 *
 * or region_main_loop(), which is a whole process. */
#ifndef REGION_REGION_H
#define REGION_REGION_H

#include "io/loop.h"

enum {
    REGION_LINKS_MAX = 20000,
    REGION_COUNTS_MS = 200, /* COUNTS of one deployment: at most one in this time */
    REGION_REPLICA_MS = 500,
    REGION_TICK_MS = 200,    /* saving, leases, lost peers */
    REGION_SWEEP_MS = 60000, /* how often artifacts that nobody needs any more are looked for */
    REGION_STOP_MS = 3000,   /* for a clean stop; then it just ends */
    REGION_PEERS_MS = 50,    /* changes of one machine's peers are told together */
    REGION_THREADS = 4,
    REGION_REPLICATIONS = 2, /* at a time */
};

struct region_options {
    const char *name;         /* the region's */
    const char *identity;     /* directory: io/pki.h, and root.pub */
    const char *control_host; /* NULL: none; for tests */
    int control_port;
    const char *store;      /* the origin store, store/store.h */
    const char *data;       /* directory, made */
    const char *listen;     /* "127.0.0.1:0" */
    const char *ready_file; /* or NULL: published once it serves: {"link":port,"pid":n} */
    int parent_fd;          /* -1: none */
    int64_t sweep_ms;       /* 0: REGION_SWEEP_MS; other values are for tests */
};

struct region;

/* Blocks while it loads. -ERR_EXISTS: another process uses that data directory. -ERR_DENIED: the
 * identity is not of role region and that name. */
MUST_CHECK int region_new(struct region **ret, struct loop *loop, const struct region_options *o,
                          struct err *err);
int region_port(const struct region *r);
void region_close(struct region *r, void (*closed)(void *arg), void *arg);
void region_free(struct region *r);

/* Until SIGTERM or SIGINT (returns 0), or EOF on parent_fd (exits). */
MUST_CHECK int region_main_loop(const struct region_options *o, struct err *err);

#endif
