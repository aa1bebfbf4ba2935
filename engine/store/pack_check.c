#include "store/pack_check.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/mem.h"

/* leaf: room for one. */
static int hash_leaf(const struct pack_index *x, size_t i, pack_read_at read, void *ctx,
                     unsigned char *leaf, struct hash *ret, struct err *err)
{
    size_t len = pack_leaf_bytes(x, i);
    int r = read(ctx, leaf, len, (uint64_t)i * LEAF_BYTES, err);

    if (r == 0)
        *ret = merkle_leaf(leaf, len);
    return r;
}

int pack_index_make_sums(struct buf *out, enum pack_kind kind, const struct hash *base,
                         const struct hash *target, uint64_t pack_bytes, pack_read_at read,
                         void *ctx, uint64_t **ret_sums, struct err *err)
{
    struct pack_index x = { .kind = kind, .base = *base, .target = *target, .bytes = pack_bytes };
    unsigned char *leaf;
    uint64_t *sums;
    int r = 0;

    x.nleaves = (size_t)((x.bytes - 1) / LEAF_BYTES + 1);
    if (x.nleaves > LEAVES_MAX)
        return err_set(err, ERR_LIMIT, "a pack of %zu leaves, at most %d may be", x.nleaves,
                       LEAVES_MAX);
    leaf = mem_alloc(LEAF_BYTES);
    x.leaves = mem_calloc(x.nleaves, sizeof(*x.leaves));
    sums = mem_calloc(x.nleaves, sizeof(*sums));
    for (size_t i = 0; r == 0 && i < x.nleaves; i++) {
        r = hash_leaf(&x, i, read, ctx, leaf, &x.leaves[i], err);
        if (r == 0)
            sums[i] = checksum_of(leaf, pack_leaf_bytes(&x, i));
    }
    if (r == 0)
        pack_index_encode(out, &x);
    if (r == 0)
        *ret_sums = sums;
    else
        free(sums);
    free(x.leaves);
    free(leaf);
    return r;
}

int pack_index_make(struct buf *out, enum pack_kind kind, const struct hash *base,
                    const struct hash *target, uint64_t pack_bytes, pack_read_at read, void *ctx,
                    struct err *err)
{
    AUTO_FREE uint64_t *sums = NULL;

    return pack_index_make_sums(out, kind, base, target, pack_bytes, read, ctx, &sums, err);
}

int pack_check_leaves(const struct pack_index *x, pack_read_at read, void *ctx, struct err *err)
{
    unsigned char *leaf = mem_alloc(LEAF_BYTES);
    int r = 0;

    for (size_t i = 0; r == 0 && i < x->nleaves; i++) {
        struct hash h;

        r = hash_leaf(x, i, read, ctx, leaf, &h, err);
        if (r == 0 && !hash_equal(&h, &x->leaves[i]))
            r = err_set(err, ERR_CORRUPT, "leaf %zu: its digest is not the index's", i);
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
