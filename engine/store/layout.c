#include "store/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/beneath.h"

enum { CHUNK_BYTES = 1 << 20 };

/* A file of a base. */
struct base_file {
    const struct entry *e;
    size_t base;
};

struct layout {
    const struct unpack_options *o;
    struct beneath tree, bases[UNPACK_BASES_MAX]; /* root -1: cannot be opened */
    size_t nbases;
    struct base_file *files; /* of the bases, by digest, then base */
    size_t nfiles;
    unsigned char *chunk;
};

static int by_digest(const void *a, const void *b)
{
    const struct base_file *x = a, *y = b;
    int order = hash_compare(&x->e->hash, &y->e->hash);

    if (order == 0)
        order = (x->base > y->base) - (x->base < y->base);
    return order != 0 ? order : (x->e > y->e) - (x->e < y->e);
}

static void list_bases(struct layout *l)
{
    size_t total = 0;

    for (size_t k = 0; k < l->nbases; k++)
        total += l->bases[k].root < 0 ? 0 : l->o->bases[k].manifest->nentries;
    l->files = mem_calloc(total + 1, sizeof(*l->files));
    for (size_t k = 0; k < l->nbases; k++) {
        const struct manifest *m = l->o->bases[k].manifest;

        for (size_t i = 0; l->bases[k].root >= 0 && i < m->nentries; i++) {
            if (m->entries[i].kind == ENTRY_FILE && m->entries[i].size > 0)
                l->files[l->nfiles++] = (struct base_file){ &m->entries[i], k };
        }
    }
    qsort(l->files, l->nfiles, sizeof(*l->files), by_digest);
}

