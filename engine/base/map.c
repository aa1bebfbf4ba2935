#include "base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static uint64_t hash_of(const char *key)
{
    uint64_t h = 1469598103934665603u;

    for (; *key != '\0'; key++)
        h = (h ^ (unsigned char)*key) * 1099511628211u;
    return h ^ (h >> 32);
}

void map_release(struct map *m)
{
    for (size_t i = 0; i < m->used; i++)
        free(m->entries[i].key);
    free(m->entries);
    free(m->slots);
    *m = (struct map)MAP_INIT;
}

/* The slot that holds key, or the empty one where it would go. Deleted entries keep their slot. */
static size_t find_slot(const struct map *m, const char *key)
{
    size_t i = hash_of(key) & (m->nslots - 1);

    while (m->slots[i] >= 0 && strcmp(m->entries[m->slots[i]].key, key) != 0)
        i = (i + 1) & (m->nslots - 1);
    return i;
}

static void rebuild(struct map *m)
{
    size_t live = 0;

    for (size_t i = 0; i < m->used; i++) {
        if (m->entries[i].value == NULL)
            free(m->entries[i].key);
        else
            m->entries[live++] = m->entries[i];
    }
    m->used = live;
    m->cap = live < 8 ? 16 : live * 2;
    m->entries = mem_realloc(m->entries, m->cap * sizeof(*m->entries));
    m->nslots = 16;
    while (m->nslots < m->cap * 2)
        m->nslots *= 2;
    m->slots = mem_realloc(m->slots, m->nslots * sizeof(*m->slots));
    for (size_t i = 0; i < m->nslots; i++)
        m->slots[i] = -1;
    for (size_t i = 0; i < m->used; i++)
        m->slots[find_slot(m, m->entries[i].key)] = (int)i;
}

static struct map_entry *find(const struct map *m, const char *key)
{
    int at;

    if (m->nslots == 0)
        return NULL;
    at = m->slots[find_slot(m, key)];
    return at < 0 ? NULL : &m->entries[at];
}

void *map_get(const struct map *m, const char *key)
{
    struct map_entry *e = find(m, key);

    return e == NULL ? NULL : e->value;
}

void *map_put(struct map *m, const char *key, void *value)
{
    struct map_entry *e = find(m, key);
    void *old = NULL;

    if (e != NULL) {
        old = e->value;
        if (old == NULL)
            m->count++;
        e->value = value;
        return old;
    }
    if (m->used == m->cap)
        rebuild(m);
    m->slots[find_slot(m, key)] = (int)m->used;
    m->entries[m->used++] = (struct map_entry){ mem_strdup(key), value };
    m->count++;
    return NULL;
}

void *map_remove(struct map *m, const char *key)
{
    struct map_entry *e = find(m, key);
    void *old;

    if (e == NULL || e->value == NULL)
        return NULL;
    old = e->value;
    e->value = NULL;
    m->count--;
    return old;
}

struct map_entry *map_next(const struct map *m, size_t *i)
{
    while (*i < m->used) {
        struct map_entry *e = &m->entries[(*i)++];

        if (e->value != NULL)
            return e;
    }
    return NULL;
}
