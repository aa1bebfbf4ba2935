#include "releases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/tree.h"

char *releases_path(const char *dir, const struct hash *release)
{
    char hex[HASH_HEX];

    return mem_printf("%s/releases/%s", dir, hash_hex(release, hex));
}

char *releases_staging(const char *dir, const struct hash *release)
{
    char hex[HASH_HEX];

    return mem_printf("%s/releases/%s.tmp", dir, hash_hex(release, hex));
}

bool releases_has(const char *dir, const struct hash *release)
{
    AUTO_FREE char *path = releases_path(dir, release);

    return path_is_dir(path);
}

int releases_current(const char *dir, struct hash *ret, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/current", dir);
    static const char prefix[] = "releases/";
    char target[sizeof(prefix) + HASH_HEX + 16];
    ssize_t n = readlink(path, target, sizeof(target) - 1);

    memset(ret, 0, sizeof(*ret));
    if (n < 0 && errno == ENOENT)
        return 0;
    if (n < 0)
        return err_sys(err, errno, "read link %s", path);
    target[n] = '\0';
    if (strncmp(target, prefix, sizeof(prefix) - 1) != 0 ||
        !hash_parse(ret, target + sizeof(prefix) - 1))
        return err_set(err, ERR_CORRUPT, "%s: points to %s", path, target);
    return 0;
}

int releases_switch(const char *dir, const struct hash *release, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/current", dir);
    AUTO_FREE char *tmp = mem_printf("%s/current.tmp", dir);
    AUTO_FREE char *target = NULL;
    char hex[HASH_HEX];

    (void)unlink(tmp);
    if (hash_is_zero(release)) {
        if (unlink(path) < 0 && errno != ENOENT)
            return err_sys(err, errno, "unlink %s", path);
        return dir_sync(dir, err);
    }
    if (!releases_has(dir, release))
        return err_set(err, ERR_NOT_FOUND, "switch to %.12s: it is not staged",
                       hash_hex(release, hex));
    target = mem_printf("releases/%s", hash_hex(release, hex));
    if (symlink(target, tmp) < 0)
        return err_sys(err, errno, "symlink %s", tmp);
    if (rename(tmp, path) < 0)
        return err_sys(err, errno, "rename %s", tmp);
    return dir_sync(dir, err);
}

int releases_read_doc(const char *dir, const struct hash *release, struct buf *ret, struct err *err)
{
    AUTO_FREE char *base = releases_path(dir, release);
    AUTO_FREE char *path = mem_printf("%s/release.doc", base);
    struct hash digest;
    int r = file_read(ret, path, DOC_MAX_BYTES, err);

    if (r < 0)
        return r;
    digest = sha256_of(ret->data, ret->len);
    if (!hash_equal(&digest, release))
        return err_set(err, ERR_CORRUPT, "%s: is not the release that its directory names", path);
    return 0;
}

int releases_read_manifest(const char *dir, const struct hash *release, struct manifest **ret,
                           struct hash *ret_artifact, struct err *err)
{
    AUTO_FREE char *base = releases_path(dir, release);
    AUTO_FREE char *path = mem_printf("%s/manifest", base);
    AUTO_BUF data = BUF_INIT;
    int r = file_read(&data, path, MANIFEST_MAX_BYTES, err);

    if (r < 0)
        return r;
    if (manifest_parse(ret, data.data, data.len, err) < 0)
        return err_wrap(err, "%s", path);
    *ret_artifact = sha256_of(data.data, data.len);
    return 0;
}

/* Kind, mode, size and target; the content is compared by segments. */
static int check_entry(const char *tree, const struct entry *e, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", tree, e->path);
    char target[PATH_MAX_BYTES + 1];
    struct stat st;
    ssize_t n;
    bool right = false;

    if (lstat(path, &st) < 0)
        return err_set(err, ERR_CORRUPT, "%s: missing", path);
    switch (e->kind) {
    case ENTRY_FILE:
        right = S_ISREG(st.st_mode) && (st.st_mode & 0777) == e->mode &&
                (uint64_t)st.st_size == e->size;
        break;
    case ENTRY_DIR:
        right = S_ISDIR(st.st_mode);
        break;
    case ENTRY_LINK:
        n = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof(target)) : -1;
        right =
            n >= 0 && (size_t)n == strlen(e->target) && memcmp(target, e->target, (size_t)n) == 0;
        break;
    case ENTRY_NONE:
        break;
    }
    return right ? 0 : err_set(err, ERR_CORRUPT, "%s: is not as the manifest says", path);
}

static int check_tree(const char *tree, const struct manifest *m, struct err *err)
{
    unsigned char *segment = mem_alloc(SEGMENT_BYTES);
    int r = 0;

    for (size_t i = 0; r == 0 && i < m->nentries; i++)
        r = check_entry(tree, &m->entries[i], err);
    for (size_t i = 0; r == 0 && i < m->nsegments; i++)
        r = tree_read_segment(tree, m, i, segment, err);
    free(segment);
    return r;
}

