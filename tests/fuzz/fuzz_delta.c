#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "lib/artifacts.h"

enum { WHOLE, TABLE, COVERS, STREAMS_OF_CODE, BINARY, MODES };

/* Two versions of a small program, beside a text. Made once. */
static void make_pair(struct artifact *base, struct artifact *target)
{
    AUTO_BUF old = BUF_INIT;
    AUTO_BUF new = BUF_INIT;

    elf_program(&old, 3, 600, 0, true);
    elf_program(&new, 3, 600, 16, true);
    artifact_init(base);
    artifact_init(target);
    artifact_add(base, "program", old.data, old.len);
    artifact_add(base, "text", "what was, was", 13);
    artifact_add(target, "program", new.data, new.len);
    artifact_add(target, "text", "what is, was", 12);
    artifact_seal(base);
    artifact_seal(target);
}

/* artifact_check() aborts if wrong bytes come out. */
static void try_whole(const struct artifact *base, const struct artifact *target,
                      const uint8_t *data, size_t size)
{
    AUTO_BUF pack = BUF_INIT;

    buf_append(&pack, data, size);
    if (artifact_check(base, target, &pack, NULL) < 0)
        return;
}

/* The input as the table of a pack whose head is right: the checksum-less parser behind zstd. */
static void try_table(const struct artifact *base, const struct artifact *target,
                      const uint8_t *data, size_t size)
{
    struct delta empty = { .base = base->id, .target = target->id };
    AUTO_BUF pack = BUF_INIT;
    AUTO_BUF frame = BUF_INIT;
    size_t len;
    uint32_t numbers[4];

    if (size < 4 || size > 4096 || delta_encode_table(&pack, &empty, NULL) < 0)
        return;
    buf_reserve(&frame, ZSTD_compressBound(size));
    numbers[0] = 1;
    memcpy(&numbers[1], data, 4);
    len = ZSTD_compress(frame.data, ZSTD_compressBound(size), data + 4, size - 4, 1);
    numbers[2] = (uint32_t)(size - 4);
    numbers[3] = (uint32_t)len;
    pack.len = DELTA_HEAD_BYTES - sizeof(numbers);
    buf_append(&pack, numbers, sizeof(numbers));
    buf_append(&pack, frame.data, len);
    buf_append(&pack, data, size);
    if (artifact_check(base, target, &pack, NULL) < 0)
        return;
}

static void try_covers(const uint8_t *data, size_t size)
{
    struct cover *covers = NULL;
    struct moves m;
    size_t count = size == 0 ? 0 : data[0];

    if (size == 0 ||
        delta_covers_parse(&covers, data + 1, size - 1, count, 1 << 20, 1 << 20, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (covers[i].s + covers[i].length > 1 << 20 || covers[i].t + covers[i].length > 1 << 20)
            abort();
    }
    moves_init(&m, covers, count);
    (void)moves_at(&m, 77);
    moves_release(&m);
    free(covers);
}

static int read_buf(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct buf *b = ctx;

    if (offset > b->len || len > b->len - offset)
        return err_set(err, ERR_CORRUPT, "ends early");
    memcpy(data, b->data + offset, len);
    return 0;
}

/* Any file as the base's program: what is found lies inside, and blanking stays inside. */
static void try_binary(const uint8_t *data, size_t size)
{
    struct site_list list = { NULL, 0, 0 };
    struct sites *sites = NULL;
    AUTO_BUF file = BUF_INIT;
    unsigned char *padded;
    size_t end = 0;

    buf_append(&file, data, size);
    if (size == 0 || sites_open(&sites, size, read_buf, &file, NULL) < 0)
        return;
    padded = mem_alloc(size + SITES_PAD);
    memcpy(padded, data, size);
    sites_scan(sites, padded, 0, 0, size, true, &list);
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i].at < end || list.items[i].at + list.items[i].width > size)
            abort();
        end = list.items[i].at + list.items[i].width;
    }
    sites_blank(sites, padded, 0, 0, size);
    free(list.items);
    free(padded);
    sites_close(sites);
}

/* The input as the streams of a segment that covers a whole program. */
static void try_streams(const struct artifact *base, const struct artifact *target,
                        const uint8_t *data, size_t size)
{
    struct delta_group g = { .length = target->manifest.entries[0].size,
                             .flags = DELTA_PREDICTED,
                             .nsources = 1 };
    struct varints in[STREAMS];
    struct group_scratch scratch;
    struct coder *coder = coder_new();
    struct group *group = NULL;
    struct cover *cover = mem_alloc(sizeof(*cover));
    uint32_t source = 0;
    unsigned char *out = mem_alloc(SEGMENT_BYTES);

    for (size_t i = 0; i < STREAMS; i++) {
        size_t n = size > 0 ? data[0] % size : 0;

        in[i] = (struct varints){ data, data + n };
        data += n;
        size -= n;
    }
    *cover = (struct cover){ 0, 40, (uint32_t)base->manifest.entries[0].size - 5000 };
    g.sources = &source;
    g.layout = mem_alloc(sizeof(*g.layout));
    g.layout->nloads = 2;
    group_scratch_init(&scratch);
    if (group_open(&group, &g, &base->manifest, &base->files, NULL) == 0) {
        group_take_covers(group, cover, 1);
        coder_read(coder, in);
        if (group_code(group, coder, &scratch, 0, cover->length + 40, true, out, NULL) == 0 &&
            coder_end(coder, NULL) == 0)
            out[0] = 0;
        group_close(group);
    } else {
        free(cover);
    }
    group_scratch_release(&scratch);
    free(g.layout);
    free(out);
    coder_free(coder);
}

/* The first byte says what the others are taken for. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct artifact base, target;
    unsigned mode = size == 0 ? MODES : data[0] % MODES;

    if (size == 0)
        return 0;
    if (mode == COVERS)
        try_covers(data + 1, size - 1);
    if (mode == BINARY)
        try_binary(data + 1, size - 1);
    if (mode == COVERS || mode == BINARY)
        return 0;
    if (base.content.len == 0)
        make_pair(&base, &target);
    if (mode == WHOLE)
        try_whole(&base, &target, data + 1, size - 1);
    else if (mode == TABLE)
        try_table(&base, &target, data + 1, size - 1);
    else
        try_streams(&base, &target, data + 1, size - 1);
    return 0;
}
