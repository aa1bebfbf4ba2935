/* workplace.h - OUT.part, the directory beside OUT in which OUT is made.
 *
 *     workplace_open(&w, "out/", err)       out.part, ours alone until _close() or the end of us
 *     ... unpack into w.staging; what else is needed: workplace_path(&w, &artifact) ...
 *     workplace_remove(&w, err)             OUT is there: the rest is not needed
 *     workplace_close(&w)                   also after a failure: what is in it stays, to be continued
 *
 * A directory of that name that holds anything but what we leave is somebody's, and never touched. */
#ifndef STORE_WORKPLACE_H
#define STORE_WORKPLACE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/sha256.h"

struct workplace {
    char *out; /* without slashes behind it */
    char *dir, *staging;
    int lock;
};

/* Names it; nothing is made. */
void workplace_init(struct workplace *w, const char *out);
/* Is OUT.part there, and ours? Then one before us was interrupted. */
bool workplace_is_left(const struct workplace *w);
/* -ERR_EXISTS: OUT.part is not ours; -ERR_CONFLICT: another process is at work in it. */
MUST_CHECK int workplace_open(struct workplace *w, struct err *err);
MUST_CHECK int workplace_remove(struct workplace *w, struct err *err);
void workplace_close(struct workplace *w);

/* A name in it for something of that artifact. The caller frees it. */
char *workplace_path(const struct workplace *w, const struct hash *artifact);

#endif
