#include "delta/group.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { MOST_ROOM = SITES_LEAD + SEGMENT_BYTES + SITES_PAD };

static int read_source(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct group *g = ctx;

    return g->files->read(g->files->ctx, g->g->sources[0], data, len, offset, err);
}

int group_open(struct group **ret, struct delta_group *described, const struct manifest *base,
               const struct delta_files *files, struct err *err)
{
    struct group *g = mem_alloc(sizeof(*g));
    int r = 0;

    g->g = described;
    g->base = base;
    g->files = files;
    g->starts = mem_calloc(described->nsources + 1, sizeof(*g->starts));
    for (size_t i = 0; i < described->nsources; i++)
        g->starts[i + 1] = g->starts[i] + base->entries[described->sources[i]].size;
    if (described->flags & DELTA_PREDICTED)
        r = sites_open(&g->sites, group_source_bytes(g), read_source, g, err);
    if (r < 0) {
        group_close(g);
        return r;
    }
    if (g->sites != NULL)
        g->translator = (struct translator){ sites_elf(g->sites), described->layout, &g->moves };
    *ret = g;
    return 0;
}

void group_close(struct group *g)
{
    if (g == NULL)
        return;
    free(g->starts);
    free(g->covers);
    moves_release(&g->moves);
    sites_close(g->sites);
    free(g);
}

void group_take_covers(struct group *g, struct cover *covers, size_t count)
{
    free(g->covers);
    g->covers = covers;
    g->ncovers = count;
    if (g->sites != NULL) {
        moves_release(&g->moves);
        moves_init(&g->moves, covers, count);
    }
}

uint64_t group_source_bytes(const struct group *g)
{
    return g->starts[g->g->nsources];
}

int group_read(const struct group *g, void *data, size_t len, uint64_t at, struct err *err)
{
    unsigned char *out = data;
    size_t low = 0, high = g->g->nsources;
    int r = 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (g->starts[middle + 1] <= at)
            low = middle + 1;
        else
            high = middle;
    }
    for (; r == 0 && len > 0; low++) {
        uint64_t offset = at - g->starts[low], left = g->starts[low + 1] - at;
        size_t n = left < len ? (size_t)left : len;

        r = g->files->read(g->files->ctx, g->g->sources[low], out, n, offset, err);
        out += n;
        at += n;
        len -= n;
    }
    return r;
}

void group_scratch_init(struct group_scratch *s)
{
    *s = (struct group_scratch){ .base = NULL };
}

void group_scratch_release(struct group_scratch *s)
{
    free(s->base);
    free(s->list.items);
}

/* Room for that many bytes. */
static void make_room(struct group_scratch *s, size_t bytes)
{
    if (bytes <= s->cap)
        return;
    free(s->base);
    s->cap = 2 * s->cap < MOST_ROOM ? 2 * s->cap : MOST_ROOM;
    s->cap = bytes > s->cap ? bytes : s->cap;
    s->base = mem_alloc(s->cap);
}

static int code_piece(const struct group *g, struct coder *c, struct group_scratch *scratch,
                      const struct cover *cover, uint64_t from, uint64_t to, bool words,
                      unsigned char *target, struct err *err)
{
    uint64_t at = cover->s + (from - cover->t);
    size_t len = (size_t)(to - from);
    size_t lead = g->sites == NULL ? 0 : at < SITES_LEAD ? (size_t)at : SITES_LEAD;
    struct piece p = { .target = target, .len = len, .base_offset = at, .target_offset = from };
    int r;

    make_room(scratch, lead + len + SITES_PAD);
    p.base = scratch->base + lead;
    r = group_read(g, scratch->base, lead + len, at - lead, err);

    if (r < 0)
        return r;
    if (g->sites != NULL) {
        memset(scratch->base + lead + len, 0, SITES_PAD);
        sites_scan(g->sites, scratch->base, at, lead, len, words && (at - from) % 4 == 0,
                   &scratch->list);
        p.t = &g->translator;
        p.sites = scratch->list.items;
        p.nsites = scratch->list.count;
    }
    return coder_cover(c, &p, err);
}

int group_code(const struct group *g, struct coder *c, struct group_scratch *scratch, uint64_t from,
               uint64_t to, bool words, unsigned char *target, struct err *err)
{
    size_t low = 0, high = g->ncovers;
    int r = 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (g->covers[middle].t + (uint64_t)g->covers[middle].length <= from)
            low = middle + 1;
        else
            high = middle;
    }
    for (; r == 0 && from < to; low++) {
        const struct cover *cover = low < g->ncovers ? &g->covers[low] : NULL;
        uint64_t next = cover == NULL || cover->t > to ? to : cover->t;
        uint64_t end;

        if (next > from) {
            r = coder_literal(c, target, (size_t)(next - from), err);
            target += next - from;
            from = next;
        }
        if (r < 0 || from == to)
            break;
        end = cover->t + (uint64_t)cover->length;
        end = end < to ? end : to;
        r = code_piece(g, c, scratch, cover, from, end, words, target, err);
        target += end - from;
        from = end;
    }
    return r;
}
