/* loop.h - the event loop of a process: sockets, timers, children and wake-ups, on libev.
 *
 * One loop owns everything that waits; whatever blocks runs in a work pool (work.h). Callbacks run
 * on the loop's thread, do bounded work and return. Watchers are embedded in their owners; stopping
 * one from any callback is allowed, also from its own. Only loop_post() may be called from other
 * threads. */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct loop;

/* Also makes the process ignore SIGPIPE: a broken connection is an error code here. */
MUST_CHECK int loop_new(struct loop **ret, struct err *err);
void loop_free(struct loop *l); /* after loop_run() has returned and everything is stopped; what is
                                   posted and has not run is dropped */
void loop_run(struct loop *l);  /* until loop_stop() */
void loop_stop(struct loop *l); /* from a callback, or before loop_run() */

int64_t loop_now_ms(const struct loop *l); /* monotonic, cached once a turn */
int64_t wall_ms(void);                     /* wall clock, ms since 1970 */
int64_t monotonic_ms(void);                /* fresh */
void random_bytes(void *out, size_t len);  /* from the kernel; never fails */

/* An active timer or watch must not move in memory. */
struct timer {
    void (*fn)(struct timer *t);
    struct loop *loop; /* private from here on */
    void *priv[8];
    bool active;
};

/* Fires once after delay_ms (>= 0), then every repeat_ms if that is > 0. Restarts if active. */
void timer_start(struct loop *l, struct timer *t, int64_t delay_ms, int64_t repeat_ms,
                 void (*fn)(struct timer *t));
void timer_stop(struct timer *t); /* harmless if not active (or all zero) */

enum watch_events { WATCH_NONE = 0, WATCH_READ = 1, WATCH_WRITE = 2 };

struct watch {
    void (*fn)(struct watch *w, int events);
    int fd;
    struct loop *loop; /* private from here on */
    void *priv[8];
    bool active;
};

void watch_start(struct loop *l, struct watch *w, int fd, int events,
                 void (*fn)(struct watch *w,
                            int events)); /* restarts with other events if active */
void watch_stop(struct watch *w);

/* Runs fn(arg) on the loop's thread, soon, in order of posting. From any thread. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);
/* Drops what was posted with this fn and arg and has not run. On the loop's thread. */
void loop_unpost(struct loop *l, void (*fn)(void *arg), void *arg);

/* Calls fn(arg, signo) on the loop for SIGTERM, SIGINT, SIGHUP, SIGUSR1; at most one user a signal.
 */
MUST_CHECK int loop_on_signal(struct loop *l, int signo, void (*fn)(void *arg, int signo),
                              void *arg, struct err *err);

/* Takes memory that lives as long as the loop: loop_free() frees it. */
void loop_keep(struct loop *l, void *memory);

#endif
