/* courier.h - carries a build's heartbeats and log to the database, on a thread and a connection of
 * its own, so that a slow database never holds up the build and a busy build never its heartbeat.
 *
 * The log goes out at least every COURIER_FLUSH_MS, in chunks of at most QUEUE_LOG_CHUNK_MAX_BYTES.
 * What the database cannot take in time is dropped, counted and marked in the log: a log never fails
 * a build. What a beat answers (fenced, cancelled) ends the lease. */
#ifndef BUILD_COURIER_H
#define BUILD_COURIER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "build/lease.h"

enum { COURIER_FLUSH_MS = 250, COURIER_BUFFER_MAX_BYTES = 4 << 20, COURIER_LAST_MS = 10000 };

struct courier;

/* Borrows url and lease until courier_finish(). beat_ms > 0. */
MUST_CHECK int courier_start(struct courier **ret, const char *url, int64_t job, int64_t attempt,
                             int64_t beat_ms, struct lease *lease, struct err *err);

/* Appends to the job's log; never blocks. Any thread. c is a struct courier. */
void courier_log(void *c, const void *data, size_t len);

/* Sends what is left (for at most COURIER_LAST_MS), ends the thread and frees. NULL is fine. */
void courier_finish(struct courier *c);

#endif
