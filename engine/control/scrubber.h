/* scrubber.h - reads the whole origin store again and again, slowly, and heals what rotted: one thread,
 * in one control plane at a time (duty "scrub").
 *
 * A pass goes over the artifacts that the control plane knows, in the order of their digests, each by
 * store/scrub.h: rot is moved aside and healed from `from` (region nodes' stores, mirrors) or from what
 * the origin has besides. At its end the artifacts that somebody needs and the store does not have at
 * all are looked for in `from`, too. How far a pass has come is a row, written after each artifact under
 * the duty's fence: whoever takes the duty goes on there. What was not good is an event of kind "scrub",
 * and counted for good (table scrub). A delta pack that cannot be healed is forgotten: whoever wants it
 * has it made anew. An artifact of which something cannot be read at all (an I/O error) is logged and
 * counted as rotten; nothing is moved aside for it, and the next pass looks again. Of an artifact that is being built, or collected at this moment, nothing is said. */
#ifndef CONTROL_SCRUBBER_H
#define CONTROL_SCRUBBER_H

#include "control/wake.h"
#include "db/db.h"
#include "store/store.h"

enum {
    SCRUBBER_LOOK_MS = 5000,              /* for a pass that is due */
    SCRUBBER_EVERY_MS = 24 * 3600 * 1000, /* from the end of one pass to the next */
    SCRUBBER_BYTES_PER_S = 8 << 20,
    SCRUBBER_FROM_MAX = 64,
};

struct scrubber_options {    /* copied, but for store and wake */
    const char *db, *holder; /* URL; our name in the duty row */
    struct store *store;
    const char *work;        /* a directory on the store's file system; made when needed */
    const char *const *from; /* directories of stores; those that are not there are left out */
    size_t nfrom;
    int64_t every_ms;     /* 0: SCRUBBER_EVERY_MS */
    uint64_t bytes_per_s; /* 0: SCRUBBER_BYTES_PER_S */
    struct wake *wake;
};

struct scrubber;

MUST_CHECK int scrubber_start(struct scrubber **ret, const struct scrubber_options *o,
                              struct err *err);
void scrubber_free(struct scrubber *s); /* after wake_stop(); NULL is fine */

/* What the thread does, on the caller's: takes the duty if it is free, and goes on with the pass that is
 * under way or due, to its end. *ret_passed: there was one. -ERR_CANCELLED: the wake was stopped. */
MUST_CHECK int scrubber_new(struct scrubber **ret, const struct scrubber_options *o,
                            struct err *err); /* without a thread */
MUST_CHECK int scrubber_pass(struct scrubber *s, bool *ret_passed, struct err *err);

#endif
