#include "control/wake.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "io/loop.h"

struct wake {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t serial;
    bool stopped;
    void (*hook)(void *arg);
    void *arg;
};

struct wake *wake_new(void)
{
    struct wake *w = mem_alloc(sizeof(*w));
    pthread_condattr_t attr;

    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    return w;
}

void wake_free(struct wake *w)
{
    if (w == NULL)
        return;
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

void wake_set_hook(struct wake *w, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&w->mutex);
    w->hook = fn;
    w->arg = arg;
    pthread_mutex_unlock(&w->mutex);
}

void wake_all(struct wake *w)
{
    pthread_mutex_lock(&w->mutex);
    w->serial++;
    pthread_cond_broadcast(&w->changed);
    if (w->hook != NULL)
        w->hook(w->arg);
    pthread_mutex_unlock(&w->mutex);
}

void wake_stop(struct wake *w)
{
    pthread_mutex_lock(&w->mutex);
    w->stopped = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

bool wake_stopped(struct wake *w)
{
    bool stopped;

    pthread_mutex_lock(&w->mutex);
    stopped = w->stopped;
    pthread_mutex_unlock(&w->mutex);
    return stopped;
}

void wake_wait(struct wake *w, uint64_t *seen, int64_t max_ms)
{
    int64_t end = monotonic_ms() + max_ms;
    const struct timespec until = { end / 1000, end % 1000 * 1000000 };
    int r = 0;

    pthread_mutex_lock(&w->mutex);
    while (r == 0 && w->serial == *seen && !w->stopped)
        r = pthread_cond_timedwait(&w->changed, &w->mutex, &until);
    *seen = w->serial;
    pthread_mutex_unlock(&w->mutex);
}
