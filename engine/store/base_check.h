/* base_check.h - are the files of a base what its manifest says?
 *
 *     base_check_open(&c, dir, m, err)      all are there, and as long as they should be
 *     base_check_hash(c, hashed, ctx, err)  reads and hashes those that nobody has taken yet
 *     base_check_close(c)
 *
 * base_check_hash() may run in several threads at once, beside whoever reads the same files for
 * their content: they share the files out, the longest first, and each hashes two at a time, which
 * costs a third more than one (base/sha256.h). When all calls have returned 0, every file had, as it
 * was read, the bytes of the manifest. Directories, links and modes are not looked at: nothing is
 * made from them. */
#ifndef STORE_BASE_CHECK_H
#define STORE_BASE_CHECK_H

#include <stdbool.h>

#include "wire/manifest.h"

struct base_check;

/* dir: that m's paths are beneath. m: borrowed until _close(). -ERR_INVALID names the first file that
 * is not there, or has another length. */
MUST_CHECK int base_check_open(struct base_check **ret, const char *dir, const struct manifest *m,
                               struct err *err);
void base_check_close(struct base_check *c); /* NULL is fine */

/* hashed: called now and then, in this thread, with the bytes since the call before; < 0 stops with
 * -ERR_CANCELLED. -ERR_INVALID names a file that is not what it should be; -ERR_IO. After the first
 * failure, and base_check_stop(), all calls return soon. */
MUST_CHECK int base_check_hash(struct base_check *c, int (*hashed)(void *ctx, uint64_t bytes),
                               void *ctx, struct err *err);
void base_check_stop(struct base_check *c);
bool base_check_is_stopped(const struct base_check *c);

#endif
