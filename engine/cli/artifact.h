/* artifact.h - what the `engine artifact` verbs share: a store, and what a control plane knows of it.
 *
 * The store is --store DIR, or STATE/store. A control plane is asked unless --store is given without
 * --engine (a bare store): the one of --engine, else the state directory's. */
#ifndef CLI_ARTIFACT_H
#define CLI_ARTIFACT_H

#include "cli/client.h"
#include "store/catalog.h"

struct artifact_options {
    const char *store, *keep_file, *rate;
    struct texts from;
    int64_t grace_ms, keep;
    bool all, dry_run;
};

struct artifact_site {
    const struct globals *g;
    const struct artifact_options *o;
    struct client *client; /* NULL: a bare store */
    json_t *known;         /* of GET /v1/artifacts; NULL: a bare store */
    struct store *store;   /* NULL: --engine without --store */
    struct catalog *catalog;
    char *dir; /* of the store */
};

/* What the control plane says of an artifact; NULL: nothing. */
const json_t *artifact_known(const struct artifact_site *s, const struct hash *artifact);
const char *artifact_text(const json_t *o, const char *key); /* "" if there is none */
int64_t artifact_int(const json_t *o, const char *key);
/* Its first reason, or why it is not needed. */
const char *artifact_reason(const struct artifact_site *s, const json_t *known);
void artifact_print(json_t *o); /* takes; one line of JSON */
bool artifact_is_store(const char *dir);

/* Exit codes: 0 all is well, or healed; EXIT_NEEDS_PERSON: rot that could not be healed. */
int artifact_verify_verb(struct artifact_site *s, const char *id);
int artifact_gc_verb(struct artifact_site *s);

#endif
