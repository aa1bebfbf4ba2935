#include "lib/check.h"

#include <stdio.h>

#include "wire/reference.h"

static const char *const hosts[] = { "127.0.0.1", "::1", "seed.example.com" };

static struct reference example(const char *host)
{
    struct reference r = { .port = 7000, .is_file = true };

    snprintf(r.host, sizeof(r.host), "%s", host);
    memset(r.artifact.b, 0x11, HASH_BYTES);
    memset(r.pack.b, 0x22, HASH_BYTES);
    memset(r.pin.b, 0x33, HASH_BYTES);
    memset(r.secret, 0x44, SECRET_BYTES);
    return r;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct reference r = example(hosts[i]), back;
        AUTO_BUF text = BUF_INIT;
        struct err err = ERR_INIT;

        r.is_file = i % 2 == 0;
        reference_write(&text, &r);
        assert_ok(reference_parse(&back, text.data, &err), &err);
        assert_string_equal(back.host, r.host);
        assert_int_equal(back.port, r.port);
        assert_int_equal(back.is_file, r.is_file);
        assert_true(hash_equal(&back.artifact, &r.artifact));
        assert_true(hash_equal(&back.pack, &r.pack));
        assert_true(hash_equal(&back.pin, &r.pin));
        assert_memory_equal(back.secret, r.secret, SECRET_BYTES);
    }
}

static void every_cut_and_addition_is_refused(void **state)
{
    struct reference r = example("10.0.0.1"), back;
    AUTO_BUF text = BUF_INIT;
    struct err err = ERR_INIT;

    (void)state;
    reference_write(&text, &r);
    for (size_t len = 0; len < text.len; len++) {
        AUTO_BUF cut = BUF_INIT;

        buf_append(&cut, text.data, len);
        assert_int_equal(reference_parse(&back, buf_str(&cut), &err), -ERR_INVALID);
    }
    buf_char(&text, '0');
    assert_int_equal(reference_parse(&back, text.data, &err), -ERR_INVALID);
}

static void nonsense_is_refused(void **state)
{
#define HEX32 "11111111111111111111111111111111"
#define REST "/file/" HEX32 HEX32 "/" HEX32 HEX32 "#" HEX32 HEX32 "." HEX32
    static const char *const cases[] = {
        "http://a:1" REST,
        "slipway://a" REST,
        "slipway://a:" REST,
        "slipway://a:0" REST,
        "slipway://a:65536" REST,
        "slipway://a:-1" REST,
        "slipway://:1" REST,
        "slipway://a:1x" REST,
        "slipway://a:1/dir/" HEX32 HEX32 "/" HEX32 HEX32 "#" HEX32 HEX32 "." HEX32,
        "slipway://a:1/file/g" HEX32 HEX32 "/" HEX32 HEX32 "#" HEX32 HEX32 "." HEX32,
    };
    struct reference back;
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(reference_parse(&back, "slipway://a:1" REST, &err), &err);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(reference_parse(&back, cases[i], &err), -ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(every_cut_and_addition_is_refused),
        cmocka_unit_test(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
