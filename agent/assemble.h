/* assemble.h - a release on disk from its manifest, packs and the release before.
 *
 *     assembly_new(&a, &spec)
 *     assembly_prepare(a, err)       makes releases/RELEASE.tmp, links what the base has, reserves
 *                                    the space of the rest
 *     assembly_needed_bytes(a)       0: no pack is needed
 *     assembly_apply_delta(a, …)     what the delta pack and the base give; the rest stays needed
 *     assembly_leaves(a, pack, …)    the leaves of the full pack that hold what is needed
 *     assembly_finish(a, pack, err)  decodes, verifies, writes, fsyncs, renames to RELEASE
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
#include "wire/codec.h"

struct assembly_spec {
    const char *dir; /* ROOT/services/SERVICE */
    struct hash release, artifact;
    struct bytes doc;      /* the signed release document */
    struct bytes manifest; /* its SHA-256 is artifact; empty: what an earlier attempt has kept */
    struct hash base;      /* a release on disk, or zero */
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
/* The artifact of the base, if there is one that a delta may be applied to. */
bool assembly_base(const struct assembly *a, struct hash *ret);

/* Writes the needed segments that the complete delta pack at path gives. A segment that it does not
 * give (the base's file is not what it was) only stays needed. -ERR_CORRUPT: the pack is of no use;
 * -ERR_NO_SPACE; -ERR_CANCELLED. */
MUST_CHECK int assembly_apply_delta(struct assembly *a, const char *path, struct err *err);

/* The leaves of the full pack at path (pack_bytes; those of its header are there) that hold what is
 * needed, and the header's. Inits *ret, unless it fails: as assembly_finish(). */
MUST_CHECK int assembly_leaves(struct assembly *a, const char *path, uint64_t pack_bytes,
                               struct bitmap *ret, struct err *err);

/* pack: path of the full pack, of which the leaves that are needed are there; NULL if nothing is needed. -ERR_CORRUPT: the pack does not
 * give what the manifest promises; -ERR_NO_SPACE; -ERR_CANCELLED. */
MUST_CHECK int assembly_finish(struct assembly *a, const char *pack, struct err *err);
void assembly_cancel(struct assembly *a); /* from another thread: finish ends soon */

#endif
