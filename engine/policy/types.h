/* types.h - what a policy may say, checked field by field: policies/slipway/types.lua as C.
 *
 * The input is what the child converted; the result has every default filled in and durations as
 * whole seconds, in the forms that policy.h gives. Errors are -ERR_POLICY, "web.lua: waves[2].bake:
 * must be a duration such as …". */
#ifndef POLICY_TYPES_H
#define POLICY_TYPES_H

#include "policy/policy.h"

enum { POLICY_WAVES_MAX = 100, POLICY_REASON_MAX = 1024, POLICY_VARIANTS_MAX = 32 };

/* raw: {"data":…,"functions":…} as eval.h says. A `build` or `waves` that is a table is checked
 * too. Gives *ret. */
MUST_CHECK int types_policy(json_t **ret, const char *file, const json_t *raw, struct err *err);

/* raw: what the function (or the table in its place) answered. Gives *ret. */
MUST_CHECK int types_answer(json_t **ret, const char *file, enum policy_question q,
                            const json_t *raw, struct err *err);

#endif