int releases_verify(const char *dir, const struct hash *release, const struct hash *artifact,
                    struct err *err)
{
    AUTO_FREE char *base = releases_path(dir, release);
    AUTO_FREE char *tree = mem_printf("%s/tree", base);
    struct manifest *m = NULL;
    struct hash found;
    int r = releases_read_manifest(dir, release, &m, &found, err);

    if (r == 0 && !hash_equal(&found, artifact))
        r = err_set(err, ERR_CORRUPT, "%s/manifest: is not the artifact of the release", base);
    if (r == 0)
        r = check_tree(tree, m, err);
    manifest_free(m);
    return r < 0 ? err_wrap(err, "verify") : 0;
}

/* Renamed first: what is being removed must not look whole, and an attempt to stage it again must
 * not find a half of it (RELEASE.tmp/tree counts as finished). */
static int remove_renamed(const char *path, const char *gone, struct err *err)
{
    int r = dir_remove(gone, err);

    if (r < 0 || !path_exists(path))
        return r;
    if (rename(path, gone) < 0)
        return err_sys(err, errno, "rename %s", path);
    return dir_remove(gone, err);
}

int releases_remove(const char *dir, const struct hash *release, struct err *err)
{
    AUTO_FREE char *path = releases_path(dir, release);
    AUTO_FREE char *staging = releases_staging(dir, release);
    AUTO_FREE char *gone = mem_printf("%s.gone", path);
    int r = remove_renamed(path, gone, err);

    return r < 0 ? r : remove_renamed(staging, gone, err);
}

struct found {
    char name[HASH_HEX + 8];
    struct hash release;
    struct timespec made;
    bool whole, gone; /* gone: RELEASE.gone, a removal that was interrupted */
};

static bool parse_found(struct found *f, const char *name)
{
    char hex[HASH_HEX];
    size_t len = strlen(name);

    f->whole = len == HASH_HEX - 1;
    f->gone = len > HASH_HEX && strcmp(name + HASH_HEX - 1, ".gone") == 0;
    if (!f->whole && (len < HASH_HEX || name[HASH_HEX - 1] != '.' || len >= sizeof(f->name)))
        return false;
    memcpy(hex, name, HASH_HEX - 1);
    hex[HASH_HEX - 1] = '\0';
    memcpy(f->name, name, len + 1);
    return hash_parse(&f->release, hex);
}

struct found_list {
    const char *path;
    struct found *items;
    size_t count, cap;
};

static int note_found(void *ctx, const char *name, struct err *err)
{
    struct found_list *l = ctx;
    AUTO_FREE char *path = mem_printf("%s/%s", l->path, name);
    struct found f;
    struct stat st;

    (void)err;
    if (!parse_found(&f, name) || lstat(path, &st) < 0)
        return 0;
    f.made = st.st_mtim;
    VEC_GROW(l->items, l->count, l->cap);
    l->items[l->count++] = f;
    return 0;
}

static int youngest_first(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->made.tv_sec != y->made.tv_sec)
        return x->made.tv_sec > y->made.tv_sec ? -1 : 1;
    if (x->made.tv_nsec != y->made.tv_nsec)
        return x->made.tv_nsec > y->made.tv_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

size_t releases_list(const char *dir, struct hash *out, size_t max)
{
    AUTO_FREE char *path = mem_printf("%s/releases", dir);
    struct found_list l = { .path = path };
    size_t n = 0;

    if (path_exists(path) && dir_each(path, note_found, &l, NULL) == 0 && l.count > 0)
        qsort(l.items, l.count, sizeof(*l.items), youngest_first);
    for (size_t i = 0; i < l.count && n < max; i++) {
        if (l.items[i].whole)
            out[n++] = l.items[i].release;
    }
    free(l.items);
    return n;
}

static bool is_kept(const struct found *f, const struct hash *keep, size_t nkeep)
{
    for (size_t i = 0; i < nkeep; i++) {
        if (hash_equal(&keep[i], &f->release))
            return true;
    }
    return false;
}

int releases_prune(const char *dir, const struct hash *keep, size_t nkeep, size_t spare,
                   struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/releases", dir);
    struct found_list l = { .path = path };
    size_t spared = 0;
    int r = path_exists(path) ? dir_each(path, note_found, &l, err) : 0;

    if (l.count > 0)
        qsort(l.items, l.count, sizeof(*l.items), youngest_first);
    for (size_t i = 0; r == 0 && i < l.count; i++) {
        const struct found *f = &l.items[i];
        AUTO_FREE char *entry = mem_printf("%s/%s", path, f->name);

        if (f->gone)
            r = dir_remove(entry, err);
        else if (!is_kept(f, keep, nkeep) && !(f->whole && spared++ < spare))
            r = releases_remove(dir, &f->release, err);
    }
    free(l.items);
    return r < 0 ? err_wrap(err, "remove old releases") : 0;
}
