#include "store/crew.h"

#include <pthread.h>
#include <stdatomic.h>

struct crew {
    size_t n;
    atomic_size_t next;
    void (*job)(void *arg, size_t i, unsigned worker);
    void *arg;
};

struct member {
    struct crew *crew;
    unsigned worker;
};

static void *work(void *arg)
{
    const struct member *m = arg;
    struct crew *c = m->crew;

    for (size_t i = atomic_fetch_add(&c->next, 1); i < c->n; i = atomic_fetch_add(&c->next, 1))
        c->job(c->arg, i, m->worker);
    return NULL;
}

void crew_each(void *ctx, size_t n, void (*job)(void *arg, size_t i, unsigned worker), void *arg)
{
    const struct delta_pool *pool = ctx;
    struct crew crew = { .n = n, .job = job, .arg = arg };
    struct member members[CREW_MAX];
    pthread_t threads[CREW_MAX];
    unsigned started = 1, workers = n < pool->workers ? (unsigned)n : pool->workers;

    if (workers > CREW_MAX)
        workers = CREW_MAX;
    for (unsigned i = 0; i < CREW_MAX; i++)
        members[i] = (struct member){ &crew, i };
    while (started < workers &&
           pthread_create(&threads[started], NULL, work, &members[started]) == 0)
        started++;
    work(&members[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(threads[i], NULL);
}
