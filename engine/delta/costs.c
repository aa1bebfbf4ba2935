#include "delta/costs.h"

#include <stdlib.h>

#include "base/mem.h"

enum { COVERED = 16 };

struct file {
    uint64_t bytes, new_bytes;
};

/* What a file has in the present segment. */
struct share {
    size_t entry;
    uint64_t weight;
};

struct costs {
    const struct manifest *m;
    struct file *files; /* by entry */
    struct share *shares;
    size_t nshares, cap;
    size_t cursor; /* entry */
    uint64_t from, to, payload;
    unsigned encoding;
};

struct costs *costs_new(const struct manifest *target)
{
    struct costs *c = mem_alloc(sizeof(*c));

    c->m = target;
    c->files = mem_calloc(target->nentries + 1, sizeof(*c->files));
    return c;
}

void costs_free(struct costs *c)
{
    if (c == NULL)
        return;
    free(c->files);
    free(c->shares);
    free(c);
}

/* Shares out the payload of the segment that ends. */
static void settle(struct costs *c)
{
    uint64_t total = 0;

    for (size_t i = 0; i < c->nshares; i++)
        total += c->shares[i].weight;
    for (size_t i = 0; i < c->nshares; i++)
        c->files[c->shares[i].entry].bytes += c->payload * c->shares[i].weight / total;
    c->nshares = 0;
}

void costs_segment(struct costs *c, size_t i, unsigned encoding, uint64_t bytes)
{
    settle(c);
    c->from = (uint64_t)i * SEGMENT_BYTES;
    c->to = c->from + manifest_segment_bytes(c->m, i);
    c->cursor = manifest_first_file(c->m, i);
    c->payload = bytes;
    c->encoding = encoding;
}

/* Bytes of the stream within the segment, behind those of the calls before. */
static void add(struct costs *c, uint64_t from, uint64_t to, bool new)
{
    while (from < to) {
        const struct entry *e = &c->m->entries[c->cursor];
        uint64_t end = e->offset + e->size < to ? e->offset + e->size : to;

        if (e->kind != ENTRY_FILE || end <= from) {
            c->cursor++;
            continue;
        }
        if (c->nshares == 0 || c->shares[c->nshares - 1].entry != c->cursor) {
            VEC_GROW(c->shares, c->nshares, c->cap);
            c->shares[c->nshares++] = (struct share){ c->cursor, 0 };
        }
        c->shares[c->nshares - 1].weight += (end - from) * (new ? COVERED : 1);
        c->files[c->cursor].new_bytes += new ? end - from : 0;
        from = end;
    }
}

/* The first cover that ends behind `at` of the group. */
static size_t first_cover(const struct cover *covers, size_t n, uint64_t at)
{
    size_t low = 0;

    while (low < n) {
        size_t middle = low + (n - low) / 2;

        if (covers[middle].t + (uint64_t)covers[middle].length <= at)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

void costs_group(struct costs *c, uint64_t begin, uint64_t length, const struct cover *covers,
                 size_t ncovers)
{
    uint64_t at = begin > c->from ? begin : c->from;
    uint64_t to = begin + length < c->to ? begin + length : c->to;

    if (c->encoding != SEGMENT_DELTA)
        ncovers = 0;
    for (size_t i = at < to ? first_cover(covers, ncovers, at - begin) : ncovers;
         i < ncovers && at < to; i++) {
        uint64_t from = begin + covers[i].t, end = from + covers[i].length;

        from = from < at ? at : from < to ? from : to;
        end = end < to ? end : to;
        add(c, at, from, true);
        if (from < end)
            add(c, from, end, false);
        at = from < end ? end : from;
    }
    if (at < to)
        add(c, at, to, true);
}

static void find_reason(const struct costs *c, const struct delta_files *files, struct cost *x)
{
    uint64_t size = c->m->entries[x->entry].size;

    x->reason = COST_CHANGED;
    if (x->new_bytes * 2 < size)
        return;
    x->reason = x->new_bytes * 10 >= size * 9 ? COST_NEW : COST_MIXED;
    if (packed_find(files, x->entry, size, &x->packed) < 0)
        x->packed = packed_by_name(c->m->entries[x->entry].path);
    if (x->packed != NULL)
        x->reason = COST_PACKED;
}

/* Keeps the dearest, in order; of equals the first. */
static void rank(struct costs_top *top, const struct cost *x)
{
    size_t i = top->count;

    if (i == COSTS_NAMED && top->items[i - 1].bytes >= x->bytes)
        return;
    if (i < COSTS_NAMED)
        top->count++;
    else
        i--;
    for (; i > 0 && top->items[i - 1].bytes < x->bytes; i--)
        top->items[i] = top->items[i - 1];
    top->items[i] = *x;
}

void costs_finish(struct costs *c, const struct delta_files *files, struct costs_top *ret)
{
    settle(c);
    *ret = (struct costs_top){ .count = 0 };
    for (size_t k = 0; k < c->m->nentries; k++) {
        struct cost x = { .entry = (uint32_t)k,
                          .bytes = c->files[k].bytes,
                          .new_bytes = c->files[k].new_bytes };

        if (x.bytes >= COSTS_PACKED_LEAST) {
            find_reason(c, files, &x);
            ret->packed += x.reason == COST_PACKED;
        }
        if (x.bytes >= COSTS_LEAST)
            rank(ret, &x);
    }
    for (size_t i = 0; i < ret->count; i++) {
        if (ret->items[i].reason == COST_NONE)
            find_reason(c, files, &ret->items[i]);
    }
}

void cost_describe(struct buf *out, const struct cost *c)
{
    static const char *const texts[] = {
        [COST_NONE] = "",
        [COST_CHANGED] = "differs here and there",
        [COST_MIXED] = "more than half of it is new",
        [COST_NEW] = "nothing in the base is like it",
        [COST_PACKED] = "",
    };

    buf_str_append(out, texts[c->reason]);
    if (c->reason == COST_PACKED && c->packed != NULL)
        buf_printf(out, "%s: a delta of it can't help%s%s", c->packed->name,
                   c->packed->remedy == NULL ? "" : "; ",
                   c->packed->remedy == NULL ? "" : c->packed->remedy);
}

const char *cost_reason_name(enum cost_reason reason)
{
    static const char *const names[] = { "none", "changed", "mixed", "new", "packed" };

    return names[reason];
}
