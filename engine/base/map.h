/* map.h - text keys to pointers; keys are copied, values are borrowed.
 *
 * Open hashing with FNV-1a and doubling; for tables up to some 100,000 entries that are not fed by
 * an attacker's choice of keys. Iteration is in insertion order as long as nothing was deleted. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>

struct map_entry {
    char *key;
    void *value; /* NULL: deleted */
};

struct map {
    struct map_entry *entries;
    size_t used;  /* entries in use, deleted ones included */
    size_t count; /* live ones */
    size_t cap;
    int *slots; /* index into entries, -1 empty */
    size_t nslots;
};

#define MAP_INIT               \
    {                          \
        NULL, 0, 0, 0, NULL, 0 \
    }

void map_release(struct map *m); /* the values stay the caller's */
void *map_get(const struct map *m, const char *key);
void *map_put(struct map *m, const char *key, void *value); /* value != NULL; gives the old one */
void *map_remove(struct map *m, const char *key);           /* gives the value, or NULL */

/* for (size_t i = 0; (e = map_next(&m, &i)) != NULL;) - removing the current entry is allowed. */
struct map_entry *map_next(const struct map *m, size_t *i);

#endif
