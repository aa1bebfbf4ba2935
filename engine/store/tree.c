#include "store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/tree_internal.h"

enum { READ_AHEAD_FROM = 1 << 20, LEAF = MERKLE_LEAF_BYTES };

int tree_open_beneath(int *ret_fd, int dir_fd, const char *path, int flags, mode_t mode,
                      struct err *err)
{
    char component[PATH_MAX_BYTES + 1];
    const char *at = path;
    int dir = dir_fd;

    for (;;) {
        size_t len = strcspn(at, "/");
        bool last = at[len] == '\0';
        int fd;

        if (len > PATH_MAX_BYTES)
            return err_set(err, ERR_LIMIT, "%.64s...: too long", path);
        memcpy(component, at, len);
        component[len] = '\0';
        fd = openat(dir, component, O_CLOEXEC | O_NOFOLLOW | (last ? flags : O_PATH | O_DIRECTORY),
                    mode);
        if (dir != dir_fd) {
            int saved = errno;

            close(dir);
            errno = saved;
        }
        if (fd < 0)
            return err_sys(err, errno, "open %s", path);
        if (last) {
            *ret_fd = fd;
            return 0;
        }
        dir = fd;
        at += len + 1;
    }
}

static int refuse(struct err *err, const struct tree *t, const char *path, const char *why)
{
    return err_set(err, ERR_INVALID, "%s/%s: %s", t->path, path, why);
}

static int check_file(const struct tree *t, const char *path, const struct stat *st,
                      struct err *err)
{
    if ((st->st_mode & (S_ISUID | S_ISGID)) != 0)
        return refuse(err, t, path,
                      "is set-uid or set-gid, which an artifact cannot be: chmod ug-s it");
    return 0;
}

static int read_link(const struct tree *t, int dir, const char *name, const char *path, char **ret,
                     struct err *err)
{
    char target[PATH_MAX_BYTES + 2];
    ssize_t len = readlinkat(dir, name, target, sizeof(target) - 1);

    if (len < 0)
        return err_sys(err, errno, "read link %s/%s", t->path, path);
    target[len] = '\0';
    if (manifest_check_link(path, target, err) < 0)
        return err_wrap(err, "%s: make it relative and inside the tree, or a copy", t->path);
    *ret = mem_strdup(target);
    return 0;
}

static const char *kind_words(mode_t mode)
{
    if (S_ISSOCK(mode))
        return "is a socket: remove it from the output";
    if (S_ISFIFO(mode))
        return "is a fifo: remove it from the output";
    return "is a device: remove it from the output";
}

/* A name that cannot be printed is shown as a shell would take it: $'a\x0ab'. */
static int refuse_name(const struct tree *t, const char *path, struct err *err)
{
    enum { SHOWN = 64 };
    AUTO_BUF shown = BUF_INIT;

    for (const char *c = path; *c != '\0' && shown.len < SHOWN; c++) {
        if ((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7f)
            buf_char(&shown, *c);
        else
            buf_printf(&shown, "\\x%02x", (unsigned char)*c);
    }
    return err_wrap(err, "%s: rename or remove $'%s%s'", t->path, buf_str(&shown),
                    shown.len >= SHOWN ? "..." : "");
}

/* Adds dir's entry `name`, whose path in the tree is `path`. */
static int add(struct tree *t, int dir, const char *name, const char *path, struct err *err)
{
    struct manifest *m = &t->m;
    struct entry e = { 0 };
    struct stat st;
    int r = 0;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, errno, "stat %s/%s", t->path, path);
    if (manifest_check_path(path, err) < 0)
        return refuse_name(t, path, err);
    if (m->nentries == MANIFEST_ENTRIES_MAX)
        return err_set(err, ERR_LIMIT, "%s: more than %d entries", t->path, MANIFEST_ENTRIES_MAX);
    e.mode = st.st_mode & 0777;
    if (S_ISREG(st.st_mode)) {
        e.kind = ENTRY_FILE;
        e.mode |= 0400;
        e.size = (uint64_t)st.st_size;
        r = check_file(t, path, &st, err);
    } else if (S_ISDIR(st.st_mode)) {
        e.kind = ENTRY_DIR;
        e.mode |= 0700;
    } else if (S_ISLNK(st.st_mode)) {
        e.kind = ENTRY_LINK;
        e.mode = 0777;
        r = read_link(t, dir, name, path, &e.target, err);
    } else {
        r = refuse(err, t, path, kind_words(st.st_mode));
    }
    if (r < 0)
        return r;
    e.path = mem_strdup(path);
    e.offset = m->nentries; /* finds the stamp again when entries are sorted */
    VEC_GROW(t->stamps, m->nentries, t->stamps_cap);
    t->stamps[m->nentries] = tree_stamp(&st);
    VEC_GROW(m->entries, m->nentries, t->cap);
    m->entries[m->nentries++] = e;
    return 0;
}

