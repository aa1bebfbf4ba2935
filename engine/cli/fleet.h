/* fleet.h - the whole system on this machine: control plane, worker, regions and agents as real processes.
 *
 * Every child inherits the read end of a pipe and exits on its EOF, so a killed parent leaves nothing
 * behind. A child that dies is started again (with a growing pause), on the same port. Logs go to
 * STATE/logs/NAME.log; STATE/fleet.json names every child with its pid; STATE/engine.json is how other
 * verbs find the API; STATE/local.json remembers the database and how many machines there are. One fleet at
 * a time per state directory (STATE/lock).
 *
 *     fleet_open(&f, &options, &err);       the state directory is ours
 *     fleet_start(f, &err);                 the control plane answers when this returns
 *     while (...) fleet_tend(f);            starts what is missing, restarts what died
 *     fleet_stop(f); */
#ifndef CLI_FLEET_H
#define CLI_FLEET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { FLEET_REGIONS_MAX = 26, FLEET_AGENTS_MAX = 64 /* a region */, FLEET_AS_BEFORE = -1 };

struct fleet_options {
    const char *state_dir;
    const char *db;      /* URL; NULL: the last time's, at first SQLite in the state directory */
    const char *sandbox; /* of builds: "bwrap" or "none"; NULL: the worker's own choice */
    int regions, agents; /* agents a region; FLEET_AS_BEFORE: as the last time, at first 3 of 4 */
    bool control_only;   /* no worker, no regions: for verbs that only ask */
};

struct fleet;

/* -ERR_EXISTS: another engine runs on this state directory. Nothing is started. */
MUST_CHECK int fleet_open(struct fleet **ret, const struct fleet_options *o, struct err *err);
MUST_CHECK int fleet_start(struct fleet *f, struct err *err);
int fleet_regions(const struct fleet *f);
int fleet_agents(const struct fleet *f); /* a region */
/* Call it often (5 times a second or more). Never blocks. */
void fleet_tend(struct fleet *f);
const char *fleet_url(const struct fleet *f);
const char *fleet_token(const struct fleet *f);
int fleet_restarts(const struct fleet *f);
/* Asks every child to stop, waits at most 15 s, kills what is left. Also after fleet_open() alone. */
void fleet_stop(struct fleet *f);

#endif
