#include "base/sha256_lanes.h"

#include <stdlib.h>

#ifdef __x86_64__

/* The order of the sums below is how long a round takes. */
#ifndef __clang__
#pragma GCC optimize("no-tree-reassoc")
#endif

#include <immintrin.h>

#define LANES __attribute__((target("avx512f,avx512bw")))
#define LANES_INLINE __attribute__((target("avx512f,avx512bw"), always_inline)) static inline

enum { WORDS = 16 /* of a block */ };

/* What vpternlogd does with three bits: the bit of this number that they are the index of. */
enum { BY_XOR = 0x96, BY_CHOICE = 0xca, BY_MAJORITY = 0xe8 };

/* One word of each state. */
struct states {
    __m512i a, b, c, d, e, f, g, h;
};

LANES_INLINE __m512i sum(__m512i a, __m512i b)
{
    return _mm512_add_epi32(a, b);
}

LANES_INLINE __m512i xor3(__m512i a, __m512i b, __m512i c)
{
    return _mm512_ternarylogic_epi32(a, b, c, BY_XOR);
}

LANES_INLINE __m512i big_sigma_0(__m512i x)
{
    return xor3(_mm512_ror_epi32(x, 2), _mm512_ror_epi32(x, 13), _mm512_ror_epi32(x, 22));
}

LANES_INLINE __m512i big_sigma_1(__m512i x)
{
    return xor3(_mm512_ror_epi32(x, 6), _mm512_ror_epi32(x, 11), _mm512_ror_epi32(x, 25));
}

LANES_INLINE __m512i small_sigma_0(__m512i x)
{
    return xor3(_mm512_ror_epi32(x, 7), _mm512_ror_epi32(x, 18), _mm512_srli_epi32(x, 3));
}

LANES_INLINE __m512i small_sigma_1(__m512i x)
{
    return xor3(_mm512_ror_epi32(x, 17), _mm512_ror_epi32(x, 19), _mm512_srli_epi32(x, 10));
}

/* The next round waits for e and a: what they alone are needed for comes last in the sums. */
LANES_INLINE struct states round_of(struct states s, __m512i w, uint32_t k)
{
    __m512i t = sum(sum(sum(s.h, _mm512_set1_epi32((int)k)), w),
                    _mm512_ternarylogic_epi32(s.e, s.f, s.g, BY_CHOICE));
    __m512i s1 = big_sigma_1(s.e);
    __m512i m = sum(t, _mm512_ternarylogic_epi32(s.a, s.b, s.c, BY_MAJORITY));

    return (struct states){ .a = sum(sum(m, s1), big_sigma_0(s.a)),
                            .b = s.a,
                            .c = s.b,
                            .d = s.c,
                            .e = sum(sum(s.d, t), s1),
                            .f = s.e,
                            .g = s.f,
                            .h = s.g };
}

LANES_INLINE struct states add_states(struct states x, struct states y)
{
    return (struct states){ sum(x.a, y.a), sum(x.b, y.b), sum(x.c, y.c), sum(x.d, y.d),
                            sum(x.e, y.e), sum(x.f, y.f), sum(x.g, y.g), sum(x.h, y.h) };
}

/* From rows of sixteen words to columns: first within quarters of the registers, then the quarters. */
LANES_INLINE void transpose(__m512i w[WORDS])
{
    __m512i t[WORDS];

#pragma GCC unroll 4
    for (int i = 0; i < WORDS; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(w[i], w[i + 1]);
        __m512i b = _mm512_unpackhi_epi32(w[i], w[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(w[i + 2], w[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(w[i + 2], w[i + 3]);

        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x44);
        __m512i b = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xee);
        __m512i c = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x44);
        __m512i d = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xee);

        w[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        w[4 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
        w[8 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
        w[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* Word i of a block of each, which has them big-endian. */
LANES_INLINE void load_words(__m512i w[WORDS], const unsigned char *const data[SHA256_LANES],
                             size_t at)
{
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));

#pragma GCC unroll 16
    for (int i = 0; i < SHA256_LANES; i++)
        w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(data[i] + at), order);
    transpose(w);
}

LANES_INLINE struct states block_of(struct states s, __m512i w[WORDS])
{
#pragma GCC unroll 16
    for (int i = 0; i < WORDS; i++)
        s = round_of(s, w[i], sha256_constants[i]);
    for (int r = WORDS; r < SHA256_ROUNDS; r += WORDS) {
#pragma GCC unroll 16
        for (int i = 0; i < WORDS; i++) {
            w[i] = sum(sum(w[i], w[(i + 9) % WORDS]),
                       sum(small_sigma_0(w[(i + 1) % WORDS]), small_sigma_1(w[(i + 14) % WORDS])));
            s = round_of(s, w[i], sha256_constants[r + i]);
        }
    }
    return s;
}

LANES static void sixteen(__m512i h[SHA256_WORDS], const unsigned char *const data[SHA256_LANES],
                          size_t blocks)
{
    struct states s = { h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7] };

    for (size_t at = 0; at < blocks * SHA256_BLOCK; at += SHA256_BLOCK) {
        __m512i w[WORDS];

        load_words(w, data, at);
        s = add_states(s, block_of(s, w));
    }
    h[0] = s.a;
    h[1] = s.b;
    h[2] = s.c;
    h[3] = s.d;
    h[4] = s.e;
    h[5] = s.f;
    h[6] = s.g;
    h[7] = s.h;
}

LANES void sha256_lanes(uint32_t *const *h, const unsigned char *const *data, size_t n,
                        size_t blocks)
{
    const unsigned char *all[SHA256_LANES];
    uint32_t words[SHA256_WORDS][SHA256_LANES];
    __m512i states[SHA256_WORDS];

    for (size_t i = 0; i < SHA256_LANES;
         i++) { /* lanes that are not needed do what the first does */
        all[i] = data[i < n ? i : 0];
        for (size_t k = 0; k < SHA256_WORDS; k++)
            words[k][i] = h[i < n ? i : 0][k];
    }
    for (size_t k = 0; k < SHA256_WORDS; k++)
        states[k] = _mm512_loadu_si512(words[k]);
    sixteen(states, all, blocks);
    for (size_t k = 0; k < SHA256_WORDS; k++)
        _mm512_storeu_si512(words[k], states[k]);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < SHA256_WORDS; k++)
            h[i][k] = words[k][i];
}

bool sha256_lanes_there(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

#else

bool sha256_lanes_there(void)
{
    return false;
}

void sha256_lanes(uint32_t *const *h, const unsigned char *const *data, size_t n, size_t blocks)
{
    (void)h;
    (void)data;
    (void)n;
    (void)blocks;
    abort();
}

#endif
