#include "store/pack_check.h"

#include <stdlib.h>

#include "base/mem.h"

int pack_index_make(struct buf *out, enum pack_kind kind, const struct hash *base,
                    const struct hash *target, uint64_t pack_bytes, pack_read_at read, void *ctx,
                    struct err *err)
{
    struct pack_index x = { .kind = kind, .base = *base, .target = *target, .bytes = pack_bytes };
    unsigned char *leaf;
    int r = 0;

    x.nleaves = (size_t)((x.bytes - 1) / LEAF_BYTES + 1);
    if (x.nleaves > LEAVES_MAX)
        return err_set(err, ERR_LIMIT, "a pack of %zu leaves, at most %d may be", x.nleaves,
                       LEAVES_MAX);
    leaf = mem_alloc(LEAF_BYTES);
    x.leaves = mem_calloc(x.nleaves, sizeof(*x.leaves));
    for (size_t i = 0; r == 0 && i < x.nleaves; i++) {
        size_t len = pack_leaf_bytes(&x, i);

        r = read(ctx, leaf, len, (uint64_t)i * LEAF_BYTES, err);
        x.leaves[i] = sha256_of(leaf, len);
    }
    if (r == 0)
        pack_index_encode(out, &x);
    free(x.leaves);
    free(leaf);
    return r;
}

int pack_check_leaves(const struct pack_index *x, pack_read_at read, void *ctx, struct err *err)
{
    unsigned char *leaf = mem_alloc(LEAF_BYTES);
    int r = 0;

    for (size_t i = 0; r == 0 && i < x->nleaves; i++) {
        size_t len = pack_leaf_bytes(x, i);
        struct hash h;

        r = read(ctx, leaf, len, (uint64_t)i * LEAF_BYTES, err);
        h = sha256_of(leaf, len);
        if (r == 0 && !hash_equal(&h, &x->leaves[i]))
            r = err_set(err, ERR_CORRUPT, "leaf %zu: its SHA-256 is not the index's", i);
    }
    free(leaf);
    return r;
}

int pack_check_segments(const struct manifest *m, const struct hash *artifact, uint64_t pack_bytes,
                        pack_read_at read, void *ctx, pack_segment_fn *each, void *each_ctx,
                        struct err *err)
{
    struct full_decoder *decoder = full_decoder_new();
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    struct full *full = NULL;
    int r = full_read(&full, read, ctx, pack_bytes, m, artifact, err);

    for (size_t i = 0; r == 0 && i < m->nsegments; i++) {
        r = full_read_segment(decoder, full, m, i, read, ctx, out, err);
        if (r == 0 && each != NULL)
            r = each(each_ctx, i, out, manifest_segment_bytes(m, i), err);
    }
    full_free(full);
    full_decoder_free(decoder);
    free(out);
    return r;
}
