#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "build/recipe.h"

#define SHA "0123456789abcdef0123456789abcdef01234567"
#define HEAD "{\"v\":1,\"service\":\"web\",\"repo\":\"/r\",\"sha\":\"" SHA "\","
#define OUT "\"outputs\":{\"default\":\"out\"}}"

static void whole(void **state)
{
    static const char text[] = HEAD
        "\"steps\":["
        "{\"name\":\"a\",\"run\":[\"make\",\"-j2\"],\"env\":{\"K\":\"v=1\"},\"dir\":\"./sub/\","
        "\"timeout\":7,\"silence\":3,\"network\":true,\"max_log_bytes\":100},"
        "{\"name\":\"b\",\"run\":[\"x\"]},"
        "{\"name\":\"c\",\"run\":[\"y\"],\"needs\":[\"a\"],\"dir\":\".\"},"
        "{\"name\":\"d\",\"run\":[\"z\"],\"needs\":[]}],"
        "\"outputs\":{\"amd64\":\"./out/bin/x/\"},\"deadline\":60,\"max_output_bytes\":5}";
    struct err err = ERR_INIT;
    struct recipe *r;

    (void)state;
    assert_ok(recipe_parse(&r, text, &err), &err);
    assert_string_equal(r->service, "web");
    assert_string_equal(r->repo, "/r");
    assert_string_equal(r->sha, SHA);
    assert_int_equal(r->deadline_ms, 60000);
    assert_int_equal(r->max_output_bytes, 5);
    assert_int_equal(r->nsteps, 4);
    assert_string_equal(r->steps[0].argv[1], "-j2");
    assert_null(r->steps[0].argv[2]);
    assert_string_equal(r->steps[0].env[0], "K=v=1");
    assert_null(r->steps[0].env[1]);
    assert_string_equal(r->steps[0].dir, "sub");
    assert_int_equal(r->steps[0].timeout_ms, 7000);
    assert_int_equal(r->steps[0].silence_ms, 3000);
    assert_true(r->steps[0].network);
    assert_int_equal(r->steps[0].max_log_bytes, 100);
    assert_int_equal(r->steps[0].nneeds, 0);
    assert_int_equal(r->steps[1].nneeds, 1);
    assert_int_equal(r->steps[1].needs[0], 0);
    assert_false(r->steps[1].network);
    assert_string_equal(r->steps[1].dir, ".");
    assert_int_equal(r->steps[1].timeout_ms, 600000);
    assert_int_equal(r->steps[1].silence_ms, 300000);
    assert_int_equal(r->steps[1].max_log_bytes, 16 << 20);
    assert_int_equal(r->steps[2].nneeds, 1);
    assert_int_equal(r->steps[2].needs[0], 0);
    assert_int_equal(r->steps[3].nneeds, 0);
    assert_int_equal(r->noutputs, 1);
    assert_string_equal(r->outputs[0].variant, "amd64");
    assert_string_equal(r->outputs[0].path, "out/bin/x");
    recipe_free(r);
    recipe_free(NULL);
}

static void smallest(void **state)
{
    struct err err = ERR_INIT;
    struct recipe *r;

    (void)state;
    assert_ok(recipe_parse(&r, HEAD "\"steps\":[],\"outputs\":{\"default\":\".\"}}", &err), &err);
    assert_int_equal(r->nsteps, 0);
    assert_string_equal(r->outputs[0].path, ".");
    assert_int_equal(r->deadline_ms, 900000);
    recipe_free(r);
}

struct bad {
    const char *text;
    enum err_code code;
    const char *says;
};

#define STEP(fields) HEAD "\"steps\":[{\"name\":\"a\",\"run\":[\"x\"]}," fields "]," OUT

