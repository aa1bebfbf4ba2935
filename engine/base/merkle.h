/* merkle.h - the digest of a leaf, and of a segment: lists of SHA-256 digests, hashed in their turn.
 *
 *     chunk     16 KiB      its SHA-256
 *     leaf      256 KiB     the SHA-256 of the digests of its chunks, one after the other
 *     segment   4 MiB       the SHA-256 of the digests of its leaves, one after the other
 *
 * The last chunk, leaf or segment of something is shorter; the rule is the same for it: a leaf of one
 * chunk is the SHA-256 of one digest, and what is empty that of nothing. So the 16 chunks of a single leaf
 * are hashed side by side (sha256_of_many(): a third of what one digest of its bytes costs), and
 * whoever knows the leaves of a segment knows the segment without hashing it again.
 *
 * What makes a tree of digests safe is that nobody can present a list of digests as the bytes of a chunk,
 * or the other way round: how many bytes there are stands beside the digests, in what is itself
 * named by its SHA-256 (a manifest has the sizes of files, a pack's index the size of the pack), and
 * the shape follows from it. Two different inputs of equal length with one digest are a collision of
 * SHA-256.
 *
 * Source: R. Merkle, "A certified digital signature" (1989). Pure, allocates nothing. */
#ifndef BASE_MERKLE_H
#define BASE_MERKLE_H

#include "base/sha256.h"

enum {
    MERKLE_FANOUT = 16,
    MERKLE_CHUNK_BYTES = 16 << 10,
    MERKLE_LEAF_BYTES = MERKLE_FANOUT * MERKLE_CHUNK_BYTES,
    MERKLE_SEGMENT_BYTES = MERKLE_FANOUT * MERKLE_LEAF_BYTES,
};

/* len: at most MERKLE_LEAF_BYTES. */
struct hash merkle_leaf(const void *data, size_t len);

/* len: at most MERKLE_SEGMENT_BYTES. */
struct hash merkle_segment(const void *data, size_t len);

/* Of the segment whose 1 to MERKLE_FANOUT leaves have these digests. */
struct hash merkle_segment_of(const struct hash *leaves, size_t n);

#endif
