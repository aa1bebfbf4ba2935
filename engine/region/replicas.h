/* replicas.h - what this region is to have, and how far it is: drives store/replicate.h.
 *
 * At most REGION_REPLICATIONS artifacts are fetched at a time, the others wait in order; each step
 * is one job of the work pool, so that a fetch of hours holds no thread and stops at once. An
 * artifact is VERIFIED when its first pack, the full one, is here; deltas follow and never gate.
 *
 * A delta that the origin has no more (it was collected) is left out. Failures are tried again for
 * ever, with backoff up to 30 s: an unreachable origin stays FETCHING (with the reason) for REPLICA_PATIENCE tries, then is FAILED like wrong bytes or a full disk at
 * once; a later success makes it VERIFIED still. */
#ifndef REGION_REPLICAS_H
#define REGION_REPLICAS_H

#include "io/work.h"
#include "store/replicate.h"
#include "wire/msg.h"

enum { REPLICA_PATIENCE = 4, REPLICAS_MAX = 65536 };

struct replicas;

struct replica {
    struct hash artifact;
    enum replica_state state;
    char *reason; /* why it does not go on, or NULL */
    struct replication *r;
    uint64_t bytes, total, origin_bytes; /* as of the last step */
    bool asked;              /* the rest is the uplink's: somebody wants to hear of it, */
    enum replica_state told; /* and what they last heard, */
    int64_t told_ms;         /* and when, */
    uint64_t told_bytes;     /* and how much was here; */
    bool named;              /* a goal has named it */
};

/* A pack that has become complete, as exchange.h wants it; borrowed during the call. */
struct replica_pack {
    struct hash pack;
    struct buf index;
    char *path;
};

struct replicas_options {
    struct loop *loop;
    struct work_pool *pool;
    struct store *origin, *own; /* own: a directory store */
    const char *partial;
    size_t at_once;
    /* From the loop. progress: bytes or state have changed. ready: one more pack is complete, and
     * with the first one the manifest is (manifest NULL later). */
    void (*progress)(void *ctx, struct replica *replica);
    void (*ready)(void *ctx, struct replica *replica, const struct buf *manifest,
                  const struct replica_pack *pack);
    void *ctx;
};

MUST_CHECK int replicas_new(struct replicas **ret, const struct replicas_options *o,
                            struct err *err);
void replicas_stop(struct replicas *rs); /* no callback and no new job after this */
void replicas_free(struct replicas *rs); /* after the pool */

/* Fetch these packs of the artifact, unless they are here. -ERR_LIMIT. *ret is ours. */
MUST_CHECK int replicas_want(struct replicas *rs, const struct msg_artifact *artifact,
                             struct replica **ret, struct err *err);

struct replica *replicas_find(const struct replicas *rs, const struct hash *artifact); /* or NULL */

/* It is not needed any more: deletes what is here of it. The caller has stopped to seed it. */
void replicas_forget(struct replicas *rs, const struct hash *artifact);
/* Calls fn for each that has not been forgotten; fn may forget it. */
void replicas_each(struct replicas *rs, void (*fn)(void *ctx, struct replica *replica), void *ctx);

/* The complete packs of an artifact, the full one first; how many. */
size_t replicas_packs(const struct replicas *rs, const struct hash *artifact,
                      struct hash out[PACKS_MAX]);
/* Size of a pack that is complete, or 0. */
uint64_t replicas_pack_bytes(const struct replicas *rs, const struct hash *pack);

#endif
