/* conductor.h - drives every live deployment: one thread, in one control plane at a time.
 *
 * Each turn: load a live deployment and the world around it, deploy_step() until quiet (asking the
 * policy between two steps), and commit everything in one transaction that is fenced by the duty
 * row and by the deployment's version: state, events, decisions, goals (signed), relays, questions.
 * Nothing outside of the database happens but a wake. A crash before the commit loses nothing: the
 * step is taken again. The packs of an artifact are verified on threads of their own, at most
 * CONDUCTOR_VERIFY_MAX at once. */
#ifndef CONTROL_CONDUCTOR_H
#define CONTROL_CONDUCTOR_H

#include "control/keys.h"
#include "control/wake.h"
#include "store/store.h"

enum {
    CONDUCTOR_POLL_MS = 100,
    CONDUCTOR_PASSED_MS = 20,
    CONDUCTOR_TEND_MS = 5000, /* new regions and expiring goals are looked for so often */
    CONDUCTOR_STEPS_MAX = 64, /* of one deployment in one turn */
    CONDUCTOR_VERIFY_MAX = 4,
    CONDUCTOR_VERIFY_RETRY_MS = 5000,
};

struct conductor_options {
    const char *db;          /* URL */
    const char *engine_path; /* for the policy host */
    const char *holder;      /* our name in the duty row */
    const struct keys *keys;
    struct store *store;
    struct wake *wake;
};

struct conductor;

/* Starts the thread; what it cannot do now (database away) it tries again for ever. */
MUST_CHECK int conductor_start(struct conductor **ret, const struct conductor_options *o,
                               struct err *err);
/* After wake_stop(): waits for the turn to end. */
void conductor_free(struct conductor *c);

/* One turn over all live deployments, on the caller's thread: what the thread does, for tests.
 * *ret_moved: something was committed. */
struct db;
MUST_CHECK int conductor_turn(struct conductor *c, struct db *d, int64_t fence, bool *ret_moved,
                              struct err *err);
MUST_CHECK int conductor_new(struct conductor **ret, const struct conductor_options *o,
                             struct err *err); /* without a thread */

#endif
