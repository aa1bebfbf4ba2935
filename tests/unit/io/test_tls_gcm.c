/* AES-GCM as links have it: against published vectors, and against libcrypto's own. Where libipsec-mb or the
 * processor's instructions for it are missing both are libcrypto's, and the tests of what only ours refuses are
 * skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/tls_gcm.h"
#include "io/tls_seal.h"

enum { DATA_MAX = 17000, LENGTHS = 600, SPLITS_MAX = 6, RECORD_AAD = 5, SLACK = 64 };

static const char *const names[TLS_GCM_KEYS] = { "id-aes128-GCM", "id-aes256-GCM" };

/* One thing to seal or open. */
struct record {
    unsigned char key[32], iv[TLS_GCM_IV_BYTES], aad[TLS_GCM_AAD_MAX], tag[TLS_GCM_TAG_BYTES];
    size_t aad_len, len;
    unsigned char in[DATA_MAX + SLACK], out[DATA_MAX + SLACK];
};

static EVP_CIPHER *ours(const char *name)
{
    EVP_CIPHER *c = tls_seal_cipher(name);

    assert_non_null(c);
    return c;
}

static bool is_libcrypto(void)
{
    struct tls_gcm *g = tls_gcm_new();

    tls_gcm_free(g);
    return g == NULL;
}

static void skip_if_libcrypto(void)
{
    if (is_libcrypto())
        skip();
}

static uint32_t draw(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

static void fill(uint64_t *seed, unsigned char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (unsigned char)draw(seed);
}

/* With up to `splits` calls for the data and the additional data each, where they fall by seed; `out` may be `in`.
 * What final() said. As the record layer: the key is given by an earlier init. */
static int run(EVP_CIPHER_CTX *ctx, struct record *r, unsigned char *out, const unsigned char *in,
               bool seals, uint64_t seed, uint32_t splits)
{
    int n, done;

    assert_int_equal(EVP_CipherInit_ex(ctx, NULL, NULL, NULL, r->iv, seals), 1);
    if (!seals)
        assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof(r->tag), r->tag),
                         1);
    for (size_t at = 0, left = splits; at < r->aad_len; at += (size_t)n, left--) {
        n = (int)(left <= 1 ? r->aad_len - at : 1 + draw(&seed) % (r->aad_len - at));
        assert_int_equal(EVP_CipherUpdate(ctx, NULL, &done, r->aad + at, n), 1);
    }
    for (size_t at = 0, left = splits; at < r->len; at += (size_t)n, left--) {
        n = (int)(left <= 1 ? r->len - at : 1 + draw(&seed) % (r->len - at));
        assert_int_equal(EVP_CipherUpdate(ctx, out + at, &done, in + at, n), 1);
        assert_int_equal(done, n);
    }
    n = EVP_CipherFinal_ex(ctx, out + r->len, &done);
    assert_int_equal(done, 0);
    if (seals && n == 1)
        assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, sizeof(r->tag), r->tag),
                         1);
    return n;
}

static EVP_CIPHER_CTX *keyed(const EVP_CIPHER *cipher, const struct record *r, bool seals)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    assert_non_null(ctx);
    assert_int_equal(EVP_CipherInit_ex(ctx, cipher, NULL, NULL, NULL, seals), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, TLS_GCM_IV_BYTES, NULL), 1);
    assert_int_equal(EVP_CipherInit_ex(ctx, NULL, NULL, r->key, NULL, -1), 1);
    return ctx;
}

static size_t unhex(unsigned char *to, const char *hex)
{
    size_t len = strlen(hex) / 2;

    assert_true(hex_decode(to, len, hex));
    return len;
}

/* McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B: test cases 1 to 4 and 13 to 16. */
static void vectors_are_met(void **state)
{
#define KEY "feffe9928665731c6d6a8f9467308308"
#define TEXT                                                                               \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf" \
    "0e2449a6b525b16aedf5aa0de657ba637b39"
#define SEALED_128                                                                         \
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f" \
    "6a5aac84aa051ba30b396a0aac973d58e091"
#define SEALED_256                                                                         \
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b0" \
    "8b1056828838c5f61e6393ba7a0abcc9f662"
#define ZERO "00000000000000000000000000000000"
#define AAD "feedfacedeadbeeffeedfacedeadbeefabaddad2"
    static const struct {
        int which;
        const char *key, *iv, *aad, *text, *sealed, *tag;
    } cases[] = {
        { 0, ZERO, "000000000000000000000000", "", "", "", "58e2fccefa7e3061367f1d57a4e7455a" },
        { 0, ZERO, "000000000000000000000000", "", ZERO, "0388dace60b6a392f328c2b971b2fe78",
          "ab6e47d42cec13bdf53a67b21257bddf" },
        { 0, KEY, "cafebabefacedbaddecaf888", "", TEXT "1aafd255", SEALED_128 "473f5985",
          "4d5c2af327cd64a62cf35abd2ba6fab4" },
        { 0, KEY, "cafebabefacedbaddecaf888", AAD, TEXT, SEALED_128,
          "5bc94fbc3221a5db94fae95ae7121a47" },
        { 1, ZERO ZERO, "000000000000000000000000", "", "", "",
          "530f8afbc74536b9a963b4f1c4cb738b" },
        { 1, ZERO ZERO, "000000000000000000000000", "", ZERO, "cea7403d4d606b6e074ec5d3baf39d18",
          "d0d1c8a799996bf0265b98b5d48ab919" },
        { 1, KEY KEY, "cafebabefacedbaddecaf888", "", TEXT "1aafd255", SEALED_256 "898015ad",
          "b094dac5d93471bdec1a502270e3cc6c" },
        { 1, KEY KEY, "cafebabefacedbaddecaf888", AAD, TEXT, SEALED_256,
          "76fc6ece0f4e1768cddf8853bb2d551b" },
    };
    struct record *r = mem_alloc(sizeof(*r));

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned char sealed[64], tag[TLS_GCM_TAG_BYTES];
        EVP_CIPHER *cipher = ours(names[cases[i].which]);
        EVP_CIPHER_CTX *ctx;

        unhex(r->key, cases[i].key);
        unhex(r->iv, cases[i].iv);
        r->aad_len = unhex(r->aad, cases[i].aad);
        r->len = unhex(r->in, cases[i].text);
        unhex(sealed, cases[i].sealed);
        unhex(tag, cases[i].tag);
        ctx = keyed(cipher, r, true);
        assert_int_equal(run(ctx, r, r->out, r->in, true, 1, 1), 1);
        assert_memory_equal(r->out, sealed, r->len);
        assert_memory_equal(r->tag, tag, sizeof(tag));
        EVP_CIPHER_CTX_free(ctx);
        ctx = keyed(cipher, r, false);
        assert_int_equal(run(ctx, r, r->out, sealed, false, 1, 1), 1);
        assert_memory_equal(r->out, r->in, r->len);
        EVP_CIPHER_CTX_free(ctx);
        EVP_CIPHER_free(cipher);
    }
    free(r);
}

/* r is drawn; sealed by one and opened by the other, in place and not, whole and in parts. */
static void agree(EVP_CIPHER_CTX *const seal[2], EVP_CIPHER_CTX *const open[2], struct record *r,
                  uint64_t *seed)
{
    static unsigned char theirs[DATA_MAX + SLACK];
    unsigned char tag[TLS_GCM_TAG_BYTES];
    size_t off = draw(seed) % SLACK; /* buffers may begin anywhere */
    uint32_t splits = 1 + draw(seed) % SPLITS_MAX;

    fill(seed, r->iv, sizeof(r->iv));
    fill(seed, r->aad, r->aad_len);
    fill(seed, r->in + off, r->len);
    assert_int_equal(run(seal[1], r, theirs, r->in + off, true, *seed, 1), 1);
    memcpy(tag, r->tag, sizeof(tag));
    assert_int_equal(run(seal[0], r, r->out + off, r->in + off, true, *seed, splits), 1);
    assert_memory_equal(r->out + off, theirs, r->len);
    assert_memory_equal(r->tag, tag, sizeof(tag));
    assert_int_equal(run(open[1], r, theirs, r->out + off, false, *seed, 1), 1);
    assert_memory_equal(theirs, r->in + off, r->len);
    assert_int_equal(run(open[0], r, r->out + off, r->out + off, false, *seed, splits), 1);
    assert_memory_equal(r->out + off, r->in + off, r->len);
    assert_int_equal(run(seal[0], r, r->out + off, r->out + off, true, *seed, splits), 1);
    assert_memory_equal(r->tag, tag, sizeof(tag));
}

