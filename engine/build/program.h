/* program.h - runs one program of a build to its end, or ends it: with limits, and with its tree.
 *
 * Output (stdout and stderr, in the order in which they are written) is handed over as it comes.
 * The program is killed with everything that it started, also what called setsid(), when a limit is
 * passed or the lease ends; leftovers are killed when it ends by itself, too. Blocks. */
#ifndef BUILD_PROGRAM_H
#define BUILD_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "build/lease.h"

struct program {
    char *const *argv; /* NULL-ended */
    char *const *env;  /* NULL-ended, all of it */
    const char *dir;   /* NULL: ours */
    const char *tag;   /* "SLIPWAY_BUILD=…": finds what left the process group */
    struct lease *lease;
    int64_t timeout_ms, silence_ms; /* 0: none */
    int64_t grace_ms;        /* from SIGTERM to SIGKILL when it is ended; 0: SIGKILL at once */
    uint64_t max_output;     /* bytes, 0: none */
    uint64_t max_file_bytes; /* a single file's size; 0: none */
    void (*output)(void *ctx, const void *data, size_t len); /* may be NULL */
    void *ctx;
};

/* *ret_status as of waitpid(2). -ERR_TIMEOUT "ran longer than 600 s" or "no output for 300 s",
 * -ERR_LIMIT "log over 16 MiB", what lease_check() says, or why it could not be started. */
MUST_CHECK int program_run(const struct program *p, int *ret_status, struct err *err);

#endif