static const struct bad cases[] = {
    { "", ERR_INVALID, "recipe: not JSON" },
    { "[]", ERR_INVALID, "recipe: not an object" },
    { "{}", ERR_INVALID, "v: missing" },
    { "{\"v\":2}", ERR_INVALID, "v: 2 is not in" },
    { "{\"v\":1,\"servic\":\"x\"}", ERR_INVALID, "servic" },
    { "{\"v\":1,\"service\":\"../x\",\"repo\":\"r\",\"sha\":\"" SHA "\"}", ERR_INVALID, "service" },
    { "{\"v\":1,\"service\":\"x\",\"repo\":\"\",\"sha\":\"" SHA "\"}", ERR_INVALID, "repo" },
    { "{\"v\":1,\"service\":\"x\",\"repo\":\"r\",\"sha\":\"HEAD\"}", ERR_INVALID,
      "sha: 'HEAD' is not a commit" },
    { "{\"v\":1,\"service\":\"x\",\"repo\":\"r\",\"sha\":\"0123456789ABCDEF0123456789abcdef"
      "01234567\"}",
      ERR_INVALID, "sha" },
    { HEAD "\"deadline\":0}", ERR_INVALID, "deadline: 0" },
    { HEAD "\"max_output_bytes\":-1}", ERR_INVALID, "max_output_bytes" },
    { HEAD OUT, ERR_INVALID, "steps: missing" },
    { HEAD "\"steps\":7," OUT, ERR_INVALID, "steps" },
    { HEAD "\"steps\":[]}", ERR_INVALID, "outputs: none" },
    { HEAD "\"steps\":[],\"outputs\":{}}", ERR_INVALID, "outputs: none" },
    { HEAD "\"steps\":[],\"outputs\":{\"a/b\":\"x\"}}", ERR_INVALID, "variant" },
    { HEAD "\"steps\":[],\"outputs\":{\"a\":7}}", ERR_INVALID, "outputs: a: not a text" },
    { HEAD "\"steps\":[],\"outputs\":{\"a\":\"\"}}", ERR_INVALID, "outputs: a: " },
    { HEAD "\"steps\":[],\"outputs\":{\"a\":\"/etc\"}}", ERR_INVALID,
      "'/etc' is not below the checkout" },
    { HEAD "\"steps\":[],\"outputs\":{\"a\":\"/\"}}", ERR_INVALID, "outputs: a: " },
    { HEAD "\"steps\":[],\"outputs\":{\"a\":\"x/../../y\"}}", ERR_INVALID, "outputs: a: " },
    { HEAD "\"steps\":[],\"outputs\":{\"a\":\"..\"}}", ERR_INVALID, "outputs: a: " },
    { STEP("7"), ERR_INVALID, "step 2: not an object" },
    { STEP("{}"), ERR_INVALID, "step 2: name: missing" },
    { STEP("{\"name\":\"\",\"run\":[\"x\"]}"), ERR_INVALID, "is empty" },
    { STEP("{\"name\":\"a\",\"run\":[\"x\"]}"), ERR_INVALID, "'a' is taken" },
    { STEP("{\"name\":\"b\",\"sh\":\"x\"}"), ERR_INVALID, "step 2: unknown field 'sh'" },
    { STEP("{\"name\":\"b\"}"), ERR_INVALID, "step 'b': run: missing" },
    { STEP("{\"name\":\"b\",\"run\":\"make\"}"), ERR_INVALID, "step 'b': run" },
    { STEP("{\"name\":\"b\",\"run\":[]}"), ERR_INVALID, "run: empty" },
    { STEP("{\"name\":\"b\",\"run\":[\"\"]}"), ERR_INVALID, "no name" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\",7]}"), ERR_INVALID, "argument 2 is not a text" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"env\":\"x\"}"), ERR_INVALID, "env: not an" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"env\":{\"A=B\":\"x\"}}"), ERR_INVALID,
      "'A=B' is no name" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"env\":{\"A\":1}}"), ERR_INVALID,
      "env: A: not a text" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"needs\":[\"b\"]}"), ERR_INVALID,
      "no step 'b' above" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"needs\":[7]}"), ERR_INVALID, "needs" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"needs\":\"a\"}"), ERR_INVALID, "needs" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"dir\":\"../x\"}"), ERR_INVALID, "dir" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"dir\":7}"), ERR_INVALID, "dir: not a text" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"timeout\":0}"), ERR_INVALID, "timeout" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"silence\":\"5m\"}"), ERR_INVALID, "silence" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"network\":1}"), ERR_INVALID, "network" },
    { STEP("{\"name\":\"b\",\"run\":[\"a\"],\"max_log_bytes\":0}"), ERR_INVALID, "max_log_bytes" },
};

static void bad_input(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct recipe *r;

        if (recipe_parse(&r, cases[i].text, &err) != -(int)cases[i].code ||
            strstr(err.text, cases[i].says) == NULL)
            fail_msg("%s: %s: %s", cases[i].text, err_name(err.code), err.text);
        assert_null(r);
    }
}

static void too_much(void **state)
{
    AUTO_BUF text = BUF_INIT;
    struct err err = ERR_INIT;
    struct recipe *r;

    (void)state;
    buf_str_append(&text, HEAD "\"steps\":[");
    for (int i = 0; i <= STEPS_MAX; i++)
        buf_printf(&text, "%s{\"name\":\"s%d\",\"run\":[\"x\"]}", i > 0 ? "," : "", i);
    buf_str_append(&text, "]," OUT);
    assert_error(recipe_parse(&r, text.data, &err), ERR_LIMIT, &err, "steps");
    buf_reset(&text);
    buf_str_append(&text, HEAD "\"steps\":[{\"name\":\"a\",\"run\":[\"x\"");
    for (int i = 0; i < STEP_ARGS_MAX; i++)
        buf_str_append(&text, ",\"y\"");
    buf_str_append(&text, "]}]," OUT);
    assert_error(recipe_parse(&r, text.data, &err), ERR_LIMIT, &err, "run");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(smallest),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(too_much),
    };

    return cmocka_run_group_tests_name("recipe", tests, NULL, NULL);
}