static void agrees_with_libcrypto(void **state)
{
    struct record *r = mem_alloc(sizeof(*r));
    uint64_t seed = 20;

    (void)state;
    for (int which = 0; which < TLS_GCM_KEYS; which++) {
        EVP_CIPHER *ciphers[] = { ours(names[which]), EVP_CIPHER_fetch(NULL, names[which], NULL) };
        EVP_CIPHER_CTX *seal[2], *open[2];

        fill(&seed, r->key, sizeof(r->key));
        for (int i = 0; i < 2; i++) {
            seal[i] = keyed(ciphers[i], r, true);
            open[i] = keyed(ciphers[i], r, false);
        }
        for (int n = 0; n < LENGTHS; n++) {
            r->aad_len = n % 3 == 0 ? draw(&seed) % (TLS_GCM_AAD_MAX + 1) : RECORD_AAD;
            r->len = n < LENGTHS / 2 ? (size_t)n : draw(&seed) % (DATA_MAX + 1);
            agree(seal, open, r, &seed);
        }
        for (int i = 0; i < 2; i++) {
            EVP_CIPHER_CTX_free(seal[i]);
            EVP_CIPHER_CTX_free(open[i]);
            EVP_CIPHER_free(ciphers[i]);
        }
    }
    free(r);
}

/* A sealed record that opens; each test harms it. */
static EVP_CIPHER_CTX *sealed_record(struct record *r, uint64_t seed)
{
    EVP_CIPHER *cipher = ours(names[seed % TLS_GCM_KEYS]);
    EVP_CIPHER_CTX *ctx;

    memset(r, 0, sizeof(*r));
    fill(&seed, r->key, sizeof(r->key));
    fill(&seed, r->iv, sizeof(r->iv));
    r->aad_len = RECORD_AAD;
    r->len = 1000;
    ctx = keyed(cipher, r, true);
    assert_int_equal(run(ctx, r, r->out, r->in, true, 1, 1), 1);
    EVP_CIPHER_CTX_free(ctx);
    ctx = keyed(cipher, r, false);
    EVP_CIPHER_free(cipher);
    return ctx;
}

static void what_was_changed_is_refused(void **state)
{
    struct record *r = mem_alloc(sizeof(*r));

    (void)state;
    for (uint64_t which = 0; which < TLS_GCM_KEYS; which++) {
        EVP_CIPHER_CTX *ctx = sealed_record(r, which);
        unsigned char *const places[] = { r->tag,       r->tag + TLS_GCM_TAG_BYTES - 1,
                                          r->aad,       r->out,
                                          r->out + 999, r->iv };
        int done;

        assert_int_equal(run(ctx, r, r->in, r->out, false, 1, 1), 1);
        for (size_t i = 0; i < COUNT_OF(places); i++) {
            *places[i] ^= 1;
            assert_int_equal(run(ctx, r, r->in, r->out, false, 1, 1), 0);
            *places[i] ^= 1;
            assert_int_equal(run(ctx, r, r->in, r->out, false, 1, 1), 1);
        }
        /* A tag is good for one record: the next must bring its own. */
        assert_int_equal(EVP_CipherInit_ex(ctx, NULL, NULL, NULL, r->iv, 0), 1);
        assert_int_equal(EVP_CipherUpdate(ctx, NULL, &done, r->aad, (int)r->aad_len), 1);
        assert_int_equal(EVP_CipherUpdate(ctx, r->in, &done, r->out, (int)r->len), 1);
        if (!is_libcrypto())
            assert_int_equal(EVP_CipherFinal_ex(ctx, r->in, &done), 0);
        EVP_CIPHER_CTX_free(ctx);
    }
    ERR_clear_error();
    free(r);
}

static void wrong_calls_are_refused(void **state)
{
    struct record *r;
    EVP_CIPHER_CTX *ctx;
    int done;

    (void)state;
    skip_if_libcrypto();
    r = mem_alloc(sizeof(*r));
    ctx = sealed_record(r, 0);
    assert_int_equal(run(ctx, r, r->in, r->out, false, 1, 1), 1);
    /* The IV is used up, for data, additional data and a second tag. */
    assert_int_equal(EVP_CipherUpdate(ctx, r->in, &done, r->out, 16), 0);
    assert_int_equal(EVP_CipherUpdate(ctx, NULL, &done, r->aad, 5), 0);
    assert_int_equal(EVP_CipherFinal_ex(ctx, r->in, &done), 0);
    /* Other lengths than TLS has. */
    assert_true(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, 16, NULL) <= 0);
    assert_true(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 12, r->tag) <= 0);
    assert_int_equal(EVP_CIPHER_CTX_set_key_length(ctx, 24), 0);
    /* Opening has no tag to give, sealing takes none, and gives it at the end. */
    assert_true(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, r->tag) <= 0);
    assert_int_equal(EVP_CipherInit_ex(ctx, NULL, NULL, NULL, r->iv, 1), 1);
    assert_true(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, r->tag) <= 0);
    assert_int_equal(EVP_CipherUpdate(ctx, r->out, &done, r->in, 16), 1);
    assert_true(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, r->tag) <= 0);
    /* Additional data after data; more of it than fits. */
    assert_int_equal(EVP_CipherUpdate(ctx, NULL, &done, r->aad, 5), 0);
    assert_int_equal(EVP_CipherInit_ex(ctx, NULL, NULL, NULL, r->iv, 1), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, NULL, &done, r->in, TLS_GCM_AAD_MAX), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, NULL, &done, r->in, 1), 0);
    EVP_CIPHER_CTX_free(ctx);
    ERR_clear_error();
    free(r);
}

