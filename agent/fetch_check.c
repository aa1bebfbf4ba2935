#include "fetch_check.h"

#include <string.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/tree.h"

static int go_on(void *ctx, size_t i, const void *data, size_t len, struct err *err)
{
    (void)i;
    (void)data;
    (void)len;
    return atomic_load((const atomic_bool *)ctx) ? err_set(err, ERR_CANCELLED, "stopped") : 0;
}

static bool is_same(const struct entry *was, const struct entry *is)
{
    if (was->kind != is->kind)
        return false;
    if (was->kind == ENTRY_LINK)
        return strcmp(was->target, is->target) == 0;
    return was->mode == is->mode && (was->kind != ENTRY_FILE ||
                                     (was->size == is->size && hash_equal(&was->hash, &is->hash)));
}

struct differences {
    size_t count;
    const char *path, *what; /* of the first */
};

static void differs(struct differences *d, const char *path, const char *what)
{
    if (d->count++ > 0)
        return;
    d->path = path;
    d->what = what;
}

/* Both are in the order of their paths. */
static void compare(struct differences *d, const struct manifest *was, const struct manifest *is)
{
    size_t i = 0, k = 0;

    while (i < was->nentries || k < is->nentries) {
        int order = i == was->nentries  ? 1
                    : k == is->nentries ? -1
                                        : strcmp(was->entries[i].path, is->entries[k].path);

        if (order < 0)
            differs(d, was->entries[i].path, "is missing");
        else if (order > 0)
            differs(d, is->entries[k].path, "is new");
        else if (!is_same(&was->entries[i], &is->entries[k]))
            differs(d, was->entries[i].path, "is not as it was");
        i += order <= 0;
        k += order >= 0;
    }
}

static int judge(const char *path, const struct manifest *was, const struct manifest *is,
                 bool is_file, struct err *err)
{
    struct differences d = { 0 };

    if (is_file && is_same(&was->entries[0], &is->entries[0]))
        return 0;
    if (is_file)
        return err_set(err, ERR_CONFLICT, "%s is not as it was", path);
    compare(&d, was, is);
    if (d.count == 0)
        return 0;
    return d.count == 1 ? err_set(err, ERR_CONFLICT, "%s/%s %s", path, d.path, d.what)
                        : err_set(err, ERR_CONFLICT, "%s/%s %s, and there are %zu more differences",
                                  path, d.path, d.what, d.count - 1);
}

int fetch_check(const char *path, const struct manifest *m, bool is_file, const atomic_bool *stop,
                struct err *err)
{
    struct tree *t = NULL;
    int r;

    if (path_is_dir(path) == is_file)
        return err_set(err, ERR_CONFLICT, "%s is %s", path,
                       is_file ? "a directory now" : "no directory any more");
    r = tree_open(&t, path, err);
    if (r == 0)
        r = tree_read(t, go_on, (void *)(uintptr_t)stop, err);
    if (r == 0)
        r = judge(path, m, tree_manifest(t), is_file, err);
    tree_close(t);
    return r;
}
