/* pack_trial.h - decode a new pack before anybody else has to.
 *
 * Every segment is decoded and its digest compared with the manifest's, several at a time if the
 * pool has workers; a copy is only looked up, as its bytes are the base's by the digests of both
 * sides. Memory: a decoder and 8 MiB a worker. */
#ifndef STORE_PACK_TRIAL_H
#define STORE_PACK_TRIAL_H

#include "delta/search.h"
#include "store/pack_source.h"

struct pack_trial {                /* all borrowed */
    struct pack_description pack;  /* its callbacks are called from all workers */
    const struct delta_pool *pool; /* NULL: this thread alone */
    /* done of total segments, from this thread; < 0 stops with -ERR_CANCELLED. May be NULL. */
    int (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
};

/* Errors: of pack_source.h; those of the first segment that has one. */
MUST_CHECK int pack_trial(const struct pack_trial *t, struct err *err);

#endif
