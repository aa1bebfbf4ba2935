#include "store/beside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define MAKING ".making."

enum { RANDOM = 6 };

/* As mkostemp() makes it: a person's own file of such a name will hardly be private. */
static bool is_ours(const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 07777) == 0600;
}

static void remove_unlocked(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && is_ours(&st) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)unlinkat(dir, name, 0);
    close(fd);
}

static void remove_left(const char *path)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *parent =
        slash == NULL ? mem_strdup(".") : mem_strndup(path, (size_t)(slash - path) + 1);
    AUTO_FREE char *prefix = mem_printf("%s" MAKING, slash == NULL ? path : slash + 1);
    size_t len = strlen(prefix);
    DIR *dir = opendir(parent);
    const struct dirent *e;

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        if (strncmp(e->d_name, prefix, len) == 0 && strlen(e->d_name) == len + RANDOM)
            remove_unlocked(dirfd(dir), e->d_name);
    }
    if (dir != NULL)
        closedir(dir);
}

/* Between its making and its lock another one may have taken it away. */
static bool lock(int fd)
{
    struct stat st;

    (void)flock(fd, LOCK_EX); /* where there are no locks nothing is ever taken away */
    return fstat(fd, &st) == 0 && st.st_nlink > 0;
}

int beside_open(char **ret_path, int *ret_fd, const char *path, struct err *err)
{
    remove_left(path);
    for (;;) {
        char *tmp = mem_printf("%s" MAKING "XXXXXX", path);
        int fd = mkostemp(tmp, O_CLOEXEC);

        if (fd < 0) {
            int r = err_sys(err, errno, "cannot make %s", tmp);

            free(tmp);
            return r;
        }
        if (lock(fd)) {
            *ret_path = tmp;
            *ret_fd = fd;
            return 0;
        }
        close(fd);
        free(tmp);
    }
}
