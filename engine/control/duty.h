/* duty.h - one of several control planes does a duty at a time, by a row with a fence.
 *
 * duty_claim() takes a duty that nobody holds (or whose holder is silent) and raises its fence;
 * every transaction of the duty begins with duty_check(), which fails once somebody else has raised
 * it further. Times are the database's. */
#ifndef CONTROL_DUTY_H
#define CONTROL_DUTY_H

#include "db/db.h"

enum { DUTY_MS = 10000 }; /* a silent holder loses the duty after so long */

/* *ret_fence = 0: somebody else holds it. A holder that claims again (after a restart under the
 * same name) gets it at once, with a new fence. */
MUST_CHECK int duty_claim(struct db *d, const char *name, const char *holder, int64_t *ret_fence,
                          struct err *err);
/* Prolongs it. Inside of a transaction or alone. -ERR_FENCED: it is no longer ours. */
MUST_CHECK int duty_check(struct db *d, const char *name, int64_t fence, struct err *err);
/* Gives it up, so that the next one need not wait. */
void duty_leave(struct db *d, const char *name, int64_t fence);

#endif
