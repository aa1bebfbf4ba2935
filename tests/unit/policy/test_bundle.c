/* Bundles: what is required is found, named and limited. */
#include "unit/policy/asking.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "lib/tmpdir.h"
#include "policy/bundle.h"
#include "policy/requires.h"

static int setup(void **state)
{
    *state = mem_strdup(tmpdir_fresh());
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    tmpdir_write(path, text, strlen(text));
}

static int load(const char *dir, struct bundle **ret, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/web.lua", dir);
    return bundle_load(ret, path, err);
}

static void literal_requires_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *text, *found; /* "module:line " each */
    } cases[] = {
        { "", "" },
        { "require 'a'", "a:1 " },
        { "local x = require(\"a.b\")\n\nrequire ( 'c' )", "a.b:1 c:3 " },
        { "local x = require\n  'a'", "a:1 " },
        { "-- require 'a'\nrequire 'b'", "b:2 " },
        { "--[[ require 'a'\n]] require 'b'", "b:2 " },
        { "--[==[ ]] require 'a'\n]==] require 'b'", "b:2 " },
        { "local s = \"require 'a'\"", "" },
        { "local s = 'it\\'s require \"a\"'", "" },
        { "local s = [[ require 'a' ]] require 'b'", "b:1 " },
        { "local t = x[[=[a]=]] require 'b'", "b:1 " },
        { "t[1] = require 'b'", "b:1 " },
        { "x.require 'a' x:require 'a' requires 'a' _require 'a' require2 'a'", "" },
        { "require(name) require(f 'x')", "" },
        { "require 'a", "a:1 " },
        { "--[[ never ends require 'a'", "" },
        { "'", "" },
        { "\"\\", "" },
        { "[==", "" },
        { "require 'a' require 'a'", "a:1 a:1 " },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct requires r;
        char module[64];
        AUTO_BUF found = BUF_INIT;
        requires_init(&r, cases[i].text, strlen(cases[i].text));
        for (int line; requires_next(&r, module, sizeof(module), &line);)
            buf_printf(&found, "%s:%d ", module, line);
        assert_string_equal(buf_str(&found), cases[i].found);
    }
}

static void what_is_required_comes_along(void **state)
{
    const char *dir = *state;
    put(dir, "web.lua", "local s = require 'slipway' local a = require 'lib.a' return { x = a.x }");
    put(dir, "lib/a.lua", "return { x = require('b') .. require 'slipway.defaults'.y }");
    put(dir, "b.lua", "return 'b', require 'web'");
    struct err err = ERR_INIT;
    struct bundle *b, *copy;
    assert_ok(load(dir, &b, &err), &err);
    assert_string_equal(bundle_main(b), "web.lua");
    assert_non_null(bundle_file(b, "lib/a.lua", NULL));
    assert_non_null(bundle_file(b, "b.lua", NULL));
    assert_null(bundle_file(b, "slipway.lua", NULL));

    json_t *json = bundle_to_json(b);
    assert_int_equal(json_object_size(json_object_get(json, "files")), 3);
    assert_ok(bundle_from_json(&copy, json, &err), &err);
    struct hash one = bundle_hash(b), two = bundle_hash(copy);
    assert_true(hash_equal(&one, &two));
    json_decref(json);
    bundle_free(copy);
    bundle_free(b);

    put(dir, "b.lua", "return 'c'");
    assert_ok(load(dir, &b, &err), &err);
    two = bundle_hash(b);
    assert_false(hash_equal(&one, &two));
    bundle_free(b);
}

/* A module is run once, and sees what the others left in it. */
static void modules_are_evaluated_in_the_same_state(void **state)
{
    const char *dir = *state;
    put(dir, "web.lua",
        "local c = require 'c' c.n = c.n + 1 require 'd' "
        "return { service = 'x' .. require('c').n, ok = require 'nothing' }");
    put(dir, "c.lua", "return { n = 1 }");
    put(dir, "d.lua", "require('c').n = require('c').n + 10");
    put(dir, "nothing.lua", "");
    struct err err = ERR_INIT;
    struct bundle *b;
    assert_ok(load(dir, &b, &err), &err);
    struct evaluation e = { .bundle = b, .question = "data" };
    json_t *answer;
    assert_ok(eval_ask(&answer, &e, &err), &err);
    const json_t *data = json_object_get(answer, "data");
    assert_string_equal(json_string_value(json_object_get(data, "service")), "x12");
    assert_true(json_is_true(json_object_get(data, "ok")));
    json_decref(answer);
    bundle_free(b);
}

static void an_error_names_the_file_that_it_is_in(void **state)
{
    const char *dir = *state;
    put(dir, "web.lua", "return require 'helper'");
    put(dir, "helper.lua", "\nreturn nil + 1");
    struct err err = ERR_INIT;
    struct bundle *b;
    assert_ok(load(dir, &b, &err), &err);
    struct evaluation e = { .bundle = b, .question = "data" };
    json_t *answer;
    assert_error(eval_ask(&answer, &e, &err), ERR_POLICY, &err, "helper.lua:2: attempt to perform");
    bundle_free(b);
}