/* Adds what is in the directory `path` ("" is the root). */
static int add_children(struct tree *t, const char *path, struct err *err)
{
    DIR *d = NULL;
    struct dirent *e;
    int fd = -1;
    int r;

    r = tree_open_beneath(&fd, t->dir_fd, path[0] == '\0' ? "." : path, O_RDONLY | O_DIRECTORY, 0,
                          err);
    if (r < 0)
        return err_wrap(err, "%s", t->path);
    d = fdopendir(fd);
    if (d == NULL) {
        r = err_sys(err, errno, "list %s/%s", t->path, path);
        close(fd);
        return r;
    }
    while (r == 0 && (errno = 0, e = readdir(d)) != NULL) {
        AUTO_BUF child = BUF_INIT;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        buf_printf(&child, "%s%s%s", path, path[0] == '\0' ? "" : "/", e->d_name);
        r = add(t, fd, e->d_name, child.data, err);
    }
    if (r == 0 && errno != 0)
        r = err_sys(err, errno, "list %s/%s", t->path, path);
    closedir(d);
    return r;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* Stamps in the order that the entries now have. */
static void sort_stamps(struct tree *t)
{
    uint64_t *sorted = mem_calloc(t->m.nentries + 1, sizeof(*sorted));

    for (size_t i = 0; i < t->m.nentries; i++)
        sorted[i] = t->stamps[t->m.entries[i].offset];
    free(t->stamps);
    t->stamps = sorted;
}

static int place_files(struct tree *t, struct err *err)
{
    struct manifest *m = &t->m;

    if (m->nentries > 0)
        qsort(m->entries, m->nentries, sizeof(*m->entries), by_path);
    sort_stamps(t);
    for (size_t i = 0; i < m->nentries; i++) {
        m->entries[i].offset = m->stream_bytes;
        if (m->entries[i].size > INT64_MAX - m->stream_bytes)
            return err_set(err, ERR_LIMIT, "%s: too large", t->path);
        m->stream_bytes += m->entries[i].size;
    }
    m->nsegments =
        (size_t)(m->stream_bytes / SEGMENT_BYTES + (m->stream_bytes % SEGMENT_BYTES > 0));
    m->segments = mem_calloc(m->nsegments, sizeof(*m->segments));
    return 0;
}

/* Every directory that add() appends is visited in turn: no recursion, one open directory. */
static int walk(struct tree *t, struct err *err)
{
    int r = add_children(t, "", err);

    for (size_t i = 0; r == 0 && i < t->m.nentries; i++) {
        AUTO_BUF path = BUF_INIT; /* entries may move while they are added to */

        if (t->m.entries[i].kind != ENTRY_DIR)
            continue;
        buf_str_append(&path, t->m.entries[i].path);
        r = add_children(t, path.data, err);
    }
    return r;
}

/* Sets t->dir_fd and t->path: the directory itself, or the one that holds the single file. */
static int open_root(struct tree *t, const char *path, char **ret_file, struct err *err)
{
    char *real = realpath(path, NULL);
    struct stat st;
    char *slash;

    if (real == NULL || stat(real, &st) < 0) {
        int r = err_sys(err, errno, "%s", path);

        free(real);
        return r;
    }
    t->path = real;
    if (!S_ISDIR(st.st_mode)) {
        slash = strrchr(real, '/');
        *ret_file = mem_strdup(slash + 1);
        *(slash == real ? slash + 1 : slash) = '\0';
    }
    t->dir_fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return t->dir_fd < 0 ? err_sys(err, errno, "open %s", real) : 0;
}

int tree_open(struct tree **ret, const char *path, struct err *err)
{
    struct tree *t = mem_alloc(sizeof(*t));
    AUTO_FREE char *file = NULL;
    int r;

    t->dir_fd = -1;
    r = open_root(t, path, &file, err);
    if (r == 0)
        r = file == NULL ? walk(t, err) : add(t, t->dir_fd, file, file, err);
    if (r == 0)
        r = place_files(t, err);
    if (r < 0) {
        tree_close(t);
        return r;
    }
    *ret = t;
    return 0;
}

void tree_close(struct tree *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->m.nentries; i++) {
        free(t->m.entries[i].path);
        free(t->m.entries[i].target);
    }
    free(t->m.entries);
    free(t->m.segments);
    free(t->stamps);
    if (t->dir_fd >= 0)
        close(t->dir_fd);
    free(t->path);
    free(t);
}

