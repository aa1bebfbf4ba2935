/* recipe.h - what a worker is to build: the job's spec, as JSON.
 *
 *   {"v":1,"service","repo":URL|PATH,"sha":40 hex,
 *    "steps":[{"name","run":[ARG…],"dir","env":{},"needs":[NAME…],"timeout","silence","network":bool,
 *              "max_log_bytes"}…],                                   (seconds; policy.h
 * POLICY_BUILD) "outputs":{VARIANT:PATH,…},"deadline":s,"max_output_bytes":n}
 *
 * and what it answers (the job's result):
 *
 *   {"v":1,"artifacts":[{"variant","artifact":HASH,"pack":HASH,"bytes":stream,"pack_bytes":n,"files":n}…],
 *    "seconds":{"checkout":x,"steps":x,"pack":x}} */
#ifndef BUILD_RECIPE_H
#define BUILD_RECIPE_H

#include "base/err.h"
#include "wire/json.h"

enum { STEPS_MAX = 64, STEP_ARGS_MAX = 256 };

struct step {
    char *name;
    char **argv; /* NULL-ended */
    char *dir;
    char **env;    /* "K=V", NULL-ended */
    size_t *needs; /* indexes of earlier steps */
    size_t nneeds;
    int64_t timeout_ms, silence_ms;
    bool network;
    uint64_t max_log_bytes;
};

struct output {
    char *variant, *path;
};

struct recipe {
    char *service, *repo, *sha;
    struct step *steps;
    size_t nsteps;
    struct output *outputs;
    size_t noutputs;
    int64_t deadline_ms;
    uint64_t max_output_bytes;
};

MUST_CHECK int recipe_parse(struct recipe **ret, const char *json, struct err *err);
void recipe_free(struct recipe *r);

#endif
