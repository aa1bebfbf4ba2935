/* pack_check.h - a pack's index, and a pack against its index and its manifest, byte by byte.
 *
 * Reads through a callback, so that whoever scrubs can pace it. Memory: at most 20 MiB. */
#ifndef STORE_PACK_CHECK_H
#define STORE_PACK_CHECK_H

#include "delta/full.h"

/* Appends the encoded index of a pack of pack_bytes bytes. -ERR_LIMIT: more than LEAVES_MAX. */
MUST_CHECK int pack_index_make(struct buf *out, enum pack_kind kind, const struct hash *base,
                               const struct hash *target, uint64_t pack_bytes, pack_read_at read,
                               void *ctx, struct err *err);

/* The same; gives *ret_sums, checksum_of() each leaf when it was hashed. */
MUST_CHECK int pack_index_make_sums(struct buf *out, enum pack_kind kind, const struct hash *base,
                                    const struct hash *target, uint64_t pack_bytes,
                                    pack_read_at read, void *ctx, uint64_t **ret_sums,
                                    struct err *err);

/* Every leaf is what the index says: -ERR_CORRUPT if not. Any kind of pack. */
MUST_CHECK int pack_check_leaves(const struct pack_index *x, pack_read_at read, void *ctx,
                                 struct err *err);

/* Decodes every segment of a full pack of pack_bytes bytes and hands it on, in order; each may be
 * NULL, its failure ends the reading. -ERR_CORRUPT or -ERR_INVALID: the pack does not hold the
 * artifact. */
typedef int pack_segment_fn(void *each_ctx, size_t i, const void *data, size_t len,
                            struct err *err);
MUST_CHECK int pack_check_segments(const struct manifest *m, const struct hash *artifact,
                                   uint64_t pack_bytes, pack_read_at read, void *ctx,
                                   pack_segment_fn *each, void *each_ctx, struct err *err);

#endif
