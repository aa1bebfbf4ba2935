/* fetch_write.h - from leaves to a file or tree at its place, while they arrive.
 *
 *     writer_start(&w, &options, manifest, &err)    opens what an earlier run has staged
 *     opened(ctx)                                   it is: the fetch of the pack may begin,
 *     writer_place(w, index, &placed, &err)         which has its bytes there,
 *     writer_is_complete(w)                         and needs none
 *     writer_fetched(w)                             all of it came; before, the writer looks by itself,
 *                                                   every FETCH_LOOK_MS
 *     lost(ctx, look)                               not all of it is here any more: fetch it again
 *     done(ctx, status, err)                        once: all verified, synced and renamed
 *
 * The leaves of a pack that is the stream itself lie at their places already (store/placed.h): their
 * segments are right when they are, or are read back. Of another one, segments are decoded, compared
 * and written. One job at a time in the work pool, of one segment: so the loop stays free, and two
 * threads never meet in unpack. What this disk has damaged meanwhile is asked for again, if it is met:
 * when a segment is read, or a leaf given to somebody. */
#ifndef AGENT_FETCH_WRITE_H
#define AGENT_FETCH_WRITE_H

#include "io/work.h"
#include "store/exchange.h"
#include "wire/reference.h"

enum { WRITER_LOST_MAX = 3 /* then it is not the disk, or the disk is of no use */ };

struct writer;

struct writer_options {
    struct loop *loop;
    struct work_pool *pool;
    struct exchange *exchange;
    const struct reference *reference;
    const char *dir; /* PATH.slipway */
    const char *to;  /* PATH */
    void (*opened)(void *ctx);
    /* After writer_fetched(), which is due again: some of the pack is damaged, or gone. `look`: nobody
     * knows which leaves; all are to be hashed again (exchange_close()). */
    void (*lost)(void *ctx, bool look);
    void (*done)(void *ctx, int status, const struct err *err);
    void *ctx;
};

/* Did an earlier run with that directory rename to PATH? */
bool writer_was_done(const char *dir);

/* Borrows what the options point to; the manifest's bytes are read at once. */
MUST_CHECK int writer_start(struct writer **ret, const struct writer_options *o,
                            const struct buf *manifest, struct err *err);

/* Once opened: for the fetch of the pack with that index. *ret NULL: it needs a file of its own; else
 * it is the writer's, until writer_free(). -ERR_CORRUPT: the index tells that the pack is not what the
 * manifest says, so that there is no use in fetching it. */
MUST_CHECK int writer_place(struct writer *w, const struct pack_index *index, struct placed **ret,
                            struct err *err);
/* An earlier run has verified all of it: no leaf is needed to be done. */
bool writer_is_complete(const struct writer *w);

void writer_fetched(struct writer *w);
void writer_stop(struct writer *w); /* starts no more; no done() after this */
bool writer_is_busy(const struct writer *w);
void writer_free(struct writer *w); /* not busy, or the pool is gone; NULL is fine */

#endif
