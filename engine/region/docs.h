/* docs.h - the signed documents that a region node keeps and relays.
 *
 * Of each service the latest goal of this region, and the releases that goals name; and the trust
 * document. Every document is verified when it comes and again when it is loaded: against the
 * pinned root key, the trust document's keys and its deny list. A generation never falls.
 *
 *     docs_new(&d, region, &pin)
 *     docs_accept(d, doc, false, …)      what was saved: trust first, then releases, then goals
 *     docs_accept(d, doc, true, …)       what comes over link: -> what changed
 *     docs_unsaved(d, &name, &bytes)     what is to be saved or removed, in order
 *
 * Pure: no file, no clock. Whether a goal has expired the relay judges. */
#ifndef REGION_DOCS_H
#define REGION_DOCS_H

#include "base/list.h"
#include "base/map.h"
#include "wire/doc.h"

struct doc_goal {
    struct goal *goal;
    struct bytes doc;
    struct hash digest; /* of doc */
};

struct doc_release {
    struct release *release;
    struct bytes doc;
};

struct docs {
    char *region;
    struct public_key pin;
    struct trust *trust; /* NULL until the first came */
    struct bytes trust_doc;
    struct map goals;    /* service -> struct doc_goal */
    struct map releases; /* hex of its hash -> struct doc_release */
    struct list unsaved;
};

struct docs_change {
    bool changed;                /* false: we had it already */
    const struct doc_goal *goal; /* of a goal */
    struct hash release;         /* of a release */
};

struct docs *docs_new(const char *region, const struct public_key *pin);
void docs_free(struct docs *d);

/* -ERR_DENIED: wrong key, cluster, region, or in the deny list, or there is no trust document yet.
 * -ERR_INVALID: malformed. -ERR_FENCED: an older goal or trust document than ours. -ERR_CONFLICT:
 * another goal of the same generation: somebody signs two of them. save: false when it comes from
 * our own disk. */
MUST_CHECK int docs_accept(struct docs *d, const struct msg_doc *doc, bool save,
                           struct docs_change *ret, struct err *err);

const struct doc_goal *docs_goal(const struct docs *d, const char *service); /* or NULL */
const struct doc_release *docs_release(const struct docs *d,
                                       const struct hash *release); /* or NULL */
bool docs_is_denied(const struct docs *d, const char *id);

/* Forgets releases that no goal names: they come again when one does. Called after a goal has
 * changed, with the releases that the old one named. */
void docs_drop_release(struct docs *d, const struct hash *release);
bool docs_names_release(const struct docs *d, const struct hash *release);
/* Is it of a release that the goal, or any goal, names? */
bool docs_goal_names_artifact(const struct docs *d, const struct goal *g,
                              const struct hash *artifact);
bool docs_names_artifact(const struct docs *d, const struct hash *artifact);

/* Takes the oldest change that is not saved yet. Gives *ret_name ("trust.doc", "goals/<service>.doc",
 * "releases/<hash>.doc") and *ret_bytes (data NULL: removed). False: none. */
bool docs_unsaved(struct docs *d, char **ret_name, struct bytes *ret_bytes);

#endif
