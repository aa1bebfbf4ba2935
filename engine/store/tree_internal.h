/* tree_internal.h - what tree.c, tree_pair.c and tree_still.c share. */
#ifndef STORE_TREE_INTERNAL_H
#define STORE_TREE_INTERNAL_H

#include "base/bitmap.h"
#include "store/beneath.h"

enum { TREE_READ_BYTES = 256 << 10 }; /* at a time: what the processor's caches hold */

struct tree {
    struct manifest m;
    size_t cap;
    int dir_fd;       /* entries' paths are relative to it */
    char *path;       /* for errors */
    uint64_t *stamps; /* by entry, tree_stamp(): as it was when the tree was opened */
    size_t stamps_cap;
};

struct stat;

/* Another one if the file was written to, or is another file. */
uint64_t tree_stamp(const struct stat *st);

/* Of whom a digest is known already, so that it need not be computed. */
struct tree_known {
    struct bitmap files; /* entries */
    struct bitmap segments;
};

/* As tree_read(), and shows each piece of a file, as it is read, to `seen`: n bytes from `at` on of
 * entry i, whose file is open as fd. All is borrowed for the call. */
MUST_CHECK int tree_read_showing(struct tree *t,
                                 void (*seen)(void *ctx, size_t i, int fd, uint64_t at,
                                              const void *data, size_t n),
                                 void *ctx, struct err *err);

/* As tree_read(), but what is known is left alone, and bytes that only matter to it are not read.
 * known: NULL for nothing. */
MUST_CHECK int tree_read_rest(struct tree *t, const struct tree_known *known, struct err *err);

/* Opens a file of the tree for reading it through. dirs: of the tree's dir_fd, the reader's own.
 * -ERR_CONFLICT: it is gone. */
MUST_CHECK int tree_open_file(const struct tree *t, struct beneath *dirs, const struct entry *e,
                              int *ret_fd, struct err *err);

#endif
