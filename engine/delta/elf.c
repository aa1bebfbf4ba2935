#include "delta/elf.h"

#include <string.h>

enum { HEAD = 64, PHDR = 56, PHDRS_MAX = 32, DYN = 16, DYNS_MAX = 128 };
enum { PT_LOAD = 1, PT_DYNAMIC = 2, PT_EH = 0x6474e550, DT_NULL = 0, DT_RELA = 7, DT_RELASZ = 8 };

static uint64_t number(const unsigned char *b, size_t width)
{
    uint64_t v = 0;

    for (size_t i = 0; i < width; i++)
        v |= (uint64_t)b[i] << (8 * i);
    return v;
}

static bool inside(uint64_t from, uint64_t len, uint64_t size)
{
    return from <= size && len <= size - from;
}

bool elf_address(const struct elf *e, uint64_t offset, uint64_t *ret)
{
    for (size_t i = 0; i < e->nloads; i++) {
        const struct elf_load *l = &e->loads[i];

        if (offset >= l->offset && offset - l->offset < l->file_bytes) {
            *ret = l->address + (offset - l->offset);
            return true;
        }
    }
    return false;
}

bool elf_offset(const struct elf *e, uint64_t address, uint64_t *ret, size_t *ret_load)
{
    for (size_t i = 0; i < e->nloads; i++) {
        const struct elf_load *l = &e->loads[i];

        if (address >= l->address && address - l->address < l->memory_bytes) {
            *ret = l->offset + (address - l->address);
            *ret_load = i;
            return true;
        }
    }
    return false;
}

/* The file's bytes at an address. */
static bool range_at(const struct elf *e, uint64_t address, uint64_t len, uint64_t size,
                     struct elf_range *ret)
{
    uint64_t offset;
    size_t load;

    if (!elf_offset(e, address, &offset, &load) || !inside(offset, len, size))
        return false;
    *ret = (struct elf_range){ offset, offset + len };
    return true;
}

static int parse_dynamic(struct elf *e, struct elf_range at, uint64_t size, elf_read read,
                         void *ctx, struct err *err)
{
    unsigned char b[DYN * DYNS_MAX];
    size_t len = at.to - at.from < sizeof(b) ? (size_t)(at.to - at.from) : sizeof(b);
    uint64_t rela = 0, bytes = 0;
    int r = read(ctx, b, len, at.from, err);

    for (size_t i = 0; r == 0 && i + DYN <= len; i += DYN) {
        uint64_t tag = number(b + i, 8), value = number(b + i + 8, 8);

        if (tag == DT_NULL)
            break;
        if (tag == DT_RELA)
            rela = value;
        if (tag == DT_RELASZ)
            bytes = value;
    }
    if (rela != 0 && !range_at(e, rela, bytes, size, &e->rela))
        e->rela = (struct elf_range){ 0, 0 };
    return r;
}

/* Version 1, frame pointer pcrel|sdata4, count udata4, table datarel|sdata4: what linkers write. */
static int parse_eh(struct elf *e, uint64_t size, elf_read read, void *ctx, struct err *err)
{
    unsigned char b[12];
    uint64_t address, frames;
    size_t load;
    int r = e->eh_hdr.to - e->eh_hdr.from < 12 ? 1 : read(ctx, b, 12, e->eh_hdr.from, err);

    if (r < 0)
        return r;
    if (r > 0 || memcmp(b, "\x01\x1b\x03\x3b", 4) != 0 ||
        !elf_address(e, e->eh_hdr.from + 4, &address)) {
        e->eh_hdr = (struct elf_range){ 0, 0 };
        return 0;
    }
    address += (uint64_t)(int64_t)(int32_t)number(b + 4, 4);
    if (elf_offset(e, address, &frames, &load) && frames < size &&
        frames - e->loads[load].offset < e->loads[load].file_bytes)
        e->eh = (struct elf_range){ frames, e->loads[load].offset + e->loads[load].file_bytes };
    return 0;
}

static void add_load(struct elf *e, const unsigned char *p, uint64_t size)
{
    struct elf_load l = { number(p + 8, 8), number(p + 16, 8), number(p + 32, 8), number(p + 40, 8),
                          (number(p + 4, 4) & 1) != 0 };

    if (e->nloads == ELF_LOADS_MAX || !inside(l.offset, l.file_bytes, size) ||
        l.memory_bytes < l.file_bytes || l.memory_bytes > UINT64_MAX / 4 ||
        l.address > UINT64_MAX / 4)
        return;
    e->loads[e->nloads++] = l;
}

int elf_parse(struct elf *e, uint64_t size, elf_read read, void *ctx, struct err *err)
{
    unsigned char head[HEAD], phdrs[PHDR * PHDRS_MAX];
    struct elf_range dynamic = { 0, 0 };
    uint64_t at, count, machine;
    int r;

    memset(e, 0, sizeof(*e));
    if (size < HEAD)
        return 0;
    r = read(ctx, head, HEAD, 0, err);
    if (r < 0 || memcmp(head, "\177ELF\x02\x01", 6) != 0)
        return r;
    machine = number(head + 18, 2);
    at = number(head + 32, 8);
    count = number(head + 56, 2);
    if ((machine != ELF_X86_64 && machine != ELF_AARCH64) || number(head + 54, 2) != PHDR ||
        count > PHDRS_MAX || !inside(at, count * PHDR, size))
        return 0;
    r = read(ctx, phdrs, (size_t)count * PHDR, at, err);
    if (r < 0)
        return r;
    e->machine = (unsigned)machine;
    e->fixed = number(head + 16, 2) == 2;
    for (size_t i = 0; i < count; i++) {
        const unsigned char *p = phdrs + i * PHDR;
        uint64_t type = number(p, 4), offset = number(p + 8, 8), len = number(p + 32, 8);

        if (type == PT_LOAD)
            add_load(e, p, size);
        if (type == PT_DYNAMIC && inside(offset, len, size))
            dynamic = (struct elf_range){ offset, offset + len };
        if (type == PT_EH && inside(offset, len, size))
            e->eh_hdr = (struct elf_range){ offset, offset + len };
    }
    if (dynamic.to > 0)
        r = parse_dynamic(e, dynamic, size, read, ctx, err);
    if (r == 0 && e->eh_hdr.to > 0)
        r = parse_eh(e, size, read, ctx, err);
    return r;
}
