#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/loop.h"

enum {
    READ_CHUNK = 64 * 1024,
    HOLE_BYTES = 64 << 10, /* a hole, at least, and where it begins: few extents, none too small */
    DIR_DEPTH_MAX = 100,   /* one descriptor a level while removing */
};

static int read_all(struct buf *out, int fd, const char *path, size_t max, struct err *err)
{
    size_t start = out->len;

    for (;;) {
        size_t got = out->len - start;
        size_t want = max - got < READ_CHUNK ? max - got + 1 : READ_CHUNK;
        ssize_t n;

        buf_reserve(out, want);
        n = read(fd, out->data + out->len, want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "read %s", path);
        if (n == 0)
            break;
        if ((size_t)n > max - got)
            return err_set(err, ERR_LIMIT, "read %s: longer than %zu bytes", path, max);
        out->len += (size_t)n;
    }
    buf_reserve(out, 1);
    out->data[out->len] = '\0';
    return 0;
}

int file_read(struct buf *out, const char *path, size_t max, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t start = out->len;
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "open %s", path);
    rc = read_all(out, fd, path, max, err);
    if (rc < 0) {
        out->len = start;
        out->data[start] = '\0';
    }
    close(fd);
    return rc;
}

/* The directory part of path: "." if there is none. Caller frees. */
static char *parent_of(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len == 0 ? mem_strdup(".") : mem_strndup(path, len);
}

static int sync_path(const char *path, int flags, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    int rc = 0;

    if (fd < 0)
        return err_sys(err, errno, "open %s", path);
    if (fsync(fd) < 0)
        rc = err_sys(err, errno, "fsync %s", path);
    close(fd);
    return rc;
}

int dir_sync(const char *path, struct err *err)
{
    return sync_path(path, O_DIRECTORY, err);
}

static int rename_and_sync(const char *tmp, const char *path, struct err *err)
{
    AUTO_FREE char *parent = parent_of(path);

    if (rename(tmp, path) < 0)
        return err_sys(err, errno, "rename %s to %s", tmp, path);
    return dir_sync(parent, err);
}

/* rename(2) that replaces nothing. */
static int rename_new(const char *tmp, const char *path)
{
    struct stat st;

    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (lstat(path, &st) == 0) {
        errno = EEXIST;
        return -1;
    }
    return rename(tmp, path);
}

int file_publish_rename(const char *tmp, const char *path, struct err *err)
{
    int rc = sync_path(tmp, 0, err);

    if (rc < 0)
        return rc;
    return rename_and_sync(tmp, path, err);
}

int file_publish_new(const char *tmp, const char *path, struct err *err)
{
    AUTO_FREE char *parent = parent_of(path);

    if (sync_path(tmp, 0, err) < 0)
        return -(int)err->code;
    if (rename_new(tmp, path) == 0)
        return dir_sync(parent, err);
    return errno == EEXIST ? err_set(err, ERR_EXISTS, "%s: is there already", path)
                           : err_sys(err, errno, "rename %s to %s", tmp, path);
}

static int write_new(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "create %s", path);
    rc = fd_write_at(fd, data, len, 0, err);
    if (rc < 0)
        rc = err_wrap(err, "write %s", path);
    else if (fchmod(fd, mode) < 0) /* whatever the umask is */
        rc = err_sys(err, errno, "chmod %s", path);
    else if (fsync(fd) < 0)
        rc = err_sys(err, errno, "fsync %s", path);
    if (close(fd) < 0 && rc == 0)
        rc = err_sys(err, errno, "close %s", path);
    return rc;
}

int file_publish(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
    unsigned char salt[8];
    char salt_hex[2 * sizeof(salt) + 1];
    AUTO_FREE char *tmp = NULL;
    int rc;

    random_bytes(salt, sizeof(salt));
    hex_encode(salt_hex, salt, sizeof(salt));
    tmp = mem_printf("%s.tmp-%s", path, salt_hex);
    rc = write_new(tmp, data, len, mode, err);
    if (rc == 0)
        rc = rename_and_sync(tmp, path, err);
    if (rc < 0)
        (void)unlink(tmp);
    return rc;
}

static int make_one(const char *path, mode_t mode, struct err *err)
{
    if (mkdir(path, mode) == 0)
        return 0;
    if (errno == EEXIST && path_is_dir(path))
        return 0;
    if (errno == EEXIST)
        return err_set(err, ERR_EXISTS, "%s is there and no directory", path);
    return err_sys(err, errno, "mkdir %s", path);
}

