#include "store/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/tree.h"

enum { CHUNK_BYTES = 1 << 20 };

/* A directory beneath root that was opened last: neighbours in path order mostly share it. */
struct parent {
    int root, fd;
    char path[PATH_MAX_BYTES + 1];
};

struct layout {
    const struct unpack_options *o;
    struct parent tree, base;
    const struct entry **files; /* of the base, by digest and mode */
    size_t nfiles;
    unsigned char *chunk;
};

/* Opens the directory that holds path; *ret_name is the last component. */
static int open_parent(struct parent *p, const char *path, const char **ret_name, struct err *err)
{
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX_BYTES + 1] = ".";
    int r;

    if (slash != NULL) {
        memcpy(dir, path, (size_t)(slash - path));
        dir[slash - path] = '\0';
    }
    *ret_name = slash == NULL ? path : slash + 1;
    if (p->fd >= 0 && strcmp(p->path, dir) == 0)
        return 0;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    r = tree_open_beneath(&p->fd, p->root, dir, O_RDONLY | O_DIRECTORY, 0, err);
    if (r == 0)
        memcpy(p->path, dir, sizeof(dir));
    return r;
}

static int by_digest(const void *a, const void *b)
{
    const struct entry *x = *(const struct entry *const *)a;
    const struct entry *y = *(const struct entry *const *)b;
    int order = hash_compare(&x->hash, &y->hash);

    return order != 0 ? order : (x->mode > y->mode) - (x->mode < y->mode);
}

static void list_base(struct layout *l)
{
    const struct manifest *m = l->o->base_manifest;

    l->files = mem_calloc(m->nentries, sizeof(const struct entry *));
    for (size_t i = 0; i < m->nentries; i++) {
        if (m->entries[i].kind == ENTRY_FILE && m->entries[i].size > 0)
            l->files[l->nfiles++] = &m->entries[i];
    }
    if (l->nfiles > 0)
        qsort(l->files, l->nfiles, sizeof(const struct entry *), by_digest);
}

/* The base's file with e's digest, of e's mode if there is one. */
static const struct entry *find_base(const struct layout *l, const struct entry *e)
{
    const struct entry *found = NULL;
    size_t low = 0, high = l->nfiles;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (hash_compare(&l->files[middle]->hash, &e->hash) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < l->nfiles && hash_equal(&l->files[low]->hash, &e->hash); low++) {
        found = l->files[low];
        if (found->mode == e->mode)
            break;
    }
    return found;
}

/* Reads fd to its end; copies to `to` unless that is < 0. True if it is what e says. */
static bool hash_file(struct layout *l, int fd, int to, const struct entry *e, struct err *err,
                      int *ret_status)
{
    struct sha256 *sha = sha256_new();
    uint64_t at = 0;
    struct hash h;
    ssize_t n = 0;

    *ret_status = 0;
    while (at <= e->size && (n = pread(fd, l->chunk, CHUNK_BYTES, (off_t)at)) > 0) {
        sha256_add(sha, l->chunk, (size_t)n);
        if (to >= 0)
            *ret_status = fd_write_at(to, l->chunk, (size_t)n, at, err);
        if (*ret_status < 0)
            break;
        at += (uint64_t)n;
    }
    h = sha256_done(sha);
    sha256_free(sha);
    return n >= 0 && at == e->size && hash_equal(&h, &e->hash);
}

