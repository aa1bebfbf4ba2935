#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire/doc.h"

/* The first byte chooses: an envelope, or a body (whose signature held) of one of the kinds. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct label labels[] = { { "arch", "amd64" }, { "rack", "r1" } };
    static const struct secret_key secret = { { 1 } };
    struct err err = ERR_INIT;
    struct hash id = { { 0 } };
    struct public_key key;
    struct trust *trust = NULL;
    struct release *release = NULL;
    struct goal *goal = NULL;
    struct bytes body;

    if (size == 0)
        return 0;
    body = (struct bytes){ (unsigned char *)(uintptr_t)(data + 1), size - 1 };
    if (data[0] == 't' && trust_parse(&trust, &body, &err) == 0)
        trust_free(trust);
    if (data[0] == 'r' && release_parse(&release, &id, &body, &err) == 0) {
        (void)variant_of(release->variant, labels, 2);
        release_free(release);
    }
    if (data[0] == 'g' && goal_parse(&goal, &body, &err) == 0) {
        if (goal_activates(goal, "m", labels, 2) && goal->action != GOAL_RUN)
            abort();
        goal_free(goal);
    }
    if (data[0] == 'e') {
        key = key_public(&secret);
        for (int kind = DOC_TRUST; kind <= DOC_GOAL; kind++)
            (void)!doc_open(data + 1, size - 1, (enum doc_kind)kind, &key, 1, &body, &err);
    }
    return 0;
}
