/* tree_files.h - the files of a tree on disk, read by their place in its manifest.
 *
 * Keeps the last TREE_FILES_OPEN files open. Any number of threads. Never follows a symlink. */
#ifndef STORE_TREE_FILES_H
#define STORE_TREE_FILES_H

#include "delta/group.h"

enum { TREE_FILES_OPEN = 64 };

struct tree_files;

/* dir: the tree; m, borrowed, names what is in it. Errors: of open(2). */
MUST_CHECK int tree_files_open(struct tree_files **ret, const char *dir, const struct manifest *m,
                               struct err *err);
void tree_files_close(struct tree_files *t);

/* As struct delta_files wants it: { tree_files_read, t }. -ERR_NOT_FOUND: there is no such file.
 * -ERR_CORRUPT: it is shorter than it should be. */
MUST_CHECK int tree_files_read(void *tree_files, size_t entry, void *data, size_t len,
                               uint64_t offset, struct err *err);

#endif
