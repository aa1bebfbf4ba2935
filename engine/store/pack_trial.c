#include "store/pack_trial.h"

#include <stdlib.h>

#include "base/mem.h"

enum { JOBS_A_WORKER = 4 };

struct job { /* up to PACK_SOURCE_TOGETHER segments */
    int status;
    struct err err;
};

struct trial {
    const struct pack_trial *o;
    size_t nsegments;
    struct pack_source **sources; /* one a worker */
    unsigned char **out;
    struct job *jobs;
    size_t first; /* segment of the batch */
};

static void try_segments(void *arg, size_t n, unsigned worker)
{
    struct trial *t = arg;
    struct job *j = &t->jobs[n];
    struct pack_source *s = t->sources[worker];
    size_t i = t->first + n * PACK_SOURCE_TOGETHER, end = i + PACK_SOURCE_TOGETHER;

    end = end < t->nsegments ? end : t->nsegments;
    j->status = 0;
    while (j->status == 0 && i < end) {
        size_t k = 0;

        while (i + k < end && !pack_source_is_copy(s, i + k))
            k++;
        if (k > 0)
            j->status = pack_source_read_some(s, i, k, t->out[worker], &j->err);
        else
            j->status = pack_source_check_copy(s, i++, &j->err);
        i += k;
    }
}

static int run(struct trial *t, struct err *err)
{
    const struct pack_trial *o = t->o;
    size_t most = (size_t)delta_workers(o->pool) * JOBS_A_WORKER;

    t->jobs = mem_calloc(most, sizeof(*t->jobs));
    for (t->first = 0; t->first < t->nsegments; t->first += most * PACK_SOURCE_TOGETHER) {
        size_t n = (t->nsegments - t->first + PACK_SOURCE_TOGETHER - 1) / PACK_SOURCE_TOGETHER;
        size_t done = t->first + most * PACK_SOURCE_TOGETHER;

        n = n < most ? n : most;
        delta_each(o->pool, n, try_segments, t);
        for (size_t i = 0; i < n; i++) {
            if (t->jobs[i].status < 0)
                return err_set(err, t->jobs[i].err.code, "%s", t->jobs[i].err.text);
        }
        if (o->progress != NULL &&
            o->progress(o->progress_ctx, done < t->nsegments ? done : t->nsegments, t->nsegments) <
                0)
            return err_set(err, ERR_CANCELLED, "stopped while it was tested");
    }
    return 0;
}

int pack_trial(const struct pack_trial *o, struct err *err)
{
    struct trial t = { .o = o, .nsegments = o->pack.target->nsegments };
    unsigned workers = delta_workers(o->pool);
    int r = 0;

    t.sources = mem_calloc(workers, sizeof(struct pack_source *));
    t.out = mem_calloc(workers, sizeof(unsigned char *));
    for (unsigned i = 0; r == 0 && i < workers; i++) {
        t.out[i] = mem_alloc((size_t)PACK_SOURCE_TOGETHER * SEGMENT_BYTES);
        r = pack_source_open(&t.sources[i], &o->pack, err);
    }
    if (r == 0)
        r = run(&t, err);
    for (unsigned i = 0; i < workers; i++) {
        pack_source_close(t.sources[i]);
        free(t.out[i]);
    }
    free(t.sources);
    free(t.out);
    free(t.jobs);
    return r;
}
