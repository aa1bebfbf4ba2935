/* monitor.h - takes back the jobs of dead workers: one thread, in one control plane at a time. */
#ifndef CONTROL_MONITOR_H
#define CONTROL_MONITOR_H

#include "control/wake.h"
#include "db/db.h"

enum { MONITOR_EVERY_MS = 2000 };

struct monitor;

/* db: URL; holder: our name in the duty row. Borrows wake, copies the rest. */
MUST_CHECK int monitor_start(struct monitor **ret, const char *db, const char *holder,
                             struct wake *wake, struct err *err);
void monitor_free(struct monitor *m); /* after wake_stop(); NULL is fine */

#endif
