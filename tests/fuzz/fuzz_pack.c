#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "fuzz/fuzz.h"
#include "store/delta_file_internal.h"

enum { SEGMENTS = 3 };

/* Each makes decoders with their buffers anew. */
const long fuzz_mutations = 500;

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

/* A full pack of an artifact of one file, whose last segment is 1000 times 'x'. */
static void try_full(const uint8_t *data, size_t size, size_t nsegments)
{
    static char path[] = "f";
    uint64_t bytes = (uint64_t)(nsegments - 1) * SEGMENT_BYTES + 1000;
    struct input in = { data, size };
    struct hash artifact = { { 0 } }, segments[SEGMENTS] = { { { 0 } } };
    struct entry file = { .kind = ENTRY_FILE, .path = path, .size = bytes };
    struct manifest m = { &file, 1, bytes, segments, nsegments };
    struct full_decoder *d;
    struct full *f = NULL;
    uint32_t first, count;
    unsigned char *out;

    if (full_read(&f, read_at, &in, size, &m, &artifact, NULL) < 0)
        return;
    d = full_decoder_new();
    out = mem_alloc(SEGMENT_BYTES);
    memset(out, 'x', 1000);
    segments[nsegments - 1] = merkle_segment(out, 1000);
    memset(out, 0, 1000);
    if (full_read_segment(d, f, &m, nsegments - 1, read_at, &in, out, NULL) == 0 &&
        (out[0] != 'x' || out[999] != 'x'))
        abort();
    full_segment_leaves(f, nsegments - 1, &first, &count);
    if (count == 0 || (uint64_t)(first + count - 1) * LEAF_BYTES >= size)
        abort();
    free(out);
    full_decoder_free(d);
    full_free(f);
}

/* A file of `engine delta make`, opened from memory, with the digest that it should have. */
static void try_file(const uint8_t *data, size_t size)
{
    char path[64];
    struct delta_file_info info;
    struct hash digest;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size ||
        delta_file_digest(fd, size, &digest, NULL) < 0 ||
        pwrite(fd, digest.b, HASH_BYTES, DELTA_FILE_DIGEST_AT) != HASH_BYTES)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (delta_file_info(path, &info, NULL) == 0 &&
        (info.pack_bytes > size || info.kind == PACK_NONE))
        abort();
    close(fd);
}

/* A pack index, a full pack, and a delta file. What parses as an index, encodes to the same bytes. */
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
    try_full(data, size, 1);
    try_full(data, size, SEGMENTS);
    if (size >= DELTA_FILE_HEAD_BYTES && memcmp(data, "SLB2", 4) == 0)
        try_file(data, size);
    return 0;
}
