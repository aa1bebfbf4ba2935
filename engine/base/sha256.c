#include "base/sha256.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "base/sha256_lanes.h"
#include "base/sha256_x86.h"

struct sha256 {
    uint32_t h[SHA256_WORDS];
    uint64_t bytes;                    /* so far */
    unsigned char block[SHA256_BLOCK]; /* the last bytes % SHA256_BLOCK of them */
    EVP_MD_CTX *ctx;                   /* NULL: computed here */
};

static void check(int ok)
{
    if (ok != 1)
        abort(); /* libcrypto fails here only when it is out of memory or broken */
}

static void start(struct sha256 *s)
{
    static const uint32_t initial[SHA256_WORDS] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
    };

    memcpy(s->h, initial, sizeof(initial));
    s->bytes = 0;
}

struct sha256 *sha256_new_by(bool libcrypto)
{
    struct sha256 *s = mem_calloc(1, sizeof(*s));

    start(s);
    if (!libcrypto && sha256_x86_there())
        return s;
    s->ctx = EVP_MD_CTX_new();
    check(s->ctx != NULL);
    check(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
    return s;
}

struct sha256 *sha256_new(void)
{
    return sha256_new_by(false);
}

void sha256_free(struct sha256 *s)
{
    if (s == NULL)
        return;
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

void sha256_copy(struct sha256 *to, const struct sha256 *from)
{
    EVP_MD_CTX *ctx = to->ctx;

    *to = *from;
    to->ctx = ctx;
    if (ctx != NULL)
        check(EVP_MD_CTX_copy_ex(ctx, from->ctx));
}

/* Completes a block that was begun; gives how many bytes that took. */
static size_t fill(struct sha256 *s, const unsigned char *data, size_t len)
{
    size_t have = (size_t)(s->bytes % SHA256_BLOCK);
    size_t n = have == 0 ? 0 : SHA256_BLOCK - have;

    n = n < len ? n : len;
    if (n > 0)
        memcpy(s->block + have, data, n);
    if (n > 0 && have + n == SHA256_BLOCK)
        sha256_x86_one(s->h, s->block, 1);
    s->bytes += n;
    return n;
}

/* What begins at a block's begin. */
static void add_blocks(struct sha256 *s, const unsigned char *data, size_t len)
{
    size_t blocks = len / SHA256_BLOCK, rest = len % SHA256_BLOCK;

    if (blocks > 0)
        sha256_x86_one(s->h, data, blocks);
    if (rest > 0)
        memcpy(s->block, data + (len - rest), rest);
    s->bytes += len;
}

void sha256_add(struct sha256 *s, const void *data, size_t len)
{
    size_t n;

    if (s->ctx != NULL) {
        check(EVP_DigestUpdate(s->ctx, data, len));
        return;
    }
    n = fill(s, data, len);
    if (n < len)
        add_blocks(s, (const unsigned char *)data + n, len - n);
}

void sha256_add_two(struct sha256 *a, const void *data_a, size_t len_a, struct sha256 *b,
                    const void *data_b, size_t len_b)
{
    const unsigned char *x = data_a, *y = data_b;
    size_t n, blocks;

    if (a->ctx != NULL || b->ctx != NULL) {
        sha256_add(a, x, len_a);
        sha256_add(b, y, len_b);
        return;
    }
    n = fill(a, x, len_a);
    len_a -= n;
    x += n;
    n = fill(b, y, len_b);
    len_b -= n;
    y += n;
    blocks = (len_a < len_b ? len_a : len_b) / SHA256_BLOCK;
    n = blocks * SHA256_BLOCK;
    if (blocks > 0)
        sha256_x86_two(a->h, x, b->h, y, blocks);
    a->bytes += n;
    b->bytes += n;
    if (len_a > n)
        add_blocks(a, x + n, len_a - n);
    if (len_b > n)
        add_blocks(b, y + n, len_b - n);
}

/* ---- many ---- */

/* Whole blocks for one digest. */
struct lane {
    struct sha256 *s;
    const unsigned char *data;
    size_t blocks;
};

/* As many blocks into each of n digests as all of them have. */
static void add_side_by_side(struct lane *const *of, size_t n)
{
    const unsigned char *data[SHA256_LANES];
    uint32_t *h[SHA256_LANES];
    size_t blocks = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        data[i] = of[i]->data;
        h[i] = of[i]->s->h;
        blocks = of[i]->blocks < blocks ? of[i]->blocks : blocks;
    }
    if (n == 1)
        sha256_x86_one(h[0], data[0], blocks);
    else if (n == 2)
        sha256_x86_two(h[0], data[0], h[1], data[1], blocks);
    else
        sha256_lanes(h, data, n, blocks);
    for (size_t i = 0; i < n; i++) {
        of[i]->data += blocks * SHA256_BLOCK;
        of[i]->blocks -= blocks;
        of[i]->s->bytes += blocks * SHA256_BLOCK;
    }
}

static void add_lanes(struct lane *lanes, size_t n)
{
    bool wide = sha256_lanes_there();

    for (;;) {
        struct lane *left[SHA256_LANES];
        size_t nleft = 0;

        for (size_t i = 0; i < n; i++) {
            if (lanes[i].blocks > 0)
                left[nleft++] = &lanes[i];
        }
        if (nleft == 0)
            return;
        if (nleft > 2 && (!wide || nleft < SHA256_LANES_MIN))
            nleft = 2;
        add_side_by_side(left, nleft);
    }
}

static void put_big_endian(unsigned char *out, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(v >> (8 * (bytes - 1 - i)));
}

/* A one bit, zeros, and the length in bits at the end of the last block. */
static struct hash finish(struct sha256 *s)
{
    unsigned char tail[2 * SHA256_BLOCK] = { 0 };
    size_t have = (size_t)(s->bytes % SHA256_BLOCK);
    size_t len = have + 1 + 8 <= SHA256_BLOCK ? SHA256_BLOCK : 2 * SHA256_BLOCK;
    struct hash h;

