/* prefetch.h - brings memory into the processor's caches before it is needed. The pointer need not be
 * valid; nothing is changed. */
#ifndef BASE_PREFETCH_H
#define BASE_PREFETCH_H

#include <stddef.h>

enum { PREFETCH_LINE = 64 };

static inline void prefetch(const void *at, size_t len)
{
    const char *from = at;

    for (size_t i = 0; i < len; i += PREFETCH_LINE)
        __builtin_prefetch(from + i, 1);
    /* Without it gcc 12 takes functions that only prefetch for ones without effect, and drops the calls
     * of them. */
    __asm__ volatile("");
}

#endif
