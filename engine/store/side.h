/* side.h - a file or directory as an artifact: hashed, and open for reading.
 *
 *     struct side s = { 0 };
 *     side_open(&s, path, err)      or side_open_two(), which hashes less
 *     s.m, s.id, s.files, ...
 *     side_close(&s)                also after a failure */
#ifndef STORE_SIDE_H
#define STORE_SIDE_H

#include "delta/search.h"
#include "store/tree.h"
#include "store/tree_files.h"

struct side {
    struct tree *tree;
    const struct manifest *m;
    struct hash id;
    struct buf encoded; /* the manifest */
    char *dir;          /* that the entries' paths are beneath */
    bool is_tree;
    struct tree_files *reader;
    struct delta_files files;
};

/* Errors: of tree_open() and tree_read(). */
MUST_CHECK int side_open(struct side *s, const char *path, struct err *err);
/* Two versions of one thing, by tree_read_pair(). */
MUST_CHECK int side_open_two(struct side *base, const char *base_path, struct side *target,
                             const char *target_path, const struct delta_pool *pool,
                             struct err *err);
void side_close(struct side *s);

#endif
