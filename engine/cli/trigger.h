/* trigger.h - from a policy file and a ref to the request that asks for a deployment. */
#ifndef CLI_TRIGGER_H
#define CLI_TRIGGER_H

#include "base/buf.h"
#include "cli/flags.h"
#include "wire/json.h"

struct trigger_options {
    const char *policy; /* path of the Lua file */
    const char *ref;    /* NULL: HEAD */
    const char *commit; /* or a commit */
    const char *reason;
    struct texts params; /* "k=v" */
    bool no_input;
};

/* Loads and checks the policy, resolves the commit in its repository. Gives the body of POST
 * /v1/deployments, with a fresh idempotency key. note: what a person should know beside it, if anything.
 * -ERR_POLICY, -ERR_NOT_FOUND (commit, ref, file). */
MUST_CHECK int trigger_request(json_t **ret, const struct trigger_options *o, struct buf *note,
                               struct err *err);

#endif
