/* offer.h - one pack that carries the artifact, as seen from this machine: what it needs to give a
 * segment, which segments it can give here, and giving them.
 *
 *     offer_new(&o, &pack, index)
 *     offer_head_leaves(o, nsegments)                  to be fetched first
 *     offer_read(o, path, &target, bases, err)         1: more head leaves; 0: ready
 *     offer_planner(o, &p)                             as the planner wants it (here: the caller's)
 *     offer_apply(o, path, &use, &refused, err)
 *
 * A delta is read with the manifest of its base. If no release here is that base, its manifest is
 * given by offer_take_manifest(): segments whose files lie here in another release can be had all the
 * same. A segment that a delta turns out not to give (a base file is gone, or is not what it was) is
 * never asked of it again; the others are not affected. Blocks, but for offer_new() and the questions. */
#ifndef AGENT_OFFER_H
#define AGENT_OFFER_H

#include <stdatomic.h>

#include "bases.h"
#include "planner.h"
#include "wire/pack.h"

struct offer;

/* What the packs carry. */
struct offer_target {
    const struct manifest *manifest;
    struct hash artifact;
};

void offer_new(struct offer **ret, const struct hash *pack, const struct pack_index *index);
void offer_free(struct offer *o); /* NULL is fine */

const struct hash *offer_pack(const struct offer *o);
const struct hash *offer_base(const struct offer *o); /* its artifact; zero: the full pack */
uint64_t offer_bytes(const struct offer *o);
/* Is it for this artifact? */
bool offer_fits(const struct offer *o, const struct hash *artifact);

/* Those that offer_read() needs, as far as is known. */
size_t offer_head_leaves(const struct offer *o, size_t nsegments);
/* Takes m: the manifest of its base. */
void offer_take_manifest(struct offer *o, struct manifest *m);
/* No release here is its base, and its manifest has not been given. */
bool offer_lacks_manifest(const struct offer *o, const struct bases *b);

/* The table, from the pack's file at path, of which the head leaves are there. -ERR_CORRUPT: the pack
 * is not what its index says. */
MUST_CHECK int offer_read(struct offer *o, const char *path, const struct offer_target *t,
                          const struct bases *b, struct err *err);
bool offer_is_ready(const struct offer *o);
bool offer_gives(const struct offer *o, size_t segment); /* it is ready */
/* It is ready: are all leaves among `here` that it needs to give that segment? */
bool offer_can_give(const struct offer *o, size_t segment, const struct bitmap *here);
void offer_planner(const struct offer *o, struct planner_pack *ret);

struct offer_use { /* borrowed */
    const struct offer_target *target;
    const struct bases *bases;
    struct unpack *unpack;
    const struct bitmap *take;
    const atomic_bool *cancelled; /* stops it soon */
    atomic_ullong *done_bytes;    /* grows by what has been decoded, of the stream */
};

/* Decodes, verifies and writes the segments in take that unpack still needs; the leaves that they need
 * are there. Adds to *ret_refused how many a delta did not give. -ERR_CORRUPT: the pack does not give
 * what the manifest promises; -ERR_NOT_FOUND: no file at path; -ERR_NO_SPACE; -ERR_CANCELLED. */
MUST_CHECK int offer_apply(struct offer *o, const char *path, const struct offer_use *use,
                           size_t *ret_refused, struct err *err);
/* What it did not give may be asked of it once more: its bytes have been looked at again. */
void offer_forgive(struct offer *o);

#endif
