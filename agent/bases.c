#include "bases.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "releases.h"
#include "store/tree_files.h"

struct base_file {
    const struct entry *e;
    uint32_t base, entry;
};

struct bases {
    struct hash artifacts[BASES_MAX];
    struct manifest *manifests[BASES_MAX];
    struct tree_files *trees[BASES_MAX]; /* NULL: gone */
    char *paths[BASES_MAX];
    struct unpack_base unpack[BASES_MAX];
    size_t count, entries;
    struct base_file *files; /* by digest, then base */
    size_t nfiles;
};

static void add(struct bases *b, const char *dir, const struct hash *release)
{
    AUTO_FREE char *path = releases_path(dir, release);
    struct err err = ERR_INIT;
    size_t i = b->count;

    if (i == BASES_MAX || (i > 0 && b->entries >= BASES_ENTRIES_MAX))
        return;
    if (releases_read_manifest(dir, release, &b->manifests[i], &b->artifacts[i], &err) < 0) {
        log_debug("a release that gives nothing: %s", err.text);
        return;
    }
    b->paths[i] = mem_printf("%s/tree", path);
    if (tree_files_open(&b->trees[i], b->paths[i], b->manifests[i], &err) < 0)
        log_debug("a release that gives nothing: %s", err.text);
    b->unpack[i] = (struct unpack_base){ b->paths[i], b->manifests[i] };
    b->entries += b->manifests[i]->nentries;
    b->count++;
}

static int by_digest(const void *a, const void *b)
{
    const struct base_file *x = a, *y = b;
    int order = hash_compare(&x->e->hash, &y->e->hash);

    if (order == 0)
        order = (x->base > y->base) - (x->base < y->base);
    return order != 0 ? order : (x->entry > y->entry) - (x->entry < y->entry);
}

static void list_files(struct bases *b)
{
    b->files = mem_calloc(b->entries + 1, sizeof(*b->files));
    for (size_t k = 0; k < b->count; k++) {
        const struct manifest *m = b->manifests[k];

        for (size_t i = 0; b->trees[k] != NULL && i < m->nentries; i++) {
            if (m->entries[i].kind == ENTRY_FILE)
                b->files[b->nfiles++] =
                    (struct base_file){ &m->entries[i], (uint32_t)k, (uint32_t)i };
        }
    }
    qsort(b->files, b->nfiles, sizeof(*b->files), by_digest);
}

void bases_open(struct bases **ret, const char *dir, const struct hash *except,
                const struct hash *first)
{
    struct bases *b = mem_alloc(sizeof(*b));
    struct hash releases[BASES_MAX + 2];
    size_t n = releases_list(dir, releases, COUNT_OF(releases));

    for (size_t i = 0; i < n; i++) {
        if (hash_equal(&releases[i], first) && !hash_equal(first, except))
            add(b, dir, &releases[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (!hash_equal(&releases[i], first) && !hash_equal(&releases[i], except))
            add(b, dir, &releases[i]);
    }
    list_files(b);
    *ret = b;
}

void bases_close(struct bases *b)
{
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->count; i++) {
        tree_files_close(b->trees[i]);
        manifest_free(b->manifests[i]);
        free(b->paths[i]);
    }
    free(b->files);
    free(b);
}

size_t bases_trees(const struct bases *b, const struct unpack_base **ret)
{
    *ret = b->unpack;
    return b->count;
}

const struct manifest *bases_manifest(const struct bases *b, const struct hash *artifact)
{
    for (size_t i = 0; i < b->count; i++) {
        if (hash_equal(&b->artifacts[i], artifact))
            return b->manifests[i];
    }
    return NULL;
}

uint32_t bases_find(const struct bases *b, const struct hash *digest, uint64_t size)
{
    size_t low = 0, high = b->nfiles;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (hash_compare(&b->files[middle].e->hash, digest) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < b->nfiles && hash_equal(&b->files[low].e->hash, digest) &&
        b->files[low].e->size == size)
        return (uint32_t)low;
    return BASES_NONE;
}

int bases_read(const struct bases *b, uint32_t file, void *data, size_t len, uint64_t offset,
               struct err *err)
{
    const struct base_file *f = file < b->nfiles ? &b->files[file] : NULL;

    if (f == NULL)
        return err_set(err, ERR_NOT_FOUND, "no release here has the file");
    return tree_files_read(b->trees[f->base], f->entry, data, len, offset, err);
}
