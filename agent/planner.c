#include "planner.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/msg.h"

enum { NOWHERE = 0xff };

struct choice {
    const struct planner_pack *packs;
    size_t npacks;
    const struct bitmap *needed;
    unsigned char *from; /* pack of each segment */
    struct bitmap leaves[PLANNER_PACKS_MAX];
    uint64_t missing[PLANNER_PACKS_MAX];
    uint64_t bytes; /* the sum of these */
};

static size_t leaves_of(const struct planner_pack *p)
{
    return (size_t)((p->bytes + LEAF_BYTES - 1) / LEAF_BYTES);
}

static uint64_t leaf_bytes(const struct planner_pack *p, size_t leaf)
{
    uint64_t left = p->bytes - (uint64_t)leaf * LEAF_BYTES;

    return left < LEAF_BYTES ? left : LEAF_BYTES;
}

static bool gives(const struct planner_pack *p, size_t segment)
{
    return p->gives == NULL || bitmap_get(p->gives, segment);
}

/* What it costs to have that leaf, too; takes it if `take`. */
static uint64_t cost_leaf(struct choice *c, size_t pack, size_t leaf, bool take)
{
    const struct planner_pack *p = &c->packs[pack];
    uint64_t bytes;

    if (bitmap_get(&c->leaves[pack], leaf))
        return 0;
    bytes = p->here != NULL && bitmap_get(p->here, leaf) ? 0 : leaf_bytes(p, leaf);
    if (take) {
        bitmap_put(&c->leaves[pack], leaf, true);
        c->missing[pack] += bytes;
        c->bytes += bytes;
    }
    return bytes;
}

static uint64_t cost_segment(struct choice *c, size_t pack, size_t segment, bool take)
{
    const struct planner_part *part = &c->packs[pack].parts[segment];
    uint64_t bytes = 0;
    size_t next = 0; /* leaves below it are counted */

    for (; next < c->packs[pack].head_leaves; next++)
        bytes += cost_leaf(c, pack, next, take);
    for (int r = 0; r < PLANNER_RANGES; r++) {
        size_t first = (size_t)(part->at[r] / LEAF_BYTES);
        size_t end = (size_t)((part->at[r] + part->len[r] + LEAF_BYTES - 1) / LEAF_BYTES);

        if (part->len[r] == 0)
            continue;
        for (next = next > first ? next : first; next < end; next++)
            bytes += cost_leaf(c, pack, next, take);
    }
    if (take)
        c->from[segment] = (unsigned char)pack;
    return bytes;
}

static void choice_init(struct choice *c, const struct planner_pack *packs, size_t npacks,
                        const struct bitmap *needed)
{
    *c = (struct choice){ .packs = packs, .npacks = npacks, .needed = needed };
    c->from = mem_alloc(needed->bits + 1);
    memset(c->from, NOWHERE, needed->bits);
    for (size_t i = 0; i < npacks; i++)
        bitmap_init(&c->leaves[i], leaves_of(&packs[i]));
}

static void choice_release(struct choice *c)
{
    for (size_t i = 0; i < c->npacks; i++)
        bitmap_release(&c->leaves[i]);
    free(c->from);
}

static void take_all_given(struct choice *c, size_t pack)
{
    for (size_t i = 0; i < c->needed->bits; i++) {
        if (bitmap_get(c->needed, i) && c->from[i] == NOWHERE && gives(&c->packs[pack], i))
            (void)cost_segment(c, pack, i, true);
    }
}

/* Each segment that has no pack yet from where it adds least. False: none gives it. */
static bool take_rest(struct choice *c)
{
    for (size_t i = 0; i < c->needed->bits; i++) {
        size_t best = NOWHERE;
        uint64_t least = 0;

        if (!bitmap_get(c->needed, i) || c->from[i] != NOWHERE)
            continue;
        for (size_t k = 0; k < c->npacks; k++) {
            uint64_t bytes = gives(&c->packs[k], i) ? cost_segment(c, k, i, false) : UINT64_MAX;

            if (bytes != UINT64_MAX && (best == NOWHERE || bytes < least)) {
                best = k;
                least = bytes;
            }
        }
        if (best == NOWHERE)
            return false;
        (void)cost_segment(c, best, i, true);
    }
    return true;
}

/* Keeps the better one in *best (from NULL: there is none yet). */
static void keep(struct choice *best, struct choice *c)
{
    struct choice worse = *c;

    if (best->from == NULL || c->bytes < best->bytes) {
        worse = *best;
        *best = *c;
    }
    if (worse.from != NULL)
        choice_release(&worse);
}

/* first, second: packs, or npacks for none. False: a segment that nobody gives. */
static bool try_choice(struct choice *best, const struct planner_pack *packs, size_t npacks,
                       const struct bitmap *needed, size_t first, size_t second)
{
    struct choice c;

    choice_init(&c, packs, npacks, needed);
    if (first < npacks)
        take_all_given(&c, first);
    if (second < npacks)
        take_all_given(&c, second);
    if (!take_rest(&c)) {
        choice_release(&c);
        return false;
    }
    keep(best, &c);
    return true;
}

static void fill(struct plan *ret, const struct choice *c)
{
    *ret = (struct plan){ .npacks = c->npacks, .missing_bytes = c->bytes };
    memcpy(ret->missing, c->missing, sizeof(ret->missing));
    for (size_t k = 0; k < c->npacks; k++) {
        bitmap_init(&ret->take[k], c->needed->bits);
        bitmap_init(&ret->leaves[k], c->leaves[k].bits);
        (void)bitmap_load(&ret->leaves[k], c->leaves[k].bytes, bitmap_size(&c->leaves[k]));
    }
    for (size_t i = 0; i < c->needed->bits; i++) {
        if (c->from[i] != NOWHERE)
            bitmap_put(&ret->take[c->from[i]], i, true);
    }
}

bool planner_choose(struct plan *ret, const struct planner_pack *packs, size_t npacks,
                    const struct bitmap *needed)
{
    struct choice best = { .from = NULL };

    for (size_t i = 0; i < npacks; i++) {
        if (!try_choice(&best, packs, npacks, needed, i, npacks))
            return false;
    }
    for (size_t i = 0; i < npacks; i++) {
        for (size_t k = 0; k < npacks; k++) {
            if (i != k)
                (void)try_choice(&best, packs, npacks, needed, i, k);
        }
    }
    if (!try_choice(&best, packs, npacks, needed, npacks, npacks))
        return false;
    fill(ret, &best);
    choice_release(&best);
    return true;
}

void plan_release(struct plan *p)
{
    for (size_t i = 0; i < p->npacks; i++) {
        bitmap_release(&p->take[i]);
        bitmap_release(&p->leaves[i]);
    }
    *p = (struct plan){ .npacks = 0 };
}

bool plan_uses(const struct plan *p, size_t pack)
{
    return pack < p->npacks && p->take[pack].set > 0;
}