/* The first file of a base with e's digest; those that follow may have it, too. */
static size_t find_base(const struct layout *l, const struct entry *e)
{
    size_t low = 0, high = l->nfiles;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (hash_compare(&l->files[middle].e->hash, &e->hash) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Reads fd to its end; copies to `to` unless that is < 0. True if it is what e says. */
static bool hash_file(unsigned char *chunk, int fd, int to, const struct entry *e, struct err *err,
                      int *ret_status)
{
    struct sha256 *sha = sha256_new();
    uint64_t at = 0;
    struct hash h;
    ssize_t n = 0;

    *ret_status = 0;
    while (at <= e->size && (n = pread(fd, chunk, CHUNK_BYTES, (off_t)at)) > 0) {
        sha256_add(sha, chunk, (size_t)n);
        if (to >= 0)
            *ret_status = fd_write_sparse(to, chunk, (size_t)n, at, e->size, err);
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
    good = hash_file(l->chunk, fd, -1, e, NULL, &status);
    close(fd);
    return good;
}

static bool link_file(struct layout *l, const struct base_file *from, const char *name,
                      const struct entry *e)
{
    struct beneath *base = &l->bases[from->base];
    const char *base_name = NULL;

    if (from->e->mode != e->mode || beneath_parent(base, from->e->path, &base_name, NULL) < 0 ||
        linkat(base->fd, base_name, l->tree.fd, name, 0) < 0)
        return false;
    if (linked_is_good(l, name, e))
        return true;
    unlinkat(l->tree.fd, name, 0);
    return false;
}

/* Shares the blocks of `in`, where the file system can. True if it did and they are what e says. */
static bool clone_file(struct layout *l, int in, int out, const struct entry *e)
{
    struct stat st;
    int status;

    if (ioctl(out, FICLONE, in) < 0 || fstat(out, &st) < 0 || (uint64_t)st.st_size != e->size)
        return false;
    return !l->o->verify_base || hash_file(l->chunk, out, -1, e, NULL, &status);
}

/* 1: copied and durable. 0: the base's file is not what it should be. */
static int copy_file(struct layout *l, const struct base_file *from, const char *name,
                     const struct entry *e, bool only_clone, struct err *err)
{
    int root = l->bases[from->base].root;
    bool good;
    int in = -1;
    int r = 0;
    int out;

    if (tree_open_beneath(&in, root, from->e->path, O_RDONLY | O_NONBLOCK, 0, NULL) < 0)
        return 0;
    out = openat(l->tree.fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0) {
        close(in);
        return err_sys(err, errno, "create %s", e->path);
    }
    good = clone_file(l, in, out, e);
    if (!good && ftruncate(out, 0) < 0)
        r = err_sys(err, errno, "truncate %s", e->path);
    if (r == 0 && !good && !only_clone)
        good = hash_file(l->chunk, in, out, e, err, &r);
    if (r == 0 && good && (fchmod(out, e->mode | 0400) < 0 || fsync(out) < 0))
        r = err_sys(err, errno, "write %s", e->path);
    close(in);
    close(out);
    if (r < 0 || !good)
        unlinkat(l->tree.fd, name, 0);
    return r < 0 ? err_wrap(err, "copy %s", e->path) : good;
}

/* From the bases: 1: complete. 0: none has it. What writes nothing comes first. */
static int take_from_bases(struct layout *l, const struct entry *e, const char *name,
                           struct err *err)
{
    size_t first = find_base(l, e), end = first;
    int r = 0;

    while (end < l->nfiles && hash_equal(&l->files[end].e->hash, &e->hash))
        end++;
    for (size_t i = first; l->o->clone && r == 0 && i < end; i++)
        r = copy_file(l, &l->files[i], name, e, true, err);
    for (size_t i = first; r == 0 && i < end; i++) {
        if (link_file(l, &l->files[i], name, e))
            return 1;
    }
    for (size_t i = first; r == 0 && i < end; i++)
        r = copy_file(l, &l->files[i], name, e, false, err);
    return r;
}

/* 1: complete. */
static int make_file(struct layout *l, const struct entry *e, const char *name, struct err *err)
{
    int fd, r = take_from_bases(l, e, name, err);

    if (r != 0)
        return r;
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
    int r = beneath_parent(&l->tree, e->path, &name, err);

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

static void open_bases(struct layout *l)
{
    l->nbases = l->o->nbases < UNPACK_BASES_MAX ? l->o->nbases : UNPACK_BASES_MAX;
    for (size_t i = 0; i < l->nbases; i++) {
        l->bases[i].fd = -1;
        l->bases[i].root = open(l->o->bases[i].dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    list_bases(l);
}

static void close_root(struct beneath *p)
{
    beneath_release(p);
    if (p->root >= 0)
        close(p->root);
}

int layout_make(int tree_fd, const struct unpack_options *o, struct bitmap *local, struct err *err)
{
    struct layout *l = mem_alloc(sizeof(*l));
    int r = 0;

    l->o = o;
    l->tree.root = tree_fd;
    l->tree.fd = -1;
    l->chunk = mem_alloc(CHUNK_BYTES);
    open_bases(l);
    for (size_t i = 0; r == 0 && i < o->manifest->nentries; i++)
        r = make_entry(l, i, local, err);
    l->tree.root = -1; /* the caller's */
    close_root(&l->tree);
    for (size_t i = 0; i < l->nbases; i++)
        close_root(&l->bases[i]);
    free(l->files);
    free(l->chunk);
    free(l);
    return r;
}

/* Its bytes, of which the state knows nothing but that they were right once. */
static bool is_good(const struct beneath *p, const char *name, const struct entry *e,
                    unsigned char *chunk)
{
    int fd = openat(p->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int status = 0;
    bool good = fd >= 0 && hash_file(chunk, fd, -1, e, NULL, &status);

    if (fd >= 0)
        close(fd);
    return good;
}

/* chunk: to hash local files with; NULL: their size will do. */
static bool entry_is_whole(struct beneath *p, const struct entry *e, bool local,
                           unsigned char *chunk)
{
    const char *name = NULL;
    struct stat st;

    if (beneath_parent(p, e->path, &name, NULL) < 0 ||
        fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (e->kind == ENTRY_DIR)
        return S_ISDIR(st.st_mode);
    if (e->kind == ENTRY_LINK)
        return S_ISLNK(st.st_mode);
    if (!S_ISREG(st.st_mode))
        return false;
    return !local || ((uint64_t)st.st_size == e->size &&
                      (chunk == NULL ||
                       ((st.st_mode & 07777) == (e->mode | 0400) && is_good(p, name, e, chunk))));
}

bool layout_is_whole(int tree_fd, const struct manifest *m, const struct bitmap *local, bool verify)
{
    unsigned char *chunk = verify ? mem_alloc(CHUNK_BYTES) : NULL;
    struct beneath p = BENEATH(tree_fd);
    bool whole = true;

    for (size_t i = 0; whole && i < m->nentries; i++)
        whole = entry_is_whole(&p, &m->entries[i], bitmap_get(local, i), chunk);
    beneath_release(&p);
    free(chunk);
    return whole;
}
