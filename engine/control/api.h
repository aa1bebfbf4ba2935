/* api.h - the HTTP API for people, CI and the page, on libmicrohttpd.
 *
 * A pool of API_THREADS threads, each request with a database connection of its own. Whatever waits
 * (long polls, commands until the conductor has obeyed) is suspended and holds no thread. Every
 * route stands in one table with the role that it needs; what is not there is refused. Answers are
 * JSON; errors are {"error":{"code","text"}} with 400, 401, 403, 404, 409, 413, 422, 503. */
#ifndef CONTROL_API_H
#define CONTROL_API_H

#include "control/db_pool.h"
#include "control/wake.h"
#include "policy/policy.h"

enum {
    API_THREADS = 4,
    API_BODY_MAX_BYTES = 8 << 20,
    API_CONNECTIONS_MAX = 512,
    API_IDLE_S = 60, /* a silent client is dropped */
    API_WAIT_MAX_MS = 20000,
    API_WAKE_MS = 250,     /* whatever is suspended looks again so often */
    API_COMMAND_MS = 5000, /* how long a command may take to be obeyed */
    API_LIST_MAX = 200,
    API_EVENTS_MAX = 1000,
    API_LOG_MAX_BYTES = 1 << 20,
};

struct api_options {
    const char *listen; /* "127.0.0.1:0" */
    const char *cluster;
    const char *engine_path;
    struct db_pool *db;
    struct wake *wake;
};

struct api;

MUST_CHECK int api_start(struct api **ret, const struct api_options *o, struct err *err);
int api_port(const struct api *a);
void api_free(struct api *a); /* ends what is under way; NULL is fine */

#endif
