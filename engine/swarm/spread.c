#include "swarm/spread.h"

enum { EXACT = 2 * SPREAD_SUB, SUB_BITS = 6 };

size_t spread_index(uint64_t value)
{
    unsigned shift = 0;

    if (value > SPREAD_MAX)
        value = SPREAD_MAX;
    if (value < EXACT)
        return (size_t)value;
    while (value >> shift >= EXACT)
        shift++;
    return EXACT + (size_t)(shift - 1) * SPREAD_SUB + (size_t)(value >> shift) - SPREAD_SUB;
}

uint64_t spread_value(size_t index)
{
    uint64_t shift, low;

    if (index < EXACT)
        return index;
    shift = (index - EXACT) / SPREAD_SUB + 1;
    low = (uint64_t)(SPREAD_SUB + (index - EXACT) % SPREAD_SUB) << shift;
    return low + (UINT64_C(1) << (shift - 1));
}

void spread_add(struct spread *s, uint64_t value)
{
    spread_put(s, spread_index(value), 1);
}

void spread_put(struct spread *s, size_t index, uint64_t count)
{
    if (index >= SPREAD_BUCKETS || s->total + count < s->total)
        return;
    s->counts[index] += count;
    s->total += count;
}

uint64_t spread_at(const struct spread *s, unsigned permille)
{
    /* The smallest rank that is at least that share of all, without an overflow. */
    uint64_t rank = s->total / 1000 * permille + (s->total % 1000 * permille + 999) / 1000;
    uint64_t seen = 0;

    for (size_t i = 0; i < SPREAD_BUCKETS; i++) {
        seen += s->counts[i];
        if (s->counts[i] > 0 && seen >= rank)
            return spread_value(i);
    }
    return 0;
}

uint64_t spread_upto(const struct spread *s, uint64_t value)
{
    size_t last = spread_index(value);
    uint64_t n = 0;

    for (size_t i = 0; i <= last; i++)
        n += s->counts[i];
    return n;
}