int dir_make(const char *path, mode_t mode, struct err *err)
{
    AUTO_FREE char *part = mem_strdup(path);
    int rc;

    if (path_is_dir(path))
        return 0;
    for (char *at = part; *at != '\0'; at++) {
        if (*at != '/' || at == part || at[-1] == '/')
            continue;
        *at = '\0';
        rc = make_one(part, mode, err);
        *at = '/';
        if (rc < 0)
            return rc;
    }
    return make_one(path, mode, err);
}

/* Opens a directory of a tree that is being removed, also one that its owner closed to himself. */
static int open_for_removal(int at, const char *name)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(at, name, flags);
    struct stat st;

    if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, 0) == 0)
        fd = openat(at, name, flags);
    if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0300) != 0300)
        (void)fchmod(fd, 0700);
    return fd;
}

/* A removal under way. What lies too deep is moved up beside the other entries of the root, so that
 * no tree is too deep, whoever made it. */
struct removal {
    const char *root;
    int root_fd; /* -1: not opened yet */
    uint64_t moved;
};

static int remove_at(struct removal *rm, int at, const char *name, int depth, struct err *err);

static int move_up(struct removal *rm, int at, const char *name, struct err *err)
{
    char unique[64];

    for (;;) {
        snprintf(unique, sizeof(unique), "deep.%llu", (unsigned long long)rm->moved++);
        if (renameat(at, name, rm->root_fd, unique) == 0)
            return 0;
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            return err_sys(err, errno, "remove %s: move %s", rm->root, name);
    }
}

/* Takes fd. */
static int remove_entries(struct removal *rm, int fd, int depth, struct err *err)
{
    DIR *dir = fdopendir(fd);
    struct dirent *e;
    int rc = 0;

    if (dir == NULL) {
        rc = err_sys(err, errno, "remove %s: read directory", rm->root);
        close(fd);
        return rc;
    }
    while (rc == 0 && (errno = 0, e = readdir(dir)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = remove_at(rm, fd, e->d_name, depth + 1, err);
    if (rc == 0 && errno != 0)
        rc = err_sys(err, errno, "remove %s: read directory", rm->root);
    closedir(dir);
    return rc;
}

static int remove_dir(struct removal *rm, int at, const char *name, int depth, struct err *err)
{
    int fd = open_for_removal(at, name);
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "remove %s: open %s", rm->root, name);
    if (depth == 0)
        rm->root_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    rc = remove_entries(rm, fd, depth, err);
    if (rc < 0 || unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return rc;
    return err_sys(err, errno, "remove %s: %s", rm->root, name);
}

static int remove_at(struct removal *rm, int at, const char *name, int depth, struct err *err)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_sys(err, errno, "remove %s: %s", rm->root, name);
    return depth > DIR_DEPTH_MAX ? move_up(rm, at, name, err)
                                 : remove_dir(rm, at, name, depth, err);
}

int dir_remove(const char *path, struct err *err)
{
    struct removal rm = { path, -1, 0 };
    uint64_t before;
    int rc;

    do {
        struct err why = ERR_INIT;

        before = rm.moved;
        rc = remove_at(&rm, AT_FDCWD, path, 0, &why);
        if (rm.root_fd >= 0)
            close(rm.root_fd);
        rm.root_fd = -1;
        if (rc < 0)
            (void)err_set(err, why.code, "%s", why.text);
    } while (rc < 0 && rm.moved > before);
    return rc;
}

int dir_each(const char *path, int (*fn)(void *ctx, const char *name, struct err *err), void *ctx,
             struct err *err)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    int r = 0;

    if (dir == NULL)
        return err_sys(err, errno, "open %s", path);
    while (r >= 0 && (errno = 0, e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = fn(ctx, e->d_name, err);
    }
    if (r >= 0 && errno != 0)
        r = err_sys(err, errno, "read %s", path);
    closedir(dir);
    return r < 0 ? r : 0;
}

bool path_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

bool path_is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int fd_read_at(int fd, void *data, size_t len, uint64_t offset, struct err *err)
{
    char *at = data;

    while (len > 0) {
        ssize_t n = pread(fd, at, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "read at %llu", (unsigned long long)offset);
        if (n == 0)
            return err_set(err, ERR_CORRUPT, "ends at %llu, %zu bytes early",
                           (unsigned long long)offset, len);
        at += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int fd_write_at(int fd, const void *data, size_t len, uint64_t offset, struct err *err)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, at, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "write at %llu", (unsigned long long)offset);
        at += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int file_open_log(int *ret_fd, const char *path, uint64_t max_bytes, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat st;

    if (fd < 0)
        return err_sys(err, errno, "open %s", path);
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size > max_bytes && ftruncate(fd, 0) < 0) {
        int rv = err_sys(err, errno, "truncate %s", path);

        close(fd);
        return rv;
    }
    *ret_fd = fd;
    return 0;
}

int file_lock(int *ret_fd, const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc;

    if (fd < 0)
        return err_sys(err, errno, "open %s", path);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == EWOULDBLOCK)
            rc = err_set(err, ERR_EXISTS, "%s is locked by another process", path);
        else
            rc = err_sys(err, errno, "lock %s", path);
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

int path_real(struct buf *out, const char *path, struct err *err)
{
    AUTO_FREE char *real = realpath(path, NULL);

    if (real == NULL)
        return err_sys(err, errno, "resolve %s", path);
    buf_str_append(out, real);
    return 0;
}

int file_open_read(int *ret_fd, const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "open %s", path);
    *ret_fd = fd;
    return 0;
}

