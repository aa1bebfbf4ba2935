#include "lib/programs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lib/trees.h"

enum { HEAD = 0x1000, DYNAMIC = 64, FRAME = 24, RECORD = 24 };

/* Where things lie, in the file; `base` + that is their address, and `gap` more from `data` on. */
struct layout {
    const struct program *p;
    uint64_t base, gap;
    uint64_t *functions; /* by number */
    uint64_t table, frames, data, pointers, offsets, records, end;
};

static void put(struct buf *out, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++)
        buf_char(out, (char)(unsigned char)(i < 8 ? v >> (8 * i) : 0));
}

static void fill_to(struct buf *out, size_t begin, uint64_t offset)
{
    while (out->len - begin < offset)
        buf_char(out, 0);
}

static uint64_t callee(const struct layout *l, struct random *r)
{
    return l->functions[random_below(r, l->p->names)];
}

static uint64_t datum(const struct layout *l, struct random *r)
{
    return l->data + l->gap + random_below(r, 256) * 8;
}

static uint64_t constant(const struct program *p, struct random *r)
{
    return random_next(r) + (random_below(r, 16) == 0 ? p->edition : 0);
}

/* `at`: where the function begins. */
static void x86_function(struct buf *out, const struct layout *l, struct random *r, uint64_t at)
{
    size_t begin = out->len;

    for (size_t n = 1 + (size_t)random_below(r, 12); n > 0; n--) {
        uint64_t here = at + (out->len - begin);

        switch (random_below(r, 5)) {
        case 0: /* call */
            put(out, 0xe8, 1);
            put(out, callee(l, r) - (here + 5), 4);
            break;
        case 1: /* je */
            put(out, 0x840f, 2);
            put(out, callee(l, r) - (here + 6), 4);
            break;
        case 2: /* lea rax, [rip + …] */
            put(out, 0x058d48, 3);
            put(out, datum(l, r) - (here + 7), 4);
            break;
        case 3: /* mov qword [rip + …], imm32 */
            put(out, 0x05c748, 3);
            put(out, datum(l, r) - (here + 11), 4);
            put(out, constant(l->p, r), 4);
            break;
        default: /* movabs rax, … */
            put(out, 0xb848, 2);
            put(out, constant(l->p, r), 8);
        }
    }
    put(out, 0xc3, 1);
    while ((out->len - begin) % 16 != 0)
        put(out, 0xcc, 1);
}

static uint64_t page(uint64_t address)
{
    return address >> 12;
}

static void arm_function(struct buf *out, const struct layout *l, struct random *r, uint64_t at)
{
    size_t begin = out->len;

    for (size_t n = 1 + (size_t)random_below(r, 12); n > 0; n--) {
        uint64_t here = at + (out->len - begin), to, pages;

        switch (random_below(r, 4)) {
        case 0: /* bl, b */
        case 1:
            to = callee(l, r) - here;
            put(out, (n % 2 == 0 ? 0x94000000 : 0x14000000) | (to >> 2 & 0x3ffffff), 4);
            break;
        case 2: /* adrp x0, …; add x0, x0, … */
            to = l->base + datum(l, r);
            pages = page(to) - page(l->base + here);
            put(out, 0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7ffff) << 5, 4);
            put(out, 0x91000000 | (to & 0xfff) << 10, 4);
            break;
        default: /* movz x0, … */
            put(out, 0xd2800000 | (constant(l->p, r) & 0xffff) << 5, 4);
        }
    }
    put(out, 0xd65f03c0, 4); /* ret */
    while ((out->len - begin) % 16 != 0)
        put(out, 0xd503201f, 4); /* nop */
}

static void put_function(struct buf *out, const struct layout *l, uint32_t number, uint64_t at)
{
    struct random r = { (number + 1) * UINT64_C(0x9e3779b97f4a7c15) };

    if (l->p->machine == ELF_AARCH64)
        arm_function(out, l, &r, at);
    else
        x86_function(out, l, &r, at);
}

/* What functions are long does not depend on where they are. */
static void lay_out(struct layout *l)
{
    const struct program *p = l->p;
    AUTO_BUF code = BUF_INIT;
    uint64_t at = HEAD;

    l->functions = mem_calloc(p->names, sizeof(*l->functions));
    for (size_t i = 0; i < p->names; i++)
        l->functions[i] = HEAD;
    for (size_t i = 0; i < p->count; i++) {
        buf_reset(&code);
        put_function(&code, l, p->functions[i], at);
        l->functions[p->functions[i]] = at;
        at += code.len;
    }
    l->base = p->fixed ? 0x400000 : 0;
    l->gap = 0x1000;
    l->table = at;
    l->frames = p->frames ? at + 12 + 8 * p->count : at;
    at = p->frames ? l->frames + FRAME * (p->count + 1) + 4 : at;
    l->data = (at + 0xfff) & ~UINT64_C(0xfff);
    l->pointers = l->data + DYNAMIC;
    l->offsets = l->pointers + 8 * p->names;
    l->records = (l->offsets + 4 * p->names + 7) & ~UINT64_C(7);
    l->end = l->records + RECORD * p->names;
}

