/* expand.h - ${NAME} in a release's commands, URL and environment.
 *
 * Known names: PORT, RELEASE, COMMIT, MACHINE, SERVICE, REGION. Any other dollar sign or name
 * stands for itself, so that shell scripts in an argument keep their own variables (all of the
 * known names are in the environment, too). What was put in is not looked at again. */
#ifndef AGENT_EXPAND_H
#define AGENT_EXPAND_H

#include "base/buf.h"
#include "base/err.h"

enum { EXPAND_MAX_BYTES = 128 * 1024 }; /* of one result */

struct variable {
    const char *name, *value;
};

/* Appends text with its names replaced. -ERR_LIMIT: longer than EXPAND_MAX_BYTES. */
MUST_CHECK int expand(struct buf *out, const char *text, const struct variable *vars, size_t n,
                      struct err *err);

/* Gives a NULL-ended array of expanded texts (argv_free()). */
MUST_CHECK int expand_argv(char ***ret, char *const *argv, const struct variable *vars, size_t n,
                           struct err *err);
void argv_free(char **argv); /* NULL is fine */

#endif
