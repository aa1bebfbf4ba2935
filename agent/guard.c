#include "guard.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/loop.h"
#include "io/proc.h"

char *guard_tag(const char *dir)
{
    return mem_printf("SLIPWAY_UNIT=%s", dir);
}

int guard_start(pid_t *ret_pid, const char *root, int parent_fd, struct err *err)
{
    AUTO_FREE char *fd = mem_printf("%d", parent_fd);
    char *argv[] = { mem_strdup("/proc/self/exe"),
                     mem_strdup("guard"),
                     mem_strdup("--root"),
                     mem_strdup(root),
                     mem_strdup("--parent-fd"),
                     fd,
                     NULL };
    struct proc_options o = { .argv = argv,
                              .stdin_fd = -1,
                              .stdout_fd = -1,
                              .stderr_fd = STDERR_FILENO,
                              .keep_fd = parent_fd,
                              .new_session = true };
    int r = proc_spawn(ret_pid, &o, err);

    for (int i = 0; i < 5; i++)
        free(argv[i]);
    return r < 0 ? err_wrap(err, "guard") : 0;
}

/* Waits for a moment, or until the pipe ends. True: it has ended. */
static bool has_ended(int parent_fd)
{
    struct pollfd p = { .fd = parent_fd, .events = POLLIN };
    char byte;

    return poll(&p, 1, GUARD_LOOK_MS) > 0 && read(parent_fd, &byte, 1) == 0;
}

/* Takes the lock at path unless it is taken. */
static void try_lock(int *fd, const char *path)
{
    if (*fd < 0 && file_lock(fd, path, NULL) < 0)
        *fd = -1;
}

static int kill_service(void *ctx, const char *name, struct err *err)
{
    const char *services = ctx;
    AUTO_FREE char *dir = mem_printf("%s/%s", services, name);
    AUTO_FREE char *tag = guard_tag(dir);

    (void)err;
    proc_kill_tagged(tag);
    return 0;
}

static int end_services(const char *root, struct err *err)
{
    AUTO_FREE char *services = mem_printf("%s/services", root);

    if (!path_exists(services))
        return 0;
    log_debug("the fleet is gone: ends what is left of its services");
    return dir_each(services, kill_service, services, err);
}

int guard_main(const char *root, int parent_fd, struct err *err)
{
    AUTO_FREE char *mine = mem_printf("%s/guard.lock", root);
    AUTO_FREE char *agents = mem_printf("%s/lock", root);
    int mine_fd = -1, agents_fd = -1, r = 0;
    pid_t agent = getppid();
    int64_t end_ms;

    while (!has_ended(parent_fd)) {
        try_lock(&mine_fd, mine);
        if (mine_fd < 0 && getppid() != agent)
            return 0; /* the one that has the lock stays */
    }
    end_ms = monotonic_ms() + GUARD_MS;
    while (monotonic_ms() < end_ms) {
        try_lock(&mine_fd, mine);
        if (mine_fd >= 0)
            try_lock(&agents_fd, agents);
        if (agents_fd >= 0)
            break;
        (void)poll(NULL, 0, GUARD_LOOK_MS);
    }
    if (agents_fd >= 0)
        r = end_services(root, err);
    if (agents_fd >= 0)
        close(agents_fd);
    if (mine_fd >= 0)
        close(mine_fd);
    return r;
}
