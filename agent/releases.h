/* releases.h - the releases of one service on disk, and which of them is current.
 *
 * dir = ROOT/services/SERVICE. A release is there whole (releases/RELEASE/{tree,manifest,
 * release.doc}) or not at all: it was made in releases/RELEASE.tmp and renamed. `current` is a
 * symlink that only ever moves by rename. What is removed is renamed to RELEASE.gone first. All but releases_path() and releases_has() block. */
#ifndef AGENT_RELEASES_H
#define AGENT_RELEASES_H

#include <stdbool.h>

#include "base/buf.h"
#include "wire/doc.h"
#include "wire/manifest.h"

enum { RELEASES_SPARE = 2 }; /* kept besides those that are needed */

char *releases_path(const char *dir, const struct hash *release); /* gives …/releases/RELEASE */
char *releases_staging(const char *dir, const struct hash *release); /* gives ….tmp */
bool releases_has(const char *dir, const struct hash *release);
/* Those that are there whole, youngest first, at most max; how many. */
size_t releases_list(const char *dir, struct hash *out, size_t max);

/* Zero if there is none. */
MUST_CHECK int releases_current(const char *dir, struct hash *ret, struct err *err);
/* Points `current` at release (zero: removes it), durably. -ERR_NOT_FOUND: not staged. */
MUST_CHECK int releases_switch(const char *dir, const struct hash *release, struct err *err);

/* Reads the signed document and the manifest of a release on disk. ret_doc and ret may be NULL. */
MUST_CHECK int releases_read_doc(const char *dir, const struct hash *release, struct buf *ret,
                                 struct err *err);
MUST_CHECK int releases_read_manifest(const char *dir, const struct hash *release,
                                      struct manifest **ret, struct hash *ret_artifact,
                                      struct err *err);

/* Hashes the whole tree again. artifact: what the signed release names for this machine. Files that
 * the service put beside ours are not looked at. -ERR_CORRUPT names the first difference. */
MUST_CHECK int releases_verify(const char *dir, const struct hash *release,
                               const struct hash *artifact, struct err *err);

/* Removes one, whole or half-made. Not there: fine. */
MUST_CHECK int releases_remove(const char *dir, const struct hash *release, struct err *err);
/* Removes all but keep[] and the `spare` youngest others, and what was left half-made (but of
 * keep[]). */
MUST_CHECK int releases_prune(const char *dir, const struct hash *keep, size_t nkeep, size_t spare,
                              struct err *err);

#endif
