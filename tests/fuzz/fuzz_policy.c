#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "policy/eval.h"
#include "policy/requires.h"
#include "policy/types.h"

enum { TEXT_MAX = 4096 };

/* A policy's text: whatever it is, it ends, with an error or with an answer that the checks take
 * apart without harm. The first byte chooses what is asked. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const questions[] = { "data", "build", "replicate", "waves", "advance" };
    if (size == 0 || size > TEXT_MAX)
        return 0;
    size_t q = data[0] % COUNT_OF(questions);
    json_t *text = json_stringn((const char *)data + 1, size - 1);
    if (text == NULL)
        return 0;

    struct requires r;
    char module[64];
    int line = 0;
    requires_init(&r, (const char *)data + 1, size - 1);
    while (requires_next(&r, module, sizeof(module), &line))
        if (line < 1 || strlen(module) >= sizeof(module))
            abort();

    struct err err = ERR_INIT;
    struct bundle *b = NULL;
    json_t *json = json_pack("{s:s,s:{s:o}}", "main", "a.lua", "files", "a.lua", text);
    json_t *input = json_pack("{s:{},s:{}}", "memo", "params"), *answer = NULL, *checked = NULL;
    if (bundle_from_json(&b, json, &err) == 0) {
        struct evaluation e = { .bundle = b, .question = questions[q], .input = input };
        int rc = eval_ask(&answer, &e, &err);
        if ((rc == 0) != (answer != NULL) || (rc < 0 && err.text[0] == 0))
            abort();
        if (rc == 0 && q == 0)
            (void)!types_policy(&checked, "a.lua", answer, &err);
        else if (rc == 0)
            (void)!types_answer(&checked, "a.lua", (enum policy_question)q, answer, &err);
    }
    json_decref(checked);
    json_decref(answer);
    json_decref(input);
    json_decref(json);
    bundle_free(b);
    return 0;
}
