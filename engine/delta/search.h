/* search.h - the covers of a group: match.h applied to windows, and twice where code is concerned.
 *
 * The first pass compares images whose addresses are blanked, and yields a map of what went where.
 * The second compares what addresses mean under that map, which tells apart what looks alike and
 * aligns tables of addresses. Large files are worked off 64 MiB at a time; the window of the base
 * lies where the last stretch ended. What did not change is followed without an index. */
#ifndef DELTA_SEARCH_H
#define DELTA_SEARCH_H

#include "delta/group.h"

/* Runs job(arg, i, worker) for i in [0, n), on as many threads as there are workers; returns when all
 * have returned. worker < workers: which thread it is. */
struct delta_pool {
    unsigned workers;
    void (*each)(void *ctx, size_t n, void (*job)(void *arg, size_t i, unsigned worker), void *arg);
    void *ctx;
};

void delta_each(const struct delta_pool *pool, size_t n,
                void (*job)(void *arg, size_t i, unsigned worker), void *arg);
unsigned delta_workers(const struct delta_pool *pool);

struct search_target {
    const struct manifest *manifest;
    const struct delta_files *files;
    struct sites *sites; /* of the file, if the group is predicted */
};

/* Reads bytes of a stream, across its files. */
MUST_CHECK int search_read(const struct search_target *t, uint64_t at, void *data, size_t len,
                           struct err *err);

/* Finds the covers of g at `level` and gives them to it. hint: where in the sources the group
 * probably begins (base position - target position), NULL if nobody knows; *ret_shift: what that
 * was at its end. */
MUST_CHECK int search_group(struct group *g, const struct search_target *t, int level,
                            const int64_t *hint, int64_t *ret_shift, const struct delta_pool *pool,
                            struct err *err);

#endif
