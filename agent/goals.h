/* goals.h - what this machine is told to do, and why it believes it.
 *
 * Documents come from a region node that is not trusted: everything is checked here, against the
 * pinned root key, before anyone acts on it. Per service, generations only rise: the floor is
 * published by fsync before goals_take() returns, so that no restart, and no region node, can bring
 * an older goal back. The same generation with other bytes is equivocation: refused, and told.
 *
 *     goals_open(&g, &options, &err)          reads what was kept, checks it again
 *     goals_take(g, doc, now, &taken, &err)   for each DOC message
 *     goals_of(g, service)                    the goal in force, or NULL
 *
 * An expired goal stays in force for what runs, but starts nothing new: ask goals_is_live(). The
 * clock it is judged by never runs behind the newest signed time that was seen. Every refusal has a
 * reason, is counted, and is kept as text until the service's next accepted goal. */
#ifndef AGENT_GOALS_H
#define AGENT_GOALS_H

#include "wire/doc.h"

enum { GOALS_RELEASES_MAX = 1024 }; /* release documents kept in memory; the oldest goes first */

enum goals_refusal {
    REFUSED_NONE = 0,
    REFUSED_MALFORMED,
    REFUSED_DENIED, /* signature, key, cluster or deny list */
    REFUSED_REGION,
    REFUSED_SELECT,
    REFUSED_OLDER,
    REFUSED_EQUIVOCATION,
    REFUSED_LIMIT, /* more services than a machine may have */
    REFUSED_END,
};

struct goals_options {
    const char *root;
    const struct public_key *pin; /* the root key of the first trust document */
    const char *machine;
    const char *region;         /* NULL: not known yet, see goals_set_region() */
    const struct label *labels; /* borrowed for life; without "region" and "machine" */
    size_t nlabels;
};

enum goals_change { GOALS_SAME = 0, GOALS_TRUST, GOALS_RELEASE, GOALS_GOAL };

struct goals_taken {
    enum goals_change change;
    const char *service; /* of a new goal, else NULL; borrowed */
};

struct goals;

MUST_CHECK int goals_open(struct goals **ret, const struct goals_options *o, struct err *err);
void goals_free(struct goals *g);

/* Names the region; kept goals of another one are dropped from memory. */
void goals_set_region(struct goals *g, const char *region);

/* Takes one document. A refusal is an error: -ERR_DENIED, -ERR_INVALID, -ERR_CONFLICT
 * (equivocation), -ERR_FENCED (older), -ERR_LIMIT; -ERR_IO and -ERR_NO_SPACE if it could not be
 * kept (then it is not in force). */
MUST_CHECK int goals_take(struct goals *g, enum doc_kind kind, const void *data, size_t len,
                          struct goals_taken *ret, struct err *err);

const struct trust *goals_trust(const struct goals *g);   /* NULL: none yet */
bool goals_denies(const struct goals *g, const char *id); /* by the trust document's deny list */
const struct goal *goals_of(const struct goals *g, const char *service);    /* borrowed */
const struct goal *goals_next(const struct goals *g, size_t *i);            /* i starts at 0 */
uint64_t goals_floor(const struct goals *g, const char *service);           /* 0: none */
const char *goals_last_refusal(const struct goals *g, const char *service); /* "": none */
bool goals_is_live(const struct goals *g, const struct goal *goal, int64_t wall_now_ms);
bool goals_stages(const struct goals *g, const struct goal *goal);
bool goals_activates(const struct goals *g, const struct goal *goal);
const char *goals_variant(const struct goals *g, const struct release *r); /* NULL: none for us */

/* A release document by its name; borrowed until the next goals_take(). */
const struct release *goals_release(const struct goals *g, const struct hash *id);
const struct bytes *goals_release_doc(const struct goals *g, const struct hash *id);

uint64_t goals_refused(const struct goals *g, enum goals_refusal why);
uint64_t goals_refused_all(const struct goals *g);
const char *goals_refusal_name(enum goals_refusal why);

#endif