int file_read_end(struct buf *out, const char *path, size_t max, struct err *err)
{
    int fd = -1;
    int rc = file_open_read(&fd, path, err);
    struct stat st;

    if (rc < 0)
        return rc;
    if (fstat(fd, &st) < 0) {
        rc = err_sys(err, errno, "stat %s", path);
    } else {
        size_t len = (uint64_t)st.st_size < max ? (size_t)st.st_size : max;
        AUTO_FREE char *data = mem_alloc(len + 1);

        rc = fd_read_at(fd, data, len, (uint64_t)st.st_size - len, err);
        if (rc == 0)
            buf_append(out, data, len);
    }
    close(fd);
    return rc;
}

/* Is [offset, offset + len) a hole? Moves the file position, which nobody uses who reads by offset. */
static bool is_hole(int fd, size_t len, uint64_t offset)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    struct stat st;

    if (data >= 0)
        return (uint64_t)data >= offset + len;
    return errno == ENXIO && fstat(fd, &st) == 0 && (uint64_t)st.st_size >= offset + len;
}

int fd_read_sparse(int fd, void *data, size_t len, uint64_t offset, struct err *err)
{
    if (len < HOLE_BYTES || !is_hole(fd, len, offset))
        return fd_read_at(fd, data, len, offset, err);
    memset(data, 0, len);
    return 0;
}

static bool all_zero(const unsigned char *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

int fd_write_sparse(int fd, const void *data, size_t len, uint64_t offset, uint64_t file_bytes,
                    struct err *err)
{
    const unsigned char *b = data;
    size_t from = 0;
    int r = 0;

    for (size_t at = 0; r == 0 && at < len;) {
        size_t block = HOLE_BYTES - (size_t)((offset + at) % HOLE_BYTES);

        if (block > len - at)
            break;
        if (block == HOLE_BYTES && offset + at + block < file_bytes && all_zero(b + at, block)) {
            r = fd_write_at(fd, b + from, at - from, offset + from, err);
            from = at + block;
        }
        at += block;
    }
    return r < 0 ? r : fd_write_at(fd, b + from, len - from, offset + from, err);
}

int file_reserve(const char *path, uint64_t bytes, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int failed;

    if (fd < 0)
        return err_sys(err, errno, "open %s", path);
    failed = bytes == 0 ? 0 : posix_fallocate(fd, 0, (off_t)bytes);
    close(fd);
    return failed == 0 ? 0 : err_sys(err, failed, "reserve %s", path);
}

static bool has_room(const struct statfs *fs, uint64_t bytes)
{
    return fs->f_blocks == 0 || bytes <= (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize;
}

int fd_has_room(int fd, uint64_t bytes, struct err *err)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC || has_room(&fs, bytes))
        return 0;
    return err_sys(err, ENOSPC, "reserve %llu bytes", (unsigned long long)bytes);
}

/* In memory. 0: the file is so long, or an errno. */
static int extend(int fd, const struct statfs *fs, uint64_t bytes)
{
    struct stat st;
    uint64_t taken;

    if (fstat(fd, &st) < 0)
        return errno;
    taken = (uint64_t)st.st_blocks * 512;
    if (taken < bytes && !has_room(fs, bytes - taken))
        return ENOSPC;
    return (uint64_t)st.st_size >= bytes || ftruncate(fd, (off_t)bytes) == 0 ? 0 : errno;
}

int fd_reserve(int fd, uint64_t bytes, struct err *err)
{
    struct statfs fs;
    int os;

    if (bytes == 0)
        return 0;
    if (fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
        os = extend(fd, &fs, bytes);
    else
        os = posix_fallocate(fd, 0, (off_t)bytes);
    return os == 0 ? 0 : err_sys(err, os, "reserve %llu bytes", (unsigned long long)bytes);
}
