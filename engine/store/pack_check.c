#include "store/pack_check.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/mem.h"

/* Leaves i and, if there is one, i + 1 into two. */
static int hash_leaves(struct pack_index *x, size_t i, pack_read_at read, void *ctx,
                       unsigned char *two, uint64_t *sums, struct err *err)
{
    size_t n = i + 1 < x->nleaves ? 2 : 1, len[2] = { 0, 0 };
    struct hash h[2];

    for (size_t k = 0; k < n; k++) {
        len[k] = pack_leaf_bytes(x, i + k);
        if (read(ctx, two + k * LEAF_BYTES, len[k], (uint64_t)(i + k) * LEAF_BYTES, err) < 0)
            return -(int)err->code;
        sums[i + k] = checksum_of(two + k * LEAF_BYTES, len[k]);
    }
    if (n == 2)
        sha256_of_two(two, len[0], two + LEAF_BYTES, len[1], h);
    else
        h[0] = sha256_of(two, len[0]);
    memcpy(&x->leaves[i], h, n * sizeof(h[0]));
    return 0;
}

int pack_index_make_sums(struct buf *out, enum pack_kind kind, const struct hash *base,
                         const struct hash *target, uint64_t pack_bytes, pack_read_at read,
                         void *ctx, uint64_t **ret_sums, struct err *err)
{
    struct pack_index x = { .kind = kind, .base = *base, .target = *target, .bytes = pack_bytes };
    unsigned char *two;
    uint64_t *sums;
    int r = 0;

    x.nleaves = (size_t)((x.bytes - 1) / LEAF_BYTES + 1);
    if (x.nleaves > LEAVES_MAX)
        return err_set(err, ERR_LIMIT, "a pack of %zu leaves, at most %d may be", x.nleaves,
                       LEAVES_MAX);
    two = mem_alloc(2 * (size_t)LEAF_BYTES);
    x.leaves = mem_calloc(x.nleaves, sizeof(*x.leaves));
    sums = mem_calloc(x.nleaves, sizeof(*sums));
    for (size_t i = 0; r == 0 && i < x.nleaves; i += 2)
        r = hash_leaves(&x, i, read, ctx, two, sums, err);
    if (r == 0)
        pack_index_encode(out, &x);
    if (r == 0)
        *ret_sums = sums;
    else
        free(sums);
    free(x.leaves);
    free(two);
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
