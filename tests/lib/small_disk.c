#include "lib/small_disk.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return done;
}

/* Who is not root becomes it in a user namespace of its own, as far as mounts are concerned. */
static bool own_namespace(void)
{
    unsigned uid = getuid(), gid = getgid();
    char map[64];

    if (unshare(CLONE_NEWNS) == 0)
        return true;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    snprintf(map, sizeof(map), "%u %u 1", uid, uid);
    if (!put("/proc/self/uid_map", map) || !put("/proc/self/setgroups", "deny"))
        return false;
    snprintf(map, sizeof(map), "%u %u 1", gid, gid);
    return put("/proc/self/gid_map", map);
}

bool small_disk(const char *path, size_t bytes)
{
    char size[64];

    snprintf(size, sizeof(size), "size=%zu", bytes);
    if (mount("tmpfs", path, "tmpfs", MS_REMOUNT, size) == 0)
        return true;
    return own_namespace() && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", path, "tmpfs", 0, size) == 0;
}
