#include "build/lease.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/loop.h"

struct lease {
    pthread_mutex_t mutex;
    enum lease_state state;
    int fd;
    int64_t last_beat_ms, silent_ms;
    int64_t deadline_ms; /* monotonic; 0: none */
    int64_t limit_ms;    /* what the deadline was set to */
    const atomic_bool *stopping;
};

int lease_new(struct lease **ret, int64_t claimed_ms, int64_t silent_ms,
              const atomic_bool *stopping, struct err *err)
{
    struct lease *l;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return err_sys(err, errno, "eventfd");
    l = mem_alloc(sizeof(*l));
    pthread_mutex_init(&l->mutex, NULL);
    l->state = LEASE_HELD;
    l->fd = fd;
    l->last_beat_ms = claimed_ms;
    l->silent_ms = silent_ms;
    l->stopping = stopping;
    *ret = l;
    return 0;
}

void lease_free(struct lease *l)
{
    if (l == NULL)
        return;
    pthread_mutex_destroy(&l->mutex);
    close(l->fd);
    free(l);
}

void lease_set_deadline(struct lease *l, int64_t deadline_ms)
{
    pthread_mutex_lock(&l->mutex);
    l->limit_ms = deadline_ms;
    l->deadline_ms = monotonic_ms() + deadline_ms;
    pthread_mutex_unlock(&l->mutex);
}

void lease_beat(struct lease *l, int64_t sent_ms)
{
    pthread_mutex_lock(&l->mutex);
    if (sent_ms > l->last_beat_ms)
        l->last_beat_ms = sent_ms;
    pthread_mutex_unlock(&l->mutex);
}

void lease_end(struct lease *l, enum lease_state why)
{
    uint64_t one = 1;

    pthread_mutex_lock(&l->mutex);
    if (l->state == LEASE_HELD)
        l->state = why;
    pthread_mutex_unlock(&l->mutex);
    while (write(l->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* The clock, or the one who stops the worker, may have ended it unnoticed. */
static enum lease_state look(struct lease *l)
{
    int64_t now = monotonic_ms();

    if (l->state != LEASE_HELD)
        return l->state;
    if (l->silent_ms > 0 && now - l->last_beat_ms > l->silent_ms)
        l->state = LEASE_FENCED;
    else if (l->deadline_ms > 0 && now >= l->deadline_ms)
        l->state = LEASE_EXPIRED;
    else if (l->stopping != NULL && atomic_load(l->stopping))
        l->state = LEASE_STOPPED;
    return l->state;
}

enum lease_state lease_state(struct lease *l)
{
    enum lease_state state;

    pthread_mutex_lock(&l->mutex);
    state = look(l);
    pthread_mutex_unlock(&l->mutex);
    return state;
}

int lease_check(struct lease *l, struct err *err)
{
    if (l == NULL)
        return 0;
    switch (lease_state(l)) {
    case LEASE_NONE:
    case LEASE_HELD:
        return 0;
    case LEASE_FENCED:
        return err_set(err, ERR_FENCED, "the job is no longer ours");
    case LEASE_CANCELLED:
        return err_set(err, ERR_CANCELLED, "cancelled");
    case LEASE_STOPPED:
        return err_set(err, ERR_CANCELLED, "the worker is stopping");
    case LEASE_EXPIRED:
        return err_set(err, ERR_TIMEOUT, "build ran longer than %lld s",
                       (long long)(l->limit_ms / 1000));
    }
    return 0;
}

int lease_fd(const struct lease *l)
{
    return l == NULL ? -1 : l->fd;
}
