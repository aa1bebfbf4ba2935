#include "base/sha256.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"

struct sha256 {
    EVP_MD_CTX *ctx;
};

static void check(int ok)
{
    if (ok != 1)
        abort(); /* libcrypto fails here only when it is out of memory or broken */
}

struct sha256 *sha256_new(void)
{
    struct sha256 *s = mem_alloc(sizeof(*s));

    s->ctx = EVP_MD_CTX_new();
    check(s->ctx != NULL);
    check(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
    return s;
}

void sha256_free(struct sha256 *s)
{
    if (s == NULL)
        return;
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

void sha256_add(struct sha256 *s, const void *data, size_t len)
{
    check(EVP_DigestUpdate(s->ctx, data, len));
}

struct hash sha256_done(struct sha256 *s)
{
    struct hash h;

    check(EVP_DigestFinal_ex(s->ctx, h.b, NULL));
    check(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
    return h;
}

struct hash sha256_of(const void *data, size_t len)
{
    struct hash h;

    SHA256(data, len, h.b);
    return h;
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
