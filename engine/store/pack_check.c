#include "store/pack_check.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/mem.h"

static size_t together(const struct pack_index *x, size_t first)
{
    return x->nleaves - first < SHA256_TOGETHER ? x->nleaves - first : SHA256_TOGETHER;
}

/* Leaves first to first + n - 1; sums: as of checksum_of(), or NULL. room: for so many leaves. */
static int hash_leaves(const struct pack_index *x, size_t first, size_t n, pack_read_at read,
                       void *ctx, unsigned char *room, struct hash *ret, uint64_t *sums,
                       struct err *err)
{
    const unsigned char *data[SHA256_TOGETHER];
    size_t len[SHA256_TOGETHER];

    for (size_t k = 0; k < n; k++) {
        unsigned char *leaf = room + k * LEAF_BYTES;

        data[k] = leaf;
        len[k] = pack_leaf_bytes(x, first + k);
        if (read(ctx, leaf, len[k], (uint64_t)(first + k) * LEAF_BYTES, err) < 0)
            return -(int)err->code;
        if (sums != NULL)
            sums[k] = checksum_of(leaf, len[k]);
    }
    sha256_of_many(data, len, n, ret);
    return 0;
}

int pack_index_make_sums(struct buf *out, enum pack_kind kind, const struct hash *base,
                         const struct hash *target, uint64_t pack_bytes, pack_read_at read,
                         void *ctx, uint64_t **ret_sums, struct err *err)
{
    struct pack_index x = { .kind = kind, .base = *base, .target = *target, .bytes = pack_bytes };
    unsigned char *room;
    uint64_t *sums;
    int r = 0;

    x.nleaves = (size_t)((x.bytes - 1) / LEAF_BYTES + 1);
    if (x.nleaves > LEAVES_MAX)
        return err_set(err, ERR_LIMIT, "a pack of %zu leaves, at most %d may be", x.nleaves,
                       LEAVES_MAX);
    room = mem_realloc(NULL, together(&x, 0) * LEAF_BYTES);
    x.leaves = mem_calloc(x.nleaves, sizeof(*x.leaves));
    sums = mem_calloc(x.nleaves, sizeof(*sums));
    for (size_t i = 0; r == 0 && i < x.nleaves; i += SHA256_TOGETHER)
        r = hash_leaves(&x, i, together(&x, i), read, ctx, room, x.leaves + i, sums + i, err);
    if (r == 0)
        pack_index_encode(out, &x);
    if (r == 0)
        *ret_sums = sums;
    else
        free(sums);
    free(x.leaves);
    free(room);
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
    unsigned char *room = mem_realloc(NULL, together(x, 0) * LEAF_BYTES);
    struct hash h[SHA256_TOGETHER];
    int r = 0;

    for (size_t i = 0; r == 0 && i < x->nleaves; i += SHA256_TOGETHER) {
        size_t n = together(x, i);

        r = hash_leaves(x, i, n, read, ctx, room, h, NULL, err);
        for (size_t k = 0; r == 0 && k < n; k++) {
            if (!hash_equal(&h[k], &x->leaves[i + k]))
                r = err_set(err, ERR_CORRUPT, "leaf %zu: its SHA-256 is not the index's", i + k);
        }
    }
    free(room);
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
