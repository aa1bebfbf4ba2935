/* state.h - the region node's memory on disk: machines, their last reports, what their fetches came to,
 * what we have sent, slot leases, what is to be replicated, and the signed documents, in one
 * SQLite file.
 *
 *     state_open(&s, path)              made if missing
 *     state_load(s, ms, leases, …)       once, at the start: blocks
 *     b = state_collect(s, ms, leases)   what changed since the last time; on the loop; NULL: nothing
 *     state_write(s, b)                 in one transaction; in the work pool, one at a time
 *     state_batch_free(b)               or write it again if that failed
 *
 * What is lost by a kill -9 between collecting and writing are reports of the last 200 ms, which
 * agents repeat when they connect again, and leases as young. Times on disk are wall clock ms; in
 * memory they are of a steady clock, and both "now"s are arguments. A machine that was linked when
 * the process ended was last seen now; one that was not seen for STATE_FORGET_MS is forgotten. */
#ifndef REGION_STATE_H
#define REGION_STATE_H

#include "region/leases.h"
#include "region/machines.h"

#define STATE_FORGET_MS (30LL * 24 * 3600 * 1000)

struct state;
struct state_batch;

struct state_clock {
    int64_t now_ms;  /* steady */
    int64_t wall_ms; /* since 1970 */
};

MUST_CHECK int state_open(struct state **ret, const char *path, struct err *err);
void state_close(struct state *s); /* NULL is fine; no write under way */

/* wanted is called with each artifact that state_want() has remembered. A row that cannot be read
 * is left out and logged. */
MUST_CHECK int state_load(struct state *s, struct machines *ms, struct leases *leases,
                          const struct state_clock *clock,
                          void (*wanted)(void *ctx, const struct msg_artifact *artifact), void *ctx,
                          struct err *err);

/* Remembers (packs NULL: forgets) with the next batch that this artifact is to be here. */
void state_want(struct state *s, const struct hash *artifact, const struct msg_artifact *packs);
/* Saves a document under its name (docs.h) with the next batch; data NULL: removes it. Takes both. */
void state_doc(struct state *s, char *name, struct bytes *doc);
/* Calls fn with each saved document: trust, then releases, then goals. */
MUST_CHECK int state_load_docs(struct state *s, void (*fn)(void *ctx, const struct msg_doc *doc),
                               void *ctx, struct err *err);
/* Saves what was sent for a deployment (region/sent.h) with the next batch. */
void state_sent(struct state *s, const struct msg_counts *sent, int64_t wall_ms);
/* Calls fn with what was saved of it, oldest first; forgets what is older than STATE_FORGET_MS. */
MUST_CHECK int state_load_sent(struct state *s, int64_t wall_ms,
                               void (*fn)(void *ctx, const struct msg_counts *sent), void *ctx,
                               struct err *err);
/* The leases have changed: the next batch holds them. */
void state_leases(struct state *s);

struct state_batch *state_collect(struct state *s, struct machines *ms, const struct leases *leases,
                                  const struct state_clock *clock);
MUST_CHECK int state_write(struct state *s, struct state_batch *b, struct err *err);
void state_batch_free(struct state_batch *b);

#endif
