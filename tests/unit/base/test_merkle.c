#include "lib/check.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/merkle.h"

/* Made by Python's hashlib:
 *     H = lambda b: hashlib.sha256(b).digest()
 *     data = bytes(((i * 2654435761) & 0xffffffff) >> 24 for i in range(4 << 20))
 *     def leaf(b): return H(b''.join(H(b[i:i+16384]) for i in range(0, len(b), 16384)))
 *     def segment(b): return H(b''.join(leaf(b[i:i+262144]) for i in range(0, len(b), 262144))) */
struct vector {
    size_t len; /* of data, from its begin */
    const char *digest;
};

static const struct vector leaves[] = {
    { 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { 1, "1406e05881e299367766d313e26c05564ec91bf721d31726bd6e46e60689539a" },
    { 16383, "8a94782a312e78c84698c5b3089a77688f7dccf61f513a26344c04f8ac1f50ba" },
    { 16384, "f5b92cb7f41357b257848a2bb1dbab8189a65a7eb7081f00f9c022de3893e982" },
    { 16385, "2d66247c6787cceae3a9218e2d6f4099511b2e61ae0561a9757f5a7bd47a0d18" },
    { 49157, "c69fbac2e6d11fe5bb12461d52c2eaf391c7f8603b91b4e354a620c8778bbf1f" },
    { 131072, "ac73d4a6881d01982c88e8b72b40fd7c1cdec88b31bff20f9ff0b07eeb744192" },
    { 262143, "8fe3c9459b521180fc912e43c6c827c0c701739da5b227d1047b17e0f9240c40" },
    { 262144, "ca3c6974383817bec093e17de1d8605aa998f6a430cb7f053cb871b0c8975b4c" },
};

static const struct vector segments[] = {
    { 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { 1, "47cad9cacddd2f4e6ab5d175046f5d62dfad13d05060fb6cca786899a0b45aa7" },
    { 262144, "199a7f375e90cf1751a807f7fa4dcf86179095f748e7e649c74b7fa607532fa2" },
    { 262145, "44dafe539bf58a102cb09239c6b93e734f7364828e3754b6c5db0d993ede0cc8" },
    { 786439, "2cb2533e78b4f6d713c980bdbc55910782870a9f578fec762a5e0af4f352dd61" },
    { 4194303, "3575a5c3b3848d895af426e208ef206ce1bbdae7bae72f8934deb0a9671b89fa" },
    { 4194304, "ce0d1102b1b16da3b6cec4b1bc264bdaddbc9931e56d19bd1ceacc407ac520b3" },
};

static unsigned char *make_data(void)
{
    unsigned char *data = mem_alloc(MERKLE_SEGMENT_BYTES);

    for (uint32_t i = 0; i < MERKLE_SEGMENT_BYTES; i++)
        data[i] = (unsigned char)((i * 2654435761U) >> 24);
    return data;
}

static void leaves_are_lists_of_chunks(void **state)
{
    unsigned char *data = make_data();
    char hex[HASH_HEX];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(leaves); i++) {
        struct hash h = merkle_leaf(data, leaves[i].len);

        assert_string_equal(hash_hex(&h, hex), leaves[i].digest);
    }
    free(data);
}

static void segments_are_lists_of_leaves(void **state)
{
    unsigned char *data = make_data();
    char hex[HASH_HEX];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(segments); i++) {
        struct hash h = merkle_segment(data, segments[i].len);

        assert_string_equal(hash_hex(&h, hex), segments[i].digest);
    }
    free(data);
}

static void a_segment_follows_from_its_leaves(void **state)
{
    unsigned char *data = make_data();
    struct hash of[MERKLE_FANOUT], h, whole;

    (void)state;
    for (size_t n = 1; n <= MERKLE_FANOUT; n++) {
        size_t last = n * 1000;

        of[n - 1] = merkle_leaf(data + (n - 1) * MERKLE_LEAF_BYTES, last);
        h = merkle_segment_of(of, n);
        whole = merkle_segment(data, (n - 1) * MERKLE_LEAF_BYTES + last);
        assert_true(hash_equal(&h, &whole));
        of[n - 1] = merkle_leaf(data + (n - 1) * MERKLE_LEAF_BYTES, MERKLE_LEAF_BYTES);
    }
    of[3].b[7] ^= 1;
    whole = merkle_segment(data, MERKLE_SEGMENT_BYTES);
    h = merkle_segment_of(of, MERKLE_FANOUT);
    assert_false(hash_equal(&h, &whole));
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_are_lists_of_chunks),
        cmocka_unit_test(segments_are_lists_of_leaves),
        cmocka_unit_test(a_segment_follows_from_its_leaves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
