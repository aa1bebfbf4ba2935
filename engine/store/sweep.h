/* sweep.h - garbage collection of a store: deletes the artifacts that nobody needs any more.
 *
 * Who needs what is not the store's to know: the caller says which artifacts (and packs) to keep.
 * Whatever was put, or put again, at before_ms or later stays too, so that a build that publishes
 * at this moment loses nothing (store_expire()). An artifact goes index first, then packs, then
 * manifest: killed at any point, an index that is there still says that its pack and manifest are,
 * and the next sweep finishes the work. Packs without an index are leftovers and go when they are
 * old. A delta pack goes with its target, and also when its base is not kept: nobody has what it could
 * be applied to. (A delta in the making is younger than before_ms, and so is the job that makes it.) */
#ifndef STORE_SWEEP_H
#define STORE_SWEEP_H

#include "store/catalog.h"

enum sweep_why {
    SWEEP_NONE = 0,
    SWEEP_UNNEEDED, /* its artifact is not kept */
    SWEEP_BASELESS, /* it is a delta, and its base is not kept */
    SWEEP_STRAY,    /* a pack without an index */
};
const char *sweep_why_name(enum sweep_why w); /* "unneeded", "baseless", "stray" */

/* One object that goes. */
struct sweep_item {
    enum sweep_why why;
    const struct hash *artifact; /* NULL: a stray's is not known */
    const struct hash *base;     /* of a delta that is baseless, else NULL */
    enum object_kind kind;
    const struct hash *name;
    uint64_t bytes;
};

struct sweep_options {
    const struct hash *keep; /* artifacts, and packs that stay even without an index; any order */
    size_t nkeep;
    int64_t before_ms; /* on the store's clock */
    bool dry_run;
    void (*tell)(void *ctx, const struct sweep_item *item); /* before each deletion; may be NULL */
    void *ctx;
};

struct sweep_result {
    uint64_t kept, young;    /* artifacts */
    uint64_t deleted;        /* artifacts, or would be */
    uint64_t deltas;         /* baseless ones of artifacts that are kept, deleted likewise */
    uint64_t objects, bytes; /* manifests, indexes and packs of those, and strays */
};

/* Of the artifacts and strays in c. Ends at the first error; what was deleted until then is in
 * *ret. */
MUST_CHECK int store_sweep(struct store *s, const struct catalog *c,
                           const struct sweep_options *options, struct sweep_result *ret,
                           struct err *err);

#endif
