#include "base/sha256_x86.h"

const uint32_t sha256_constants[SHA256_ROUNDS] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Clang 14 does not know the feature by name; it builds fuzzers alone. */
#if defined(__x86_64__) && !defined(__clang__)

#include <immintrin.h>

#define SHA __attribute__((target("sha,sse4.1")))
#define SHA_INLINE __attribute__((target("sha,sse4.1"), always_inline)) static inline

/* The state as the instructions want it: two registers of four words, the highest first. */
struct pair {
    __m128i abef, cdgh;
};

/* The last 16 words of the message schedule. */
struct schedule {
    __m128i w[4];
};

SHA_INLINE struct pair load_state(const uint32_t h[SHA256_WORDS])
{
    return (struct pair){ _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]),
                          _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]) };
}

SHA_INLINE void store_state(uint32_t h[SHA256_WORDS], struct pair s)
{
    h[0] = (uint32_t)_mm_extract_epi32(s.abef, 3);
    h[1] = (uint32_t)_mm_extract_epi32(s.abef, 2);
    h[4] = (uint32_t)_mm_extract_epi32(s.abef, 1);
    h[5] = (uint32_t)_mm_extract_epi32(s.abef, 0);
    h[2] = (uint32_t)_mm_extract_epi32(s.cdgh, 3);
    h[3] = (uint32_t)_mm_extract_epi32(s.cdgh, 2);
    h[6] = (uint32_t)_mm_extract_epi32(s.cdgh, 1);
    h[7] = (uint32_t)_mm_extract_epi32(s.cdgh, 0);
}

/* Four big-endian words. */
SHA_INLINE __m128i load_words(const unsigned char *data)
{
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)data), order);
}

/* The four words that follow these sixteen. */
SHA_INLINE __m128i next_words(__m128i w0, __m128i w1, __m128i w2, __m128i w3)
{
    __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));

    return _mm_sha256msg2_epu32(sum, w3);
}

SHA_INLINE __m128i constant(unsigned round)
{
    return _mm_load_si128((const __m128i *)(const void *)(sha256_constants + round));
}

SHA_INLINE struct pair four_rounds(struct pair s, __m128i wk)
{
    s.cdgh = _mm_sha256rnds2_epu32(s.cdgh, s.abef, wk);
    s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32(wk, 0x0e));
    return s;
}

SHA_INLINE struct pair add_states(struct pair a, struct pair b)
{
    return (struct pair){ _mm_add_epi32(a.abef, b.abef), _mm_add_epi32(a.cdgh, b.cdgh) };
}

SHA void sha256_x86_one(uint32_t h[SHA256_WORDS], const unsigned char *data, size_t n)
{
    struct pair s = load_state(h);

    for (; n > 0; n--, data += SHA256_BLOCK) {
        struct pair before = s;
        __m128i w0 = load_words(data), w1 = load_words(data + 16);
        __m128i w2 = load_words(data + 32), w3 = load_words(data + 48);

#pragma GCC unroll 4
        for (unsigned round = 0; round < 64; round += 16) {
            s = four_rounds(s, _mm_add_epi32(w0, constant(round)));
            s = four_rounds(s, _mm_add_epi32(w1, constant(round + 4)));
            s = four_rounds(s, _mm_add_epi32(w2, constant(round + 8)));
            s = four_rounds(s, _mm_add_epi32(w3, constant(round + 12)));
            if (round == 48)
                break;
            w0 = next_words(w0, w1, w2, w3);
            w1 = next_words(w1, w2, w3, w0);
            w2 = next_words(w2, w3, w0, w1);
            w3 = next_words(w3, w0, w1, w2);
        }
        s = add_states(s, before);
    }
    store_state(h, s);
}

/* Four rounds of both. */
SHA_INLINE void both(struct pair *a, __m128i wa, struct pair *b, __m128i wb, unsigned round)
{
    __m128i k = constant(round);

    *a = four_rounds(*a, _mm_add_epi32(wa, k));
    *b = four_rounds(*b, _mm_add_epi32(wb, k));
}

/* same: the blocks are the same bytes; known when it is compiled. */
SHA_INLINE void two(struct pair *a, const unsigned char *x, struct pair *b, const unsigned char *y,
                    size_t n, bool same)
{
    for (; n > 0; n--, x += SHA256_BLOCK, y += SHA256_BLOCK) {
        struct pair a0 = *a, b0 = *b;
        __m128i v0 = load_words(x), v1 = load_words(x + 16);
        __m128i v2 = load_words(x + 32), v3 = load_words(x + 48);
        __m128i w0 = same ? v0 : load_words(y), w1 = same ? v1 : load_words(y + 16);
        __m128i w2 = same ? v2 : load_words(y + 32), w3 = same ? v3 : load_words(y + 48);

#pragma GCC unroll 4
        for (unsigned round = 0; round < 64; round += 16) {
            both(a, v0, b, w0, round);
            both(a, v1, b, w1, round + 4);
            both(a, v2, b, w2, round + 8);
            both(a, v3, b, w3, round + 12);
            if (round == 48)
                break;
            v0 = next_words(v0, v1, v2, v3);
            w0 = same ? v0 : next_words(w0, w1, w2, w3);
            v1 = next_words(v1, v2, v3, v0);
            w1 = same ? v1 : next_words(w1, w2, w3, w0);
            v2 = next_words(v2, v3, v0, v1);
            w2 = same ? v2 : next_words(w2, w3, w0, w1);
            v3 = next_words(v3, v0, v1, v2);
            w3 = same ? v3 : next_words(w3, w0, w1, w2);
        }
        *a = add_states(*a, a0);
        *b = add_states(*b, b0);
    }
}

SHA void sha256_x86_two(uint32_t ha[SHA256_WORDS], const unsigned char *a,
                        uint32_t hb[SHA256_WORDS], const unsigned char *b, size_t n)
{
    struct pair x = load_state(ha), y = load_state(hb);

    if (a == b)
        two(&x, a, &y, b, n, true);
    else
        two(&x, a, &y, b, n, false);
    store_state(ha, x);
    store_state(hb, y);
}

bool sha256_x86_there(void)
{
    return __builtin_cpu_supports("sha") && __builtin_cpu_supports("sse4.1");
}

#else

#include <stdlib.h>

bool sha256_x86_there(void)
{
    return false;
}

void sha256_x86_one(uint32_t h[SHA256_WORDS], const unsigned char *data, size_t n)
{
    (void)h;
    (void)data;
    (void)n;
    abort();
}

void sha256_x86_two(uint32_t ha[SHA256_WORDS], const unsigned char *a, uint32_t hb[SHA256_WORDS],
                    const unsigned char *b, size_t n)
{
    (void)ha;
    (void)a;
    (void)hb;
    (void)b;
    (void)n;
    abort();
}

#endif
