/* history.h - what is only ever appended: events, decisions and the audit log.
 *
 * All run inside of the caller's transaction. An event's seq comes from a counter row that stays
 * locked until the commit, so that commit order is sequence order. */
#ifndef CONTROL_HISTORY_H
#define CONTROL_HISTORY_H

#include "db/db.h"
#include "wire/json.h"

MUST_CHECK int counter_next(struct db *d, const char *name, int64_t *ret, struct err *err);

/* deployment: "" for none. data is borrowed. */
MUST_CHECK int event_add(struct db *d, const char *deployment, const char *kind, const char *text,
                         const json_t *data, struct err *err);

/* The same question, action and reason as the deployment's last: its row is brought up to date. */
MUST_CHECK int decision_add(struct db *d, const char *deployment, const char *question,
                            const char *action, const char *reason, const char *bundle,
                            const char *input, const char *output, struct err *err);

/* outcome: "done", or why it was refused. */
MUST_CHECK int audit_add(struct db *d, const char *actor, const char *verb, const char *object,
                         const char *reason, const char *outcome, struct err *err);
/* Recomputes the chain. *ret_bad is the first seq that does not fit or is missing, 0 if all do. */
MUST_CHECK int audit_verify(struct db *d, int64_t *ret_bad, struct err *err);

#endif
