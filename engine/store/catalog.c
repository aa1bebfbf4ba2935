#include "store/catalog.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "store/publish.h"

/* Objects of one kind. */
struct listing {
    struct catalog_stray *items;
    size_t count, cap;
};

static int note(void *ctx, const struct hash *name, uint64_t bytes)
{
    struct listing *l = ctx;

    VEC_GROW(l->items, l->count, l->cap);
    l->items[l->count++] = (struct catalog_stray){ *name, bytes };
    return 0;
}

static int by_hash(const void *a, const void *b)
{
    return hash_compare(&((const struct catalog_stray *)a)->hash,
                        &((const struct catalog_stray *)b)->hash);
}

static int list(struct store *s, enum object_kind kind, struct listing *l, struct err *err)
{
    int r = store_list(s, kind, note, l, err);

    if (r == 0 && l->count > 0)
        qsort(l->items, l->count, sizeof(*l->items), by_hash);
    return r;
}

static struct catalog_stray *find_in(const struct listing *l, const struct hash *name)
{
    struct catalog_stray key = { .hash = *name };

    return l->count == 0 ? NULL : bsearch(&key, l->items, l->count, sizeof(key), by_hash);
}

/* Each index, parsed. One that vanished or rotted is left out: then its pack is a stray. */
static int read_packs(struct catalog *c, struct store *s, const struct listing *indexes,
                      const struct listing *packs, struct err *err)
{
    c->packs = mem_calloc(indexes->count + 1, sizeof(*c->packs));
    for (size_t i = 0; i < indexes->count; i++) {
        const struct hash *name = &indexes->items[i].hash;
        struct pack_index *x = NULL;
        int r = store_get_index(s, name, &x, err);

        if (r == -(int)ERR_NOT_FOUND || r == -(int)ERR_CORRUPT || r == -(int)ERR_INVALID)
            continue;
        if (r < 0)
            return r;
        c->packs[c->npacks++] = (struct catalog_pack){ .hash = *name,
                                                       .base = x->base,
                                                       .target = x->target,
                                                       .kind = x->kind,
                                                       .bytes = x->bytes,
                                                       .present = find_in(packs, name) != NULL };
        pack_index_free(x);
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return hash_compare(&((const struct catalog_pack *)a)->hash,
                        &((const struct catalog_pack *)b)->hash);
}

/* Full packs first. */
static int by_target(const void *a, const void *b)
{
    const struct catalog_pack *x = a, *y = b;
    int order = hash_compare(&x->target, &y->target);

    if (order == 0)
        order = (x->kind > y->kind) - (x->kind < y->kind);
    return order != 0 ? order : by_name(a, b);
}

/* c->packs is sorted by name at this point. */
static void find_strays(struct catalog *c, const struct listing *packs)
{
    c->strays = mem_calloc(packs->count + 1, sizeof(*c->strays));
    for (size_t i = 0; i < packs->count; i++) {
        struct catalog_pack key = { .hash = packs->items[i].hash };

        if (c->npacks == 0 || bsearch(&key, c->packs, c->npacks, sizeof(key), by_name) == NULL)
            c->strays[c->nstrays++] = packs->items[i];
    }
}

static void add_artifact(struct catalog *c, const struct hash *name, uint64_t manifest_bytes,
                         size_t *at)
{
    struct catalog_artifact *a = &c->artifacts[c->nartifacts++];

    *a = (struct catalog_artifact){ .hash = *name,
                                    .manifest_bytes = manifest_bytes,
                                    .packs = &c->packs[*at],
                                    .bytes = manifest_bytes };
    for (; *at < c->npacks && hash_equal(&c->packs[*at].target, name); (*at)++) {
        a->bytes += c->packs[*at].present ? c->packs[*at].bytes : 0;
        a->npacks++;
    }
}

/* Manifests and the targets of packs, merged. */
static void join(struct catalog *c, const struct listing *manifests)
{
    size_t i = 0, at = 0;

    c->artifacts = mem_calloc(manifests->count + c->npacks + 1, sizeof(*c->artifacts));
    while (i < manifests->count || at < c->npacks) {
        int order = i == manifests->count ? 1
                    : at == c->npacks
                        ? -1
                        : hash_compare(&manifests->items[i].hash, &c->packs[at].target);

        if (order > 0) {
            add_artifact(c, &c->packs[at].target, 0, &at);
        } else {
            add_artifact(c, &manifests->items[i].hash, manifests->items[i].bytes, &at);
            i++;
        }
    }
}

int catalog_read(struct catalog **ret, struct store *s, struct err *err)
{
    struct catalog *c = mem_alloc(sizeof(*c));
    struct listing manifests = { 0 }, indexes = { 0 }, packs = { 0 };
    /* In the order in which they are deleted: what is listed later was there earlier. */
    int r = list(s, OBJECT_INDEX, &indexes, err);

    if (r == 0)
        r = list(s, OBJECT_PACK, &packs, err);
    if (r == 0)
        r = list(s, OBJECT_MANIFEST, &manifests, err);
    if (r == 0)
        r = read_packs(c, s, &indexes, &packs, err);
    if (r == 0) {
        if (c->npacks > 0)
            qsort(c->packs, c->npacks, sizeof(*c->packs), by_name);
        find_strays(c, &packs);
        if (c->npacks > 0)
            qsort(c->packs, c->npacks, sizeof(*c->packs), by_target);
        join(c, &manifests);
        *ret = c;
    } else {
        catalog_free(c);
    }
    free(manifests.items);
    free(indexes.items);
    free(packs.items);
    return r < 0 ? err_wrap(err, "read the store") : 0;
}

void catalog_free(struct catalog *c)
{
    if (c == NULL)
        return;
    free(c->artifacts);
    free(c->packs);
    free(c->strays);
    free(c);
}

static int by_artifact(const void *a, const void *b)
{
    return hash_compare(&((const struct catalog_artifact *)a)->hash,
                        &((const struct catalog_artifact *)b)->hash);
}

const struct catalog_artifact *catalog_get(const struct catalog *c, const struct hash *artifact)
{
    struct catalog_artifact key = { .hash = *artifact };

    return c->nartifacts == 0
               ? NULL
               : bsearch(&key, c->artifacts, c->nartifacts, sizeof(key), by_artifact);
}

static bool begins_with(const struct hash *name, const char *prefix, char hex[HASH_HEX])
{
    return strncasecmp(hash_hex(name, hex), prefix, strlen(prefix)) == 0;
}

int catalog_find(const struct catalog *c, const char *prefix, const struct catalog_artifact **ret,
                 struct err *err)
{
    AUTO_BUF several = BUF_INIT;
    size_t len = strlen(prefix), found = 0;
    char hex[HASH_HEX];

    if (len < CATALOG_PREFIX_MIN || len >= HASH_HEX ||
        strspn(prefix, "0123456789abcdefABCDEF") != len)
        return err_set(err, ERR_INVALID, "'%.80s': not %d to 64 hexadecimal digits", prefix,
                       CATALOG_PREFIX_MIN);
    for (size_t i = 0; i < c->nartifacts; i++) {
        if (!begins_with(&c->artifacts[i].hash, prefix, hex))
            continue;
        *ret = &c->artifacts[i];
        if (found++ < 5)
            buf_printf(&several, " %.16s", hex);
    }
    if (found == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no artifact %s in the store", prefix);
    if (found > 1)
        return err_set(err, ERR_CONFLICT, "%s: %zu artifacts begin with that:%s", prefix, found,
                       buf_str(&several));
    return 0;
}
