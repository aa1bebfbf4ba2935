#include "build/courier.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/loop.h"
#include "queue/queue.h"

enum { RETRY_MS = 1000 };

struct courier {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct buf pending; /* under the mutex */
    uint64_t dropped;
    bool finishing;

    const char *url; /* the rest is the thread's own */
    struct lease *lease;
    int64_t job, attempt, beat_ms, seq;
    int64_t next_beat_ms, next_flush_ms, give_up_ms;
    struct db *d;
    struct buf chunk; /* on its way: repeated under the same seq until it has arrived */
    bool warned;
};

void courier_log(void *courier, const void *data, size_t len)
{
    struct courier *c = courier;
    size_t room;

    pthread_mutex_lock(&c->mutex);
    room = COURIER_BUFFER_MAX_BYTES - c->pending.len;
    if (len <= room)
        buf_append(&c->pending, data, len);
    else
        c->dropped += len;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

static void warn_once(struct courier *c, const struct err *err)
{
    if (!c->warned)
        log_warn("job %lld: %s", (long long)c->job, err->text);
    c->warned = true;
}

static bool connect_db(struct courier *c)
{
    struct err err = ERR_INIT;

    if (c->d != NULL || db_open(&c->d, c->url, &err) == 0)
        return true;
    c->d = NULL;
    warn_once(c, &err);
    return false;
}

static void beat(struct courier *c)
{
    struct err err = ERR_INIT;
    int64_t sent = monotonic_ms();
    bool cancel = false;
    int r =
        connect_db(c) ? queue_beat(c->d, c->job, c->attempt, &cancel, &err) : -(int)ERR_UNREACHABLE;

    if (r == 0) {
        lease_beat(c->lease, sent);
        if (cancel)
            lease_end(c->lease, LEASE_CANCELLED);
        c->next_beat_ms = sent + c->beat_ms;
        c->warned = false;
        return;
    }
    if (r == -(int)ERR_FENCED)
        lease_end(c->lease, LEASE_FENCED);
    else if (c->d != NULL)
        warn_once(c, &err);
    c->next_beat_ms = monotonic_ms() + (c->beat_ms < RETRY_MS ? c->beat_ms : RETRY_MS);
}

/* Takes the next chunk from what is pending. Under the mutex. */
static void take_chunk(struct courier *c)
{
    size_t len = c->pending.len;

    if (len > QUEUE_LOG_CHUNK_MAX_BYTES)
        len = QUEUE_LOG_CHUNK_MAX_BYTES;
    buf_append(&c->chunk, c->pending.data, len);
    buf_consume(&c->pending, len);
    if (c->dropped > 0 && c->pending.len == 0) {
        buf_printf(&c->pending, "\n[%llu bytes of log are missing: the database was too slow]\n",
                   (unsigned long long)c->dropped);
        c->dropped = 0;
    }
}

/* False: the chunk could not be sent, try again later. */
static bool send_chunk(struct courier *c)
{
    struct err err = ERR_INIT;
    int r = connect_db(c)
                ? queue_log(c->d, c->job, c->attempt, c->seq, c->chunk.data, c->chunk.len, &err)
                : -(int)ERR_UNREACHABLE;

    if (r == -(int)ERR_UNREACHABLE || r == -(int)ERR_AGAIN) {
        if (c->d != NULL)
            warn_once(c, &err);
        return false;
    }
    if (r == -(int)ERR_FENCED)
        lease_end(c->lease, LEASE_FENCED);
    else if (r < 0)
        warn_once(c, &err);
    c->seq++;
    buf_reset(&c->chunk);
    return true;
}

/* Sends all there is now. */
static void flush(struct courier *c)
{
    for (;;) {
        if (c->chunk.len == 0) {
            pthread_mutex_lock(&c->mutex);
            take_chunk(c);
            pthread_mutex_unlock(&c->mutex);
        }
        if (c->chunk.len == 0)
            return;
        if (!send_chunk(c)) {
            c->next_flush_ms = monotonic_ms() + RETRY_MS;
            return;
        }
        c->next_flush_ms = monotonic_ms() + COURIER_FLUSH_MS;
        if (c->next_beat_ms <= monotonic_ms())
            return; /* the heartbeat goes first */
    }
}

static void wait_until(struct courier *c, int64_t when_ms)
{
    struct timespec t;

    t.tv_sec = when_ms / 1000;
    t.tv_nsec = when_ms % 1000 * 1000000;
    pthread_cond_timedwait(&c->changed, &c->mutex, &t);
}

/* Sleeps until something is due. False: everything is sent, or the time for that is over. */
static bool wait_for_work(struct courier *c)
{
    bool more = true;

    pthread_mutex_lock(&c->mutex);
    for (;;) {
        int64_t now = monotonic_ms(), due = c->next_beat_ms;
        bool has_log = c->pending.len > 0 || c->chunk.len > 0;
        bool hurry = c->finishing || c->pending.len >= QUEUE_LOG_CHUNK_MAX_BYTES;

        if (c->finishing && c->give_up_ms == 0)
            c->give_up_ms = now + COURIER_LAST_MS;
        more = !c->finishing ||
               (has_log && now < c->give_up_ms && lease_state(c->lease) != LEASE_FENCED);
        if (has_log && hurry && c->chunk.len == 0)
            due = now;
        else if (has_log && c->next_flush_ms < due)
            due = c->next_flush_ms;
        if (!more || due <= now)
            break;
        wait_until(c, due);
    }
    pthread_mutex_unlock(&c->mutex);
    return more;
}

static void *main_of_thread(void *arg)
{
    struct courier *c = arg;

    while (wait_for_work(c)) {
        if (monotonic_ms() >= c->next_beat_ms)
            beat(c);
        else
            flush(c);
    }
    db_close(c->d);
    return NULL;
}

int courier_start(struct courier **ret, const char *url, int64_t job, int64_t attempt,
                  int64_t beat_ms, struct lease *lease, struct err *err)
{
    struct courier *c = mem_alloc(sizeof(*c));
    pthread_condattr_t attr;
    int failed;

    c->url = url;
    c->lease = lease;
    c->job = job;
    c->attempt = attempt;
    c->beat_ms = beat_ms;
    c->next_beat_ms = monotonic_ms() + beat_ms; /* the claim was the first */
    pthread_mutex_init(&c->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    failed = pthread_create(&c->thread, NULL, main_of_thread, c);
    if (failed != 0) {
        free(c);
        return err_sys(err, failed, "thread");
    }
    *ret = c;
    return 0;
}

void courier_finish(struct courier *c)
{
    if (c == NULL)
        return;
    pthread_mutex_lock(&c->mutex);
    c->finishing = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->thread, NULL);
    pthread_mutex_destroy(&c->mutex);
    pthread_cond_destroy(&c->changed);
    buf_release(&c->pending);
    buf_release(&c->chunk);
    free(c);
}
