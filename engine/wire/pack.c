#include "wire/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { HEAD_BYTES = 4 + 1 + HASH_BYTES + HASH_BYTES + 8 + 4 };

static void put_number(struct buf *out, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++)
        buf_char(out, (char)(unsigned char)(v >> (8 * i)));
}

static uint64_t number(const unsigned char *b, size_t width)
{
    uint64_t v = 0;

    for (size_t i = 0; i < width; i++)
        v |= (uint64_t)b[i] << (8 * i);
    return v;
}

void pack_index_encode(struct buf *out, const struct pack_index *p)
{
    buf_str_append(out, "SLI2");
    buf_char(out, (char)p->kind);
    buf_append(out, p->base.b, HASH_BYTES);
    buf_append(out, p->target.b, HASH_BYTES);
    put_number(out, p->bytes, 8);
    put_number(out, p->nleaves, 4);
    buf_append(out, p->leaves, p->nleaves * sizeof(*p->leaves));
}

static int check(const struct pack_index *p, size_t len, struct err *err)
{
    if (p->kind != PACK_FULL && p->kind != PACK_DELTA)
        return err_set(err, ERR_INVALID, "pack index: unknown kind %d", (int)p->kind);
    if (hash_is_zero(&p->base) != (p->kind == PACK_FULL))
        return err_set(err, ERR_INVALID, "pack index: a delta has a base, a full pack has none");
    if (p->nleaves > LEAVES_MAX)
        return err_set(err, ERR_LIMIT, "pack index: %zu leaves, at most %d may be", p->nleaves,
                       LEAVES_MAX);
    if (p->bytes == 0 || (p->bytes - 1) / LEAF_BYTES + 1 != p->nleaves)
        return err_set(err, ERR_INVALID, "pack index: %llu bytes are not %zu leaves",
                       (unsigned long long)p->bytes, p->nleaves);
    if (len != HEAD_BYTES + p->nleaves * HASH_BYTES)
        return err_set(err, ERR_INVALID, "pack index: %zu bytes long, %zu leaves take %zu", len,
                       p->nleaves, HEAD_BYTES + p->nleaves * HASH_BYTES);
    return 0;
}

int pack_index_parse(struct pack_index **ret, const void *data, size_t len, struct err *err)
{
    const unsigned char *b = data;
    struct pack_index p = { 0 };
    int r;

    if (len < HEAD_BYTES)
        return err_set(err, ERR_INVALID, "pack index: ends after %zu bytes", len);
    if (memcmp(b, "SLI1", 4) == 0)
        return err_set(err, ERR_INVALID,
                       "pack index: of the older format SLI1, only SLI2 is read: publish it anew");
    if (memcmp(b, "SLI2", 4) != 0)
        return err_set(err, ERR_INVALID, "pack index: does not begin with SLI2");
    p.kind = b[4];
    memcpy(p.base.b, b + 5, HASH_BYTES);
    memcpy(p.target.b, b + 5 + HASH_BYTES, HASH_BYTES);
    p.bytes = number(b + 5 + 2 * HASH_BYTES, 8);
    p.nleaves = (size_t)number(b + 13 + 2 * HASH_BYTES, 4);
    r = check(&p, len, err);
    if (r < 0)
        return r;
    p.leaves = mem_dup(b + HEAD_BYTES, p.nleaves * HASH_BYTES);
    *ret = mem_dup(&p, sizeof(p));
    return 0;
}

void pack_index_free(struct pack_index *p)
{
    if (p == NULL)
        return;
    free(p->leaves);
    free(p);
}

size_t pack_leaf_bytes(const struct pack_index *p, size_t leaf)
{
    uint64_t left = p->bytes - (uint64_t)leaf * LEAF_BYTES;

    return left < LEAF_BYTES ? (size_t)left : LEAF_BYTES;
}
