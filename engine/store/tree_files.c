#include "store/tree_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/beneath.h"

struct slot {
    int fd; /* -1: empty */
    size_t entry;
    unsigned users;
    uint64_t used; /* when, by the tick */
};

struct tree_files {
    const struct manifest *m;
    int dir;
    pthread_mutex_t lock; /* of what follows */
    struct beneath dirs;
    uint64_t tick;
    struct slot slots[TREE_FILES_OPEN];
};

int tree_files_open(struct tree_files **ret, const char *dir, const struct manifest *m,
                    struct err *err)
{
    struct tree_files *t;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_sys(err, errno, "open %s", dir);
    t = mem_alloc(sizeof(*t));
    t->m = m;
    t->dir = fd;
    t->dirs = (struct beneath)BENEATH(fd);
    pthread_mutex_init(&t->lock, NULL);
    for (size_t i = 0; i < TREE_FILES_OPEN; i++)
        t->slots[i].fd = -1;
    *ret = t;
    return 0;
}

void tree_files_close(struct tree_files *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < TREE_FILES_OPEN; i++) {
        if (t->slots[i].fd >= 0)
            close(t->slots[i].fd);
    }
    beneath_release(&t->dirs);
    close(t->dir);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* The slot of an open file, or the one to open it in: empty or longest unused. NULL: all are in use. */
static struct slot *choose(struct tree_files *t, size_t entry)
{
    struct slot *best = NULL;

    for (size_t i = 0; i < TREE_FILES_OPEN; i++) {
        struct slot *s = &t->slots[i];

        if (s->fd >= 0 && s->entry == entry)
            return s;
        if (s->users == 0 && (best == NULL || (best->fd >= 0 && s->fd < 0) ||
                              (s->fd >= 0 && best->fd >= 0 && s->used < best->used)))
            best = s;
    }
    return best;
}

static int read_alone(struct tree_files *t, size_t entry, void *data, size_t len, uint64_t offset,
                      struct err *err)
{
    int fd = -1, r;

    r = tree_open_beneath(&fd, t->dir, t->m->entries[entry].path, O_RDONLY | O_NONBLOCK, 0, err);
    if (r < 0)
        return r;
    r = fd_read_sparse(fd, data, len, offset, err);
    close(fd);
    return r;
}

int tree_files_read(void *tree_files, size_t entry, void *data, size_t len, uint64_t offset,
                    struct err *err)
{
    struct tree_files *t = tree_files;
    const char *path = t->m->entries[entry].path;
    struct slot *s;
    int r = 0, fd = -1;

    pthread_mutex_lock(&t->lock);
    s = choose(t, entry);
    if (s != NULL && (s->fd < 0 || s->entry != entry)) {
        r = beneath_open(&fd, &t->dirs, path, O_RDONLY | O_NONBLOCK, 0, err);
        if (r == 0) {
            if (s->fd >= 0)
                close(s->fd);
            s->fd = fd;
            s->entry = entry;
        }
    }
    if (s != NULL && r == 0) {
        s->users++;
        s->used = ++t->tick;
    }
    pthread_mutex_unlock(&t->lock);
    if (r < 0)
        return r;
    if (s == NULL)
        return read_alone(t, entry, data, len, offset, err);
    r = fd_read_sparse(s->fd, data, len, offset, err);
    pthread_mutex_lock(&t->lock);
    s->users--;
    pthread_mutex_unlock(&t->lock);
    return r < 0 ? err_wrap(err, "read %s", path) : 0;
}
