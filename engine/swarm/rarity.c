#include "swarm/rarity.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void rarity_init(struct rarity *r, size_t leaves)
{
    *r = (struct rarity){ NULL, (leaves + 63) / 64, 0 };
}

void rarity_release(struct rarity *r)
{
    free(r->planes);
    *r = (struct rarity){ NULL, 0, 0 };
}

static void add_plane(struct rarity *r)
{
    size_t bytes = r->words * sizeof(*r->planes);

    r->planes = mem_realloc(r->planes, (r->nplanes + 1) * bytes);
    memset(r->planes + r->nplanes * r->words, 0, bytes);
    r->nplanes++;
}

static void add_word(struct rarity *r, size_t word, uint64_t carry)
{
    for (size_t k = 0; carry != 0; k++) {
        uint64_t *plane, next;

        if (k == r->nplanes)
            add_plane(r);
        plane = &r->planes[k * r->words + word];
        next = *plane & carry;
        *plane ^= carry;
        carry = next;
    }
}

static void remove_word(struct rarity *r, size_t word, uint64_t borrow)
{
    for (size_t k = 0; borrow != 0; k++) {
        uint64_t *plane;

        assert(k < r->nplanes);
        plane = &r->planes[k * r->words + word];
        *plane ^= borrow;
        borrow &= *plane; /* was 0 and is 1 now: borrowed from the next one */
    }
}

void rarity_add(struct rarity *r, size_t leaf)
{
    add_word(r, leaf / 64, (uint64_t)1 << leaf % 64);
}

void rarity_remove(struct rarity *r, size_t leaf)
{
    remove_word(r, leaf / 64, (uint64_t)1 << leaf % 64);
}

void rarity_add_all(struct rarity *r, const struct bitmap *leaves)
{
    for (size_t i = 0; i < r->words; i++)
        add_word(r, i, bitmap_word(leaves, i));
}

void rarity_remove_all(struct rarity *r, const struct bitmap *leaves)
{
    for (size_t i = 0; i < r->words; i++)
        remove_word(r, i, bitmap_word(leaves, i));
}

size_t rarity_of(const struct rarity *r, size_t leaf)
{
    size_t count = 0;

    for (size_t k = 0; k < r->nplanes; k++)
        count |= (size_t)(r->planes[k * r->words + leaf / 64] >> leaf % 64 & 1) << k;
    return count;
}

void rarity_keep_least(const struct rarity *r, uint64_t *set)
{
    for (size_t k = r->nplanes; k-- > 0;) {
        const uint64_t *plane = r->planes + k * r->words;
        uint64_t any = 0;

        for (size_t i = 0; i < r->words; i++)
            any |= set[i] & ~plane[i];
        for (size_t i = 0; any != 0 && i < r->words; i++)
            set[i] &= ~plane[i];
    }
}