/* Is the file that was just linked what e says? */
static bool linked_is_good(struct layout *l, const char *name, const struct entry *e)
{
    struct stat st;
    bool good;
    int status = 0;
    int fd;

    if (fstatat(l->tree.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_size != e->size || (st.st_mode & 07777) != (e->mode | 0400))
        return false;
    if (!l->o->verify_base)
        return true;
    fd = openat(l->tree.fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    good = hash_file(l, fd, -1, e, NULL, &status);
    close(fd);
    return good;
}

static bool link_file(struct layout *l, const struct entry *from, const char *name,
                      const struct entry *e)
{
    const char *base_name = NULL;

    if (from->mode != e->mode || open_parent(&l->base, from->path, &base_name, NULL) < 0 ||
        linkat(l->base.fd, base_name, l->tree.fd, name, 0) < 0)
        return false;
    if (linked_is_good(l, name, e))
        return true;
    unlinkat(l->tree.fd, name, 0);
    return false;
}

/* 1: copied and durable. 0: the base's file is not what it should be. */
static int copy_file(struct layout *l, const struct entry *from, const char *name,
                     const struct entry *e, struct err *err)
{
    bool good;
    int in = -1;
    int r = 0;
    int out;

    if (tree_open_beneath(&in, l->base.root, from->path, O_RDONLY | O_NONBLOCK, 0, NULL) < 0)
        return 0;
    out = openat(l->tree.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0) {
        close(in);
        return err_sys(err, errno, "create %s", e->path);
    }
    good = hash_file(l, in, out, e, err, &r);
    if (r == 0 && good && (fchmod(out, e->mode | 0400) < 0 || fsync(out) < 0))
        r = err_sys(err, errno, "write %s", e->path);
    close(in);
    close(out);
    if (r < 0 || !good)
        unlinkat(l->tree.fd, name, 0);
    return r < 0 ? err_wrap(err, "copy %s", e->path) : good;
}

/* 1: complete. */
static int make_file(struct layout *l, const struct entry *e, const char *name, struct err *err)
{
    const struct entry *from = l->o->base_manifest == NULL ? NULL : find_base(l, e);
    int fd;

    if (from != NULL) {
        int r = link_file(l, from, name, e) ? 1 : copy_file(l, from, name, e, err);

        if (r != 0)
            return r;
    }
    fd = openat(l->tree.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "create %s", e->path);
    close(fd);
    return 0;
}

static int make_entry(struct layout *l, size_t i, struct bitmap *local, struct err *err)
{
    const struct entry *e = &l->o->manifest->entries[i];
    const char *name = NULL;
    int r = open_parent(&l->tree, e->path, &name, err);

    if (r < 0)
        return r;
    if (e->kind == ENTRY_DIR) {
        if (mkdirat(l->tree.fd, name, 0700) < 0)
            return err_sys(err, errno, "mkdir %s", e->path);
        return 0;
    }
    if (e->kind == ENTRY_LINK) {
        if (symlinkat(e->target, l->tree.fd, name) < 0)
            return err_sys(err, errno, "link %s", e->path);
        return 0;
    }
    r = make_file(l, e, name, err);
    if (r == 1)
        bitmap_put(local, i, true);
    return r < 0 ? r : 0;
}

int layout_make(int tree_fd, const struct unpack_options *o, struct bitmap *local, struct err *err)
{
    struct unpack_options options = *o;
    struct layout l = { .o = &options, .tree = { .root = tree_fd, .fd = -1 } };
    int r = 0;

    l.base.fd = l.base.root = -1;
    l.chunk = mem_alloc(CHUNK_BYTES);
    if (o->base != NULL && o->base_manifest != NULL)
        l.base.root = open(o->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (l.base.root < 0)
        options.base_manifest = NULL; /* no base: everything is fetched */
    else
        list_base(&l);
    for (size_t i = 0; r == 0 && i < o->manifest->nentries; i++)
        r = make_entry(&l, i, local, err);
    if (l.tree.fd >= 0)
        close(l.tree.fd);
    if (l.base.fd >= 0)
        close(l.base.fd);
    if (l.base.root >= 0)
        close(l.base.root);
    free(l.files);
    free(l.chunk);
    return r;
}

static bool entry_is_whole(struct parent *p, const struct entry *e, bool local)
{
    const char *name = NULL;
    struct stat st;

    if (open_parent(p, e->path, &name, NULL) < 0 ||
        fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (e->kind == ENTRY_DIR)
        return S_ISDIR(st.st_mode);
    if (e->kind == ENTRY_LINK)
        return S_ISLNK(st.st_mode);
    return S_ISREG(st.st_mode) && (!local || (uint64_t)st.st_size == e->size);
}

bool layout_is_whole(int tree_fd, const struct manifest *m, const struct bitmap *local)
{
    struct parent p = { .root = tree_fd, .fd = -1 };
    bool whole = true;

    for (size_t i = 0; whole && i < m->nentries; i++)
        whole = entry_is_whole(&p, &m->entries[i], bitmap_get(local, i));
    if (p.fd >= 0)
        close(p.fd);
    return whole;
}
