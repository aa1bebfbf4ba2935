#include "delta/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "delta/likeness.h"
#include "delta/sketch.h"

enum { NONE = -1, HASH_LIKE = 8, HEX_LIKE = 6 };

/* What a base's file is to the target, by how likely its content went somewhere else. */
enum rank { RANK_NONE = 0, RANK_NAMED, RANK_GONE, RANK_CHANGED, RANK_UNCHANGED, RANKS };

/* Files of a manifest under keys, sorted by key, size and entry. */
struct key {
    uint64_t key, size;
    uint32_t entry;
};

struct keys {
    struct key *items;
    size_t count;
};

struct pairing {
    const struct pairs_options *o;
    struct keys base_digests, base_stripped, base_names, target_digests, target_stripped;
    size_t base_files, target_files; /* that have bytes */
    struct pair *pairs;
    struct doubt *doubts;
    size_t ndoubts, cap;
    uint64_t doubtful_bytes;
    unsigned char *ranks; /* of the base's entries */
};

static bool has_bytes(const struct entry *e)
{
    return e->kind == ENTRY_FILE && e->size > 0;
}

/* FNV-1a, a byte more. */
static uint64_t add_byte(uint64_t key, char c)
{
    return (key ^ (unsigned char)c) * 0x100000001b3;
}

static const uint64_t KEY_BEGIN = 0xcbf29ce484222325;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A number, or what is hardly a word: six or more hexadecimal digits, eight or more letters and
 * digits mixed. */
static bool is_version(const char *word, size_t len)
{
    size_t digits = 0, hex = 0;

    for (size_t i = 0; i < len; i++) {
        digits += is_digit(word[i]);
        hex += is_digit(word[i]) || (word[i] >= 'a' && word[i] <= 'f');
    }
    return digits == len || (digits > 0 && hex == len && len >= HEX_LIKE) ||
           (digits > 0 && len >= HASH_LIKE);
}

static size_t word_length(const char *s)
{
    size_t len = 0;

    while (is_digit(s[len]) || is_letter(s[len]))
        len++;
    return len;
}

