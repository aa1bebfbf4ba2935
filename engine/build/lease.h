/* lease.h - a build's right to go on: whatever may end it from outside, in one place.
 *
 * A build holds its job as long as heartbeats reach the database. It loses it when the database says
 * so (fenced), when no heartbeat has arrived for too long on this host's own clock (the monitor is
 * about to give the job away), when somebody cancels it, when the worker is told to stop, and at
 * its deadline. The first of these is final. Everything in build/ that takes time asks
 * lease_check() at least every LEASE_TICK_MS, or waits for lease_fd() too. Thread-safe. */
#ifndef BUILD_LEASE_H
#define BUILD_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { LEASE_TICK_MS = 250 };

enum lease_state {
    LEASE_NONE = 0,
    LEASE_HELD,
    LEASE_FENCED,    /* somebody else has the job, or soon will */
    LEASE_CANCELLED, /* on request */
    LEASE_STOPPED,   /* the worker stops: the job is to be given back */
    LEASE_EXPIRED,   /* the build's deadline */
};

struct lease;

/* claimed_ms: monotonic_ms() before the claim was sent. silent_ms: self-fence after so long without
 * a beat; 0: never. stopping: borrowed; true ends the lease as LEASE_STOPPED; may be NULL. */
MUST_CHECK int lease_new(struct lease **ret, int64_t claimed_ms, int64_t silent_ms,
                         const atomic_bool *stopping, struct err *err);
void lease_free(struct lease *l);

void lease_set_deadline(struct lease *l, int64_t deadline_ms); /* from now */
/* A beat that was sent at sent_ms (monotonic) has arrived. */
void lease_beat(struct lease *l, int64_t sent_ms);
void lease_end(struct lease *l, enum lease_state why);
enum lease_state lease_state(struct lease *l);

/* 0, or -ERR_FENCED, -ERR_CANCELLED (cancelled, stopped), -ERR_TIMEOUT, with a text for people.
 * l == NULL: always 0. */
MUST_CHECK int lease_check(struct lease *l, struct err *err);
/* Readable once lease_end() was called. -1 for NULL. */
int lease_fd(const struct lease *l);

#endif
