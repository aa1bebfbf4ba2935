#include "store/tree_pair.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/tree_internal.h"

enum { NONE = -1, COMPARE_FROM = 16 << 10 };

struct pair {
    struct tree *base, *target;
    int64_t *partner; /* by the base's entry: the target's that has the same bytes, or NONE */
    struct tree_known known;
    int status[2]; /* of the target, of the base */
    struct err err[2];
};

/* Opening two files to compare them costs more than hashing one, if they are small. */
static bool are_small(const struct manifest *m)
{
    return m->stream_bytes / (m->nentries + 1) < COMPARE_FROM;
}

/* Both manifests are in path order: one walk finds what has the same path and size. */
static void find_partners(struct pair *p)
{
    const struct manifest *b = &p->base->m, *t = &p->target->m;
    bool two_files = b->nentries == 1 && t->nentries == 1, small = are_small(b);

    for (size_t i = 0, k = 0; i < b->nentries; i++) {
        int order = 1;

        p->partner[i] = NONE;
        while (k < t->nentries && (order = strcmp(t->entries[k].path, b->entries[i].path)) < 0 &&
               !two_files)
            k++;
        if (k < t->nentries && (order == 0 || two_files) && !small &&
            b->entries[i].kind == ENTRY_FILE && t->entries[k].kind == ENTRY_FILE &&
            b->entries[i].size == t->entries[k].size)
            p->partner[i] = (int64_t)k;
    }
}

static bool same_bytes(int a, int b, uint64_t size, unsigned char *buffers)
{
    unsigned char *x = buffers, *y = buffers + TREE_READ_BYTES;

    for (uint64_t at = 0; at < size; at += TREE_READ_BYTES) {
        size_t len = size - at < TREE_READ_BYTES ? (size_t)(size - at) : TREE_READ_BYTES;

        if (fd_read_sparse(a, x, len, at, NULL) < 0 || fd_read_sparse(b, y, len, at, NULL) < 0 ||
            memcmp(x, y, len) != 0)
            return false;
    }
    return true;
}

/* Two names of one file, as in a tree of hard links. */
static bool one_file(int a, int b, uint64_t size)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino &&
           (uint64_t)x.st_size == size;
}

/* A file that cannot be read, or is longer than it was, is not the same; whoever hashes it says
 * why. */
static bool same_file(const struct pair *p, struct beneath dirs[2], const struct entry *b,
                      const struct entry *t, unsigned char *buffers)
{
    unsigned char more;
    int x = -1, y = -1;
    bool same = tree_open_file(p->base, &dirs[0], b, &x, NULL) == 0 &&
                tree_open_file(p->target, &dirs[1], t, &y, NULL) == 0 &&
                (one_file(x, y, b->size) || same_bytes(x, y, b->size, buffers)) &&
                pread(x, &more, 1, (off_t)b->size) == 0;

    if (x >= 0)
        close(x);
    if (y >= 0)
        close(y);
    return same;
}

/* Is everything in the base's segment i the same as in the target's? */
static bool same_segment(const struct pair *p, size_t i)
{
    const struct manifest *b = &p->base->m, *t = &p->target->m;
    uint64_t end = (uint64_t)i * SEGMENT_BYTES + manifest_segment_bytes(b, i);
    struct span s;

    if (i >= t->nsegments || manifest_segment_bytes(b, i) != manifest_segment_bytes(t, i))
        return false;
    for (size_t k = manifest_first_file(b, i); k < b->nentries && b->entries[k].offset < end; k++) {
        if (manifest_span(b, i, k, &s) &&
            (p->partner[k] == NONE || t->entries[p->partner[k]].offset != b->entries[k].offset))
            return false;
    }
    return true;
}

/* Compares file by file. */
static void compare_files(struct pair *p)
{
    const struct manifest *b = &p->base->m, *t = &p->target->m;
    unsigned char *buffers = mem_alloc(2 * TREE_READ_BYTES);
    struct beneath dirs[2] = { BENEATH(p->base->dir_fd), BENEATH(p->target->dir_fd) };

    for (size_t i = 0; i < b->nentries; i++) {
        if (p->partner[i] != NONE &&
            !same_file(p, dirs, &b->entries[i], &t->entries[p->partner[i]], buffers))
            p->partner[i] = NONE;
    }
    beneath_release(&dirs[0]);
    beneath_release(&dirs[1]);
    free(buffers);
}

/* The base's file beside the target's that is being read. */
struct opposite {
    struct pair *p;
    int64_t *partner; /* by the target's entry: the base's, or NONE */
    size_t entry;     /* of the target; that fd is for */
    int fd;           /* -1: none is open */
    bool linked;      /* both are one file */
    struct beneath dirs;
    unsigned char *buffer;
};

