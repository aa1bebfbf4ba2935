/* Has a tree changed since it was read? */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/tree_internal.h"

/* Writing, cutting, changing modes: each sets the time of the last change (ctime). Renaming another
 * file to its place brings another inode. */
uint64_t tree_stamp(const struct stat *st)
{
    const uint64_t parts[] = { (uint64_t)st->st_ino, (uint64_t)st->st_size,
                               (uint64_t)st->st_ctim.tv_sec, (uint64_t)st->st_ctim.tv_nsec };
    uint64_t h = 14695981039346656037U; /* FNV-1a, by words */

    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        h = (h ^ parts[i]) * 1099511628211U;
        h ^= h >> 29;
    }
    return h;
}

static int hash_again(int fd, uint64_t size, struct hash *ret)
{
    unsigned char *data = mem_alloc(TREE_READ_BYTES);
    struct sha256 *sha = sha256_new();
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < size; at += TREE_READ_BYTES) {
        size_t n = size - at < TREE_READ_BYTES ? (size_t)(size - at) : TREE_READ_BYTES;

        r = fd_read_sparse(fd, data, n, at, NULL);
        if (r == 0)
            sha256_add(sha, data, n);
    }
    *ret = sha256_done(sha);
    sha256_free(sha);
    free(data);
    return r;
}

static bool is_same(const struct tree *t, struct beneath *dirs, size_t i)
{
    const struct entry *e = &t->m.entries[i];
    struct hash now;
    struct stat st;
    bool same;
    int fd = -1;

    if (tree_open_file(t, dirs, e, &fd, NULL) < 0)
        return false;
    same = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == e->size &&
           hash_again(fd, e->size, &now) == 0 && hash_equal(&now, &e->hash);
    close(fd);
    return same;
}

static bool is_untouched(const struct tree *t, struct beneath *dirs, size_t i)
{
    const char *name;
    struct stat st;

    return beneath_parent(dirs, t->m.entries[i].path, &name, NULL) == 0 &&
           fstatat(dirs->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           tree_stamp(&st) == t->stamps[i];
}

int tree_still(const struct tree *t, struct err *err)
{
    struct beneath dirs = BENEATH(t->dir_fd);
    int r = 0;

    for (size_t i = 0; r == 0 && i < t->m.nentries; i++) {
        if (t->m.entries[i].kind == ENTRY_FILE && !is_untouched(t, &dirs, i) &&
            !is_same(t, &dirs, i))
            r = err_set(err, ERR_CONFLICT, "%s/%s: changed while it was being worked on", t->path,
                        t->m.entries[i].path);
    }
    beneath_release(&dirs);
    return r;
}
