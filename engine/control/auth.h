/* auth.h - who calls: bearer tokens, stored as their SHA-256 only, each with a role.
 *
 * A role may do what the roles before it may: viewer reads, developer plans, releaser deploys and
 * acts on deployments, admin does the rest. */
#ifndef CONTROL_AUTH_H
#define CONTROL_AUTH_H

#include "base/buf.h"
#include "db/db.h"

enum role { ROLE_NOBODY = 0, ROLE_VIEWER, ROLE_DEVELOPER, ROLE_RELEASER, ROLE_ADMIN };

enum { TOKEN_MAX_BYTES = 128, TOKEN_NAME_MAX_BYTES = 64 };

const char *role_text(enum role r);
bool role_parse(enum role *ret, const char *text);

/* Makes a token and stores its hash; expires_ms 0: never. The token is appended to out: this is the
 * only time that it can be seen. */
MUST_CHECK int token_make(struct db *d, const char *name, enum role role, int64_t expires_ms,
                          struct buf *out, struct err *err);
/* -ERR_DENIED: no such token, or it has expired. Appends its name. */
MUST_CHECK int token_check(struct db *d, const char *token, enum role *ret_role, struct buf *name,
                           struct err *err);

/* The token of the file at path, or a new one of role admin that is written there (0600). */
MUST_CHECK int token_admin_file(struct db *d, const char *path, struct buf *out, struct err *err);

/* Who acts, for the logs: whom the client names, and always whose token it is. Gives. */
char *actor_text(const char *claimed, const char *token_name);

#endif