    memcpy(tail, s->block, have);
    tail[have] = 0x80;
    put_big_endian(tail + len - 8, s->bytes * 8, 8);
    sha256_x86_one(s->h, tail, len / SHA256_BLOCK);
    for (size_t i = 0; i < SHA256_WORDS; i++)
        put_big_endian(h.b + 4 * i, s->h[i], 4);
    return h;
}

struct hash sha256_done(struct sha256 *s)
{
    struct hash h;

    if (s->ctx != NULL) {
        check(EVP_DigestFinal_ex(s->ctx, h.b, NULL));
        check(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
        return h;
    }
    h = finish(s);
    start(s);
    return h;
}

struct hash sha256_of(const void *data, size_t len)
{
    struct sha256 s = { .ctx = NULL };
    struct hash h;

    if (!sha256_x86_there()) {
        SHA256(data, len, h.b);
        return h;
    }
    start(&s);
    sha256_add(&s, data, len);
    return finish(&s);
}

/* n: at most SHA256_LANES. */
static void of_some(const unsigned char *const *data, const size_t *len, size_t n, struct hash *ret)
{
    struct sha256 digests[SHA256_LANES];
    struct lane lanes[SHA256_LANES];

    for (size_t i = 0; i < n; i++) {
        digests[i].ctx = NULL;
        start(&digests[i]);
        lanes[i] = (struct lane){ &digests[i], data[i], len[i] / SHA256_BLOCK };
    }
    add_lanes(lanes, n);
    for (size_t i = 0; i < n; i++) {
        add_blocks(&digests[i], lanes[i].data, len[i] % SHA256_BLOCK);
        ret[i] = finish(&digests[i]);
    }
}

void sha256_of_many(const unsigned char *const *data, const size_t *len, size_t n, struct hash *ret)
{
    for (size_t i = 0; i < n && !sha256_x86_there(); i++)
        ret[i] = sha256_of(data[i], len[i]);
    for (size_t i = 0; i < n && sha256_x86_there(); i += SHA256_LANES)
        of_some(data + i, len + i, n - i < SHA256_LANES ? n - i : SHA256_LANES, ret + i);
}

bool hash_equal(const struct hash *a, const struct hash *b)
{
    return memcmp(a->b, b->b, HASH_BYTES) == 0;
}

bool hash_is_zero(const struct hash *h)
{
    static const struct hash zero;

    return hash_equal(h, &zero);
}

int hash_compare(const struct hash *a, const struct hash *b)
{
    return memcmp(a->b, b->b, HASH_BYTES);
}

const char *hash_hex(const struct hash *h, char out[HASH_HEX])
{
    hex_encode(out, h->b, HASH_BYTES);
    return out;
}

bool hash_parse(struct hash *h, const char *hex)
{
    return hex_decode(h->b, HASH_BYTES, hex);
}
