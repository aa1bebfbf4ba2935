/* scrub.h - reads every byte of an artifact in a store, and heals what rotted.
 *
 * Checked: the manifest by its name; each pack leaf by leaf against its index; each full pack segment
 * by segment against the manifest. (A delta pack was proved when it was put, and its leaves say that
 * it is what it was.) What is wrong is moved aside at once, so that nobody is given it; then another
 * copy is looked for: in the stores that `from` names (a region's, a mirror), else the pack is made
 * again from what the store has besides (rebuild.h); a delta pack, from the full packs of its base and
 * its target. What came back is proved like the rest. The
 * index of a pack that cannot be healed stays: a later scrub with more to copy from finds it. A pack
 * whose own index is lost is known to nobody but the control plane: the caller passes it in `expect`.
 *
 * Memory: 24 MiB, the manifest and an index. Blocks, and sleeps to keep to its rate. */
#ifndef STORE_SCRUB_H
#define STORE_SCRUB_H

#include "store/catalog.h"

enum scrub_verdict { SCRUB_NONE = 0, SCRUB_GOOD, SCRUB_HEALED, SCRUB_ROTTEN };
const char *scrub_verdict_name(enum scrub_verdict v); /* "good", "healed", "rotten" */

struct scrub_options {
    struct store *const *from; /* where other copies may be */
    size_t nfrom;
    const char *work;     /* a directory of its own for what is being healed; made when needed */
    uint64_t bytes_per_s; /* at most so much is read; 0: no limit */
    const struct hash *expect; /* full packs that there should be, by who knows; may be NULL */
    size_t nexpect;
    /* < 0 stops with -ERR_CANCELLED: asked between two reads, and at least once a second while it
     * sleeps. May be NULL. */
    int (*go_on)(void *ctx);
    /* Called once for the manifest and once for each pack; why is "" when it is good. May be NULL.
     */
    void (*tell)(void *ctx, enum object_kind kind, const struct hash *name,
                 enum scrub_verdict verdict, const char *why);
    void *ctx;
};

struct scrub_result {
    uint64_t bytes; /* read in the store */
    uint64_t good, healed, rotten;
};

/* Adds to *ret. Rot is no error but a count; errors are those of the store's reading. */
MUST_CHECK int artifact_scrub(struct store *s, const struct catalog *c,
                              const struct catalog_artifact *a, const struct scrub_options *options,
                              struct scrub_result *ret, struct err *err);

#endif
