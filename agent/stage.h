/* stage.h - one attempt to bring one release onto this disk, verified, without running it.
 *
 *   LOOK      what an interrupted attempt has left: the manifest
 *   MANIFEST  fetched by its digest from any neighbour
 *   PREPARE   in the work pool: files of the release before are linked, space is reserved
 *   INDEX     how large the packs are, and what each delta's base is; skipped, like all that follows
 *             but FINISH, if nothing is needed
 *   DELTA     the smallest delta pack whose base is the release before, leaf by leaf (exchange.h)
 *   APPLY     in the work pool: the segments that it gives are verified and written
 *   HEADER    of the full pack, if something is still needed: where its segments lie
 *   FETCH     the leaves that hold what is needed, or all of them
 *   FINISH    in the work pool: segments decoded, verified, written; fsync; rename
 *
 * Each failure ends the attempt with an error that starts with the step; the next attempt goes on
 * from what is verified on disk, so that after kill -9, too, no verified byte is fetched again. A
 * pack that does not give what the manifest promises is deleted, and the attempt fails; if it was a
 * delta, the attempt goes on with the full pack. */
#ifndef AGENT_STAGE_H
#define AGENT_STAGE_H

#include "io/work.h"
#include "store/exchange.h"
#include "wire/manifest.h"

enum {
    STAGE_OFFER_MAX = 8 << 20, /* manifests up to this size are given to others, too */
    STAGE_PACKS_MAX = 8,
    STAGE_SMALL_BYTES =
        4 << 20, /* artifacts up to this size are fetched without looking for less */
};

struct stage_options {
    struct loop *loop;
    struct work_pool *pool;
    struct exchange *exchange;
    const char *dir; /* ROOT/services/SERVICE */
    struct hash release, artifact, base;
    struct bytes doc;                   /* the signed release document */
    struct hash packs[STAGE_PACKS_MAX]; /* the full one, then deltas */
    size_t npacks;
};

struct stage_progress {
    uint64_t staged_bytes, wanted_bytes; /* of packs */
    uint64_t seed_bytes, peer_bytes;     /* of these, also by earlier attempts */
    uint64_t saved_bytes; /* that the full pack has more; of the stream if all of it was here */
};

struct stage;

/* Copies the options. done fires once, from the loop, never from inside; status 0, or the failure
 * that err tells. Then free it. */
void stage_start(struct stage **ret, const struct stage_options *o,
                 void (*done)(void *ctx, struct stage *s, int status, const struct err *err),
                 void *ctx);
void stage_progress(const struct stage *s, struct stage_progress *ret);
/* After success: all of it was verified by this attempt. */
bool stage_is_verified(const struct stage *s);
const struct hash *stage_release(const struct stage *s);
/* The packs that there are now. A delta that has come while the full pack is being fetched is taken
 * instead, unless most of it is here. */
void stage_packs(struct stage *s, const struct hash *packs, size_t n);
/* Frees it; if it is under way it is cancelled first, and frees itself when the work pool is done
 * with it. No callback after this. */
void stage_free(struct stage *s);
/* The same after work_pool_free(): nothing of it runs any more. NULL is fine. */
void stage_abandon(struct stage *s);

#endif
