/* assemble.h - a release on disk from its manifest, packs and the releases that are here already.
 *
 *     assembly_new(&a, &spec)
 *     assembly_prepare(a, err)         makes releases/RELEASE.tmp, links what other releases have,
 *                                      reserves the space of the rest
 *     assembly_needed_bytes(a)         0: no pack is needed
 *     assembly_read(a, offer, …)       the table of a pack whose head is here
 *     assembly_plan(a, offers, …)      from which packs, and which leaves of them
 *     assembly_apply(a, offer, …)      decodes, verifies and writes segments; then plan again
 *     assembly_finish(a, receipt, err) fsyncs, renames to RELEASE
 *     assembly_free(a)
 *
 * All but the questions block: one at a time, in the work pool. Each may be repeated after a failure
 * or a kill; what was written and verified stays. RELEASE is whole or not there. */
#ifndef AGENT_ASSEMBLE_H
#define AGENT_ASSEMBLE_H

#include <stdatomic.h>

#include "base/bitmap.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "offer.h"
#include "receipt.h"
#include "wire/codec.h"

struct assembly_spec {
    const char *dir; /* ROOT/services/SERVICE */
    struct hash release, artifact;
    struct bytes doc;      /* the signed release document */
    struct bytes manifest; /* its SHA-256 is artifact; empty: what an earlier attempt has kept */
    struct hash base;      /* the release that runs, whose files are taken first; or zero */
};

struct assembly;

void assembly_new(struct assembly **ret, const struct assembly_spec *spec); /* copies */
void assembly_free(struct assembly *a);                                     /* NULL is fine */

/* The manifest of an interrupted attempt, if it is there and right. Blocks. */
bool assembly_kept_manifest(const char *dir, const struct hash *release,
                            const struct hash *artifact, struct buf *out);

/* -ERR_NO_SPACE; -ERR_INVALID: not a manifest; -ERR_CORRUPT: not the artifact's; -ERR_IO. */
MUST_CHECK int assembly_prepare(struct assembly *a, struct err *err);
uint64_t assembly_needed_bytes(const struct assembly *a);
uint64_t assembly_local_bytes(const struct assembly *a);
/* A part of the tree was put there by an earlier attempt: whoever runs it verifies it first. */
bool assembly_is_resumed(const struct assembly *a);
uint64_t assembly_stream_bytes(const struct assembly *a);

bool assembly_needs_all(const struct assembly *a); /* no segment is here */
size_t assembly_segments(const struct assembly *a);
const struct bases *assembly_bases(const struct assembly *a);

/* As offer_read(). */
MUST_CHECK int assembly_read(struct assembly *a, struct offer *o, const char *path,
                             struct err *err);
/* Do these, as far as their tables have been read, give all that is needed? */
bool assembly_is_given(const struct assembly *a, const struct offer *o);

/* here[i]: leaves of offers[i] that are here (0 bits: none). Offers that are not ready are left out,
 * unless no other one gives what is needed and the first one, the full pack, is not ready: then the plan
 * is all of it. -ERR_NOT_FOUND: a segment that none gives; -ERR_NO_SPACE: not for what would be
 * fetched and written. */
MUST_CHECK int assembly_plan(struct assembly *a, struct offer *const *offers, size_t n,
                             const struct bitmap *here, struct plan *ret, struct err *err);

/* Sets *ret, of 0 bits before, to at most max segments of `take` that can be had from the leaves that are
 * here; o is ready. Their number. Does not block. */
size_t assembly_ripe(const struct assembly *a, const struct offer *o, const struct bitmap *take,
                     const struct bitmap *here, size_t max, struct bitmap *ret);

/* offer_apply(), and offer_read() before that if need be. */
MUST_CHECK int assembly_apply(struct assembly *a, struct offer *o, const char *path,
                              const struct bitmap *take, size_t *ret_refused, struct err *err);
/* Of the stream, decoded by the assembly_apply() that is under way, or was last, and to be decoded by
 * it. From any thread. */
void assembly_applied(struct assembly *a, uint64_t *ret_bytes, uint64_t *ret_of_bytes);

/* -ERR_AGAIN: something is still needed. */
MUST_CHECK int assembly_finish(struct assembly *a, const struct receipt *r, struct err *err);
void assembly_cancel(struct assembly *a); /* from another thread: assembly_apply() ends soon */

#endif
