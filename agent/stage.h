/* stage.h - one attempt to bring one release onto this disk, verified, without running it.
 *
 *   LOOK      what an interrupted attempt has left: the manifest
 *   MANIFEST  fetched by its digest from any neighbour
 *   PREPARE   in the work pool: files of the release before are linked, space is reserved
 *   FETCH     the full pack, leaf by leaf (exchange.h); skipped if nothing is needed
 *   FINISH    in the work pool: segments decoded, verified, written; fsync; rename
 *
 * Each failure ends the attempt with an error that starts with the step; the next attempt goes on
 * from what is verified on disk, so that after kill -9, too, no verified byte is fetched again. A
 * pack that does not give what the manifest promises is deleted, and the attempt fails. */
#ifndef AGENT_STAGE_H
#define AGENT_STAGE_H

#include "io/work.h"
#include "store/exchange.h"
#include "wire/manifest.h"

enum { STAGE_OFFER_MAX = 8 << 20 }; /* manifests up to this size are given to others, too */

struct stage_options {
    struct loop *loop;
    struct work_pool *pool;
    struct exchange *exchange;
    const char *dir; /* ROOT/services/SERVICE */
    struct hash release, artifact, base;
    struct bytes doc; /* the signed release document */
    struct hash pack; /* the full one */
};

struct stage_progress {
    uint64_t staged_bytes, wanted_bytes; /* of the pack */
    uint64_t seed_bytes, peer_bytes;     /* of these, also by earlier attempts */
    uint64_t saved_bytes;                /* of the stream: not fetched because it was here */
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
/* Frees it; if it is under way it is cancelled first, and frees itself when the work pool is done
 * with it. No callback after this. */
void stage_free(struct stage *s);
/* The same after work_pool_free(): nothing of it runs any more. NULL is fine. */
void stage_abandon(struct stage *s);

#endif
