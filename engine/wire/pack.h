/* pack.h - the index of a pack: its name, and how each leaf of it is verified.
 *
 * A pack is an encoded artifact, immutable. Its index is
 *   "SLI2"  u8 kind (1 full, 2 delta)  32 bytes base artifact (zero if full)  32 bytes target
 * artifact u64 pack size  u32 leaves  leaves × 32 bytes digest, of merkle_leaf() (base/merkle.h)
 * and the pack's id is the SHA-256 of the index. A leaf is 256 KiB of the pack, the last one shorter. A
 * piece, the unit of transfer, is 2^k leaves. SLI1, in which the digests were SHA-256, is refused. */
#ifndef WIRE_PACK_H
#define WIRE_PACK_H

#include "wire/msg.h"

enum pack_kind { PACK_NONE = 0, PACK_FULL = 1, PACK_DELTA = 2 };

struct pack_index {
    enum pack_kind kind;
    struct hash base, target;
    uint64_t bytes;
    struct hash *leaves;
    size_t nleaves; /* ceil(bytes / LEAF_BYTES) */
};

void pack_index_encode(struct buf *out, const struct pack_index *p);
MUST_CHECK int pack_index_parse(struct pack_index **ret, const void *data, size_t len,
                                struct err *err);
void pack_index_free(struct pack_index *p);
size_t pack_leaf_bytes(const struct pack_index *p, size_t leaf);

#endif