static void a_missing_file_is_named_with_its_line(void **state)
{
    const char *dir = *state;
    struct err err = ERR_INIT;
    struct bundle *b;
    assert_error(load(dir, &b, &err), ERR_NOT_FOUND, &err, "web.lua: ");
    assert_null(b);

    static const struct {
        const char *text, *error;
    } cases[] = {
        { "\n\nrequire 'x'", "web.lua:3: require 'x': no file x.lua beside the policy" },
        { "require 'x.y'", "web.lua:1: require 'x.y': no file x/y.lua beside the policy" },
        { "require '../x'", "web.lua:1: require '../x': no such module" },
        { "require '/etc/passwd'", "web.lua:1: require '/etc/passwd': no such module" },
        { "require '..x'", "web.lua:1: require '..x': no such module" },
        { "require 'x.'", "web.lua:1: require 'x.': no such module" },
        { "require ''", "web.lua:1: require '': no such module" },
        { "require 'slipway.testing'", "web.lua:1: require 'slipway.testing': no such module" },
        { "\x1bLuaS", "web.lua: is compiled Lua; only text is accepted" },
        { "return '\xff'", "web.lua: is not text in UTF-8" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put(dir, "web.lua", cases[i].text);
        assert_error(load(dir, &b, &err), ERR_POLICY, &err, cases[i].error);
        assert_null(b);
    }
    AUTO_FREE char *path = mem_printf("%s/policy.txt", dir);
    assert_error(bundle_load(&b, path, &err), ERR_POLICY, &err, "something.lua");
}

static void files_are_limited(void **state)
{
    const char *dir = *state;
    AUTO_BUF text = BUF_INIT;
    struct err err = ERR_INIT;
    struct bundle *b;
    while (text.len < POLICY_FILE_MAX_BYTES)
        buf_char(&text, '-');
    put(dir, "web.lua", text.data);
    assert_ok(load(dir, &b, &err), &err);
    bundle_free(b);
    buf_char(&text, '-');
    put(dir, "web.lua", text.data);
    assert_error(load(dir, &b, &err), ERR_POLICY, &err, "web.lua: longer than 64 KiB");

    buf_reset(&text);
    for (int i = 1; i <= POLICY_FILES_MAX; i++) {
        AUTO_FREE char *name = mem_printf("m%d.lua", i);
        buf_printf(&text, "require 'm%d'\n", i);
        put(dir, name, "");
    }
    put(dir, "web.lua", text.data);
    assert_error(load(dir, &b, &err), ERR_POLICY, &err,
                 "web.lua:64: require 'm64': more than 64 files");
}

static void a_bundle_from_outside_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum err_code code;
        const char *error;
    } cases[] = {
        { "[]", ERR_INVALID, "bundle: not an object" },
        { "{}", ERR_INVALID, "bundle: main: missing" },
        { "{\"main\":\"a.lua\"}", ERR_INVALID, "bundle: files: missing" },
        { "{\"main\":\"a.lua\",\"files\":{}}", ERR_INVALID, "bundle: main: no file a.lua" },
        { "{\"main\":\"a\",\"files\":{\"a\":\"\"}}", ERR_INVALID, "bundle: not a file name: a" },
        { "{\"main\":\"a.lua\",\"files\":{\"a.lua\":1}}", ERR_INVALID,
          "bundle: a.lua: not a text" },
        { "{\"main\":\"a.lua\",\"files\":{\"a.lua\":\"\",\"../b.lua\":\"\"}}", ERR_INVALID,
          "not a file name: ../b.lua" },
        { "{\"main\":\"a.lua\",\"files\":{\"a.lua\":\"\",\"x/../b.lua\":\"\"}}", ERR_INVALID,
          "not a file name: x/../b.lua" },
        { "{\"main\":\"/a.lua\",\"files\":{\"/a.lua\":\"\"}}", ERR_INVALID, "not a file name" },
        { "{\"main\":\"slipway/init.lua\",\"files\":{\"slipway/init.lua\":\"\"}}", ERR_INVALID,
          "not a file name" },
        { "{\"main\":\"a.lua\",\"files\":{\"a.lua\":\"\\u001bLua\"}}", ERR_POLICY,
          "a.lua: is compiled Lua" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_t *json = json_loads(cases[i].json, 0, NULL);
        struct bundle *b;
        struct err err = ERR_INIT;
        assert_non_null(json);
        assert_error(bundle_from_json(&b, json, &err), cases[i].code, &err, cases[i].error);
        assert_null(b);
        json_decref(json);
    }
    json_t *many = json_pack("{s:s,s:{s:s}}", "main", "a.lua", "files", "a.lua", "");
    for (int i = 0; i < POLICY_FILES_MAX; i++) {
        AUTO_FREE char *name = mem_printf("m%d.lua", i);
        json_object_set_new(json_object_get(many, "files"), name, json_string(""));
    }
    struct bundle *b;
    struct err err = ERR_INIT;
    assert_error(bundle_from_json(&b, many, &err), ERR_LIMIT, &err, "bundle: more than 64 files");
    json_decref(many);
    bundle_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literal_requires_are_found),
        cmocka_unit_test_setup_teardown(what_is_required_comes_along, setup, teardown),
        cmocka_unit_test_setup_teardown(modules_are_evaluated_in_the_same_state, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_names_the_file_that_it_is_in, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_file_is_named_with_its_line, setup, teardown),
        cmocka_unit_test_setup_teardown(files_are_limited, setup, teardown),
        cmocka_unit_test(a_bundle_from_outside_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