uint64_t pairs_stripped_key(const char *path)
{
    uint64_t key = KEY_BEGIN;

    while (*path != '\0') {
        size_t len = word_length(path);

        if (len == 0 || !is_version(path, len)) {
            for (size_t i = 0; i < len; i++)
                key = add_byte(key, path[i]);
            path += len;
            if (*path != '\0')
                key = add_byte(key, *path++);
            continue;
        }
        key = add_byte(key, '#');
        path += len;
        while (*path == '.' && is_digit(path[1])) /* 1.2 and 1.2.3 are both versions */
            path += 1 + word_length(path + 1);
    }
    return key;
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static uint64_t name_key(const struct entry *e)
{
    uint64_t key = KEY_BEGIN;

    for (const char *s = last_name(e->path); *s != '\0'; s++)
        key = add_byte(key, *s);
    return key;
}

static uint64_t stripped_key(const struct entry *e)
{
    return pairs_stripped_key(e->path);
}

static uint64_t digest_key(const struct entry *e)
{
    uint64_t key;

    memcpy(&key, e->hash.b, sizeof(key));
    return key;
}

static int by_key(const void *a, const void *b)
{
    const struct key *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return x->entry < y->entry ? -1 : x->entry > y->entry;
}

static void keys_init(struct keys *k, const struct manifest *m,
                      uint64_t (*of)(const struct entry *))
{
    k->items = mem_calloc(m->nentries + 1, sizeof(*k->items));
    k->count = 0;
    for (size_t i = 0; i < m->nentries; i++) {
        if (has_bytes(&m->entries[i]))
            k->items[k->count++] =
                (struct key){ of(&m->entries[i]), m->entries[i].size, (uint32_t)i };
    }
    qsort(k->items, k->count, sizeof(*k->items), by_key);
}

/* The first with this key that is no smaller, or where it would be. */
static size_t keys_find(const struct keys *k, uint64_t key, uint64_t size)
{
    size_t low = 0, high = k->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct key *x = &k->items[middle];

        if (x->key < key || (x->key == key && x->size < size))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool keys_has(const struct keys *k, size_t i, uint64_t key)
{
    return i < k->count && k->items[i].key == key;
}

/* The entry that alone has this key. */
static int64_t keys_only(const struct keys *k, uint64_t key)
{
    size_t i = keys_find(k, key, 0);

    return keys_has(k, i, key) && !keys_has(k, i + 1, key) ? (int64_t)k->items[i].entry : NONE;
}

/* The first file of m with e's digest. */
static int64_t same_content(const struct keys *k, const struct manifest *m, const struct entry *e)
{
    uint64_t key = digest_key(e);

    for (size_t i = keys_find(k, key, 0); keys_has(k, i, key); i++) {
        if (hash_equal(&m->entries[k->items[i].entry].hash, &e->hash))
            return k->items[i].entry;
    }
    return NONE;
}

/* The file with bytes at this path. Manifests are in path order. */
static int64_t same_path(const struct manifest *m, const char *path)
{
    size_t low = 0, high = m->nentries;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(m->entries[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->nentries && strcmp(m->entries[low].path, path) == 0 &&
                   has_bytes(&m->entries[low])
               ? (int64_t)low
               : NONE;
}

/* The same path but for versions, if that says it of one file on either side. */
static int64_t same_stripped(const struct pairing *p, const struct entry *e)
{
    uint64_t key = stripped_key(e);

    return keys_only(&p->target_stripped, key) == NONE ? NONE : keys_only(&p->base_stripped, key);
}

static uint64_t apart(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Of the base's files of that name, the one nearest in size, if it is within a factor of two. */
static int64_t same_name(const struct pairing *p, const struct entry *e)
{
    const struct keys *k = &p->base_names;
    uint64_t key = name_key(e);
    size_t i = keys_find(k, key, e->size);
    const struct key *best = keys_has(k, i, key) ? &k->items[i] : NULL;

    if (i > 0 && keys_has(k, i - 1, key) &&
        (best == NULL || apart(k->items[i - 1].size, e->size) <= apart(best->size, e->size)))
        best = &k->items[i - 1];
    if (best == NULL || best->size > 2 * e->size || e->size > 2 * best->size)
        return NONE;
    return best->entry;
}

/* Two artifacts of one file each are versions of one thing, whatever the files are called. */
static int64_t only_file(const struct pairing *p)
{
    return p->base_files == 1 && p->target_files == 1 ? (int64_t)p->base_names.items[0].entry
                                                      : NONE;
}

static bool is_trusted(const struct entry *e, const struct entry *base)
{
    uint64_t larger = e->size > base->size ? e->size : base->size;

    return e->size >= PAIRS_TRUSTED_MIN || apart(e->size, base->size) < larger / PAIRS_TRUSTED_PART;
}

static void pair_by_names(struct pairing *p, size_t i)
{
    const struct entry *e = &p->o->target->entries[i];
    struct pair *pair = &p->pairs[i];
    int64_t source = same_path(p->o->base, e->path);

    pair->by = PAIR_PATH;
    if (source == NONE)
        source = same_stripped(p, e);
    if (source == NONE) {
        pair->by = PAIR_ONLY;
        source = only_file(p);
    }
    if (source == NONE) {
        pair->by = PAIR_NAME;
        source = same_name(p, e);
    }
    if (source == NONE) {
        pair->by = PAIR_NONE;
        return;
    }
    pair->sources[0] = (uint32_t)source;
    pair->nsources = 1;
}

/* Do names tell enough of entry i? */
static bool is_settled(const struct pairing *p, size_t i)
{
    const struct pair *pair = &p->pairs[i];
    const struct entry *e = &p->o->target->entries[i];

    return e->size < SKETCH_WINDOW || pair->by == PAIR_ONLY ||
           (pair->by == PAIR_PATH && is_trusted(e, &p->o->base->entries[pair->sources[0]]));
}

static void pair_entry(struct pairing *p, size_t i)
{
    const struct entry *e = &p->o->target->entries[i];
    int64_t same = same_content(&p->base_digests, p->o->base, e);

    if (same != NONE) {
        p->pairs[i] =
            (struct pair){ .sources = { (uint32_t)same }, .nsources = 1, .by = PAIR_DIGEST };
        return;
    }
    pair_by_names(p, i);
    if (is_settled(p, i))
        return;
    VEC_GROW(p->doubts, p->ndoubts, p->cap);
    p->doubts[p->ndoubts++] = (struct doubt){ (uint32_t)i, &p->pairs[i] };
    p->doubtful_bytes += e->size;
}

static void rank_base(struct pairing *p)
{
    const struct manifest *base = p->o->base, *target = p->o->target;

    p->ranks = mem_calloc(base->nentries + 1, 1);
    for (size_t i = 0; i < base->nentries; i++) {
        const struct entry *e = &base->entries[i];

        if (!has_bytes(e) || e->size < SKETCH_WINDOW)
            continue;
        if (same_content(&p->target_digests, target, e) != NONE)
            p->ranks[i] = RANK_UNCHANGED;
        else
            p->ranks[i] = same_path(target, e->path) != NONE ? RANK_CHANGED : RANK_GONE;
    }
    for (size_t i = 0; i < p->ndoubts; i++) {
        const struct pair *pair = p->doubts[i].pair;

        if (pair->nsources > 0 && p->ranks[pair->sources[0]] != RANK_NONE)
            p->ranks[pair->sources[0]] = RANK_NAMED;
    }
}

/* The files of the base that are looked at, within bounds. */
static size_t list_candidates(const struct pairing *p, uint32_t *out)
{
    uint64_t left = PAIRS_BASE_LEAST + PAIRS_BASE_FACTOR * p->doubtful_bytes;
    size_t n = 0;

    for (unsigned rank = RANK_NAMED; rank < RANKS; rank++) {
        for (size_t i = 0; i < p->o->base->nentries; i++) {
            uint64_t size = p->o->base->entries[i].size;

            if (p->ranks[i] != rank || (rank != RANK_NAMED && size > left))
                continue;
            out[n++] = (uint32_t)i;
            left -= size < left ? size : left;
        }
    }
    return n;
}

static int settle_doubts(struct pairing *p, struct err *err)
{
    uint32_t *candidates;
    size_t n;
    int r;

    if (p->ndoubts == 0)
        return 0;
    rank_base(p);
    candidates = mem_calloc(p->o->base->nentries + 1, sizeof(*candidates));
    n = list_candidates(p, candidates);
    r = likeness_find(p->o, candidates, n, p->doubts, p->ndoubts, err);
    free(candidates);
    return r;
}

static void index_names(struct pairing *p)
{
    keys_init(&p->base_digests, p->o->base, digest_key);
    keys_init(&p->target_digests, p->o->target, digest_key);
    keys_init(&p->base_stripped, p->o->base, stripped_key);
    keys_init(&p->target_stripped, p->o->target, stripped_key);
    keys_init(&p->base_names, p->o->base, name_key);
    p->base_files = p->base_digests.count;
    p->target_files = p->target_digests.count;
}

int pairs_find(struct pair **ret, const struct pairs_options *o, struct err *err)
{
    struct pairing p = { .o = o };
    int r;

    p.pairs = mem_calloc(o->target->nentries + 1, sizeof(*p.pairs));
    index_names(&p);
    for (size_t i = 0; i < o->target->nentries; i++) {
        if (has_bytes(&o->target->entries[i]))
            pair_entry(&p, i);
    }
    r = settle_doubts(&p, err);
    free(p.base_digests.items);
    free(p.target_digests.items);
    free(p.base_stripped.items);
    free(p.target_stripped.items);
    free(p.base_names.items);
    free(p.doubts);
    free(p.ranks);
    if (r < 0)
        free(p.pairs);
    else
        *ret = p.pairs;
    return r;
}
