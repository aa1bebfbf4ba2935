#include "base/checksum.h"

#include <string.h>

/* Eight independent chains keep the processor busy; each step is a bijection of the chain's state for given
 * bytes, and of the bytes for a given state. */
enum { LANES = 8, WORDS_BLOCK = LANES * 8, AES_BLOCK = LANES * 16 };

static const uint64_t factor = 0x9e3779b97f4a7c15; /* odd; 2^64 over the golden ratio */

static inline uint64_t step(uint64_t state, uint64_t word)
{
    uint64_t product = (state ^ word) * factor;

    return product ^ product >> 32;
}

static inline void add_words(uint64_t lanes[LANES], const unsigned char *block)
{
    uint64_t words[LANES];

    memcpy(words, block, sizeof(words));
    for (int i = 0; i < LANES; i++)
        lanes[i] = step(lanes[i], words[i]);
}

uint64_t checksum_by_words(const void *data, size_t len)
{
    uint64_t lanes[LANES] = { 1, 2, 3, 4, 5, 6, 7, 8 }, sum = len;
    unsigned char rest[WORDS_BLOCK] = { 0 };
    const unsigned char *at = data;

    for (size_t left = len / WORDS_BLOCK; left > 0; left--, at += WORDS_BLOCK)
        add_words(lanes, at);
    if (len % WORDS_BLOCK > 0) {
        memcpy(rest, at, len % WORDS_BLOCK);
        add_words(lanes, rest);
    }
    for (int i = 0; i < LANES; i++)
        sum = step(sum, lanes[i]);
    return sum;
}

#ifdef __x86_64__

#include <immintrin.h>

#define AES __attribute__((target("aes")))
#define AES_INLINE __attribute__((target("aes"), always_inline)) static inline

AES_INLINE void add_aes(__m128i lanes[LANES], const unsigned char *block)
{
    const __m128i *at = (const __m128i *)(const void *)block;

    for (int i = 0; i < LANES; i++)
        lanes[i] = _mm_aesenc_si128(lanes[i], _mm_loadu_si128(at + i));
}

/* Three rounds after the last byte: each bit of it reaches every bit of the sum. */
AES_INLINE uint64_t fold(const __m128i lanes[LANES], size_t len)
{
    __m128i sum = _mm_set_epi64x((long long)factor, (long long)len);
    const __m128i none = _mm_setzero_si128();

    for (int i = 0; i < LANES; i++)
        sum = _mm_aesenc_si128(sum, lanes[i]);
    for (int i = 0; i < 3; i++)
        sum = _mm_aesenc_si128(sum, none);
    return (uint64_t)_mm_cvtsi128_si64(sum);
}

AES static uint64_t by_aes(const unsigned char *at, size_t len)
{
    unsigned char rest[AES_BLOCK] = { 0 };
    __m128i lanes[LANES];

    for (int i = 0; i < LANES; i++)
        lanes[i] = _mm_set_epi64x((long long)factor, i);
    for (size_t left = len / AES_BLOCK; left > 0; left--, at += AES_BLOCK)
        add_aes(lanes, at);
    if (len % AES_BLOCK > 0) {
        memcpy(rest, at, len % AES_BLOCK);
        add_aes(lanes, rest);
    }
    return fold(lanes, len);
}

uint64_t checksum_of(const void *data, size_t len)
{
    return __builtin_cpu_supports("aes") ? by_aes(data, len) : checksum_by_words(data, len);
}

#else

uint64_t checksum_of(const void *data, size_t len)
{
    return checksum_by_words(data, len);
}

#endif
