#include "lib/artifacts.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static int read_entry(void *ctx, size_t entry, void *data, size_t len, uint64_t offset,
                      struct err *err)
{
    const struct artifact *a = ctx;
    const struct entry *e = &a->manifest.entries[entry];

    if (offset > e->size || len > e->size - offset)
        return err_set(err, ERR_CORRUPT, "%s: shorter than it should be", e->path);
    memcpy(data, buf_str(&a->content) + e->offset + offset, len);
    if (a->broken && len > 0)
        ((unsigned char *)data)[len / 2] ^= 4;
    return 0;
}

void artifact_init(struct artifact *a)
{
    memset(a, 0, sizeof(*a));
    a->files = (struct delta_files){ read_entry, a };
}

void artifact_add(struct artifact *a, const char *path, const void *data, size_t len)
{
    struct manifest *m = &a->manifest;
    struct entry *e;

    m->entries = mem_realloc(m->entries, (m->nentries + 1) * sizeof(*m->entries));
    e = &m->entries[m->nentries++];
    memset(e, 0, sizeof(*e));
    e->kind = ENTRY_FILE;
    e->mode = 0644;
    e->path = mem_strdup(path);
    e->size = len;
    e->offset = a->content.len;
    e->hash = sha256_of(len > 0 ? data : "", len);
    if (len > 0)
        buf_append(&a->content, data, len);
}

void artifact_seal(struct artifact *a)
{
    struct manifest *m = &a->manifest;
    AUTO_BUF encoded = BUF_INIT;

    m->stream_bytes = a->content.len;
    m->nsegments = (a->content.len + SEGMENT_BYTES - 1) / SEGMENT_BYTES;
    m->segments = mem_calloc(m->nsegments + 1, sizeof(*m->segments));
    for (size_t i = 0; i < m->nsegments; i++)
        m->segments[i] =
            merkle_segment(a->content.data + i * SEGMENT_BYTES, manifest_segment_bytes(m, i));
    manifest_encode(&encoded, m);
    a->id = sha256_of(encoded.data, encoded.len);
}

void artifact_release(struct artifact *a)
{
    for (size_t i = 0; i < a->manifest.nentries; i++)
        free(a->manifest.entries[i].path);
    free(a->manifest.entries);
    free(a->manifest.segments);
    buf_release(&a->content);
}

static int emit(void *ctx, const void *data, size_t len, struct err *err)
{
    (void)err;
    buf_append(ctx, data, len);
    return 0;
}

int artifact_delta(const struct artifact *base, const struct artifact *target, int level,
                   const struct delta_pool *pool, struct buf *pack, struct delta_stats *stats,
                   struct err *err)
{
    AUTO_BUF payloads = BUF_INIT;
    struct delta_encode_options o = { .base = &base->manifest,
                                      .target = &target->manifest,
                                      .base_id = base->id,
                                      .target_id = target->id,
                                      .base_files = &base->files,
                                      .target_files = &target->files,
                                      .level = level,
                                      .pool = pool,
                                      .emit = emit,
                                      .ctx = &payloads };
    int r = delta_encode(&o, pack, stats, err);

    if (r == 0 && payloads.len > 0)
        buf_append(pack, payloads.data, payloads.len);
    return r;
}

static int read_pack(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct buf *b = ctx;

    if (offset > b->len || len > b->len - offset)
        return err_set(err, ERR_CORRUPT, "the pack ends early");
    if (len > 0)
        memcpy(data, b->data + offset, len);
    return 0;
}

int artifact_check(const struct artifact *base, const struct artifact *target,
                   const struct buf *pack, struct err *err)
{
    struct buf copy = *pack; /* the reader takes no const */
    struct delta_decoder_options o = { .base = &base->manifest,
                                       .target = &target->manifest,
                                       .files = &base->files,
                                       .read = read_pack,
                                       .ctx = &copy };
    struct delta_decoder *d;
    unsigned char *out;
    int r = delta_read(&o.delta, read_pack, &copy, pack->len, &base->manifest, &base->id,
                       &target->manifest, &target->id, err);

    if (r < 0)
        return r;
    d = delta_decoder_new(&o);
    out = mem_alloc(target->content.len < SEGMENT_BYTES ? target->content.len : SEGMENT_BYTES);
    for (size_t i = 0; r == 0 && i < target->manifest.nsegments; i++) {
        r = delta_read_segment(d, i, out, err);
        if (r == 0 && memcmp(out, target->content.data + i * SEGMENT_BYTES,
                             manifest_segment_bytes(&target->manifest, i)) != 0)
            abort();
    }
    free(out);
    delta_decoder_free(d);
    delta_free(o.delta);
    return r;
}

