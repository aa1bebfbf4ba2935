/* summary.h - how a deployment ended: for people on stdout, or as one JSON object (-o json). */
#ifndef CLI_SUMMARY_H
#define CLI_SUMMARY_H

#include "cli/flags.h"
#include "wire/json.h"

/* {"v":1,"deployment","service","commit","state","reason","nothing_to_do","machines":{"total","healthy","failed",
 *  "drift"},"regions":[{"name","replicated","machines"}…],"artifacts":[{"variant","digest","bytes"}…],
 *  "bytes":{"origin","seed","peer","saved_by_delta"},
 *  "seconds":{"build","replicate","stage","rollout","total"},"failures":[…],"exit"}. Gives. While the
 *  deployment lives, exit is null. */
json_t *summary_json(const json_t *view);

/* Prints it as the globals want it; returns the exit code: the deployment's, or `live` while it lives. */
int summary_print(const struct globals *g, const json_t *view, int live);

#endif
