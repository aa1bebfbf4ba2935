#include "store/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void beneath_release(struct beneath *b)
{
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
}

int beneath_parent(struct beneath *b, const char *path, const char **ret_name, struct err *err)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    char dir[PATH_MAX_BYTES + 1] = ".";
    int r;

    *ret_name = slash == NULL ? path : slash + 1;
    if (len > PATH_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "%.64s...: too long", path);
    if (b->fd >= 0 && strncmp(b->path, path, len) == 0 && b->path[len] == '\0')
        return 0;
    beneath_release(b);
    if (len > 0) {
        memcpy(dir, path, len);
        dir[len] = '\0';
    }
    r = tree_open_beneath(&b->fd, b->root, dir, O_RDONLY | O_DIRECTORY, 0, err);
    if (r < 0)
        return r;
    memcpy(b->path, path, len);
    b->path[len] = '\0';
    return 0;
}

int beneath_open(int *ret_fd, struct beneath *b, const char *path, int flags, mode_t mode,
                 struct err *err)
{
    const char *name = NULL;
    int r = beneath_parent(b, path, &name, err);

    if (r < 0)
        return r;
    *ret_fd = openat(b->fd, name, O_CLOEXEC | O_NOFOLLOW | flags, mode);
    return *ret_fd < 0 ? err_sys(err, errno, "open %s", path) : 0;
}
