/* eval.h - one question to one bundle, in a fresh Lua state. What the child process does.
 *
 * eval_ask() loads the bundle's main file, picks the function that answers the question (the
 * policy's own, or that of policies/slipway/defaults.lua), calls it with the input and converts the
 * answer. Nothing is kept between calls. What comes back is well-formed JSON, not yet a valid
 * answer: types.c checks it, on the other side of the process boundary.
 *
 * Questions: "data", "build", "replicate", "waves", "advance". "data" answers
 * {"data":{all fields that are no functions},"functions":{name:bool,…}}. */
#ifndef POLICY_EVAL_H
#define POLICY_EVAL_H

#include "base/err.h"
#include "policy/policy.h"
#include "wire/json.h"

struct evaluation {
    const struct bundle *bundle;
    const char *question;
    const json_t *input; /* NULL for "data" */
};

/* -ERR_POLICY with a text that starts with "file:line: " or "file: ". Gives *ret. */
MUST_CHECK int eval_ask(json_t **ret, const struct evaluation *e, struct err *err);

extern const char *const eval_functions[]; /* build, replicate, waves, advance; NULL-ended */

/* The text of a file of the built-in library by its module name ("slipway", "slipway.defaults"),
 * NULL if there is none. Its name in errors goes to file, as "slipway/init.lua". */
const char *eval_library(const char *module, const char **file, size_t *len);

#endif
