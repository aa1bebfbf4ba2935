/* run.h - which process of a service runs: services/SERVICE/run, so that a new agent adopts it.
 *
 * Published right after the start. A process that was started by an agent which died before that is
 * found by its tag (process.h) and killed before anything is started again. */
#ifndef AGENT_RUN_H
#define AGENT_RUN_H

#include <stdbool.h>

#include "base/sha256.h"
#include "io/proc.h"

enum { BOOT_MAX_BYTES = 64 };

struct run {
    struct proc_id id;             /* pid 0: a command that has ended well (mode "command") */
    char boot[BOOT_MAX_BYTES + 1]; /* the kernel's boot id at that time */
    struct hash release;
    uint64_t activation;
    int port;
};

/* *ret_found false: no such file. -ERR_CORRUPT. */
MUST_CHECK int run_load(struct run *r, const char *path, bool *ret_found, struct err *err);
MUST_CHECK int run_save(const struct run *r, const char *path, struct err *err);
bool run_is_of_this_boot(const struct run *r);

#endif
