#include "io/work.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/mem.h"

enum { WORK_THREADS_MAX = 64 };

struct work_pool {
    struct loop *loop;
    pthread_t threads[WORK_THREADS_MAX];
    int nthreads;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list queue;    /* submitted, not started */
    struct list finished; /* run() has returned, done() not called yet */
    bool stopping;
    bool posted; /* a deliver() is on its way */
    bool
        delivering; /* deliver() runs: whoever frees the pool from a done() leaves the rest to it */
    bool dead;
};

static void pool_destroy(struct work_pool *p)
{
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static struct work *take_finished(struct work_pool *p)
{
    struct work *w = NULL;

    pthread_mutex_lock(&p->lock);
    p->posted = false;
    if (!list_empty(&p->finished)) {
        w = CONTAINER_OF(p->finished.next, struct work, node);
        list_remove(&w->node);
    }
    pthread_mutex_unlock(&p->lock);
    return w;
}

static void deliver(void *arg)
{
    struct work_pool *p = arg;
    struct work *w;

    p->delivering = true;
    while (!p->dead && (w = take_finished(p)) != NULL)
        w->done(w);
    p->delivering = false;
    if (p->dead)
        pool_destroy(p);
}

static void *thread_main(void *arg)
{
    struct work_pool *p = arg;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct work *w;
        bool post;

        while (list_empty(&p->queue) && !p->stopping)
            pthread_cond_wait(&p->more, &p->lock);
        if (p->stopping)
            break;
        w = CONTAINER_OF(p->queue.next, struct work, node);
        list_remove(&w->node);
        pthread_mutex_unlock(&p->lock);
        w->run(w);
        pthread_mutex_lock(&p->lock);
        list_push(&p->finished, &w->node);
        post = !p->posted;
        p->posted = true;
        if (post) { /* without the lock, which the loop will want */
            pthread_mutex_unlock(&p->lock);
            loop_post(p->loop, deliver, p);
            pthread_mutex_lock(&p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_join(struct work_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i], NULL);
}

int work_pool_new(struct work_pool **ret, struct loop *l, int threads, struct err *err)
{
    struct work_pool *p;
    sigset_t all, old;
    int rc = 0;

    if (threads < 1 || threads > WORK_THREADS_MAX)
        return err_set(err, ERR_INVALID, "work pool: %d threads (1 to %d)", threads,
                       WORK_THREADS_MAX);
    p = mem_alloc(sizeof(*p));
    p->loop = l;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    list_init(&p->queue);
    list_init(&p->finished);
    sigfillset(&all); /* signals are the loop thread's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (p->nthreads < threads && rc == 0) {
        rc = pthread_create(&p->threads[p->nthreads], NULL, thread_main, p);
        if (rc == 0)
            p->nthreads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        pool_join(p);
        pool_destroy(p);
        return err_sys(err, rc, "work pool: start thread");
    }
    *ret = p;
    return 0;
}

void work_pool_free(struct work_pool *p)
{
    if (p == NULL)
        return;
    pool_join(p);
    loop_unpost(p->loop, deliver, p);
    p->dead = true;
    if (!p->delivering)
        pool_destroy(p);
}

void work_submit(struct work_pool *p, struct work *w)
{
    w->pool = p;
    pthread_mutex_lock(&p->lock);
    list_push(&p->queue, &w->node);
    pthread_mutex_unlock(&p->lock);
    pthread_cond_signal(&p->more); /* without the lock, which the thread will want */
}
