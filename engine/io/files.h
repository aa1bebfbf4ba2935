/* files.h - files as this program uses them: read whole with a limit, published by rename.
 *
 * Publish = write beside, fsync, rename, fsync the directory: a reader sees the old file or the new
 * one, whole, also after a power cut. */
#ifndef IO_FILES_H
#define IO_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Reads the whole file. -ERR_LIMIT if it is longer than max. */
MUST_CHECK int file_read(struct buf *out, const char *path, size_t max, struct err *err);
/* Reads its last max bytes, all of it if it is shorter. */
MUST_CHECK int file_read_end(struct buf *out, const char *path, size_t max, struct err *err);

/* Publishes data at path with that mode. */
MUST_CHECK int file_publish(const char *path, const void *data, size_t len, mode_t mode,
                            struct err *err);
/* Renames tmp (whose content is complete) to path: fsync, rename, fsync the directory. */
MUST_CHECK int file_publish_rename(const char *tmp, const char *path, struct err *err);
/* The same, of a file or a directory, where nothing may be replaced. -ERR_EXISTS: path is there, tmp stays.
 * (On the few file systems that cannot do this in one step, what appears between two steps is replaced.) */
MUST_CHECK int file_publish_new(const char *tmp, const char *path, struct err *err);

MUST_CHECK int dir_make(const char *path, mode_t mode,
                        struct err *err); /* with parents; exists: fine */
MUST_CHECK int dir_sync(const char *path, struct err *err);
MUST_CHECK int dir_remove(const char *path, struct err *err); /* recursively, never follows links;
                                                                 missing: fine */
/* Calls fn for each name in the directory but "." and "..", in no order; fn < 0 ends it, and may
 * remove what it was called for. */
MUST_CHECK int dir_each(const char *path, int (*fn)(void *ctx, const char *name, struct err *err),
                        void *ctx, struct err *err);

/* Opens for reading; *ret_fd is the caller's. */
MUST_CHECK int file_open_read(int *ret_fd, const char *path, struct err *err);

/* Makes path a file of that many bytes whose space is taken on disk. -ERR_NO_SPACE: the file may be
 * there, shorter; unlink it. */
MUST_CHECK int file_reserve(const char *path, uint64_t bytes, struct err *err);

/* Makes the file at least that long, and takes the space for it if that costs little: a file system in
 * memory would fill it with zeros, so there it is only seen whether there is as much. -ERR_NO_SPACE. */
MUST_CHECK int fd_reserve(int fd, uint64_t bytes, struct err *err);

/* Has the file system of fd room for so many bytes more? -ERR_NO_SPACE. Only one in memory is asked, where
 * fd_reserve() of several files takes nothing from the room that the next one sees. */
MUST_CHECK int fd_has_room(int fd, uint64_t bytes, struct err *err);

bool path_exists(const char *path);
bool path_is_dir(const char *path);

/* pread and pwrite all of it, retrying short ones. A read past the end is -ERR_CORRUPT. */
MUST_CHECK int fd_read_at(int fd, void *data, size_t len, uint64_t offset, struct err *err);
MUST_CHECK int fd_write_at(int fd, const void *data, size_t len, uint64_t offset, struct err *err);

/* fd_read_at() that does not read what is a hole: the kernel would fill its cache with zeros. */
MUST_CHECK int fd_read_sparse(int fd, void *data, size_t len, uint64_t offset, struct err *err);

/* fd_write_at() of a part of a file that will have file_bytes bytes, but for long runs of zeros, which
 * stay holes: for a file that was empty, and where nothing else was written there. The file's last
 * byte is always written, so that the file has its size once all parts are there. */
MUST_CHECK int fd_write_sparse(int fd, const void *data, size_t len, uint64_t offset,
                               uint64_t file_bytes, struct err *err);

/* Opens a log for appending, made if missing (0600); one that is longer than max_bytes starts anew. */
MUST_CHECK int file_open_log(int *ret_fd, const char *path, uint64_t max_bytes, struct err *err);

/* An exclusive lock held as long as *ret_fd is open: -ERR_EXISTS if another process holds it. */
MUST_CHECK int file_lock(int *ret_fd, const char *path, struct err *err);

/* realpath(3) into out. */
MUST_CHECK int path_real(struct buf *out, const char *path, struct err *err);

#endif
