#include "store/base_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/beneath.h"

enum { LANES = 2, READ_BYTES = 256 << 10, READ_AHEAD_FROM = 1 << 20, TELL_BYTES = 16 << 20 };

/* A file as it was when it was looked at. Who links it does not change its mtime. */
struct seen {
    uint32_t entry;
    dev_t device;
    ino_t inode;
    struct timespec written;
};

struct base_check {
    const struct manifest *m;
    int dir;
    struct seen *files; /* the longest first */
    size_t nfiles;
    atomic_size_t next; /* of files: the first that nobody has taken */
    atomic_bool stop;
};

/* A file that is being hashed. */
struct lane {
    const struct entry *e; /* NULL: none */
    const struct seen *seen;
    int fd;
    uint64_t at; /* read up to here */
    unsigned char *data;
    size_t from, len; /* of data: not hashed yet */
    struct sha256 *sha;
};

static int by_size(const void *a, const void *b, void *entries)
{
    const struct entry *e = entries;
    uint32_t x = ((const struct seen *)a)->entry, y = ((const struct seen *)b)->entry;

    if (e[x].size != e[y].size)
        return e[x].size < e[y].size ? 1 : -1;
    return x < y ? -1 : x > y;
}

/* All that can be seen without reading. */
static int look(struct base_check *c, struct err *err)
{
    struct beneath dirs = BENEATH(c->dir);
    const char *name = NULL;
    struct stat st;
    int r = 0;

    for (size_t i = 0; r == 0 && i < c->m->nentries; i++) {
        const struct entry *e = &c->m->entries[i];

        if (e->kind != ENTRY_FILE)
            continue;
        if (beneath_parent(&dirs, e->path, &name, NULL) < 0 ||
            fstatat(dirs.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            r = err_set(err, ERR_INVALID, "%s: is not there", e->path);
        else if (!S_ISREG(st.st_mode))
            r = err_set(err, ERR_INVALID, "%s: is no file", e->path);
        else if ((uint64_t)st.st_size != e->size)
            r = err_set(err, ERR_INVALID, "%s: has %lld bytes, not %llu", e->path,
                        (long long)st.st_size, (unsigned long long)e->size);
        else
            c->files[c->nfiles++] = (struct seen){ (uint32_t)i, st.st_dev, st.st_ino, st.st_mtim };
    }
    beneath_release(&dirs);
    return r;
}

int base_check_open(struct base_check **ret, const char *dir, const struct manifest *m,
                    struct err *err)
{
    struct base_check *c;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return err_sys(err, errno, "open %s", dir);
    c = mem_alloc(sizeof(*c));
    c->m = m;
    c->dir = fd;
    c->files = mem_calloc(m->nentries + 1, sizeof(*c->files));
    c->nfiles = 0;
    atomic_init(&c->next, 0);
    atomic_init(&c->stop, false);
    r = look(c, err);
    if (r < 0) {
        base_check_close(c);
        return r;
    }
    qsort_r(c->files, c->nfiles, sizeof(*c->files), by_size, m->entries);
    *ret = c;
    return 0;
}

void base_check_close(struct base_check *c)
{
    if (c == NULL)
        return;
    close(c->dir);
    free(c->files);
    free(c);
}

void base_check_stop(struct base_check *c)
{
    atomic_store(&c->stop, true);
}

bool base_check_is_stopped(const struct base_check *c)
{
    return atomic_load(&c->stop);
}

/* Takes the next file, if there is one. */
static int take_file(struct base_check *c, struct beneath *dirs, struct lane *l, struct err *err)
{
    size_t i = atomic_fetch_add(&c->next, 1);
    int r;

    if (i >= c->nfiles)
        return 0;
    l->seen = &c->files[i];
    l->e = &c->m->entries[l->seen->entry];
    l->at = 0;
    l->from = l->len = 0;
    r = beneath_open(&l->fd, dirs, l->e->path, O_RDONLY | O_NONBLOCK, 0, err);
    if (r == 0 && l->e->size >= READ_AHEAD_FROM)
        (void)posix_fadvise(l->fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* only advice */
    return r;
}

static int differs(const struct entry *e, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: its bytes are others", e->path);
}

/* Is what was read the file that was looked at, and that others have linked or read meanwhile? */
static bool is_the_same(const struct lane *l)
{
    struct stat st;

    return fstat(l->fd, &st) == 0 && (uint64_t)st.st_size == l->e->size &&
           st.st_dev == l->seen->device && st.st_ino == l->seen->inode &&
           st.st_mtim.tv_sec == l->seen->written.tv_sec &&
           st.st_mtim.tv_nsec == l->seen->written.tv_nsec;
}

/* All of it has been hashed. */
static int end_file(struct lane *l, struct err *err)
{
    struct hash h = sha256_done(l->sha);
    const struct entry *e = l->e;
    bool same = is_the_same(l);

    close(l->fd);
    l->fd = -1;
    l->e = NULL;
    return same && hash_equal(&h, &e->hash) ? 0 : differs(e, err);
}

/* Has the lane something to hash? Else there is no file left. */
static int fill(struct base_check *c, struct beneath *dirs, struct lane *l, struct err *err)
{
    int r = 0;

    while (r == 0 && l->len == 0) {
        if (l->e != NULL && l->at == l->e->size)
            r = end_file(l, err);
        if (r == 0 && l->e == NULL)
            r = take_file(c, dirs, l, err);
        if (r < 0 || l->e == NULL)
            return r;
        l->from = 0;
        l->len = l->e->size - l->at < READ_BYTES ? (size_t)(l->e->size - l->at) : READ_BYTES;
        r = l->len == 0 ? 0 : fd_read_sparse(l->fd, l->data, l->len, l->at, err);
        if (r == -(int)ERR_CORRUPT)
            r = differs(l->e, err); /* shorter than it was */
        l->at += l->len;
    }
    return r;
}

/* Gives how many bytes it hashed. */
static size_t hash_some(struct lane *a, struct lane *b)
{
    size_t n = a->len < b->len ? a->len : b->len;

    if (n == 0) {
        struct lane *l = a->len > 0 ? a : b;

        n = l->len;
        sha256_add(l->sha, l->data + l->from, n);
        l->len = 0;
        return n;
    }
    sha256_add_two(a->sha, a->data + a->from, n, b->sha, b->data + b->from, n);
    a->from += n;
    a->len -= n;
    b->from += n;
    b->len -= n;
    return 2 * n;
}

/* A thread at work. */
struct hashing {
    struct base_check *c;
    struct beneath dirs[LANES];
    struct lane lanes[LANES];
    int (*hashed)(void *ctx, uint64_t bytes);
    void *ctx;
    uint64_t untold; /* bytes */
};

static int tell(struct hashing *h, size_t bytes, struct err *err)
{
    uint64_t told = h->untold + bytes;

    h->untold = told < TELL_BYTES ? told : 0;
    if (told < TELL_BYTES || h->hashed(h->ctx, told) == 0)
        return 0;
    return err_set(err, ERR_CANCELLED, "stopped");
}

static int hash_all(struct hashing *h, struct err *err)
{
    int r = 0;

    while (r == 0 && !base_check_is_stopped(h->c)) {
        for (int i = 0; r == 0 && i < LANES; i++)
            r = fill(h->c, &h->dirs[i], &h->lanes[i], err);
        if (r < 0 || h->lanes[0].len + h->lanes[1].len == 0)
            break;
        r = tell(h, hash_some(&h->lanes[0], &h->lanes[1]), err);
    }
    return r;
}

int base_check_hash(struct base_check *c, int (*hashed)(void *ctx, uint64_t bytes), void *ctx,
                    struct err *err)
{
    struct hashing h = { .c = c, .hashed = hashed, .ctx = ctx };
    int r;

    for (int i = 0; i < LANES; i++) {
        h.dirs[i] = (struct beneath)BENEATH(c->dir);
        h.lanes[i] = (struct lane){ .fd = -1, .data = mem_alloc(READ_BYTES), .sha = sha256_new() };
    }
    r = hash_all(&h, err);
    if (r < 0)
        base_check_stop(c);
    for (int i = 0; i < LANES; i++) {
        if (h.lanes[i].fd >= 0)
            close(h.lanes[i].fd);
        free(h.lanes[i].data);
        sha256_free(h.lanes[i].sha);
        beneath_release(&h.dirs[i]);
    }
    return r;
}
