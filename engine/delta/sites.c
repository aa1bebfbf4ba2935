#include "delta/sites.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "delta/arm64.h"
#include "delta/x86.h"

enum { RECORD = 24, FRAMES_MAX = 1 << 20, CHUNK = 1 << 20 };

struct sites {
    struct elf elf;
    uint32_t *frames; /* where FDEs begin, from elf.eh.from; the top bit: it has an LSDA pointer */
    size_t nframes, cap;
};

static uint32_t u32(const unsigned char *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint64_t u64(const unsigned char *b)
{
    return u32(b) | (uint64_t)u32(b + 4) << 32;
}

/* Walks the records of .eh_frame until its end mark, or anything that is not one. */
static int find_frames(struct sites *f, elf_read read, void *ctx, struct err *err)
{
    struct elf_range at = f->elf.eh;
    unsigned char *chunk;
    uint64_t pos = at.from, have = at.from, end = at.from;
    int r = 0;

    if (at.to - at.from < 24 || at.to - at.from > INT32_MAX)
        return 0;
    chunk = mem_alloc(CHUNK);
    while (at.to - pos >= 24 && f->nframes < FRAMES_MAX) {
        const unsigned char *b;
        uint32_t length;

        if (pos + 24 > end) {
            have = pos;
            end = at.to - pos < CHUNK ? at.to : pos + CHUNK;
            r = read(ctx, chunk, (size_t)(end - have), have, err);
            if (r < 0)
                break;
        }
        b = chunk + (pos - have);
        length = u32(b);
        if (length == 0 || length > at.to - pos - 4)
            break;
        if (u32(b + 4) != 0 && length >= 16) {
            VEC_GROW(f->frames, f->nframes, f->cap);
            f->frames[f->nframes++] =
                (uint32_t)(pos - at.from) | (b[16] == 4 && length >= 17 ? 0x80000000u : 0);
        }
        pos += length + 4;
    }
    f->elf.eh.to = pos;
    free(chunk);
    return r;
}

int sites_open(struct sites **ret, uint64_t file_bytes, elf_read read, void *ctx, struct err *err)
{
    struct sites *f = mem_alloc(sizeof(*f));
    int r = elf_parse(&f->elf, file_bytes, read, ctx, err);

    if (r == 0)
        r = find_frames(f, read, ctx, err);
    if (r < 0) {
        sites_close(f);
        return r;
    }
    *ret = f;
    return 0;
}

void sites_close(struct sites *f)
{
    if (f == NULL)
        return;
    free(f->frames);
    free(f);
}

const struct elf *sites_elf(const struct sites *f)
{
    return &f->elf;
}

/* A stretch of the file, its bytes, and where its fields go. */
struct scan {
    const struct sites *f;
    const unsigned char *data; /* of file offset `from` */
    uint64_t from;             /* lead included */
    uint64_t begin, end;       /* fields lie in [begin, end) */
    bool words;
    struct site_list *out;
};

static void add(struct scan *s, uint64_t at, enum site_kind kind, unsigned width, unsigned tail)
{
    if (at < s->begin || at + width > s->end)
        return;
    VEC_GROW(s->out->items, s->out->count, s->out->cap);
    s->out->items[s->out->count++] =
        (struct site){ (uint32_t)(at - s->begin), (uint8_t)kind, (uint8_t)width, (uint8_t)tail };
}

static enum arm64_form form_of(const struct site *site)
{
    return site->kind == SITE_BRANCH ? ARM64_BRANCH
           : site->kind == SITE_PAGE ? ARM64_PAGE
           : site->kind == SITE_PAIR ? ARM64_PAIR
                                     : ARM64_NONE;
}

static bool is_absolute(const struct site *site)
{
    return site->kind == SITE_POINTER || site->kind == SITE_PLACE || site->kind == SITE_ADDEND;
}

/* What a relative site counts from. */
static bool base_of(const struct elf *e, const struct site *site, uint64_t offset, uint64_t *ret)
{
    if (site->kind == SITE_FRAME_TABLE)
        offset = e->eh_hdr.from;
    if (!elf_address(e, offset, ret))
        return false;
    *ret += site->tail;
    return true;
}

bool site_target(const struct elf *e, const struct site *site, const unsigned char *data,
                 uint64_t offset, uint64_t *ret)
{
    enum arm64_form form = form_of(site);
    uint64_t base = 0, where;
    size_t load;

    if (!is_absolute(site) && !base_of(e, site, offset, &base))
        return false;
    if (form != ARM64_NONE)
        *ret = arm64_target(form, data, base);
    else if (is_absolute(site))
        *ret = u64(data);
    else
        *ret = base + (uint64_t)(int64_t)(int32_t)u32(data);
    return elf_offset(e, *ret, &where, &load);
}

uint64_t site_value(const struct elf *e, const struct site *site, const unsigned char *data,
                    uint64_t offset, uint64_t target)
{
    enum arm64_form form = form_of(site);
    uint64_t base = 0;

    if (is_absolute(site))
        return target;
    if (!base_of(e, site, offset, &base))
        base = 0;
    return form == ARM64_NONE ? target - base : arm64_insn(form, data, base, target);
}

uint64_t site_image(const struct site *site, const unsigned char *data, uint64_t target)
{
    enum arm64_form form = form_of(site);

    return form == ARM64_NONE ? target : arm64_insn(form, data, 0, target);
}

static void scan_arm64(struct scan *s, uint64_t from, uint64_t to)
{
    static const enum site_kind kinds[] = { SITE_NONE, SITE_BRANCH, SITE_PAGE, SITE_PAIR };

    for (uint64_t at = (from + 3) & ~(uint64_t)3; at + 4 <= to; at += 4) {
        const unsigned char *code = s->data + (at - s->from);
        enum arm64_form form = arm64_form(code, (size_t)(to - at));
        struct site site = { 0, (uint8_t)kinds[form], form == ARM64_PAIR ? 8 : 4, 0 };
        uint64_t target;

        if (form == ARM64_NONE || !site_target(&s->f->elf, &site, code, at, &target))
            continue;
        add(s, at, kinds[form], site.width, 0);
        at += form == ARM64_PAIR ? 4 : 0;
    }
}

static void scan_code(struct scan *s, uint64_t from, uint64_t to)
{
    const struct elf *e = &s->f->elf;

    if (e->machine == ELF_AARCH64)
        scan_arm64(s, from, to);
    if (e->machine != ELF_X86_64)
        return;
    while (from < to) {
        const unsigned char *code = s->data + (from - s->from);
        struct x86_insn insn = x86_decode(code);
        struct site site = { 0, SITE_CODE, 4, (uint8_t)(insn.length - insn.field) };
        uint64_t target;

        if (insn.field != 0 && from + insn.field + 4 <= to &&
            site_target(e, &site, code + insn.field, from + insn.field, &target))
            add(s, from + insn.field, SITE_CODE, 4, site.tail);
        from += insn.length;
    }
}

static void scan_data(struct scan *s, uint64_t from, uint64_t to)
{
    const struct elf *e = &s->f->elf;

    if (!e->fixed && !s->words)
        return;
    for (uint64_t at = (from + 3) & ~(uint64_t)3; at + 4 <= to;) {
        const unsigned char *b = s->data + (at - s->from);
        struct site site = { 0, SITE_POINTER, 8, 0 };
        uint64_t target;

        if (e->fixed && at % 8 == 0 && at + 8 <= to && u64(b) != 0 &&
            site_target(e, &site, b, at, &target)) {
            add(s, at, SITE_POINTER, 8, 0);
            at += 8;
            continue;
        }
        if (s->words)
            add(s, at, SITE_WORD, 4, 0);
        at += 4;
    }
}

static void scan_rela(struct scan *s, uint64_t from, uint64_t to)
{
    uint64_t start = s->f->elf.rela.from;
    uint64_t at = from - (from - start) % RECORD;

    for (; at < to; at += RECORD) {
        if (at >= from)
            add(s, at, SITE_PLACE, 8, 0);
        if (at + 16 >= from && at + RECORD <= to)
            add(s, at + 16, SITE_ADDEND, 8, 0);
    }
}

static void scan_frame_table(struct scan *s, uint64_t from, uint64_t to)
{
    uint64_t start = s->f->elf.eh_hdr.from;
    uint64_t at = from < start + 12 ? start + 12 : (from - start + 3) / 4 * 4 + start;

    if (from <= start + 4)
        add(s, start + 4, SITE_FRAME, 4, 0);
    for (; at + 4 <= to; at += 4)
        add(s, at, SITE_FRAME_TABLE, 4, 0);
}

static void scan_frames(struct scan *s, uint64_t from, uint64_t to)
{
    const struct sites *f = s->f;
    uint64_t start = f->elf.eh.from;
    size_t low = 0, high = f->nframes;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (start + (f->frames[middle] & 0x7fffffff) + 24 <= from)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < f->nframes; low++) {
        uint64_t at = start + (f->frames[low] & 0x7fffffff);

        if (at >= to)
            break;
        if (at + 8 >= from)
            add(s, at + 8, SITE_FRAME, 4, 0);
        if ((f->frames[low] & 0x80000000u) != 0 && at + 17 >= from)
            add(s, at + 17, SITE_FRAME, 4, 0);
    }
}

