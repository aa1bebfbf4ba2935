/* replicate.h - copy an artifact from one store to another: verified, resumable, in small steps.
 *
 *     replication_new(&r, origin, own, dir, &artifact)
 *     replication_want(r, &pack)                the full pack first, then deltas
 *     while ((n = replication_step(r, &err)) > 0) ...progress is in r...
 *     n == 0: everything that was wanted is in `own`; n < 0: step again later, it goes on
 *     replication_free(r)
 *
 * A pack grows in DIR/<pack>.part, leaf by leaf; a leaf is written only if it is what the index
 * says. A full pack enters `own` only when each of its segments decodes to what the manifest says, or
 * follows from leaves that do (full_check_index(): then a wrong pack is refused before it is read);
 * a delta's segments are judged by the machines, which have the base. The index is put last, so
 * that an index in `own` says: complete and verified, nothing to do. After kill -9 the leaves of
 * the partial file are hashed again and only those that are missing or damaged are read from the
 * origin.
 *
 * A delta that the origin does not have was collected there: it is `lost`, and the rest goes on. The
 * first pack is tried for ever.
 *
 * A step does a bounded piece of work (REPLICATE_STEP_BYTES) and blocks: for a work pool, one step
 * of a replication at a time. Memory: two such buffers, the manifest, an index and 16 MiB of
 * decoder. Errors: the origin's and own's; -ERR_CORRUPT: a leaf came twice with the wrong hash, or
 * a pack that matches its index does not hold the artifact (no partial file is left of it);
 * -ERR_INVALID: manifest or index is malformed, or the pack is another artifact's. */
#ifndef STORE_REPLICATE_H
#define STORE_REPLICATE_H

#include "store/store.h"
#include "wire/manifest.h"
#include "wire/pack.h"

enum {
    REPLICATE_STEP_LEAVES = 16,
    REPLICATE_STEP_BYTES = REPLICATE_STEP_LEAVES * LEAF_BYTES,
};

struct replicated_pack {
    struct hash hash;
    bool complete;  /* it and its index are in `own` */
    bool lost;      /* the origin does not have it (any more); a delta, nobody depends on it */
    uint64_t bytes; /* 0: not known yet */
};

struct replication {
    struct hash artifact;
    struct replicated_pack *packs;
    size_t npacks;
    uint64_t bytes, total; /* of the packs whose size is known: verified here, and in all */
    uint64_t origin_bytes; /* read from the origin for what is here, by this process or before */
    struct replicate_job *job;
};

/* Borrows the stores; dir is a directory of its own for partial files, on own's file system. */
MUST_CHECK int replication_new(struct replication **ret, struct store *origin, struct store *own,
                               const char *dir, const struct hash *artifact, struct err *err);
void replication_free(struct replication *r); /* NULL is fine; partial files stay */

/* One more pack; known ones are ignored, a lost one is looked for again. At most PACKS_MAX: -ERR_LIMIT.
 * Not during a step. */
MUST_CHECK int replication_want(struct replication *r, const struct hash *pack, struct err *err);

MUST_CHECK int replication_step(struct replication *r, struct err *err);

/* The artifact is not wanted here any more: deletes manifest, packs, indexes and partial files from
 * `own`. Blocks. Then r can only be freed. */
MUST_CHECK int replication_delete(struct replication *r, struct err *err);

#endif
