/* record.h - deployments as rows: finding, loading, inserting; and the world around one, as the
 * input of a step. */
#ifndef CONTROL_RECORD_H
#define CONTROL_RECORD_H

#include "db/db.h"
#include "queue/queue.h"
#include "rollout/deploy.h"

enum {
    REGION_SILENT_MS = 10000, /* a connected region's row is renewed far more often */
    CANDIDATES_MAX = 10,
};

/* A row with its parsed detail. */
struct record {
    struct deploy *deploy;
    int64_t number, job, version;
    char *bundle;
    bool live, tending;
};

void record_free(struct record *r); /* NULL is fine */

/* -ERR_NOT_FOUND; -ERR_CORRUPT: the detail does not parse. Gives *ret. */
MUST_CHECK int record_load(struct db *d, const char *id, struct record **ret, struct err *err);
/* By what a person writes: d-…, a unique prefix of it, SERVICE (its latest), SERVICE@SHA-prefix.
 * -ERR_CONFLICT: several; *candidates is a JSON array of their ids. candidates is a new array that
 * the caller frees. */
MUST_CHECK int record_find(struct db *d, const char *name, struct buf *ret_id, json_t *candidates,
                           struct err *err);
MUST_CHECK int record_insert(struct db *d, const struct deploy *deploy, const char *bundle,
                             int64_t job, const char *dedupe, struct err *err);
/* -ERR_CONFLICT: it is not the version that was read. Inside of a transaction. */
MUST_CHECK int record_save(struct db *d, const struct record *r, const char *detail,
                           struct err *err);

/* What deploy_step() looks at; owns all that `in` borrows. */
struct world {
    struct deploy_input in;
    struct deploy_region_input *regions;
    struct deploy_reply *replies;
    struct deploy_delta *deltas;
    struct deploy_base *bases;
    json_t **jsons; /* parsed texts, kept alive */
    char **texts;
    size_t njsons, ntexts;
    struct job *job;
    int64_t command; /* its number; 0: none */
    char *service_last_planned;
};

MUST_CHECK int world_load(struct db *d, const struct record *r, int64_t now_ms, struct world **ret,
                          struct err *err);
/* A copy that lives as long as w. */
const char *world_keep(struct world *w, const char *text);
/* Parsed, as long as w; NULL if it is "" or does not parse. */
const json_t *world_json(struct world *w, const char *text);
void world_free(struct world *w); /* NULL is fine */

/* What was moved for a deployment, by what its regions have counted and replicated. */
struct moved_bytes {
    int64_t origin, seed, peer, saved, staged, wanted;
};
struct moved_bytes world_moved(const struct world *w, const struct deploy *d);

/* Is there a live deployment of another number that uses the job too? */
MUST_CHECK int job_is_shared(struct db *d, int64_t job, const char *deployment, bool *ret,
                             struct err *err);

#endif
