/* beneath.h - files beneath a directory, opened one after the other.
 *
 *     struct beneath b = BENEATH(dir_fd);
 *     beneath_open(&fd, &b, "usr/lib/x", O_RDONLY, 0, err) ...
 *     beneath_release(&b)
 *
 * The directory of the file before stays open: in path order most files need one system call, not one
 * for each component. No component may be a symlink. One thread at a time; who moves directories
 * while they are worked in is not noticed. */
#ifndef STORE_BENEATH_H
#define STORE_BENEATH_H

#include "store/tree.h"

struct beneath {
    int root, fd; /* root is borrowed; fd -1: none is open */
    char path[PATH_MAX_BYTES + 1];
};

#define BENEATH(dir_fd)                        \
    {                                          \
        .root = (dir_fd), .fd = -1, .path = "" \
    }

void beneath_release(struct beneath *b);

/* Opens the directory that holds path, b->fd; *ret_name, in path, is the last component. */
MUST_CHECK int beneath_parent(struct beneath *b, const char *path, const char **ret_name,
                              struct err *err);
/* Opens path, which is a manifest's. *ret_fd is the caller's. */
MUST_CHECK int beneath_open(int *ret_fd, struct beneath *b, const char *path, int flags,
                            mode_t mode, struct err *err);

#endif
