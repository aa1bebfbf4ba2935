/* decision.h - a policy's answer, checked field by field.
 *
 * A decision that is not exactly what types.lua describes is an error, and an error means hold. */
#ifndef ROLLOUT_DECISION_H
#define ROLLOUT_DECISION_H

#include "wire/json.h"

enum decision_action {
    DECISION_NONE = 0,
    DECISION_GO,
    DECISION_WAIT,
    DECISION_HOLD,
    DECISION_ROLLBACK,
    DECISION_FAIL,
};

enum {
    DECISION_REASON_MAX_BYTES = 1024,
    DECISION_MEMO_MAX_BYTES = 16 * 1024,
    DECISION_AFTER_S = 5,        /* when the policy names no time */
    DECISION_AFTER_MAX_S = 3600, /* asked again at least this often */
};

struct decision {
    enum decision_action action;
    const char *reason; /* borrowed from the JSON; "" if none */
    int64_t after_ms;
    const json_t *memo; /* borrowed; NULL: none */
};

/* -ERR_POLICY: "decision: action: …". */
MUST_CHECK int decision_parse(struct decision *ret, const json_t *json, struct err *err);
const char *decision_action_name(enum decision_action a);

#endif
