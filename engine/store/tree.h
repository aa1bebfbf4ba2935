/* tree.h - a directory on disk as an artifact's tree: walked, listed and read as canonical stream.
 *
 *     tree_open(&t, path, err)      walks and sorts: names, kinds, modes, sizes
 *     tree_read(t, segment, ctx)    reads every file once, computes all digests
 *     tree_manifest(t)              complete after tree_read()
 *     tree_close(t)
 *
 * What may be in an artifact: regular files, directories, and symlinks that stay inside. Anything
 * else is refused with its path and what to do about it: sockets, devices, fifos, set-uid and
 * set-gid files, links that leave the tree, names that a manifest may not hold. Modes: the
 * permission bits; a file is at least readable and a directory usable by its owner (a machine must
 * be able to serve and to remove them). Owners and times are not part of it. The same tree gives
 * the same manifest on every machine. A file that changes while it is read is an error.
 *
 * Never follows a symlink. Blocks: for the work pool. */
#ifndef STORE_TREE_H
#define STORE_TREE_H

#include <sys/types.h>

#include "wire/manifest.h"

struct tree;

/* path: a directory, or a regular file: an artifact of that one file under its own name. A symlink
 * as path itself is followed. -ERR_INVALID: something in it that may not be in an artifact.
 * -ERR_LIMIT: more than MANIFEST_ENTRIES_MAX entries. -ERR_NOT_FOUND: no such path. */
MUST_CHECK int tree_open(struct tree **ret, const char *path, struct err *err);
void tree_close(struct tree *t);

/* Borrowed. Digests are zero until tree_read() has returned 0. */
const struct manifest *tree_manifest(const struct tree *t);

/* Reads the stream; calls segment (may be NULL) for each segment in order, data is borrowed for the
 * call. Its failure ends the reading. -ERR_CONFLICT: a file changed since tree_open(). */
MUST_CHECK int tree_read(struct tree *t,
                         int (*segment)(void *ctx, size_t i, const void *data, size_t len,
                                        struct err *err),
                         void *ctx, struct err *err);

/* Is every file still what tree_read() has read? Those that were written to since tree_open() are read
 * again, no others. -ERR_CONFLICT: one has changed, or is gone. */
MUST_CHECK int tree_still(const struct tree *t, struct err *err);

/* Reads segment i from a tree that is on disk at dir and should be m's, into out (room for
 * SEGMENT_BYTES). -ERR_CORRUPT if what is there is not what the manifest says. */
MUST_CHECK int tree_read_segment(const char *dir, const struct manifest *m, size_t i,
                                 unsigned char *out, struct err *err);

/* Opens path beneath the directory dir_fd; no component of it, the last one neither, may be a
 * symlink. *ret_fd is the caller's. path is a manifest's. */
MUST_CHECK int tree_open_beneath(int *ret_fd, int dir_fd, const char *path, int flags, mode_t mode,
                                 struct err *err);

#endif
