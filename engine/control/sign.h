/* sign.h - the documents that the control plane signs: releases and goals.
 *
 * What is signed is checked by the same parser that the machines use; a document that they would
 * refuse is never published. */
#ifndef CONTROL_SIGN_H
#define CONTROL_SIGN_H

#include "control/keys.h"
#include "rollout/deploy.h"

/* The recipe of a deployment: SHA-256 over what is built (the job's spec) and how it is run
 * (activate, health, select, variant of the policy's data). Same commit and recipe: same thing. */
struct hash recipe_hash(const json_t *spec, const json_t *data);

/* Signs the release of d, whose artifacts are verified. Appends the document. */
MUST_CHECK int sign_release(const struct keys *k, const struct deploy *d, int64_t now_ms,
                            struct buf *out, struct hash *ret_id, struct err *err);
/* body: of the goal, wire/doc.h. */
MUST_CHECK int sign_goal(const struct keys *k, const json_t *body, struct buf *out,
                         struct err *err);

#endif
