#include "lib/check.h"

#include "base/hex.h"

static void encodes_lower_case(void **state)
{
    char out[9];

    (void)state;
    hex_encode(out, "\x00\x9a\xff\x10", 4);
    assert_string_equal(out, "009aff10");
    hex_encode(out, "", 0);
    assert_string_equal(out, "");
}

static void decodes_what_it_encodes(void **state)
{
    unsigned char all[256], back[256];
    char text[513];

    (void)state;
    for (int i = 0; i < 256; i++)
        all[i] = (unsigned char)i;
    hex_encode(text, all, sizeof(all));
    assert_true(hex_decode(back, sizeof(back), text));
    assert_memory_equal(all, back, sizeof(all));
    assert_true(hex_decode(back, 2, "Ab9F"));
    assert_memory_equal(back, "\xab\x9f", 2);
    assert_true(hex_decode(back, 0, ""));
}

static void refuses_anything_else(void **state)
{
    static const char *const wrong[] = {
        "", "0", "00", "001", "00112", "0011 ", " 0011", "001g", "00:1", "00/1", "001@", "001`",
    };
    unsigned char out[2];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(hex_decode(out, sizeof(out), wrong[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_lower_case),
        cmocka_unit_test(decodes_what_it_encodes),
        cmocka_unit_test(refuses_anything_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
