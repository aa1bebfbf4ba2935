/* build_types.h - the Build of policies/slipway/types.lua, checked: part of types.h. */
#ifndef POLICY_BUILD_TYPES_H
#define POLICY_BUILD_TYPES_H

#include "policy/shape.h"

/* The path of c stands on "build". *ret: steps with run, names and needs filled in, outputs as an
 * object. *ret may be set on error too. */
MUST_CHECK int build_types_check(struct check *c, const json_t *raw, json_t **ret);

#endif
