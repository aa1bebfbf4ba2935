/* Packs whose envelope is right around parts that are not: the input tells the base's damage, the
 * groups, their covers and the streams of segments; compression, lengths and places are made to
 * fit, so that nothing stops at the door. A decoder may refuse or fail; it may not give wrong bytes
 * (artifact_check() aborts), nor touch what is not its own. */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "lib/artifacts.h"
#include "lib/programs.h"

enum { PAIRS = 5, FUNCTIONS = 24, PATCHES_MAX = 8, GROUPS_MAX = 6, SOURCES_MAX = 5 };

/* Each makes a decoder with its buffers anew. */
const long fuzz_mutations = 150;

struct input {
    const uint8_t *at, *end;
};

/* What is not there is zero. */
static uint64_t take(struct input *in, size_t width)
{
    uint64_t v = 0;

    for (size_t i = 0; i < width && in->at < in->end; i++)
        v |= (uint64_t)*in->at++ << (8 * i);
    return v;
}

static uint64_t take_varint(struct input *in)
{
    struct varints v = { in->at, in->end };
    uint64_t value = 0;

    if (!varint_get(&v, &value))
        return take(in, 1);
    in->at = v.at;
    return value;
}

static struct varints take_bytes(struct input *in)
{
    size_t len = (size_t)take(in, 2), left = (size_t)(in->end - in->at);
    struct varints v = { in->at, in->at + (len < left ? len : left) };

    in->at = v.end;
    return v;
}

/* Version 0 or 1 of a program. */
static void add_program(struct artifact *a, unsigned machine, bool fixed, bool second)
{
    uint32_t functions[FUNCTIONS];
    struct program p = { .machine = machine,
                         .fixed = fixed,
                         .frames = true,
                         .functions = functions,
                         .count = FUNCTIONS,
                         .names = FUNCTIONS + 2,
                         .edition = second };
    AUTO_BUF file = BUF_INIT;

    for (uint32_t i = 0; i < FUNCTIONS; i++)
        functions[i] = second ? (i + 20) % FUNCTIONS + i / 20 * 2 : i;
    program_build(&file, &p);
    artifact_add(a, "program", file.data, file.len);
}

static void add_texts(struct artifact *a, bool second)
{
    AUTO_BUF text = BUF_INIT;

    for (int i = 0; i < 4; i++) {
        char path[] = "text0";

        path[4] = (char)('0' + i);
        for (int k = 0; k < 20; k++)
            buf_printf(&text, "%d times %d%s\n", i, k, second && k == 7 ? " is new" : "");
        artifact_add(a, path, text.data, i == 2 ? 0 : text.len);
    }
}

static void make_side(struct artifact *a, size_t pair, bool second)
{
    artifact_init(a);
    if (pair < 2)
        add_program(a, ELF_X86_64, pair == 1, second);
    else if (pair == 2)
        add_program(a, ELF_AARCH64, false, second);
    if (pair == 3)
        add_texts(a, second);
    if (pair == 4)
        artifact_add(a, "small", second ? "12345678" : "abcdefgh", 8);
    artifact_seal(a);
}

/* The base as it was made, but for what the input changes in it. */
static void make_base(struct artifact *ret, const struct artifact *good, struct input *in)
{
    size_t patches = (size_t)take(in, 1) % (PATCHES_MAX + 1);
    AUTO_BUF content = BUF_INIT;

    buf_append(&content, good->content.data, good->content.len);
    for (; patches > 0; patches--) {
        size_t at = (size_t)take(in, 2) % content.len, width = (size_t)take(in, 1) % 8 + 1;

        for (; width > 0; width--, at++) {
            char value = (char)take(in, 1);

            if (at < content.len)
                content.data[at] = value;
        }
    }
    artifact_init(ret);
    for (size_t i = 0; i < good->manifest.nentries; i++) {
        const struct entry *e = &good->manifest.entries[i];

        artifact_add(ret, e->path, content.data + e->offset, (size_t)e->size);
    }
    artifact_seal(ret);
}

static uint32_t append_frame(struct buf *out, struct varints raw)
{
    size_t len = (size_t)(raw.end - raw.at), bound = ZSTD_compressBound(len), size;

    buf_reserve(out, bound);
    size = ZSTD_compress(out->data + out->len, bound, raw.at, len, 1);
    if (ZSTD_isError(size))
        abort();
    out->len += size;
    return (uint32_t)size;
}

