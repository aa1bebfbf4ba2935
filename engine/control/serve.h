/* serve.h - `engine serve`: API, conductor, monitor, scrubber and the links to region nodes, in one
 * process.
 *
 * Crash-only: everything that matters is in the database and in signed documents; start is
 * recovery. Several may run on one PostgreSQL database: each duty is done by one of them, each
 * region node is linked to one of them. */
#ifndef CONTROL_SERVE_H
#define CONTROL_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct serve_options {
    const char *state;    /* directory: gives db, store and keys where they are NULL */
    const char *db;       /* URL; default sqlite:STATE/db.sqlite */
    const char *store;    /* default STATE/store */
    const char *keys;     /* default STATE/keys */
    const char *identity; /* our link identity; default KEYS/../identity/control or KEYS/identity */
    const char *token_file;  /* of the admin token; default STATE/admin.token or KEYS/admin.token */
    const char *cluster;     /* name of a new cluster; NULL: a random one */
    const char *http, *link; /* ADDR:PORT; default 127.0.0.1:0 */
    const char *ready_file; /* published once it serves: {"pid","http","link","cluster"}; or NULL */
    int parent_fd;          /* exit on its EOF; -1: none */
    const char *engine_path;      /* for policy hosts; default /proc/self/exe */
    const char *const *heal_from; /* directories of stores that rot in ours is healed from */
    size_t nheal_from;
    int64_t scrub_every_ms;     /* 0: SCRUBBER_EVERY_MS */
    uint64_t scrub_bytes_per_s; /* 0: SCRUBBER_BYTES_PER_S */
};

/* Until SIGTERM or SIGINT: 0. */
MUST_CHECK int serve_main_loop(const struct serve_options *o, struct err *err);

#endif
