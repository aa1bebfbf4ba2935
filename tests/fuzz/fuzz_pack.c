#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "delta/full.h"
#include "fuzz/fuzz.h"

struct input {
    const uint8_t *data;
    size_t size;
};

static int read_at(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct input *in = ctx;

    if (offset > in->size || len > in->size - offset)
        return err_set(err, ERR_CORRUPT, "ends early");
    memcpy(data, in->data + offset, len);
    return 0;
}

/* A pack of the artifact of one file of 1000 times 'x'. */
static void try_full(const uint8_t *data, size_t size)
{
    static char path[] = "f";
    struct input in = { data, size };
    struct hash artifact = { { 0 } }, segment;
    struct entry file = { .kind = ENTRY_FILE, .path = path, .size = 1000 };
    struct manifest m = { &file, 1, 1000, &segment, 1 };
    struct full_decoder *d;
    struct full *f = NULL;
    unsigned char *out;

    if (full_read(&f, read_at, &in, size, &m, &artifact, NULL) < 0)
        return;
    d = full_decoder_new();
    out = mem_alloc(SEGMENT_BYTES);
    memset(out, 'x', 1000);
    segment = sha256_of(out, 1000);
    memset(out, 0, 1000);
    if (full_read_segment(d, f, &m, 0, read_at, &in, out, NULL) == 0 &&
        (out[0] != 'x' || out[999] != 'x'))
        abort();
    free(out);
    full_decoder_free(d);
    full_free(f);
}

/* A pack index, and a full pack. What parses as an index, encodes to the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pack_index *p = NULL;
    AUTO_BUF b = BUF_INIT;

    if (pack_index_parse(&p, data, size, NULL) == 0) {
        pack_index_encode(&b, p);
        if (b.len != size || memcmp(b.data, data, size) != 0)
            abort();
        pack_index_free(p);
    }
    try_full(data, size);
    return 0;
}
