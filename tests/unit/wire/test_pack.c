#include <stdlib.h>

#include "base/mem.h"
#include "lib/check.h"
#include "wire/pack.h"

static struct hash leaves[3];

static struct pack_index sample(void)
{
    struct pack_index p = {
        .kind = PACK_FULL, .bytes = 2 * LEAF_BYTES + 1, .leaves = leaves, .nleaves = 3
    };

    memset(&p.target, 7, sizeof(p.target));
    return p;
}

static void test_round_trip(void **state)
{
    struct pack_index p = sample();
    struct pack_index *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    pack_index_encode(&b, &p);
    assert_ok(pack_index_parse(&back, b.data, b.len, &err), &err);
    assert_int_equal(back->kind, PACK_FULL);
    assert_int_equal(back->bytes, p.bytes);
    assert_int_equal(back->nleaves, 3);
    assert_memory_equal(&back->target, &p.target, sizeof(p.target));
    assert_int_equal(pack_leaf_bytes(back, 1), LEAF_BYTES);
    assert_int_equal(pack_leaf_bytes(back, 2), 1);
    for (size_t len = 0; len < b.len; len++) {
        struct pack_index *none = NULL;
        char *exact = mem_dup(b.data, len);

        assert_error(pack_index_parse(&none, exact, len, &err), ERR_INVALID, &err, "pack index");
        free(exact);
    }
    pack_index_free(back);
    pack_index_free(NULL);
}

static void refuse(const struct pack_index *p, enum err_code code, const char *part)
{
    struct pack_index *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    pack_index_encode(&b, p);
    assert_error(pack_index_parse(&back, b.data, b.len, &err), code, &err, part);
    assert_null(back);
}

static void test_malformed(void **state)
{
    struct pack_index p = sample();

    (void)state;
    p.kind = PACK_NONE;
    refuse(&p, ERR_INVALID, "unknown kind 0");
    p.kind = PACK_DELTA;
    refuse(&p, ERR_INVALID, "a delta has a base");
    p = sample();
    p.base.b[0] = 1;
    refuse(&p, ERR_INVALID, "a full pack has none");
    p = sample();
    p.bytes = 0;
    refuse(&p, ERR_INVALID, "0 bytes are not 3 leaves");
    p.bytes = 2 * LEAF_BYTES;
    refuse(&p, ERR_INVALID, "524288 bytes are not 3 leaves");
    p.bytes = UINT64_MAX;
    refuse(&p, ERR_INVALID, "bytes are not 3 leaves");
}

static void test_claims_are_checked_before_memory_is_taken(void **state)
{
    struct pack_index p = sample();
    struct pack_index *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    pack_index_encode(&b, &p);
    memset(b.data + 77, 0xff, 4);
    assert_error(pack_index_parse(&back, b.data, b.len, &err), ERR_LIMIT, &err,
                 "4294967295 leaves");
    memcpy(b.data, "SLI3", 4);
    assert_error(pack_index_parse(&back, b.data, b.len, &err), ERR_INVALID, &err, "SLI2");
    memcpy(b.data, "SLI1", 4);
    assert_error(pack_index_parse(&back, b.data, b.len, &err), ERR_INVALID, &err, "older format");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_claims_are_checked_before_memory_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
