/* commit.h - one turn of a deployment, written in one transaction. */
#ifndef CONTROL_COMMIT_H
#define CONTROL_COMMIT_H

#include "control/keys.h"
#include "control/record.h"

struct turn_decision {
    char *question, *action, *reason, *input, *output;
};

/* What a turn has come to. */
struct turn {
    int64_t fence; /* of the duty 'conductor' */
    const struct keys *keys;
    struct record *record;
    const struct world *world;
    struct deploy_actions *actions; /* of each step */
    size_t nactions;
    struct turn_decision *decisions;
    size_t ndecisions;
    char *detail; /* of the deployment after the turn */
    bool signed_now;
    struct buf release_doc; /* if signed_now and new */
    char release_id[HASH_HEX];
};

void turn_release(struct turn *t);
/* -ERR_FENCED, -ERR_CONFLICT: nothing was written. */
MUST_CHECK int turn_commit(struct db *d, struct turn *t, struct err *err);

#endif
