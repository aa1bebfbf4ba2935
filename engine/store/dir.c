#include "store/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "io/loop.h"

enum { TMP_KEEP_S = 24 * 3600, OBJECT_MODE = 0444 };

struct dir_store {
    struct store store;
    char *root;
};

struct dir_object {
    struct store_object object;
    int fd;
    char *path; /* for errors */
};

static const char *root_of(const struct store *s)
{
    return ((const struct dir_store *)(const void *)s)->root;
}

/* ROOT/kind/ab/cdef... */
static void object_path(struct buf *out, const struct store *s, enum object_kind kind,
                        const struct hash *name)
{
    char hex[HASH_HEX];

    hash_hex(name, hex);
    buf_printf(out, "%s/%s/%.2s/%s", root_of(s), object_kind_name(kind), hex, hex + 2);
}

void dir_store_path(const struct store *s, enum object_kind kind, const struct hash *name,
                    struct buf *out)
{
    object_path(out, s, kind, name);
}

static void parent_of(struct buf *out, const char *path)
{
    buf_append(out, path, (size_t)(strrchr(path, '/') - path));
}

/* What the operating system says about access becomes -ERR_DENIED: a person must change something.
 */
static int denied(struct err *err, int r)
{
    if (r < 0 && err != NULL &&
        (err->os_errno == EACCES || err->os_errno == EPERM || err->os_errno == EROFS)) {
        err->code = ERR_DENIED;
        return -(int)ERR_DENIED;
    }
    return r;
}

static void dir_close(struct store *s)
{
    struct dir_store *d = (struct dir_store *)(void *)s;

    free(d->root);
    free(d);
}

static int dir_has(struct store *s, enum object_kind kind, const struct hash *name, bool *ret,
                   struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    struct stat st;

    object_path(&path, s, kind, name);
    *ret = stat(path.data, &st) == 0;
    if (!*ret && errno != ENOENT && errno != ENOTDIR)
        return denied(err, err_sys(err, errno, "%s", path.data));
    return 0;
}

static int dir_temp(struct store *s, char **ret_path, int *ret_fd, struct err *err)
{
    char *path = mem_printf("%s/tmp/XXXXXX", root_of(s));
    int fd = mkostemp(path, O_CLOEXEC);
    int r;

    if (fd < 0) {
        r = denied(err, err_sys(err, errno, "create %s", path));
        free(path);
        return r;
    }
    *ret_path = path;
    *ret_fd = fd;
    return 0;
}

/* Holds PATH/lock until *ret_fd is closed: LOCK_SH while an object is put or renewed, LOCK_EX while
 * one is looked at and deleted for its age. Each caller opens it for itself, threads too. */
