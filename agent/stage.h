/* stage.h - one attempt to bring one release onto this disk, verified, without running it.
 *
 *   LOOK      what an interrupted attempt has left: the manifest
 *   MANIFEST  fetched by its digest from any neighbour
 *   PREPARE   in the work pool: files of the releases that are here are linked, space is reserved
 *   PLAN      looks at the packs: index, head (where the table lies), for a delta whose base is no
 *             release here its base's manifest; then, in the pool, which leaves of which packs are the
 *             fewest bytes (planner.h)
 *   FETCH     one pack of the plan, deltas first (exchange.h); meanwhile, in the pool, segments whose leaves
 *             are here are decoded, verified and written
 *   APPLY     in the pool: the rest of the segments that it gives; then PLAN again if something is still
 *             needed
 *   FINISH    in the pool: fsync; rename
 *
 * A delta whose base is no release here, and whose base's manifest nobody gives in STAGE_MANIFEST_MS, is
 * done without.
 *
 * An offered delta of which nothing comes in STAGE_PATIENCE_MS holds nobody up: the plan is made without
 * it, and it is asked for again, again and again, beside the fetch.
 *
 * A plan is made anew when something changes: a segment that a delta did not give (its base file is
 * gone, or has rotted) is needed from elsewhere; a delta that joins while the full pack is on its way
 * is looked at meanwhile, and taken if it is less than what is still to come; a delta that is withdrawn
 * is left. Nothing that was verified is fetched or decoded again.
 *
 * What can be wrong, and what happens:
 *   - a base file has rotted, or its release is deleted: its segments come from the full pack
 *   - a kept pack has rotted: its leaves on disk are hashed anew, and the bad ones fetched again
 *   - a kept pack's file is gone: it is fetched again
 *   - a pack does not give what the manifest promises: it is deleted; a delta is done without, with the
 *     full pack the attempt fails
 *   - the disk is full: the attempt fails with "no space"; what is verified stays
 * Each failure ends the attempt with an error that starts with the step; the next attempt goes on
 * from what is verified on disk, so that after kill -9, too, no verified byte is fetched again. */
#ifndef AGENT_STAGE_H
#define AGENT_STAGE_H

#include "io/work.h"
#include "receipt.h"
#include "store/exchange.h"
#include "wire/manifest.h"

enum {
    STAGE_OFFER_MAX = 8 << 20, /* manifests up to this size are given to others, too */
    STAGE_PACKS_MAX = 8,
    STAGE_LOOK_MS = 60000,     /* for the head of a delta, and between bytes of a delta */
    STAGE_PATIENCE_MS = 3000,  /* for a delta's index; for its head while nothing is fetched */
    STAGE_IMPATIENCE_MS = 500, /* for another delta's index then, when one has not come */
    STAGE_MANIFEST_MS = 3000,  /* for the manifest of a delta's base: nobody may have it any more */
    STAGE_INDEX_MS = 5000,     /* for the full pack's size, when nothing is needed */
    STAGE_EARLY_MS = 100, /* between looks for segments that can be had while more is fetched */
    STAGE_EARLY_SEGMENTS = 16, /* at a time: something else may have to be done */
};

/* Shares of the machine's links, while several services are staged. */
enum stage_weight {
    STAGE_PREFETCH = 1, /* nobody may activate it yet */
    STAGE_DEPLOY = 4,
    STAGE_ROLLBACK = 16, /* an urgent goal */
};

struct stage_options {
    struct loop *loop;
    struct work_pool *pool;
    struct exchange *exchange;
    const char *dir;                     /* ROOT/services/SERVICE */
    const char *packs_dir;               /* the exchange's */
    const char *deployment;              /* that asks for it */
    struct hash release, artifact, base; /* base: the release that runs, or zero */
    struct bytes doc;                    /* the signed release document */
    struct hash packs[STAGE_PACKS_MAX];  /* the full one, then deltas */
    size_t npacks;
    unsigned weight; /* beside other services' stages: enum stage_weight */
    /* Sets what is known of the machine and its peers: rate and edges. NULL: nothing is. */
    void (*measure)(void *ctx, const struct hash *packs, size_t npacks, struct fetched *f);
    void *measure_ctx;
};

/* By earlier attempts, too. */
struct stage_progress {
    uint64_t staged_bytes, wanted_bytes; /* of packs: that are here, that will be */
    uint64_t seed_bytes, peer_bytes;     /* of those that are here */
    uint64_t saved_bytes;                /* that the full pack has more than is wanted */
    uint64_t applied_bytes, apply_bytes; /* of the stream, decoded and to be decoded; 0 of 0: no */
    struct fetched fetched;              /* by this attempt */
    bool measured;                       /* fetched is known */
};

struct stage;

/* Copies the options. done fires once, from the loop, never from inside; status 0, or the failure
 * that err tells. Then free it. */
void stage_start(struct stage **ret, const struct stage_options *o,
                 void (*done)(void *ctx, struct stage *s, int status, const struct err *err),
                 void *ctx);
/* False: no plan has been made yet. */
bool stage_progress(struct stage *s, struct stage_progress *ret);
/* After success: all of it was verified by this attempt. */
bool stage_is_verified(const struct stage *s);
const struct hash *stage_release(const struct stage *s);
/* The packs that there are now, the full one first (it must be the same). Deltas that are not among them
 * are withdrawn. */
void stage_packs(struct stage *s, const struct hash *packs, size_t n);
/* Frees it; if it is under way it is cancelled first, and frees itself when the work pool is done
 * with it. No callback after this. */
void stage_free(struct stage *s);
/* The same after work_pool_free(): nothing of it runs any more. NULL is fine. */
void stage_abandon(struct stage *s);

#endif