static void put_phdr(struct buf *out, uint32_t type, uint32_t flags, uint64_t offset,
                     uint64_t address, uint64_t bytes, uint64_t memory)
{
    put(out, type, 4);
    put(out, flags, 4);
    put(out, offset, 8);
    put(out, address, 8);
    put(out, address, 8);
    put(out, bytes, 8);
    put(out, memory, 8);
    put(out, 0x1000, 8);
}

static void put_head(struct buf *out, const struct layout *l)
{
    const struct program *p = l->p;
    uint64_t data = l->base + l->gap + l->data, code_end = l->data - 8;

    buf_append(out, "\177ELF\x02\x01\x01\0\0\0\0\0\0\0\0", 16);
    put(out, p->fixed ? 2 : 3, 2);
    put(out, p->machine, 2);
    put(out, 1, 4);
    put(out, l->base + HEAD, 8);
    put(out, 64, 8);
    put(out, 0, 8 + 4);
    put(out, 64, 2);
    put(out, 56, 2);
    put(out, p->frames ? 4 : 3, 2);
    put(out, 0, 6);
    put_phdr(out, 1, 5, 0, l->base, code_end, code_end);
    put_phdr(out, 1, 6, l->data, data, l->end - l->data, l->end - l->data + 4096);
    put_phdr(out, 2, 6, l->data, data, DYNAMIC, DYNAMIC);
    if (p->frames)
        put_phdr(out, 0x6474e550, 4, l->table, l->base + l->table, l->frames - l->table,
                 l->frames - l->table);
}

/* .eh_frame_hdr, then .eh_frame: one CIE, one FDE a function, every other one with an LSDA. */
static void put_frames(struct buf *out, const struct layout *l)
{
    const struct program *p = l->p;
    uint64_t at = l->frames;

    buf_append(out, "\x01\x1b\x03\x3b", 4);
    put(out, l->frames - (l->table + 4), 4);
    put(out, p->count, 4);
    for (size_t i = 0; i < p->count; i++) {
        put(out, l->functions[p->functions[i]] - l->table, 4);
        put(out, l->frames + FRAME * (i + 1) - l->table, 4);
    }
    put(out, FRAME - 4, 4);
    put(out, 0, FRAME - 4);
    for (size_t i = 0; i < p->count; i++) {
        at += FRAME;
        put(out, FRAME - 4, 4);
        put(out, at + 4 - l->frames, 4);
        put(out, l->functions[p->functions[i]] - (at + 8), 4);
        put(out, 48, 4);
        put(out, i % 2 == 0 ? 4 : 0, 1);
        put(out, i % 2 == 0 ? l->data + l->gap + 8 * i - (at + 17) : 0, 4);
        put(out, 0, 3);
    }
    put(out, 0, 4);
}

static void put_data(struct buf *out, const struct layout *l, size_t begin)
{
    const struct program *p = l->p;
    uint64_t dynamic[] = { 7, l->base + l->gap + l->records, 8, RECORD * p->names, 0, 0 };

    for (size_t i = 0; i < COUNT_OF(dynamic); i++)
        put(out, dynamic[i], 8);
    fill_to(out, begin, l->pointers);
    for (size_t i = 0; i < p->names; i++)
        put(out, p->fixed ? l->base + l->functions[i * 7 % p->names] : 0, 8);
    for (size_t i = 0; i < p->names; i++)
        put(out, l->functions[i * 3 % p->names] - HEAD, 4);
    fill_to(out, begin, l->records);
    for (size_t i = 0; i < p->names; i++) {
        put(out, l->base + l->gap + l->pointers + 8 * i, 8);
        put(out, 8, 8);
        put(out, l->base + l->functions[i * 7 % p->names], 8);
    }
}

void program_build(struct buf *out, const struct program *p)
{
    struct layout l = { .p = p };
    size_t begin = out->len;

    lay_out(&l);
    put_head(out, &l);
    fill_to(out, begin, HEAD);
    for (size_t i = 0; i < p->count; i++)
        put_function(out, &l, p->functions[i], l.functions[p->functions[i]]);
    if (p->frames)
        put_frames(out, &l);
    fill_to(out, begin, l.data);
    put_data(out, &l, begin);
    free(l.functions);
}
