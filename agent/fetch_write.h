/* fetch_write.h - from leaves to a file or tree at its place, while they arrive.
 *
 *     writer_start(&w, &options, manifest, &err)    opens what an earlier run has staged
 *     writer_look(w)                                also by itself, every FETCH_LOOK_MS
 *     done(ctx, status, err)                        once: all verified, synced and renamed
 *
 * One job at a time in the work pool: so the loop stays free, and two threads never meet in unpack. */
#ifndef AGENT_FETCH_WRITE_H
#define AGENT_FETCH_WRITE_H

#include "io/work.h"
#include "store/exchange.h"
#include "wire/reference.h"

struct writer;

struct writer_options {
    struct loop *loop;
    struct work_pool *pool;
    struct exchange *exchange;
    const struct reference *reference;
    const char *dir; /* PATH.slipway */
    const char *to;  /* PATH */
    void (*done)(void *ctx, int status, const struct err *err);
    void *ctx;
};

/* Did an earlier run with that directory rename to PATH? */
bool writer_was_done(const char *dir);

/* Borrows what the options point to; the manifest's bytes are read at once. */
MUST_CHECK int writer_start(struct writer **ret, const struct writer_options *o,
                            const struct buf *manifest, struct err *err);
void writer_look(struct writer *w);
void writer_stop(struct writer *w); /* starts no more; no done() after this */
bool writer_is_busy(const struct writer *w);
void writer_free(struct writer *w); /* not busy, or the pool is gone; NULL is fine */

#endif