static void close_opposite(struct opposite *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static bool open_opposite(struct opposite *s, size_t i, int target_fd)
{
    const struct entry *e = &s->p->base->m.entries[s->partner[i]];
    struct stat st;

    close_opposite(s);
    if (tree_open_file(s->p->base, &s->dirs, e, &s->fd, NULL) < 0)
        return false;
    s->entry = i;
    s->linked = one_file(s->fd, target_fd, e->size);
    return fstat(s->fd, &st) == 0 && (uint64_t)st.st_size == e->size;
}

static void compare_piece(void *ctx, size_t i, int fd, uint64_t at, const void *data, size_t n)
{
    struct opposite *s = ctx;
    bool same;

    if (s->partner[i] == NONE)
        return;
    same = (s->fd >= 0 && s->entry == i) || open_opposite(s, i, fd);
    if (same && !s->linked)
        same =
            fd_read_sparse(s->fd, s->buffer, n, at, NULL) == 0 && memcmp(s->buffer, data, n) == 0;
    if (!same) {
        s->p->partner[s->partner[i]] = NONE;
        s->partner[i] = NONE;
    }
}

/* In one thread: each piece of the target is compared while it is at hand, so that nothing is read
 * twice. */
static int read_target_comparing(struct pair *p, struct err *err)
{
    const struct manifest *b = &p->base->m, *t = &p->target->m;
    struct opposite s = { .p = p, .fd = -1, .dirs = BENEATH(p->base->dir_fd) };
    int r;

    s.partner = mem_calloc(t->nentries + 1, sizeof(*s.partner));
    s.buffer = mem_alloc(TREE_READ_BYTES);
    for (size_t i = 0; i < t->nentries; i++)
        s.partner[i] = NONE;
    for (size_t i = 0; i < b->nentries; i++) {
        if (b->entries[i].size == 0) /* of which nothing is shown */
            p->partner[i] = NONE;
        if (p->partner[i] != NONE)
            s.partner[p->partner[i]] = (int64_t)i;
    }
    r = tree_read_showing(p->target, compare_piece, &s, err);
    close_opposite(&s);
    beneath_release(&s.dirs);
    free(s.buffer);
    free(s.partner);
    return r;
}

/* What was not found to be the target's is hashed. */
static int read_base(struct pair *p, struct err *err)
{
    const struct manifest *b = &p->base->m;

    for (size_t i = 0; i < b->nentries; i++)
        bitmap_put(&p->known.files, i, p->partner[i] != NONE);
    for (size_t i = 0; i < b->nsegments; i++)
        bitmap_put(&p->known.segments, i, same_segment(p, i));
    return tree_read_rest(p->base, &p->known, err);
}

static void read_side(void *arg, size_t i, unsigned worker)
{
    struct pair *p = arg;

    (void)worker;
    if (i == 0) {
        p->status[i] = tree_read(p->target, NULL, NULL, &p->err[i]);
        return;
    }
    compare_files(p);
    p->status[i] = read_base(p, &p->err[i]);
}

static void read_both(struct pair *p, const struct delta_pool *pool)
{
    find_partners(p);
    if (delta_workers(pool) > 1) {
        delta_each(pool, 2, read_side, p);
        return;
    }
    p->status[0] = read_target_comparing(p, &p->err[0]);
    if (p->status[0] == 0)
        p->status[1] = read_base(p, &p->err[1]);
}

/* What the base's files and segments have in common with the target's: their digests. */
static void take_digests(struct pair *p)
{
    struct manifest *b = &p->base->m;
    const struct manifest *t = &p->target->m;

    for (size_t i = 0; i < b->nentries; i++) {
        if (p->partner[i] != NONE)
            b->entries[i].hash = t->entries[p->partner[i]].hash;
    }
    for (size_t i = 0; i < b->nsegments; i++) {
        if (bitmap_get(&p->known.segments, i))
            b->segments[i] = t->segments[i];
    }
}

int tree_read_pair(struct tree *base, struct tree *target, const struct delta_pool *pool,
                   struct err *err)
{
    struct pair p = { .base = base, .target = target };

    p.partner = mem_calloc(base->m.nentries + 1, sizeof(*p.partner));
    bitmap_init(&p.known.files, base->m.nentries);
    bitmap_init(&p.known.segments, base->m.nsegments);
    read_both(&p, pool);
    take_digests(&p);
    bitmap_release(&p.known.files);
    bitmap_release(&p.known.segments);
    free(p.partner);
    for (int i = 1; i >= 0; i--) {
        if (p.status[i] < 0)
            return err_set(err, p.err[i].code, "%s", p.err[i].text);
    }
    return 0;
}