static int take_lock(const struct store *s, int how, int *ret_fd, struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    int fd;

    buf_printf(&path, "%s/lock", root_of(s));
    fd = open(path.data, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return denied(err, err_sys(err, errno, "open %s", path.data));
    while (flock(fd, how) < 0) {
        int why = errno;

        if (why == EINTR)
            continue;
        close(fd);
        return err_sys(err, why, "lock %s", path.data);
    }
    *ret_fd = fd;
    return 0;
}

/* True if the object is there: then it counts as put now. One that cannot be renewed (it is another
 * user's) is put again. */
static bool renew(struct store *s, enum object_kind kind, const struct hash *name)
{
    AUTO_BUF path = BUF_INIT;
    int lock = -1;
    bool there;

    if (take_lock(s, LOCK_SH, &lock, NULL) < 0)
        return false;
    object_path(&path, s, kind, name);
    there = utimensat(AT_FDCWD, path.data, NULL, 0) == 0;
    close(lock);
    return there;
}

/* tmp is complete: make it the object, durably. Another process doing the same at this moment puts
 * the same bytes, so that whoever renames last does no harm. */
static int publish(struct store *s, enum object_kind kind, const struct hash *name, const char *tmp,
                   struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    AUTO_BUF dir = BUF_INIT;
    int lock = -1;
    int r;

    object_path(&path, s, kind, name);
    parent_of(&dir, path.data);
    if (chmod(tmp, OBJECT_MODE) < 0)
        return denied(err, err_sys(err, errno, "chmod %s", tmp));
    r = dir_make(dir.data, 0755, err);
    if (r == 0)
        r = take_lock(s, LOCK_SH, &lock, err);
    if (r == 0 && utimensat(AT_FDCWD, tmp, NULL, 0) < 0)
        r = err_sys(err, errno, "touch %s", tmp);
    if (r == 0)
        r = file_publish_rename(tmp, path.data, err);
    if (lock >= 0)
        close(lock);
    return denied(err, r);
}

static int dir_put(struct store *s, enum object_kind kind, const struct hash *name,
                   const void *data, size_t len, struct err *err)
{
    char *tmp = NULL;
    int fd = -1;
    int r;

    if (renew(s, kind, name))
        return 0;
    r = dir_temp(s, &tmp, &fd, err);
    if (r < 0)
        return r;
    r = fd_write_at(fd, data, len, 0, err);
    if (close(fd) < 0 && r == 0)
        r = err_sys(err, errno, "close %s", tmp);
    if (r == 0)
        r = publish(s, kind, name, tmp, err);
    if (r < 0)
        unlink(tmp);
    free(tmp);
    return r;
}

static int copy_file(int from, int to, const char *path, struct err *err)
{
    AUTO_BUF chunk = BUF_INIT;
    uint64_t at = 0;

    buf_reserve(&chunk, 1 << 20);
    for (;;) {
        ssize_t n = pread(from, chunk.data, 1 << 20, (off_t)at);
        int r;

        if (n < 0)
            return err_sys(err, errno, "read %s", path);
        if (n == 0)
            return 0;
        r = fd_write_at(to, chunk.data, (size_t)n, at, err);
        if (r < 0)
            return r;
        at += (uint64_t)n;
    }
}

/* For a file on another file system: rename cannot move it. */
static int put_copy(struct store *s, enum object_kind kind, const struct hash *name,
                    const char *path, struct err *err)
{
    char *tmp = NULL;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = -1;
    int r;

    if (from < 0)
        return err_sys(err, errno, "open %s", path);
    r = dir_temp(s, &tmp, &to, err);
    if (r == 0)
        r = copy_file(from, to, path, err);
    if (to >= 0 && close(to) < 0 && r == 0)
        r = err_sys(err, errno, "close %s", tmp);
    close(from);
    if (r == 0)
        r = publish(s, kind, name, tmp, err);
    if (r < 0 && tmp != NULL)
        unlink(tmp);
    free(tmp);
    return r;
}

static bool same_file_system(const char *path, const char *root)
{
    struct stat a, b;

    return stat(path, &a) == 0 && stat(root, &b) == 0 && a.st_dev == b.st_dev;
}

static int dir_put_file(struct store *s, enum object_kind kind, const struct hash *name,
                        const char *path, struct err *err)
{
    bool there = renew(s, kind, name);
    int r = 0;

    if (!there && same_file_system(path, root_of(s)))
        return publish(s, kind, name, path, err);
    if (!there)
        r = put_copy(s, kind, name, path, err);
    if (r == 0)
        unlink(path);
    return r;
}

static int object_read_at(struct store_object *o, void *data, size_t len, uint64_t offset,
                          struct err *err)
{
    const struct dir_object *d = (const struct dir_object *)(const void *)o;

    if (fd_read_at(d->fd, data, len, offset, err) < 0)
        return err_wrap(err, "read %s", d->path);
    return 0;
}

static void object_close(struct store_object *o)
{
    struct dir_object *d = (struct dir_object *)(void *)o;

    close(d->fd);
    free(d->path);
    free(d);
}

static int dir_open_object(struct store *s, enum object_kind kind, const struct hash *name,
                           struct store_object **ret, struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    struct dir_object *d;
    struct stat st;
    int fd;

    object_path(&path, s, kind, name);
    fd = open(path.data, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return denied(err, err_sys(err, errno, "%s", path.data));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, ERR_IO, "%s: not a file", path.data);
    }
    d = mem_alloc(sizeof(*d));
    d->object.bytes = (uint64_t)st.st_size;
    d->object.read_at = object_read_at;
    d->object.close = object_close;
    d->fd = fd;
    d->path = buf_steal(&path);
    *ret = &d->object;
    return 0;
}

static int dir_remove_object(struct store *s, enum object_kind kind, const struct hash *name,
                             struct err *err)
{
    AUTO_BUF path = BUF_INIT;

    object_path(&path, s, kind, name);
    if (unlink(path.data) < 0 && errno != ENOENT)
        return denied(err, err_sys(err, errno, "unlink %s", path.data));
    return 0;
}

