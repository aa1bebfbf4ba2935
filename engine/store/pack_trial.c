#include "store/pack_trial.h"

#include <stdlib.h>

#include "base/mem.h"

enum { JOBS_A_WORKER = 8 };

struct job { /* a segment */
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

static void try_segment(void *arg, size_t n, unsigned worker)
{
    struct trial *t = arg;
    struct job *j = &t->jobs[n];
    struct pack_source *s = t->sources[worker];
    size_t i = t->first + n;

    j->status = pack_source_is_copy(s, i) ? pack_source_check_copy(s, i, &j->err)
                                          : pack_source_read(s, i, t->out[worker], &j->err);
}

static int run(struct trial *t, struct err *err)
{
    const struct pack_trial *o = t->o;
    size_t most = (size_t)delta_workers(o->pool) * JOBS_A_WORKER, n;

    t->jobs = mem_calloc(most, sizeof(*t->jobs));
    for (t->first = 0; t->first < t->nsegments; t->first += n) {
        n = t->nsegments - t->first < most ? t->nsegments - t->first : most;
        delta_each(o->pool, n, try_segment, t);
        for (size_t i = 0; i < n; i++) {
            if (t->jobs[i].status < 0)
                return err_set(err, t->jobs[i].err.code, "%s", t->jobs[i].err.text);
        }
        if (o->progress != NULL && o->progress(o->progress_ctx, t->first + n, t->nsegments) < 0)
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
        t.out[i] = mem_alloc(SEGMENT_BYTES);
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
