/* sha256.h - SHA-256 digests: the name of every artifact, pack, release and segment.
 * FIPS 180-4, computed by libcrypto (which uses the processor's SHA instructions). */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>

enum { HASH_BYTES = 32, HASH_HEX = 65 }; /* HASH_HEX counts the NUL */

struct hash {
    unsigned char b[HASH_BYTES];
};

struct sha256; /* a digest in the making */

struct sha256 *sha256_new(void);
void sha256_free(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
struct hash sha256_done(struct sha256 *s); /* resets s for the next digest */

struct hash sha256_of(const void *data, size_t len);

bool hash_equal(const struct hash *a, const struct hash *b);
bool hash_is_zero(const struct hash *h);
int hash_compare(const struct hash *a, const struct hash *b);   /* as memcmp */
const char *hash_hex(const struct hash *h, char out[HASH_HEX]); /* gives out */
bool hash_parse(struct hash *h, const char *hex);               /* false unless 64 digits */

#endif
