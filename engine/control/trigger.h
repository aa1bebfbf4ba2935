/* trigger.h - from a request to a deployment: the policy is checked and asked for the build, the
 * job is queued and the deployment row inserted, in one transaction. */
#ifndef CONTROL_TRIGGER_H
#define CONTROL_TRIGGER_H

#include "base/buf.h"
#include "db/db.h"
#include "policy/policy.h"

enum {
    TRIGGER_PARAMS_MAX = 64,
    TRIGGER_PARAM_MAX_BYTES = 4096,
    TRIGGER_BUILD_MARGIN_MS = 5 * 60 * 1000, /* checkout and packing beside the policy's deadline */
};

struct trigger {
    const char *cluster;
    struct db *db;
    struct policy_host *host; /* used by this thread only, for the call */
};

/* body: of POST /v1/deployments. *ret_id is the deployment's, an old one if the key was seen
 * before (*ret_new = false). With "dry_run" nothing is written and *ret_plan (gives) is what would
 * be done. -ERR_INVALID: a field; -ERR_POLICY: the policy is wrong or runs too long. */
MUST_CHECK int trigger_deployment(const struct trigger *t, const json_t *body,
                                  const char *token_name, struct buf *ret_id, bool *ret_new,
                                  json_t **ret_plan, struct err *err);

#endif
