#include "store/side.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/tree_pair.h"

void side_close(struct side *s)
{
    tree_close(s->tree);
    tree_files_close(s->reader);
    buf_release(&s->encoded);
    free(s->dir);
}

static int side_walk(struct side *s, const char *path, struct err *err)
{
    AUTO_BUF real = BUF_INIT;
    int r = path_real(&real, path, err);

    if (r == 0)
        r = tree_open(&s->tree, path, err);
    if (r < 0)
        return r;
    s->m = tree_manifest(s->tree);
    s->is_tree = path_is_dir(real.data);
    if (!s->is_tree) {
        char *slash = strrchr(real.data, '/');

        *(slash == real.data ? slash + 1 : slash) = '\0';
    }
    s->dir = mem_strdup(real.data);
    return 0;
}

/* Its digests are known now. */
static int side_finish(struct side *s, struct err *err)
{
    manifest_encode(&s->encoded, s->m);
    s->id = sha256_of(s->encoded.data, s->encoded.len);
    if (tree_files_open(&s->reader, s->dir, s->m, err) < 0)
        return err_wrap(err, "%s", s->dir);
    s->files = (struct delta_files){ tree_files_read, s->reader };
    return 0;
}

int side_open(struct side *s, const char *path, struct err *err)
{
    int r = side_walk(s, path, err);

    if (r == 0)
        r = tree_read(s->tree, NULL, NULL, err);
    return r < 0 ? r : side_finish(s, err);
}

int side_open_two(struct side *base, const char *base_path, struct side *target,
                  const char *target_path, const struct delta_pool *pool, struct err *err)
{
    int r = side_walk(base, base_path, err);

    if (r == 0)
        r = side_walk(target, target_path, err);
    if (r == 0)
        r = tree_read_pair(base->tree, target->tree, pool, err);
    if (r == 0)
        r = side_finish(base, err);
    return r < 0 ? r : side_finish(target, err);
}
