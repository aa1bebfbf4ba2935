/* tmpdir.h - a directory of its own for a test program, gone when it exits.
 *
 *     struct store *s = store_open(tmpdir_path("blobs"));
 *
 * The directory is made on first use in $TMPDIR or /tmp, and removed with all that is in it by the
 * process that made it (its forked children do not). Paths stay valid until exit. A failure here
 * ends the program: it is not what is being tested. */
#ifndef TESTS_TMPDIR_H
#define TESTS_TMPDIR_H

#include <stddef.h>

const char *tmpdir(void);
const char *tmpdir_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Makes a new empty directory in it, with a name of its own, and returns its path. */
const char *tmpdir_fresh(void);

/* Writes a file (making the directories above it). */
void tmpdir_write(const char *path, const void *data, size_t len);

/* The bytes of a file, with a NUL behind them; NULL if there is no such file. len may be NULL. The
 * caller frees it. */
char *tmpdir_read(const char *path, size_t *len);

/* Removes a file or a tree; one that is not there is fine. */
void tmpdir_remove(const char *path);

#endif