static int dir_put_time(struct store *s, enum object_kind kind, const struct hash *name,
                        int64_t *ret_ms, struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    struct stat st;

    object_path(&path, s, kind, name);
    if (stat(path.data, &st) < 0)
        return denied(err, err_sys(err, errno, "%s", path.data));
    *ret_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    return 0;
}

static int dir_expire(struct store *s, enum object_kind kind, const struct hash *name,
                      int64_t before_ms, bool *ret_gone, struct err *err)
{
    int64_t put_ms = 0;
    int lock = -1;
    int r = take_lock(s, LOCK_EX, &lock, err);

    *ret_gone = false;
    if (r < 0)
        return r;
    r = dir_put_time(s, kind, name, &put_ms, err);
    if (r == -(int)ERR_NOT_FOUND) {
        *ret_gone = true;
        r = 0;
    } else if (r == 0 && put_ms < before_ms) {
        r = dir_remove_object(s, kind, name, err);
        *ret_gone = r == 0;
    }
    close(lock);
    return r;
}

static int dir_quarantine(struct store *s, enum object_kind kind, const struct hash *name,
                          struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    AUTO_BUF aside = BUF_INIT;
    char hex[HASH_HEX];

    object_path(&path, s, kind, name);
    buf_printf(&aside, "%s/corrupt/%s-%s", root_of(s), object_kind_name(kind), hash_hex(name, hex));
    if (rename(path.data, aside.data) < 0 && errno != ENOENT)
        return denied(err, err_sys(err, errno, "rename %s", path.data));
    return 0;
}

typedef int (*list_fn)(void *ctx, const struct hash *name, uint64_t bytes);

/* The objects of ROOT/kind/ab; names that are no digests are not ours. */
static int list_part(const char *dir, const char *prefix, list_fn fn, void *ctx, struct err *err)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int r = 0;

    if (d == NULL)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(err, errno, "list %s", dir);
    while (r == 0 && (e = readdir(d)) != NULL) {
        AUTO_BUF hex = BUF_INIT;
        struct hash name;
        struct stat st;

        buf_printf(&hex, "%s%s", prefix, e->d_name);
        if (hash_parse(&name, hex.data) && fstatat(dirfd(d), e->d_name, &st, 0) == 0 &&
            fn(ctx, &name, (uint64_t)st.st_size) < 0)
            r = err_set(err, ERR_CANCELLED, "stopped");
    }
    closedir(d);
    return r;
}

static int dir_list(struct store *s, enum object_kind kind, list_fn fn, void *ctx, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < 256; i++) {
        AUTO_BUF dir = BUF_INIT;
        char prefix[3];

        snprintf(prefix, sizeof(prefix), "%02x", i);
        buf_printf(&dir, "%s/%s/%s", root_of(s), object_kind_name(kind), prefix);
        r = list_part(dir.data, prefix, fn, ctx, err);
    }
    return r;
}

/* What a killed writer left behind. Only the old: another process may be writing just now. */
static void clean_tmp(const char *tmp)
{
    int64_t now = wall_ms() / 1000;
    DIR *d = opendir(tmp);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL) {
        struct stat st;

        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_mtime < now - TMP_KEEP_S)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d != NULL)
        closedir(d);
}

static int make_layout(const char *root, struct err *err)
{
    static const char *const parts[] = { "manifest", "index", "pack", "tmp", "corrupt" };

    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        AUTO_BUF path = BUF_INIT;
        int r;

        buf_printf(&path, "%s/%s", root, parts[i]);
        r = dir_make(path.data, 0755, err);
        if (r < 0)
            return denied(err, r);
        if (strcmp(parts[i], "tmp") == 0)
            clean_tmp(path.data);
    }
    return 0;
}

static const struct store_ops dir_ops = {
    .close = dir_close,
    .put = dir_put,
    .temp = dir_temp,
    .put_file = dir_put_file,
    .open_object = dir_open_object,
    .has = dir_has,
    .remove = dir_remove_object,
    .put_time = dir_put_time,
    .expire = dir_expire,
    .quarantine = dir_quarantine,
    .list = dir_list,
};

int dir_store_open(struct store **ret, const char *path, struct err *err)
{
    struct dir_store *d;
    size_t len = strlen(path);
    int r;

    while (len > 1 && path[len - 1] == '/')
        len--;
    d = mem_alloc(sizeof(*d));
    d->store.ops = &dir_ops;
    d->root = mem_strndup(path, len);
    r = make_layout(d->root, err);
    if (r < 0) {
        dir_close(&d->store);
        return r;
    }
    *ret = &d->store;
    return 0;
}
