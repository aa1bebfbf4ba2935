/* asking.h - for the tests of this folder: a bundle from a text, and a question to it. */
#ifndef TESTS_POLICY_ASKING_H
#define TESTS_POLICY_ASKING_H

#include "lib/check.h"
#include "policy/eval.h"
#include "policy/policy.h"
#include "policy/types.h"

/* A bundle of web.lua alone. */
static inline struct bundle *bundle_of(const char *text)
{
    json_t *json = json_pack("{s:s,s:{s:s}}", "main", "web.lua", "files", "web.lua", text);
    struct bundle *b;
    struct err err = ERR_INIT;
    assert_non_null(json);
    assert_int_equal(bundle_from_json(&b, json, &err), 0);
    json_decref(json);
    return b;
}

/* Evaluates web.lua in this process. Gives the answer, or NULL and err. */
static inline json_t *ask(const char *text, const char *question, json_t *input, struct err *err)
{
    struct bundle *b = bundle_of(text);
    struct evaluation e = { .bundle = b, .question = question, .input = input };
    json_t *answer;
    int rc = eval_ask(&answer, &e, err);
    assert_int_equal(rc == 0, answer != NULL);
    json_decref(input);
    bundle_free(b);
    return answer;
}

#endif
