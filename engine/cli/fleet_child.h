/* fleet_child.h - one process of a local fleet: started when what it needs is ready, started again when it
 * dies, on the ports that it had. */
#ifndef CLI_FLEET_CHILD_H
#define CLI_FLEET_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum { CHILD_ARGS_MAX = 40, CHILD_PORTS_MAX = 4, CHILD_CALM_MS = 10000, CHILD_PAUSE_MAX_MS = 5000 };

struct child;

/* after: the child whose ready file must be there first; NULL: none. state_dir is copied. */
struct child *child_new(const char *state_dir, const char *name, struct child *after);
/* Kills it with its group if it runs. */
void child_free(struct child *c);

void child_arg(struct child *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* An argument that holds a port of `of` (maybe of c itself: 0 until it is known). fmt has one %d. */
void child_port_arg(struct child *c, const char *fmt, struct child *of, const char *port);
void child_keep_fd(struct child *c, int fd);

/* Starts it if it is due, notes its death and its readiness. True if its pid changed. */
bool child_tend(struct child *c);
bool child_is_ready(const struct child *c);
bool child_is_running(struct child *c); /* reaps it if it has ended */
int child_restarts(const struct child *c);
int child_port(const struct child *c, const char *port); /* 0: unknown */
const char *child_ready_path(const struct child *c);
const char *child_log_path(const struct child *c);
/* Appends the last line of its log, in which a program that gives up says why. */
void child_last_words(const struct child *c, struct buf *out);

/* STATE/fleet.json: {"children":[{"name","pid","start"}…]}. */
void children_publish(const char *state_dir, struct child *const *children, size_t count);
/* Waits for the children of an earlier fleet, whose parent is gone, and kills those that stay. */
MUST_CHECK int children_end_earlier(const char *state_dir, struct err *err);

#endif
