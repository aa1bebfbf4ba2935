#include "base/merkle.h"

#include <assert.h>

_Static_assert(sizeof(struct hash) == HASH_BYTES, "digests lie one after the other");

struct hash merkle_leaf(const void *data, size_t len)
{
    const unsigned char *chunks[MERKLE_FANOUT];
    size_t lens[MERKLE_FANOUT], n = 0;
    struct hash list[MERKLE_FANOUT];

    assert(len <= MERKLE_LEAF_BYTES); /* what is more would not be in the digest */
    for (size_t at = 0; at < len; at += MERKLE_CHUNK_BYTES) {
        chunks[n] = (const unsigned char *)data + at;
        lens[n++] = len - at < MERKLE_CHUNK_BYTES ? len - at : MERKLE_CHUNK_BYTES;
    }
    sha256_of_many(chunks, lens, n, list);
    return sha256_of(list, n * HASH_BYTES);
}

struct hash merkle_segment(const void *data, size_t len)
{
    struct hash leaves[MERKLE_FANOUT];
    size_t n = 0;

    assert(len <= MERKLE_SEGMENT_BYTES);
    for (size_t at = 0; at < len; at += MERKLE_LEAF_BYTES)
        leaves[n++] = merkle_leaf((const unsigned char *)data + at,
                                  len - at < MERKLE_LEAF_BYTES ? len - at : MERKLE_LEAF_BYTES);
    return merkle_segment_of(leaves, n);
}

struct hash merkle_segment_of(const struct hash *leaves, size_t n)
{
    return sha256_of(leaves, n * HASH_BYTES);
}
