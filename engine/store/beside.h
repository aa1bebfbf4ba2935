/* beside.h - a file in the making, beside the one that it will be.
 *
 *     beside_open(&tmp, &fd, "x.pack", err)       x.pack.making.XXXXXX, locked for as long as fd is open
 *     ... write; file_publish_rename(tmp, "x.pack", err), or unlink(tmp) ...
 *     close(fd)
 *
 * One who was killed leaves it, without its lock: the next one who makes the same file takes it away,
 * as far as it is private (0600) and the caller's own.
 * Of two at the same time each has its own. */
#ifndef STORE_BESIDE_H
#define STORE_BESIDE_H

#include "base/err.h"

/* *ret_path and *ret_fd are the caller's. */
MUST_CHECK int beside_open(char **ret_path, int *ret_fd, const char *path, struct err *err);

#endif