static void a_key_is_needed_and_a_new_one_begins_anew(void **state)
{
    struct record *r;
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *ctx;
    int done;

    (void)state;
    skip_if_libcrypto();
    r = mem_alloc(sizeof(*r));
    cipher = ours(names[0]);
    ctx = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_CipherInit_ex(ctx, cipher, NULL, NULL, r->iv, 1), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, r->out, &done, r->in, 16), 0);
    assert_int_equal(EVP_CipherFinal_ex(ctx, r->out, &done), 0);
    /* The IV that was given before the key serves; one under which data went does not serve another key. */
    assert_int_equal(EVP_CipherInit_ex(ctx, NULL, NULL, r->key, NULL, 1), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, r->out, &done, r->in, 16), 1);
    assert_int_equal(EVP_CipherInit_ex(ctx, NULL, NULL, r->key, NULL, 1), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, r->out, &done, r->in, 16), 0);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    ERR_clear_error();
    free(r);
}

static void a_copy_goes_on_by_itself(void **state)
{
    struct record *r = mem_alloc(sizeof(*r));
    unsigned char tags[2][TLS_GCM_TAG_BYTES];
    EVP_CIPHER *cipher = ours(names[1]);
    EVP_CIPHER_CTX *ctx[2];
    uint64_t seed = 3;
    int done;

    (void)state;
    fill(&seed, r->in, 3000);
    ctx[0] = keyed(cipher, r, true);
    assert_int_equal(EVP_CipherInit_ex(ctx[0], NULL, NULL, NULL, r->iv, 1), 1);
    assert_int_equal(EVP_CipherUpdate(ctx[0], r->out, &done, r->in, 1001), 1);
    ctx[1] = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_CIPHER_CTX_copy(ctx[1], ctx[0]), 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(EVP_CipherUpdate(ctx[i], r->out + 1001, &done, r->in + 1001, 1999), 1);
        assert_int_equal(EVP_CipherFinal_ex(ctx[i], r->out, &done), 1);
        assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx[i], EVP_CTRL_AEAD_GET_TAG, 16, tags[i]), 1);
        EVP_CIPHER_CTX_free(ctx[i]);
    }
    assert_memory_equal(tags[0], tags[1], sizeof(tags[0]));
    EVP_CIPHER_free(cipher);
    free(r);
}

static void properties_are_those_of_an_aead(void **state)
{
    (void)state;
    for (int which = 0; which < TLS_GCM_KEYS; which++) {
        EVP_CIPHER *c = ours(names[which]);

        assert_int_equal(EVP_CIPHER_get_mode(c), EVP_CIPH_GCM_MODE);
        assert_int_equal(EVP_CIPHER_get_key_length(c), which == 0 ? 16 : 32);
        assert_int_equal(EVP_CIPHER_get_iv_length(c), TLS_GCM_IV_BYTES);
        assert_int_equal(EVP_CIPHER_get_block_size(c), 1);
        assert_true((EVP_CIPHER_get_flags(c) & EVP_CIPH_FLAG_AEAD_CIPHER) != 0);
        EVP_CIPHER_free(c);
    }
    assert_null(tls_seal_cipher("no such cipher"));
    ERR_clear_error();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_met),
        cmocka_unit_test(agrees_with_libcrypto),
        cmocka_unit_test(what_was_changed_is_refused),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(a_key_is_needed_and_a_new_one_begins_anew),
        cmocka_unit_test(a_copy_goes_on_by_itself),
        cmocka_unit_test(properties_are_those_of_an_aead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
