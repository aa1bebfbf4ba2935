/* status.h - `engine-agent status`: what a root directory says about its services, from the files
 * alone. It works beside a running agent and without one, and changes nothing. */
#ifndef AGENT_STATUS_H
#define AGENT_STATUS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends a table, or with json one object and a newline. -ERR_NOT_FOUND: no agent's root. */
MUST_CHECK int status_print(struct buf *out, const char *root, bool json, struct err *err);

#endif
