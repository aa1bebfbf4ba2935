/* mem.h - allocation that either succeeds or ends the process.
 *
 * Sizes that come from outside are checked against a named limit before they reach these, so
 * running out here means that the machine is out of memory: a crash-only process says so and exits
 * 1, and continues from its saved state when it is started again. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

/* Each gives memory that the caller frees with free(). mem_alloc() zeroes it. */
void *mem_alloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *mem_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *old, size_t bytes) __attribute__((returns_nonnull));
char *mem_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *mem_strndup(const char *s, size_t len) __attribute__((malloc, returns_nonnull));
void *mem_dup(const void *data, size_t bytes) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *fmt, ...)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

/* Makes room for one more element in a growing array of pointer type: VEC_GROW(a->items, a->count,
 * a->cap); then a->items[a->count++] = x. */
#define VEC_GROW(items, count, cap)                                           \
    do {                                                                      \
        if ((count) == (cap)) {                                               \
            (cap) = (cap) == 0 ? 8 : (cap)*2;                                 \
            (items) = mem_realloc((items), (size_t)(cap) * sizeof(*(items))); \
        }                                                                     \
    } while (0)

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

#endif
