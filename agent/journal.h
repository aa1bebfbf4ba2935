/* journal.h - what one service on this machine is in the middle of: services/SERVICE/state.json.
 *
 *   NONE -> TRIAL (switched, not known to be healthy) -> COMMITTED (was healthy)
 *   any of them -> STOPPED (a goal said stop)
 *
 * It is published by fsync and rename before the act that it speaks of: TRIAL before `current`
 * moves, every start of a trial before the exec, COMMITTED before anything of the release before is
 * removed. A trial that was started JOURNAL_STARTS_MAX times without a verdict (the machine died,
 * or the agent did, again and again) is bad.
 *
 * "bad" latches: a release that failed under a deployment is not tried again until another
 * deployment names it. */
#ifndef AGENT_JOURNAL_H
#define AGENT_JOURNAL_H

#include <stdbool.h>

#include "base/err.h"
#include "base/sha256.h"
#include "wire/msg.h"

enum {
    JOURNAL_BAD_MAX = 16, /* the oldest goes first */
    JOURNAL_STARTS_MAX = 5,
};

enum journal_phase { JOURNAL_NONE = 0, JOURNAL_TRIAL, JOURNAL_COMMITTED, JOURNAL_STOPPED };

struct journal_bad {
    struct hash release;
    char deployment[NAME_MAX_BYTES + 1];
    char reason[REASON_MAX_BYTES + 1];
};

struct journal {
    enum journal_phase phase;
    struct hash release;                 /* active: in trial or committed; zero: none */
    struct hash previous;                /* the committed one before; zero: none */
    char deployment[NAME_MAX_BYTES + 1]; /* that activated `release` (or stopped it) */
    uint64_t activation;                 /* counts activations on this machine */
    int starts;                          /* of this trial */
    int port;                            /* 0: none chosen yet */
    struct journal_bad bad[JOURNAL_BAD_MAX];
    int nbad;
};

/* No file: *j is empty. -ERR_CORRUPT: not a journal. */
MUST_CHECK int journal_load(struct journal *j, const char *path, struct err *err);
MUST_CHECK int journal_save(const struct journal *j, const char *path, struct err *err);

/* Reasons are cut to REASON_MAX_BYTES. */
void journal_latch_bad(struct journal *j, const struct hash *release, const char *deployment,
                       const char *reason);
void journal_unlatch(struct journal *j, const struct hash *release);
/* The reason if it is bad under that deployment, else NULL. */
const char *journal_bad_reason(const struct journal *j, const struct hash *release,
                               const char *deployment);

const char *journal_phase_name(enum journal_phase phase);

#endif
