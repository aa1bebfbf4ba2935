/* worker.h - the loop of `engine worker`: claims jobs, builds them, says how they ended.
 *
 * A worker owns its work directory (a lock keeps others out):
 *
 *   WORK/mirrors/   git mirrors (git.h)          WORK/builds/<job>-<attempt>/   one build, gone
 *   WORK/lock                                                                   when it ends
 *
 * At the start it kills what an earlier run left behind, gives its jobs back and removes its builds.
 * It may be killed at any instant: the job is then given back by its next start or, if there is none,
 * taken back by the monitor. Its identity is new in every run. When it
 * cannot reach the database it ends its own builds before the monitor gives them away, and keeps
 * trying. */
#ifndef BUILD_WORKER_H
#define BUILD_WORKER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "build/sandbox.h"

enum { WORKER_SLOTS_MAX = 64 };

struct worker_options {
    const char *db_url;
    const char *store;         /* as store_open() takes it */
    const char *work;          /* directory, made if missing */
    const char *name;          /* for people; NULL: the host's name */
    enum sandbox_kind sandbox; /* SANDBOX_NONE: SANDBOX_BWRAP */
    const char *const *hide;   /* absolute paths that builds must not see */
    size_t nhide;
    int slots;                /* builds at once; 0: 1 */
    int64_t beat_ms;          /* 0: QUEUE_BEAT_MS */
    int64_t lost_ms;          /* what the monitor uses; 0: QUEUE_LOST_MS */
    int64_t poll_ms;          /* 0: 1000 to 2000, at random */
    int stop_fd;              /* readable (or at its end) means stop; -1: never */
    void (*ready)(void *ctx); /* called once, when it is about to claim; may be NULL */
    void *ctx;
};

/* Runs until stop_fd says so: then builds are ended, their jobs given back, and it returns 0. Fails
 * at the start only: -ERR_EXISTS another worker has the directory; -ERR_UNREACHABLE, -ERR_DENIED,
 * -ERR_INVALID of database and store. Where builds cannot be isolated it warns, and fails jobs as
 * "infra". */
MUST_CHECK int worker_main_loop(const struct worker_options *o, struct err *err);

#endif