static void put(unsigned char *at, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (unsigned char)(v >> (8 * i));
}

static void program_header(unsigned char *at, uint32_t type, uint32_t flags, uint64_t offset,
                           uint64_t address, uint64_t bytes)
{
    put(at, type, 4);
    put(at + 4, flags, 4);
    put(at + 8, offset, 8);
    put(at + 16, address, 8);
    put(at + 24, address, 8);
    put(at + 32, bytes, 8);
    put(at + 40, bytes, 8);
    put(at + 48, 0x1000, 8);
}

/* Where function i begins in the code: 64 bytes each, and what was moved in between. */
static uint64_t function_at(size_t i, size_t moved)
{
    return i * 64 + i / 10 * moved;
}

static void one_function(unsigned char *code, struct random *r, uint64_t at, size_t functions,
                         size_t moved, uint64_t code_to_data)
{
    uint64_t pos = at;

    while (pos + 16 < at + 64) {
        size_t callee = (size_t)random_below(r, functions);
        uint64_t target = function_at(callee, moved);

        code[pos] = 0xe8; /* call */
        put(code + pos + 1, target - (pos + 5), 4);
        pos += 5;
        memcpy(code + pos, "\x48\x8d\x05", 3); /* lea rax, [rip + …] */
        put(code + pos + 3, code_to_data + random_below(r, 4096) * 8 - (pos + 7), 4);
        pos += 7;
        code[pos] = 0xb8; /* mov eax, … */
        put(code + pos + 1, random_next(r), 4);
        pos += 5;
    }
    code[pos] = 0xc3;
}

void elf_program(struct buf *out, uint64_t seed, size_t functions, size_t moved, bool fixed)
{
    struct random r = { seed };
    size_t code_bytes = (size_t)function_at(functions, moved) + 64, head = 0x1000;
    size_t data_at = (head + code_bytes + 0xfff) & ~(size_t)0xfff;
    size_t data_bytes = (size_t)32768 + functions * 24;
    uint64_t base = fixed ? 0x400000 : 0;
    unsigned char *b = mem_alloc(data_at + data_bytes), *data = b + data_at;

    memcpy(b, "\177ELF\x02\x01\x01", 7);
    put(b + 16, fixed ? 2 : 3, 2);
    put(b + 18, ELF_X86_64, 2);
    put(b + 32, 64, 8);
    put(b + 54, 56, 2);
    put(b + 56, 3, 2);
    program_header(b + 64, 1, 5, 0, base, head + code_bytes);
    program_header(b + 120, 1, 6, data_at, base + data_at + 0x1000, data_bytes);
    program_header(b + 176, 2, 6, data_at, base + data_at + 0x1000, 48);
    memset(b + head, 0xcc, code_bytes);
    for (size_t i = 0; i < functions; i++)
        one_function(b + head, &r, function_at(i, moved), functions, moved,
                     data_at + 0x1000 - head);
    put(data, 7, 8); /* DT_RELA, DT_RELASZ */
    put(data + 8, base + data_at + 0x1000 + 32768, 8);
    put(data + 16, 8, 8);
    put(data + 24, functions * 24, 8);
    for (size_t i = 48; i + 8 <= 32768; i += 8)
        put(data + i, base + head + function_at((size_t)random_below(&r, functions), moved), 8);
    for (size_t i = 0; i < functions; i++) {
        put(data + 32768 + 24 * i, base + data_at + 0x1000 + 64 + 8 * i, 8);
        put(data + 32768 + 24 * i + 8, 8, 8);
        put(data + 32768 + 24 * i + 16,
            base + head + function_at((size_t)random_below(&r, functions), moved), 8);
    }
    buf_append(out, b, data_at + data_bytes);
    free(b);
}
