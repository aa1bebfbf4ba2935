/* fetch_check.h - is what lies at a path still what was fetched to it?
 *
 * Every byte is read and compared with the manifest: names, kinds, permission bits, links, content. Blocks:
 * for the work pool. */
#ifndef AGENT_FETCH_CHECK_H
#define AGENT_FETCH_CHECK_H

#include <stdatomic.h>

#include "wire/manifest.h"

/* is_file: path is the manifest's one file, whatever it is called. -ERR_CONFLICT: it is something else; the
 * text names the first difference. -ERR_CANCELLED: *stop was set meanwhile. Others: of reading it. */
MUST_CHECK int fetch_check(const char *path, const struct manifest *m, bool is_file,
                           const atomic_bool *stop, struct err *err);

#endif
