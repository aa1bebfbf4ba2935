#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "build/recipe.h"
#include "fuzz/fuzz.h"
#include "policy/policy.h"

/* JSON that comes from people and, by the database, from other hosts: the bundle of a trigger, the spec of
 * a job. A bundle that is taken is the same bundle when it is written and read again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = mem_strndup(size == 0 ? "" : (const char *)data, size);
    AUTO_JSON *json = NULL, *again = NULL;
    struct bundle *b = NULL, *same = NULL;
    struct recipe *r = NULL;

    if (recipe_parse(&r, text, NULL) == 0 && (r->noutputs == 0 || r->sha == NULL))
        abort();
    recipe_free(r);
    if (json_parse(&json, text, strlen(text), NULL) < 0 || bundle_from_json(&b, json, NULL) < 0)
        return 0;
    again = bundle_to_json(b);
    if (bundle_from_json(&same, again, NULL) < 0)
        abort();
    bundle_free(same);
    bundle_free(b);
    return 0;
}
