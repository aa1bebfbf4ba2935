/* reach.h - which artifacts somebody may still need, and why: what garbage collection goes by.
 *
 * Reachable is what is named by
 *   - a deployment that is under way, or has ended while regions are late, or was planned last, and by
 *     the release that it would go back to;
 *   - a goal of any region: its release and its rollback_to;
 *   - a service's last good release, and its last K releases that succeeded;
 *   - the finished job of a deployment that is under way;
 *   - a machine that runs its release, as the region nodes last said, or as one said before it told of
 *     fewer machines (regions.h);
 *   - a delta in the making: its base and its target.
 * A delta pack is needed as long as both its base and its target are.
 * Any doubt (a document or detail that does not parse) is an error: then nothing may be deleted.
 *
 * A job that succeeded is used again by a trigger of the same sources, so an artifact may only go
 * after reach_forget(): it takes away that use, under locks that no trigger passes, and says which
 * artifacts may go. A build that makes the artifact again puts it again, which the store respects
 * (store_expire()); what a running job has put is younger than safe_before. */
#ifndef CONTROL_REACH_H
#define CONTROL_REACH_H

#include "db/db.h"
#include "wire/json.h"

enum {
    REACH_KEEP = 5,        /* K, unless told */
    REACH_KEEP_MAX = 1000, /* at most */
    REACH_DEPLOYMENTS = 5, /* that are named with an artifact, the newest */
    REACH_FORGET_MAX = 10000,
};

/* {"artifacts":[{"digest","pack","service","bytes","pack_bytes","files","created",
 *   "releases":[{"release","commit","good"}…],"deployments":[ID…],"deltas":[{"base","state","pack",
 *   "bytes"}…],"reachable":bool,"reasons":[TEXT…]} …newest first],"now":ms,"safe_before":ms|null,
 *   "keep":K}. Gives *ret. */
MUST_CHECK int reach_load(struct db *d, int64_t keep, json_t **ret, struct err *err);

/* digests: an array of texts. *ret: those that nothing reaches; the control plane knows nothing of
 * them any more, nor of the deltas from them and to them. One transaction, logged for audit. */
MUST_CHECK int reach_forget(struct db *d, const json_t *digests, int64_t keep, const char *actor,
                            json_t **ret, struct err *err);

#endif
