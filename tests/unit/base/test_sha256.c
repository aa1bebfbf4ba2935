#include "lib/check.h"

#include <openssl/sha.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/sha256.h"

/* The examples of FIPS 180-4 and of NIST's CAVS byte-oriented short messages. */
static const struct {
    const char *message;
    size_t len, times;
    const char *digest;
} vectors[] = {
    { "", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "abc", 3, 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 1,
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    { "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopq"
      "klmnopqrlmnopqrsmnopqrstnopqrstu",
      112, 1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
    { "a", 1, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
    { "\xd3", 1, 1, "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1" },
    { "\x74\xba\x25\x21", 4, 1,
      "b16aa56be3880d18cd41e68384cf1ec8c17680c45a02b1575dc1518923ae8b0e" },
};

static void digests_are_those_of_the_standard(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        struct sha256 *s = sha256_new();
        struct hash h;
        char hex[HASH_HEX];

        for (size_t n = 0; n < vectors[i].times; n++)
            sha256_add(s, vectors[i].message, vectors[i].len);
        h = sha256_done(s);
        assert_string_equal(hash_hex(&h, hex), vectors[i].digest);
        if (vectors[i].times == 1) {
            struct hash once = sha256_of(vectors[i].message, vectors[i].len);

            assert_true(hash_equal(&h, &once));
        }
        sha256_free(s);
    }
    sha256_free(NULL);
}

static void it_can_be_fed_in_any_portions_and_again(void **state)
{
    enum { LEN = 1000 };
    unsigned char data[LEN];
    struct sha256 *s = sha256_new();
    struct hash whole;

    (void)state;
    for (int i = 0; i < LEN; i++)
        data[i] = (unsigned char)(i * 7);
    whole = sha256_of(data, LEN);
    for (size_t portion = 1; portion < 200; portion += 13) {
        struct hash h;

        for (size_t at = 0; at < LEN; at += portion)
            sha256_add(s, data + at, LEN - at < portion ? LEN - at : portion);
        h = sha256_done(s);
        assert_true(hash_equal(&h, &whole));
    }
    sha256_free(s);
}

/* libcrypto's answer, which knows nothing of our code. */
static struct hash reference(const void *data, size_t len)
{
    struct hash h;

    SHA256(data, len, h.b);
    return h;
}

enum { ODD_LENGTHS = 300, MARGIN = 64 };

static unsigned char *noise(size_t len, uint64_t seed)
{
    unsigned char *data = mem_alloc(len);

    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        data[i] = (unsigned char)(seed >> 56);
    }
    return data;
}

static void any_length_at_any_address_is_as_libcrypto_says(void **state)
{
    unsigned char *data = noise(ODD_LENGTHS + MARGIN, 1);

    (void)state;
    for (size_t len = 0; len <= ODD_LENGTHS; len++) {
        for (size_t at = 0; at < MARGIN; at += len % 7 + 1) {
            struct hash ours = sha256_of(data + at, len), theirs = reference(data + at, len);

            assert_memory_equal(ours.b, theirs.b, HASH_BYTES);
        }
    }
    free(data);
}

/* A digest of everything and one of each stretch of 1000 bytes: as of a file and its segments. */
static void feed_two(bool libcrypto, const unsigned char *data, size_t len, size_t portion)
{
    struct sha256 *whole = sha256_new_by(libcrypto), *part = sha256_new_by(libcrypto);
    struct hash h, expected;
    enum { PART = 1000 };

    for (size_t at = 0; at < len;) {
        size_t end = (at / PART + 1) * PART < len ? (at / PART + 1) * PART : len;
        size_t n = end - at < portion ? end - at : portion;

        sha256_add_two(whole, data + at, n, part, data + at, n);
        at += n;
        if (at != end)
            continue;
        h = sha256_done(part);
        expected = reference(data + (end - 1) / PART * PART, end - (end - 1) / PART * PART);
        assert_memory_equal(h.b, expected.b, HASH_BYTES);
    }
    h = sha256_done(whole);
    expected = reference(data, len);
    assert_memory_equal(h.b, expected.b, HASH_BYTES);
    sha256_free(whole);
    sha256_free(part);
}

static void two_can_be_fed_in_any_portions(void **state)
{
    enum { LEN = 5000 };
    unsigned char *data = noise(LEN, 4);

    (void)state;
    for (size_t portion = 1; portion < 1100; portion += portion / 3 + 1) {
        feed_two(false, data, LEN, portion);
        feed_two(true, data, LEN, portion);
    }
    free(data);
}

/* Lengths that are equal, nearly equal and nothing alike, of fewer and of more than fit side by side. */
static void many_at_once_are_as_one_by_one(void **state)
{
    enum { MANY = 37, MOST = 40 * 64 };
    unsigned char *bytes = noise(MANY * MOST, 6);
    const unsigned char *data[MANY];
    size_t len[MANY];
    struct hash h[MANY];

    (void)state;
    for (size_t n = 0; n <= MANY; n++) {
        for (size_t spread = 0; spread < 3; spread++) {
            for (size_t i = 0; i < n; i++) {
                data[i] = bytes + i * MOST + i % 3;
                len[i] = spread == 0 ? MOST - 64 : spread == 1 ? MOST - 64 - i : i * i * 7 % MOST;
                len[i] -= len[i] > 2 ? 2 : 0;
            }
            sha256_of_many(data, len, n, h);
            for (size_t i = 0; i < n; i++) {
                struct hash expected = reference(data[i], len[i]);

                assert_memory_equal(h[i].b, expected.b, HASH_BYTES);
            }
        }
    }
    free(bytes);
}

static void a_copy_goes_its_own_way(void **state)
{
    enum { LEN = 500 };
    unsigned char *data = noise(LEN, 5);

    (void)state;
    for (size_t at = 0; at <= LEN; at += 31) {
        for (int libcrypto = 0; libcrypto < 2; libcrypto++) {
            struct sha256 *a = sha256_new_by(libcrypto), *b = sha256_new_by(libcrypto);
            struct hash ha, hb, expected = reference(data, LEN), shorter = reference(data, at);

            sha256_add(b, "what was there before", 21);
            sha256_add(a, data, at);
            sha256_copy(b, a);
            sha256_add(b, data + at, LEN - at);
            ha = sha256_done(a);
            hb = sha256_done(b);
            assert_memory_equal(ha.b, shorter.b, HASH_BYTES);
            assert_memory_equal(hb.b, expected.b, HASH_BYTES);
            sha256_free(a);
            sha256_free(b);
        }
    }
    free(data);
}

static void hashes_compare_as_their_bytes(void **state)
{
    struct hash zero = { { 0 } }, low = { { 0 } }, high = { { 0 } };

    (void)state;
    low.b[HASH_BYTES - 1] = 1;
    high.b[0] = 0x80;
    assert_true(hash_is_zero(&zero));
    assert_false(hash_is_zero(&low));
    assert_true(hash_compare(&zero, &low) < 0);
    assert_true(hash_compare(&high, &low) > 0);
    assert_int_equal(hash_compare(&high, &high), 0);
    assert_false(hash_equal(&high, &low));
}

static void parse_takes_64_digits_only(void **state)
{
    const char *text = vectors[1].digest;
    struct hash h, expected = sha256_of("abc", 3);
    char *wrong = mem_printf("%s0", text);

    (void)state;
    assert_true(hash_parse(&h, text));
    assert_true(hash_equal(&h, &expected));
    assert_false(hash_parse(&h, wrong));
    wrong[63] = '\0';
    assert_false(hash_parse(&h, wrong));
    assert_false(hash_parse(&h, ""));
    free(wrong);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_of_the_standard),
        cmocka_unit_test(it_can_be_fed_in_any_portions_and_again),
        cmocka_unit_test(any_length_at_any_address_is_as_libcrypto_says),
        cmocka_unit_test(two_can_be_fed_in_any_portions),
        cmocka_unit_test(many_at_once_are_as_one_by_one),
        cmocka_unit_test(a_copy_goes_its_own_way),
        cmocka_unit_test(hashes_compare_as_their_bytes),
        cmocka_unit_test(parse_takes_64_digits_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
