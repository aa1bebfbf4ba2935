#include "store/placed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "io/files.h"
#include "store/tree.h"

struct placed_file {
    uint64_t at, size; /* of its first byte in the stream; bytes */
    int fd;
};

struct placed {
    const struct manifest *m;
    uint64_t from;
    struct placed_file *files; /* in the order of the stream; those that are not empty */
    size_t nfiles;
    atomic_bool sealed;
};

static bool has_bytes(const struct entry *e)
{
    return e->kind == ENTRY_FILE && e->size > 0;
}

bool placed_suits(const struct manifest *m, uint64_t pack_bytes)
{
    size_t files = 0;

    for (size_t i = 0; i < m->nentries && files <= PLACED_FILES_MAX; i++)
        files += has_bytes(&m->entries[i]);
    return files > 0 && files <= PLACED_FILES_MAX &&
           pack_bytes == full_header_bytes(m->nsegments) + m->stream_bytes;
}

static int open_file(int *ret_fd, const struct placed_where *w, int root, const struct entry *e,
                     struct err *err)
{
    int flags = (w->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK;

    if (!w->is_file)
        return tree_open_beneath(ret_fd, root, e->path, flags, 0, err);
    *ret_fd = open(w->path, flags | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd < 0 ? err_sys(err, errno, "open %s", w->path) : 0;
}

static int open_files(struct placed *p, const struct placed_where *w, struct err *err)
{
    int root = w->is_file ? -1 : open(w->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = 0;

    if (!w->is_file && root < 0)
        return err_sys(err, errno, "open %s", w->path);
    for (size_t i = 0; r == 0 && i < p->m->nentries; i++) {
        const struct entry *e = &p->m->entries[i];
        int fd = -1;

        if (!has_bytes(e))
            continue;
        r = open_file(&fd, w, root, e, err);
        if (r == 0)
            p->files[p->nfiles++] = (struct placed_file){ e->offset, e->size, fd };
    }
    if (root >= 0)
        close(root);
    return r;
}

int placed_open(struct placed **ret, const struct manifest *m, const struct placed_where *where,
                struct err *err)
{
    struct placed *p = mem_alloc(sizeof(*p));
    int r;

    p->m = m;
    p->from = full_header_bytes(m->nsegments);
    p->files = mem_calloc(PLACED_FILES_MAX, sizeof(*p->files));
    atomic_init(&p->sealed, where->read_only);
    r = open_files(p, where, err);
    if (r < 0) {
        placed_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void placed_free(struct placed *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->nfiles; i++)
        close(p->files[i].fd);
    free(p->files);
    free(p);
}

uint64_t placed_from(const struct placed *p)
{
    return p->from;
}

/* Of all files together, that are not on disk yet. */
static uint64_t missing_bytes(const struct placed *p)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < p->nfiles; i++) {
        struct stat st;
        uint64_t taken = fstat(p->files[i].fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;

        bytes += taken < p->files[i].size ? p->files[i].size - taken : 0;
    }
    return bytes;
}

int placed_reserve(const struct placed *p, struct err *err)
{
    int r = 0;

    if (p->nfiles > 0 && !atomic_load(&p->sealed))
        r = fd_has_room(p->files[0].fd, missing_bytes(p), err);
    for (size_t i = 0; r == 0 && i < p->nfiles && !atomic_load(&p->sealed); i++)
        r = fd_reserve(p->files[i].fd, p->files[i].size, err);
    return r;
}

/* The file that holds byte `at` of the stream; nfiles: none. */
static size_t find_file(const struct placed *p, uint64_t at)
{
    size_t low = 0, high = p->nfiles;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (p->files[middle].at + p->files[middle].size <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The part of [at, at + len) of the stream that lies in one file: its bytes, and that file. */
static int next_part(const struct placed *p, uint64_t at, size_t len, struct placed_file *ret,
                     size_t *ret_len, struct err *err)
{
    size_t i = find_file(p, at);
    uint64_t left;

    if (i == p->nfiles)
        return err_set(err, ERR_CORRUPT, "the pack ends before byte %llu of its stream",
                       (unsigned long long)at);
    *ret = p->files[i];
    left = ret->at + ret->size - at;
    *ret_len = left < len ? (size_t)left : len;
    return 0;
}

static int read_stream(const struct placed *p, unsigned char *data, size_t len, uint64_t at,
                       struct err *err)
{
    int r = 0;

    for (size_t part = 0; r == 0 && len > 0; data += part, at += part, len -= part) {
        struct placed_file f;

        r = next_part(p, at, len, &f, &part, err);
        if (r == 0)
            r = fd_read_at(f.fd, data, part, at - f.at, err);
    }
    return r;
}

int placed_read(const struct placed *p, void *data, size_t len, uint64_t offset, struct err *err)
{
    return read_stream(p, data, len, offset - p->from, err);
}

int placed_write(const struct placed *p, const void *data, size_t len, uint64_t offset,
                 struct err *err)
{
    const unsigned char *bytes = data;
    uint64_t at = offset - p->from;
    int r = 0;

    if (atomic_load(&p->sealed))
        return err_set(err, ERR_DENIED, "the files are complete: nothing is written any more");
    for (size_t part = 0; r == 0 && len > 0; bytes += part, at += part, len -= part) {
        struct placed_file f;

        r = next_part(p, at, len, &f, &part, err);
        if (r == 0)
            r = fd_write_at(f.fd, bytes, part, at - f.at, err);
    }
    return r;
}

int placed_verified(const struct placed *p, size_t segment, struct err *err)
{
    size_t bytes = manifest_segment_bytes(p->m, segment);
    unsigned char *data;
    struct hash h;
    int r;

    if (full_is_aligned_stream(p->m, p->from + p->m->stream_bytes))
        return 0;
    data = mem_realloc(NULL, bytes);
    r = read_stream(p, data, bytes, (uint64_t)segment * SEGMENT_BYTES, err);
    if (r == 0) {
        h = merkle_segment(data, bytes);
        if (!hash_equal(&h, &p->m->segments[segment]))
            r = err_set(err, ERR_CORRUPT, "segment %zu: its digest is not the manifest's", segment);
    }
    free(data);
    return r;
}

void placed_seal(struct placed *p)
{
    atomic_store(&p->sealed, true);
}
