#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire/manifest.h"

/* What parses, encodes to the same bytes, and its spans cover its segments exactly. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct manifest *m = NULL;
    AUTO_BUF b = BUF_INIT;

    if (manifest_parse(&m, data, size, &err) < 0)
        return 0;
    manifest_encode(&b, m);
    if (b.len != size || memcmp(b.data, data, size) != 0)
        abort();
    for (size_t i = 0; i < m->nsegments && i < 64; i++) {
        size_t covered = 0;
        struct span s;

        for (size_t k = manifest_first_file(m, i); k < m->nentries; k++)
            covered += manifest_span(m, i, k, &s) ? s.len : 0;
        if (covered != manifest_segment_bytes(m, i))
            abort();
    }
    manifest_free(m);
    return 0;
}
