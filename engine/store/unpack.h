/* unpack.h - from verified segments to a tree on disk: streaming, resumable, atomic.
 *
 *     unpack_open(&u, &options, err)            new, or where an earlier one was interrupted
 *     for i: if (unpack_needed(u, i))           bytes from a pack, in any order:
 *                unpack_segment(u, i, data, len)    checked against the manifest, then written
 *     unpack_finish(u, err)                     all there: modes, fsync, rename to its final name
 *     unpack_close(u)                           keeps what is staged
 *
 * The tree grows in STAGING/tree and becomes `dest` by one rename, so that `dest` is whole or not
 * there. STAGING/state remembers which segments have been written, and for which artifact.
 * After kill -9 at any point, unpack_open() continues: no segment that was written is needed again
 * (after a power cut: none that a checkpoint covered; every UNPACK_BATCH segments is one). What is
 * on disk without being in the state is hashed, and not needed if it is right.
 * A staging directory of another artifact, or one that does not look as it should, is emptied
 * first.
 *
 * With bases (releases before, on the same disk), files with an equal digest and mode are
 * hard-linked, others with an equal digest cloned or copied; segments made of such files alone are not needed.
 * A linked file is never written to. Base files are trusted to be what their manifest says if their
 * size is right; with verify_base they are hashed, and one that is not right is looked for in the
 * other bases. Long runs of zeros become holes.
 *
 * Paths are walked component by component without following links. One thread at a time. Errors:
 * -ERR_NO_SPACE, -ERR_DENIED, -ERR_IO with the path; then the staging stays and can be continued.
 */
#ifndef STORE_UNPACK_H
#define STORE_UNPACK_H

#include <stdbool.h>

#include "wire/manifest.h"

enum { UNPACK_BATCH = 64, UNPACK_BASES_MAX = 16 };

/* A tree on disk and what should be in it. One that cannot be opened gives nothing. */
struct unpack_base {
    const char *dir;
    const struct manifest *manifest;
};

struct unpack_options {
    const char *staging;             /* a directory of our own; made; on dest's file system */
    const char *dest;                /* final name; its parent must be there */
    const struct manifest *manifest; /* borrowed until unpack_close() */
    struct hash artifact;            /* its digest */
    const struct unpack_base *bases; /* the first that has a file gives it; borrowed during open */
    size_t nbases;                   /* at most UNPACK_BASES_MAX */
    bool verify_base;
    bool verify_staged; /* what an earlier run has written is hashed before it is believed; if a
                           file that a base gave is not right any more, all is begun anew */
    bool clone;         /* files share blocks with the bases' (reflink) where they can, and are
                           links where not */
};

struct unpack;

/* If dest is there already, nothing is needed and unpack_finish() only removes the staging. */
MUST_CHECK int unpack_open(struct unpack **ret, const struct unpack_options *options,
                           struct err *err);
void unpack_close(struct unpack *u); /* NULL is fine */

/* Something was written by a run before this one: it was verified then, and not read again now
 * unless with verify_staged. */
bool unpack_is_resumed(const struct unpack *u);
bool unpack_needed(const struct unpack *u, size_t segment);
size_t unpack_needed_count(const struct unpack *u);
uint64_t unpack_needed_bytes(const struct unpack *u); /* of the stream */
/* That are still to be written: of files in needed segments that did not come from a base. */
uint64_t unpack_room_bytes(const struct unpack *u);
uint64_t unpack_local_bytes(const struct unpack *u); /* in segments that the base made needless */

/* -ERR_CORRUPT: data is not segment i; nothing was written. A segment that is not needed is fine.
 */
MUST_CHECK int unpack_segment(struct unpack *u, size_t i, const void *data, size_t len,
                              struct err *err);

/* The same for bytes whose digest the caller has just compared with the manifest's, as the decoders
 * of packs do. */
MUST_CHECK int unpack_checked(struct unpack *u, size_t i, const void *data, size_t len,
                              struct err *err);

/* For a segment whose bytes the caller has put at their places in STAGING/tree itself, and of which it
 * knows that they are what the manifest says. */
MUST_CHECK int unpack_placed(struct unpack *u, size_t i, struct err *err);

/* Makes what was written so far survive a power cut. Also done every UNPACK_BATCH segments. */
MUST_CHECK int unpack_checkpoint(struct unpack *u, struct err *err);

/* -ERR_AGAIN: segments are missing. */
MUST_CHECK int unpack_finish(struct unpack *u, struct err *err);

#endif
