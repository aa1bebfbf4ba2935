/* agent.h - the process that runs on every machine: engine-agent.
 *
 * It keeps a link to its region node, accepts signed goals, stages the releases that they name,
 * switches services to them when a goal and a slot allow it, watches their health and reports what
 * is true. It talks to other agents only to exchange pieces of packs.
 *
 * Everything it must remember lies below its root directory, published by rename, so that kill -9
 * at any point is an ordinary event: start = recovery.
 *
 *   ROOT/lock                          one agent a root
 *   ROOT/region                        the region this machine belongs to (first one it met)
 *   ROOT/trust.doc                     the trust document in force
 *   ROOT/floor/SERVICE                 newest goal generation ever accepted, and its digest
 *   ROOT/goals/SERVICE.doc             the goal of that generation
 *   ROOT/packs/PACK.{pack,bitmap}      what the exchange fetches and gives (store/exchange.h)
 *   ROOT/services/SERVICE/releases/RELEASE/    tree/, manifest, release.doc, receipt.json: whole or
 *                                      not there
 *   ROOT/services/SERVICE/current      -> releases/RELEASE
 *   ROOT/services/SERVICE/state.json   the journal (journal.h)
 *   ROOT/services/SERVICE/run          the process that runs (run.h)
 *   ROOT/logs/SERVICE.log              what the service prints, bounded
 *
 * What goes again. Of releases, those are kept that run, ran before, or that the goal names to run or to
 * go back to, and the RELEASES_SPARE youngest others, whose files spare bytes; the spare ones go when the
 * disk is full. Packs are kept for others while the goal names their release, also across restarts: at
 * most until that release has run well, and nobody has wanted a byte of them, for keep_packs_ms.
 *
 * Small files (journal, run, goals) are published from the loop: there are a few of them an
 * activation, and their order is what correctness rests on. Everything that grows with the artifact
 * runs in the work pool. */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "base/err.h"
#include "wire/predicate.h"

enum {
    AGENT_SERVICES_MAX = 256,
    AGENT_LABELS_MAX = 60, /* of its own; "region" and "machine" come on top */
    AGENT_STOP_MS = 2000,  /* from SIGTERM to SIGKILL when services stop with the agent */
};

struct agent_options {
    const char *region_host;
    int region_port;
    const char *identity_dir;
    const char *root;
    const char *listen;         /* ADDR:PORT where other agents reach us */
    const struct label *labels; /* sorted by key; without "region" and "machine" */
    size_t nlabels;
    const char *ready_file;        /* NULL: none; published once peers are accepted */
    int parent_fd;                 /* read end of the parent's pipe, or -1 */
    int64_t keep_packs_ms;         /* 0: SERVICE_KEEP_PACKS_MS */
    uint64_t up_bytes, down_bytes; /* a second, of all packs together; 0: no limit */
    bool stop_services;            /* on SIGTERM and on EOF of parent_fd stop the services, too */
};

/* Runs until SIGTERM or the parent's end. 0 after a clean stop. -ERR_EXISTS: another agent has this
 * root; -ERR_INVALID, -ERR_IO: identity, root or address cannot be used. */
MUST_CHECK int agent_main_loop(const struct agent_options *options, struct err *err);

#endif
