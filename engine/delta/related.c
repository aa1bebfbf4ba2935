#include "delta/related.h"

#include <stdlib.h>

#include "base/map.h"
#include "base/mem.h"
#include "delta/sketch.h"

enum { PIECE = 1 << 20 };

static void note_digests(const struct manifest *m, struct map *ret)
{
    char hex[HASH_HEX];

    for (size_t i = 0; i < m->nentries; i++) {
        if (m->entries[i].kind == ENTRY_FILE)
            map_put(ret, hash_hex(&m->entries[i].hash, hex), ret);
    }
}

static int sketch_file(struct sketcher *s, const struct delta_files *files, size_t entry,
                       uint64_t size, unsigned char *piece, struct sketch *ret, struct err *err)
{
    sketcher_begin(s, size);
    for (uint64_t at = 0; at < size; at += PIECE) {
        size_t len = size - at < PIECE ? (size_t)(size - at) : PIECE;
        int r = files->read(files->ctx, entry, piece, len, at, err);

        if (r < 0)
            return r;
        sketcher_add(s, piece, len);
    }
    sketcher_end(s, ret);
    return 0;
}

struct features {
    uint64_t *all;
    size_t count, cap;
    uint64_t bytes; /* of the files that they are of */
};

/* The features of m's files that `other` does not have. */
static int collect(const struct manifest *m, const struct delta_files *files,
                   const struct map *other, struct features *ret, struct err *err)
{
    unsigned char *piece = mem_alloc(PIECE);
    struct sketcher s;
    int r = 0;

    sketcher_init(&s);
    for (size_t i = 0; r == 0 && i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];
        struct sketch sketch = { NULL, 0 };
        char hex[HASH_HEX];

        if (e->kind != ENTRY_FILE || map_get(other, hash_hex(&e->hash, hex)) != NULL)
            continue;
        r = sketch_file(&s, files, i, e->size, piece, &sketch, err);
        ret->bytes += e->size;
        for (size_t k = 0; r == 0 && k < sketch.count; k++) {
            VEC_GROW(ret->all, ret->count, ret->cap);
            ret->all[ret->count++] = sketch.features[k];
        }
        sketch_release(&sketch);
    }
    sketcher_release(&s);
    free(piece);
    return r;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

int related_find(const struct manifest *base, const struct delta_files *base_files,
                 const struct manifest *target, const struct delta_files *target_files,
                 struct related *ret, struct err *err)
{
    struct map of_base = MAP_INIT, of_target = MAP_INIT;
    struct features theirs = { .count = 0 }, ours = { .count = 0 };
    int r;

    note_digests(base, &of_base);
    note_digests(target, &of_target);
    *ret = (struct related){ 0 };
    r = collect(target, target_files, &of_base, &ours, err);
    if (r == 0)
        r = collect(base, base_files, &of_target, &theirs, err);
    if (r == 0 && theirs.count > 0)
        qsort(theirs.all, theirs.count, sizeof(*theirs.all), by_value);
    ret->bytes = ours.bytes;
    ret->features = ours.count;
    for (size_t i = 0; r == 0 && theirs.count > 0 && i < ours.count; i++)
        ret->found +=
            bsearch(&ours.all[i], theirs.all, theirs.count, sizeof(*theirs.all), by_value) != NULL;
    free(ours.all);
    free(theirs.all);
    map_release(&of_base);
    map_release(&of_target);
    return r;
}

bool related_is_hopeless(const struct related *r, const struct manifest *target)
{
    return r->bytes > target->stream_bytes / 2 && r->features >= RELATED_FEATURES_MIN &&
           r->found * 100 < r->features * RELATED_PERCENT;
}