/* The next stretch [from, to) that one rule holds for, and the rule. */
static void (*next_rule(const struct elf *e, uint64_t from, uint64_t *to))(struct scan *, uint64_t,
                                                                           uint64_t)
{
    const struct {
        struct elf_range range;
        void (*rule)(struct scan *, uint64_t, uint64_t);
    } tables[] = { { e->rela, scan_rela },
                   { e->eh_hdr, scan_frame_table },
                   { e->eh, scan_frames } };
    void (*rule)(struct scan *, uint64_t, uint64_t) = scan_data;

    for (size_t i = 0; i < e->nloads; i++) {
        const struct elf_load *l = &e->loads[i];
        uint64_t end = l->offset + l->file_bytes;

        if (l->code && from >= l->offset && from < end)
            rule = scan_code;
        if (from<l->offset && * to> l->offset)
            *to = l->offset;
        if (from<end && * to> end)
            *to = end;
    }
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        struct elf_range t = tables[i].range;

        if (from >= t.from && from < t.to)
            rule = tables[i].rule;
        if (from<t.from && * to> t.from)
            *to = t.from;
        if (from<t.to && * to> t.to)
            *to = t.to;
    }
    return rule;
}

void sites_scan(const struct sites *f, const unsigned char *data, uint64_t offset, size_t lead,
                size_t len, bool words, struct site_list *out)
{
    struct scan s = { f, data, offset - lead, offset, offset + len, words, out };
    uint64_t from = s.from;

    out->count = 0;
    if (f->elf.machine == 0)
        return;
    while (from < s.end) {
        uint64_t to = s.end;
        void (*rule)(struct scan *, uint64_t, uint64_t) = next_rule(&f->elf, from, &to);

        rule(&s, from, to);
        from = to;
    }
}

void sites_blank(const struct sites *f, unsigned char *data, uint64_t offset, size_t lead,
                 size_t len)
{
    struct site_list list = { NULL, 0, 0 };
    uint64_t before = 0;

    sites_scan(f, data, offset, lead, len, false, &list);
    for (size_t i = 0; i < list.count; i++) {
        const struct site *site = &list.items[i];
        unsigned char *b = data + lead + site->at;
        uint64_t value;

        if (site->kind == SITE_PLACE) {
            value = u64(b) - before;
            before = u64(b);
        } else {
            value = site_image(site, b, 0);
        }
        memcpy(b, &value, site->width);
    }
    free(list.items);
}