static void take_layout(struct delta_group *g, struct input *in)
{
    g->layout = mem_alloc(sizeof(*g->layout));
    g->layout->nloads = (size_t)take(in, 1) % (ELF_LOADS_MAX + 1);
    for (size_t i = 0; i < g->layout->nloads; i++) {
        struct elf_load *l = &g->layout->loads[i];

        l->offset = take_varint(in);
        l->address = take_varint(in);
        l->file_bytes = take_varint(in);
        l->memory_bytes = take_varint(in);
    }
    g->layout->eh_hdr.from = take_varint(in);
}

static void take_groups(struct delta *d, size_t entries, struct input *in, struct buf *payloads)
{
    uint64_t end = 0;

    d->ngroups = (size_t)take(in, 1) % (GROUPS_MAX + 1);
    d->groups = mem_calloc(d->ngroups + 1, sizeof(*d->groups));
    for (size_t i = 0; i < d->ngroups; i++) {
        struct delta_group *g = &d->groups[i];
        struct varints covers;

        g->begin = end + take_varint(in);
        g->length = take_varint(in);
        g->flags = (unsigned)take(in, 1);
        g->nsources = (size_t)take(in, 1) % (SOURCES_MAX + 1);
        g->sources = mem_calloc(SOURCES_MAX, sizeof(*g->sources));
        for (size_t k = 0; k < g->nsources; k++)
            g->sources[k] = (uint32_t)(take(in, 1) % entries);
        g->ncovers = (size_t)take_varint(in);
        covers = take_bytes(in);
        g->covers_raw = (uint32_t)(covers.end - covers.at);
        if (g->ncovers > 0)
            g->covers_length = append_frame(payloads, covers);
        if (g->flags & DELTA_PREDICTED)
            take_layout(g, in);
        end = g->begin + g->length;
    }
}

static void take_streams(struct input *in, struct buf *payloads)
{
    AUTO_BUF head = BUF_INIT;
    AUTO_BUF body = BUF_INIT;

    buf_char(&head, (char)take(in, 1));
    for (int i = 0; i < STREAMS; i++) {
        bool zipped = take(in, 1) % 2 == 1;
        struct varints raw = take_bytes(in);
        size_t len = (size_t)(raw.end - raw.at);

        varint_put(&head, len);
        varint_put(&head, zipped ? append_frame(&body, raw) : 0);
        if (!zipped && len > 0)
            buf_append(&body, raw.at, len);
    }
    buf_append(payloads, head.data, head.len);
    if (body.len > 0)
        buf_append(payloads, body.data, body.len);
}

/* All artifacts here have one segment. */
static void take_segment(struct delta_segment *s, const struct artifact *target, struct input *in,
                         struct buf *payloads)
{
    size_t before = payloads->len;

    s->encoding = (unsigned)take(in, 1) % (SEGMENT_COPY + 2);
    if (s->encoding == SEGMENT_STORED)
        buf_append(payloads, target->content.data, target->content.len);
    if (s->encoding == SEGMENT_ZSTD)
        append_frame(payloads, take_bytes(in));
    if (s->encoding == SEGMENT_DELTA)
        take_streams(in, payloads);
    s->length = (uint32_t)(payloads->len - before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct artifact bases[PAIRS], targets[PAIRS];
    struct input in = { data, data + size };
    size_t pair = (size_t)take(&in, 1) % PAIRS;
    struct delta *d = mem_alloc(sizeof(*d));
    struct artifact base;
    AUTO_BUF pack = BUF_INIT;
    AUTO_BUF payloads = BUF_INIT;

    if (targets[pair].content.len == 0) {
        make_side(&bases[pair], pair, false);
        make_side(&targets[pair], pair, true);
    }
    make_base(&base, &bases[pair], &in);
    d->base = base.id;
    d->target = targets[pair].id;
    d->nsegments = 1;
    d->segments = mem_calloc(1, sizeof(*d->segments));
    take_groups(d, base.manifest.nentries, &in, &payloads);
    take_segment(&d->segments[0], &targets[pair], &in, &payloads);
    if (delta_encode_table(&pack, d, NULL) == 0) {
        if (payloads.len > 0)
            buf_append(&pack, payloads.data, payloads.len);
        if (artifact_check(&base, &targets[pair], &pack, NULL) < 0)
            pack.len = 0; /* it may be refused */
    }
    delta_free(d);
    artifact_release(&base);
    return 0;
}
