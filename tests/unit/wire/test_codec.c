#include <stdlib.h>

#include "base/mem.h"
#include "lib/check.h"
#include "wire/codec.h"
#include "wire/utf8.h"

struct inner {
    uint32_t n;
    char *name;
};

struct outer {
    uint8_t a;
    uint16_t b;
    uint64_t c;
    struct hash h;
    char *text;
    struct bytes raw;
    struct list_of list;
};

static const struct field inner_fields[] = {
    { "n", FIELD_U32, offsetof(struct inner, n), 0, NULL },
    { "name", FIELD_TEXT, offsetof(struct inner, name), 4, NULL },
};
static const struct codec inner_codec = { "inner", sizeof(struct inner), inner_fields, 2 };
static const struct field outer_fields[] = {
    { "a", FIELD_U8, offsetof(struct outer, a), 0, NULL },
    { "b", FIELD_U16, offsetof(struct outer, b), 0, NULL },
    { "c", FIELD_U64, offsetof(struct outer, c), 0, NULL },
    { "h", FIELD_HASH, offsetof(struct outer, h), 0, NULL },
    { "text", FIELD_TEXT, offsetof(struct outer, text), 8, NULL },
    { "raw", FIELD_BYTES, offsetof(struct outer, raw), 8, NULL },
    { "list", FIELD_LIST, offsetof(struct outer, list), 3, &inner_codec },
};
static const struct codec outer_codec = { "outer", sizeof(struct outer), outer_fields, 7 };

enum { AT_TEXT = 1 + 2 + 8 + 32 };

static char text[] = "caf\303\251";
static char name[] = "ab";
static unsigned char raw[] = { 0, 1, 2 };

static struct outer sample(struct inner items[2])
{
    struct outer o = { .a = 1, .b = 0x0203, .c = 0x0405060708090a0bULL, .text = text };

    items[0] = (struct inner){ 7, name };
    items[1] = (struct inner){ 8, NULL };
    o.h.b[0] = 0xee;
    o.raw = (struct bytes){ raw, 3 };
    o.list = (struct list_of){ items, 2 };
    return o;
}

static void test_round_trip(void **state)
{
    struct inner items[2];
    struct outer o = sample(items);
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    struct outer *back = NULL;
    const struct inner *in;
    void *p = NULL;

    (void)state;
    assert_ok(codec_encode(&b, &outer_codec, &o, &err), &err);
    assert_memory_equal(b.data, "\1\3\2\13\12\11\10\7\6\5\4\356", 12); /* little-endian */
    assert_ok(codec_decode(&p, &outer_codec, b.data, b.len, &err), &err);
    back = p;
    in = back->list.items;
    assert_int_equal(back->b, 0x0203);
    assert_int_equal(back->c, o.c);
    assert_memory_equal(&back->h, &o.h, sizeof(o.h));
    assert_string_equal(back->text, text);
    assert_int_equal(back->raw.len, 3);
    assert_memory_equal(back->raw.data, raw, 3);
    assert_int_equal(back->list.count, 2);
    assert_int_equal(in[0].n, 7);
    assert_string_equal(in[0].name, "ab");
    assert_string_equal(in[1].name, "");
    codec_free(&outer_codec, back);
    codec_free(&outer_codec, NULL);
}

static void test_every_short_input_is_refused(void **state)
{
    struct inner items[2];
    struct outer o = sample(items);
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    void *p = NULL;

    (void)state;
    assert_ok(codec_encode(&b, &outer_codec, &o, &err), &err);
    for (size_t len = 0; len < b.len; len++) {
        char *exact = mem_dup(b.data, len); /* so that ASan sees a read behind it */

        assert_error(codec_decode(&p, &outer_codec, exact, len, &err), ERR_INVALID, &err,
                     "decode outer");
        free(exact);
    }
    buf_char(&b, 'x');
    assert_error(codec_decode(&p, &outer_codec, b.data, b.len, &err), ERR_INVALID, &err,
                 "1 bytes left over");
    assert_null(p);
}

static void refuse_with(size_t at, const char *bytes, size_t len, enum err_code code,
                        const char *part)
{
    struct inner items[2];
    struct outer o = sample(items);
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    void *p = NULL;

    assert_ok(codec_encode(&b, &outer_codec, &o, &err), &err);
    memcpy(b.data + at, bytes, len);
    assert_error(codec_decode(&p, &outer_codec, b.data, b.len, &err), code, &err, part);
}

static void test_malformed_inputs(void **state)
{
    size_t at_list = AT_TEXT + 4 + 5 + 4 + 3;

    (void)state;
    refuse_with(AT_TEXT, "\11", 1, ERR_LIMIT, "text: claims 9, the limit is 8");
    refuse_with(AT_TEXT, "\377\377\377\377", 4, ERR_LIMIT, "text: claims 4294967295");
    refuse_with(AT_TEXT + 4, "\0", 1, ERR_INVALID, "text: not valid UTF-8");
    refuse_with(AT_TEXT + 8, "x", 1, ERR_INVALID, "text: not valid UTF-8");
    refuse_with(AT_TEXT + 9, "\11", 1, ERR_LIMIT, "raw: claims 9");
    refuse_with(at_list, "\4", 1, ERR_LIMIT, "list: claims 4, the limit is 3");
    refuse_with(at_list, "\3", 1, ERR_INVALID, "list: claims 3 elements in 18 bytes");
    refuse_with(at_list + 8, "\5", 1, ERR_LIMIT, "list[0]: name: claims 5");
    refuse_with(at_list + 12, "\200", 1, ERR_INVALID, "list[0]: name: not valid UTF-8");
}

static void test_encode_limits(void **state)
{
    static char long_text[] = "123456789";
    static char bad_text[] = "\377";
    struct inner items[4] = { { 0, NULL } };
    struct outer o = { .text = long_text };
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    buf_str_append(&b, "kept");
    assert_error(codec_encode(&b, &outer_codec, &o, &err), ERR_LIMIT, &err, "text: 9 bytes");
    o.text = bad_text;
    assert_error(codec_encode(&b, &outer_codec, &o, &err), ERR_INVALID, &err, "text: not valid");
    o.text = NULL;
    o.list = (struct list_of){ items, 4 };
    assert_error(codec_encode(&b, &outer_codec, &o, &err), ERR_LIMIT, &err, "list: 4 elements");
    o.list.count = 1;
    items[0].name = long_text;
    assert_error(codec_encode(&b, &outer_codec, &o, &err), ERR_LIMIT, &err, "list[0]: name");
    assert_string_equal(b.data, "kept");
    assert_int_equal(b.len, 4);
}

static void test_utf8(void **state)
{
    static const struct {
        const char *bytes;
        bool valid;
    } cases[] = {
        { "", true },
        { "abc", true },
        { "\303\251\342\202\254\360\237\222\251", true },
        { "\364\217\277\277", true },  /* U+10FFFF */
        { "\364\220\200\200", false }, /* above */
        { "\300\200", false },         /* long form of NUL */
        { "\340\200\200", false },
        { "\360\200\200\200", false },
        { "\355\240\200", false }, /* surrogate */
        { "\200", false },
        { "\303", false },
        { "\303(", false },
        { "\370\210\200\200\200", false },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(utf8_valid(cases[i].bytes, strlen(cases[i].bytes)), cases[i].valid);
    assert_false(utf8_valid("a\0b", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_short_input_is_refused),
        cmocka_unit_test(test_malformed_inputs),
        cmocka_unit_test(test_encode_limits),
        cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