const struct manifest *tree_manifest(const struct tree *t)
{
    return &t->m;
}

/* One pass over the stream, for the digests of files and segments at once. It is read in parts that do
 * not go beyond a leaf, whose bytes stand together then, whatever files they are of. */
struct reading {
    struct tree *t;
    const struct tree_known *known;    /* NULL: nothing */
    struct sha256 *file;               /* of the file */
    struct hash leaves[MERKLE_FANOUT]; /* of the segment so far */
    unsigned char
        *data;  /* what was read of the leaf; of the whole segment so far, if fn wants it */
    size_t len; /* of the segment so far */
    size_t segment;
    int (*fn)(void *ctx, size_t i, const void *data, size_t len, struct err *err);
    void (*seen)(void *ctx, size_t i, int fd, uint64_t at, const void *data, size_t n);
    void *ctx;
    struct beneath dirs;
};

static bool segment_is_known(const struct reading *r)
{
    return r->known != NULL && bitmap_get(&r->known->segments, r->segment);
}

/* Where the next byte goes. */
static unsigned char *room_in(const struct reading *r)
{
    return r->data + (r->fn == NULL ? r->len % LEAF : r->len);
}

/* The leaf of which r->len is the end. */
static void end_leaf(struct reading *r)
{
    size_t i = (r->len - 1) / LEAF, begin = i * LEAF;

    if (!segment_is_known(r))
        r->leaves[i] = merkle_leaf(r->data + (r->fn == NULL ? 0 : begin), r->len - begin);
}

static int end_segment(struct reading *r, struct err *err)
{
    size_t i = r->segment, len = r->len;

    if (!segment_is_known(r))
        r->t->m.segments[i] = merkle_segment_of(r->leaves, (len + LEAF - 1) / LEAF);
    r->segment++;
    r->len = 0;
    return r->fn == NULL ? 0 : r->fn(r->ctx, i, r->data, len, err);
}

static int changed(const struct tree *t, const struct entry *e, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "%s/%s: changed while it was read", t->path, e->path);
}

/* The next n bytes of a file and segment: reads and hashes them as far as that is wanted. */
static int take_bytes(struct reading *r, struct entry *e, int fd, uint64_t at, size_t n,
                      bool file_known, struct err *err)
{
    unsigned char *data = room_in(r);
    int status;

    if (file_known && segment_is_known(r))
        return 0;
    status = fd_read_sparse(fd, data, n, at, err);
    if (status == -(int)ERR_CORRUPT)
        return changed(r->t, e, err);
    if (status < 0)
        return err_wrap(err, "read %s/%s", r->t->path, e->path);
    if (!file_known)
        sha256_add(r->file, data, n);
    if (r->seen != NULL)
        r->seen(r->ctx, (size_t)(e - r->t->m.entries), fd, at, data, n);
    return 0;
}

static int read_bytes(struct reading *r, struct entry *e, int fd, bool file_known, struct err *err)
{
    int status = 0;
    char more;

    for (uint64_t at = 0; status == 0 && at < e->size;) {
        size_t room = LEAF - r->len % LEAF;
        size_t n = e->size - at < room ? (size_t)(e->size - at) : room;

        status = take_bytes(r, e, fd, at, n, file_known, err);
        at += n;
        r->len += n;
        if (status == 0 && r->len % LEAF == 0)
            end_leaf(r);
        if (status == 0 && r->len == SEGMENT_BYTES)
            status = end_segment(r, err);
    }
    if (status < 0 || file_known)
        return status;
    e->hash = sha256_done(r->file);
    return pread(fd, &more, 1, (off_t)e->size) == 0 ? 0 : changed(r->t, e, err);
}

