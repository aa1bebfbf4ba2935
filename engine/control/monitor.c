#include "control/monitor.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/duty.h"
#include "io/loop.h"
#include "queue/queue.h"

struct monitor {
    char *url, *holder;
    struct wake *wake;
    pthread_t thread;
    struct db *db;
    int64_t fence;
};

static int reap(struct monitor *m, struct err *err)
{
    int64_t requeued = 0, failed = 0;
    int r = 0;

    if (m->db == NULL)
        r = db_open(&m->db, m->url, err);
    if (r == 0 && m->fence == 0)
        r = duty_claim(m->db, "monitor", m->holder, &m->fence, err);
    else if (r == 0)
        r = duty_check(m->db, "monitor", m->fence, err);
    if (r < 0 || m->fence == 0)
        return r;
    r = queue_reap(m->db, QUEUE_LOST_MS, &requeued, &failed, err);
    if (r == 0 && requeued + failed > 0) {
        log_info("took back %lld jobs of dead workers, failed %lld", (long long)requeued,
                 (long long)failed);
        wake_all(m->wake);
    }
    return r;
}

static void *run(void *arg)
{
    struct monitor *m = arg;
    int64_t last = 0;
    uint64_t seen = 0;

    while (!wake_stopped(m->wake)) {
        struct err err = ERR_INIT;

        if (monotonic_ms() - last >= MONITOR_EVERY_MS) {
            last = monotonic_ms();
            if (reap(m, &err) < 0) {
                log_warn("monitor: %s", err.text);
                m->fence = err.code == ERR_FENCED ? 0 : m->fence;
            }
        }
        wake_wait(m->wake, &seen, MONITOR_EVERY_MS);
    }
    if (m->fence != 0)
        duty_leave(m->db, "monitor", m->fence);
    db_close(m->db);
    return NULL;
}

int monitor_start(struct monitor **ret, const char *db, const char *holder, struct wake *wake,
                  struct err *err)
{
    struct monitor *m = mem_alloc(sizeof(*m));
    int r;

    m->url = mem_strdup(db);
    m->holder = mem_strdup(holder);
    m->wake = wake;
    r = pthread_create(&m->thread, NULL, run, m);
    if (r != 0) {
        free(m->url);
        free(m->holder);
        free(m);
        return err_sys(err, r, "start the monitor");
    }
    *ret = m;
    return 0;
}

void monitor_free(struct monitor *m)
{
    if (m == NULL)
        return;
    pthread_join(m->thread, NULL);
    free(m->url);
    free(m->holder);
    free(m);
}
