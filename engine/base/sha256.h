/* sha256.h - SHA-256 digests: the name of every artifact, pack and release, and of what trees of digests
 * are made (merkle.h).
 *
 * FIPS 180-4, by the processor's SHA instructions (sha256_x86.h), else by libcrypto. With them, two
 * digests that are made side by side cost a third more than one: sha256_add_two() is for that. With
 * AVX-512 besides (sha256_lanes.h), sixteen cost a third of what they do one by one: sha256_of_many().
 * Where there are none, they do one after the other. */
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
struct hash sha256_done(struct sha256 *s);                      /* resets s for the next digest */
void sha256_copy(struct sha256 *to, const struct sha256 *from); /* both made by sha256_new() */

struct hash sha256_of(const void *data, size_t len);

/* a and b are not the same digest; their data may be, and is then read once. */
void sha256_add_two(struct sha256 *a, const void *data_a, size_t len_a, struct sha256 *b,
                    const void *data_b, size_t len_b);

/* n digests; best 16 at a time, of data of equal lengths. */
void sha256_of_many(const unsigned char *const *data, const size_t *len, size_t n,
                    struct hash *ret);

/* For tests: as sha256_new(), but by libcrypto whatever the processor is. */
struct sha256 *sha256_new_by(bool libcrypto);

bool hash_equal(const struct hash *a, const struct hash *b);
bool hash_is_zero(const struct hash *h);
int hash_compare(const struct hash *a, const struct hash *b);   /* as memcmp */
const char *hash_hex(const struct hash *h, char out[HASH_HEX]); /* gives out */
bool hash_parse(struct hash *h, const char *hex);               /* false unless 64 digits */

#endif