int tree_open_file(const struct tree *t, struct beneath *dirs, const struct entry *e, int *ret_fd,
                   struct err *err)
{
    if (beneath_open(ret_fd, dirs, e->path, O_RDONLY | O_NONBLOCK, 0, err) < 0)
        return err_wrap(err, "%s", t->path);
    if (e->size >= READ_AHEAD_FROM)
        (void)posix_fadvise(*ret_fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* only advice */
    return 0;
}

/* All that the file has bytes in? Then there is nothing to read for them. */
static bool segments_are_known(const struct reading *r, const struct entry *e)
{
    for (uint64_t at = e->offset; at < e->offset + e->size;
         at += SEGMENT_BYTES - at % SEGMENT_BYTES) {
        if (!bitmap_get(&r->known->segments, (size_t)(at / SEGMENT_BYTES)))
            return false;
    }
    return true;
}

static int read_file(struct reading *r, size_t i, struct err *err)
{
    struct entry *e = &r->t->m.entries[i];
    bool known = r->known != NULL && bitmap_get(&r->known->files, i);
    int fd = -1;
    int status;

    if (!known || !segments_are_known(r, e)) {
        status = tree_open_file(r->t, &r->dirs, e, &fd, err);
        if (status < 0)
            return status;
    }
    status = read_bytes(r, e, fd, known, err);
    if (fd >= 0)
        close(fd);
    return status;
}

static int read_all(struct reading *r, struct err *err)
{
    struct tree *t = r->t;
    int status = 0;

    r->dirs = (struct beneath)BENEATH(t->dir_fd);
    r->file = sha256_new();
    r->data = mem_alloc(r->fn == NULL ? LEAF : SEGMENT_BYTES);
    for (size_t i = 0; status == 0 && i < t->m.nentries; i++) {
        if (t->m.entries[i].kind == ENTRY_FILE)
            status = read_file(r, i, err);
    }
    if (status == 0 && r->len % LEAF > 0)
        end_leaf(r);
    if (status == 0 && r->len > 0)
        status = end_segment(r, err);
    sha256_free(r->file);
    beneath_release(&r->dirs);
    free(r->data);
    return status;
}

int tree_read(struct tree *t,
              int (*segment)(void *ctx, size_t i, const void *data, size_t len, struct err *err),
              void *ctx, struct err *err)
{
    struct reading r = { .t = t, .fn = segment, .ctx = ctx };

    return read_all(&r, err);
}

int tree_read_showing(struct tree *t,
                      void (*seen)(void *ctx, size_t i, int fd, uint64_t at, const void *data,
                                   size_t n),
                      void *ctx, struct err *err)
{
    struct reading r = { .t = t, .seen = seen, .ctx = ctx };

    return read_all(&r, err);
}

int tree_read_rest(struct tree *t, const struct tree_known *known, struct err *err)
{
    struct reading r = { .t = t, .known = known };

    return read_all(&r, err);
}

static int read_part(int dir_fd, const struct entry *e, uint64_t offset, size_t len,
                     unsigned char *out, struct err *err)
{
    size_t done = 0;
    int fd = -1;
    int r = tree_open_beneath(&fd, dir_fd, e->path, O_RDONLY | O_NONBLOCK, 0, err);

    if (r < 0)
        return r;
    while (done < len) {
        ssize_t n = pread(fd, out + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            r = n < 0 ? err_sys(err, errno, "read %s", e->path)
                      : err_set(err, ERR_CORRUPT, "%s: shorter than it should be", e->path);
            break;
        }
        done += (size_t)n;
    }
    close(fd);
    return r;
}

int tree_read_segment(const char *dir, const struct manifest *m, size_t i, unsigned char *out,
                      struct err *err)
{
    uint64_t start = (uint64_t)i * SEGMENT_BYTES;
    size_t len = manifest_segment_bytes(m, i);
    struct hash h;
    int r = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "open %s", dir);
    for (size_t k = manifest_first_file(m, i); r == 0 && k < m->nentries; k++) {
        const struct entry *e = &m->entries[k];
        struct span s;

        if (e->offset >= start + len)
            break;
        if (manifest_span(m, i, k, &s))
            r = read_part(fd, e, s.in_file, s.len, out + s.in_segment, err);
    }
    close(fd);
    if (r < 0)
        return err_wrap(err, "%s", dir);
    h = merkle_segment(out, len);
    if (!hash_equal(&h, &m->segments[i]))
        return err_set(err, ERR_CORRUPT, "%s: segment %zu: its digest is not the manifest's", dir,
                       i);
    return 0;
}
