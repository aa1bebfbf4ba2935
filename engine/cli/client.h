/* client.h - the control plane's HTTP API, as the verbs call it.
 *
 * Against --engine URL the token comes from ENGINE_TOKEN. Without, the verb works on the state directory:
 * if a local system runs there (engine.json), its API is used; if not, a control plane is started over the
 * state for as long as the verb runs (client_close() stops it). */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/buf.h"
#include "cli/flags.h"
#include "wire/json.h"

struct client;

MUST_CHECK int client_open(struct client **ret, const struct globals *g, struct err *err);
/* To a control plane whose address is known: borrows nothing. */
struct client *client_new(const char *url, const char *token);
void client_close(struct client *c);

/* path: "/v1/…". body may be NULL. A status of 400 and more becomes an error with the server's words and code.
 * Gives *ret, whose texts are fit for a terminal (terminal.h). */
MUST_CHECK int client_get(struct client *c, const char *path, int64_t timeout_ms, json_t **ret,
                          struct err *err);
MUST_CHECK int client_post(struct client *c, const char *path, const json_t *body, json_t **ret,
                           struct err *err);
/* The raw body, for logs. */
MUST_CHECK int client_text(struct client *c, const char *path, struct buf *out, struct err *err);

/* Who sits here, as far as we can tell; the control plane adds whose token it is. Static. */
const char *client_actor(void);

/* Percent-encodes a path segment onto out. */
void client_path_segment(struct buf *out, const char *text);

#endif
