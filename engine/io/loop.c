#include "io/loop.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"

static_assert(sizeof(struct ev_timer) <= sizeof(((struct timer *)NULL)->priv), "timer.priv");
static_assert(sizeof(struct ev_io) <= sizeof(((struct watch *)NULL)->priv), "watch.priv");

enum { SIGNAL_COUNT = 4 };

struct post {
    struct list node;
    void (*fn)(void *arg);
    void *arg;
};

struct on_signal {
    ev_signal ev;
    void (*fn)(void *arg, int signo);
    void *arg;
    bool active;
};

struct kept {
    void **items;
    size_t count, cap;
};

struct loop {
    struct ev_loop *ev;
    ev_check check;
    ev_prepare prepare;
    int64_t now_ms;
    bool running;
    bool stopping;
    bool looked; /* for events, since loop_run() */
    struct on_signal signals[SIGNAL_COUNT];
    struct kept kept;
    ev_async wake;
    pthread_mutex_t lock; /* of the rest */
    bool has_thread;      /* loop_run() runs, on this thread */
    pthread_t thread;
    struct list posts; /* waiting for the next turn */
    struct list batch; /* taken from posts, being run in this turn */
};

int64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void random_bytes(void *out, size_t len)
{
    unsigned char *at = out;

    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);

        if (n < 0 && errno != EINTR)
            abort(); /* no kernel that we run on refuses; guessing on would be worse */
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
}

int64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

/* Runs first in every turn: libev calls checks of the highest priority before any other watcher. */
static void on_check(struct ev_loop *ev, ev_check *w, int events)
{
    struct loop *l = w->data;

    (void)ev;
    (void)events;
    l->now_ms = monotonic_ms();
    l->looked = true;
}

/* Moves what is waiting to batch, so that what is posted meanwhile runs in the next turn. */
static void take_posts(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    while (!list_empty(&l->posts)) {
        struct list *n = l->posts.next;

        list_remove(n);
        list_push(&l->batch, n);
    }
    pthread_mutex_unlock(&l->lock);
}

/* True: there were some. */
static bool run_posts(struct loop *l)
{
    bool any;

    take_posts(l);
    any = !list_empty(&l->batch);
    while (!list_empty(&l->batch)) {
        struct post *p = CONTAINER_OF(l->batch.next, struct post, node);
        void (*fn)(void *arg) = p->fn;
        void *arg = p->arg;

        list_remove(&p->node);
        free(p);
        fn(arg);
    }
    return any;
}

static void on_wake(struct ev_loop *ev, ev_async *w, int events)
{
    (void)ev;
    (void)w;
    (void)events; /* the turn goes on, to on_prepare() */
}

/* Runs last in every turn, before the loop waits: what this turn's callbacks have posted needs no other turn. A loop
 * that has just begun looks for events first. */
static void on_prepare(struct ev_loop *ev, ev_prepare *w, int events)
{
    struct loop *l = w->data;

    (void)events;
    if (l->looked && !run_posts(l))
        return;
    pthread_mutex_lock(&l->lock);
    if (!list_empty(&l->posts)) /* that is for the next turn, which must not wait */
        ev_async_send(ev, &l->wake);
    pthread_mutex_unlock(&l->lock);
}

static void drop_posts(struct list *from, void (*fn)(void *arg), const void *arg)
{
    LIST_EACH (from, n) {
        struct post *p = CONTAINER_OF(n, struct post, node);

        if (fn != NULL && (p->fn != fn || p->arg != arg))
            continue;
        list_remove(n);
        free(p);
    }
}

void loop_unpost(struct loop *l, void (*fn)(void *arg), void *arg)
{
    drop_posts(&l->batch, fn, arg);
    pthread_mutex_lock(&l->lock);
    drop_posts(&l->posts, fn, arg);
    pthread_mutex_unlock(&l->lock);
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct post *p = mem_alloc(sizeof(*p));

    p->fn = fn;
    p->arg = arg;
    pthread_mutex_lock(&l->lock);
    list_push(&l->posts, &p->node);
    /* Under the lock: once it is seen as posted, the loop may be freed. The loop's own thread need not be woken:
     * it comes to on_prepare() before it waits. */
    if (!l->has_thread || !pthread_equal(l->thread, pthread_self()))
        ev_async_send(l->ev, &l->wake);
    pthread_mutex_unlock(&l->lock);
}

int loop_new(struct loop **ret, struct err *err)
{
    struct loop *l = mem_alloc(sizeof(*l));

    l->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    if (l->ev == NULL) {
        free(l);
        return err_set(err, ERR_INTERNAL, "event loop: libev finds no usable backend");
    }
    signal(SIGPIPE, SIG_IGN);
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->posts);
    list_init(&l->batch);
    ev_async_init(&l->wake, on_wake);
    l->wake.data = l;
    ev_async_start(l->ev, &l->wake);
    ev_check_init(&l->check, on_check);
    ev_set_priority(&l->check, EV_MAXPRI);
    l->check.data = l;
    ev_check_start(l->ev, &l->check);
    ev_prepare_init(&l->prepare, on_prepare);
    l->prepare.data = l;
    ev_prepare_start(l->ev, &l->prepare);
    l->now_ms = monotonic_ms();
    *ret = l;
    return 0;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        if (l->signals[i].active)
            ev_signal_stop(l->ev, &l->signals[i].ev);
    drop_posts(&l->batch, NULL, NULL);
    drop_posts(&l->posts, NULL, NULL);
    ev_async_stop(l->ev, &l->wake);
    ev_check_stop(l->ev, &l->check);
    ev_prepare_stop(l->ev, &l->prepare);
    ev_loop_destroy(l->ev);
    pthread_mutex_destroy(&l->lock);
    for (size_t i = 0; i < l->kept.count; i++)
        free(l->kept.items[i]);
    free(l->kept.items);
    free(l);
}

void loop_keep(struct loop *l, void *memory)
{
    VEC_GROW(l->kept.items, l->kept.count, l->kept.cap);
    l->kept.items[l->kept.count++] = memory;
}

/* From now on posts of this thread are seen without waking anybody; or they are not. */
static void set_thread(struct loop *l, bool runs)
{
    pthread_mutex_lock(&l->lock);
    l->has_thread = runs;
    l->thread = pthread_self();
    pthread_mutex_unlock(&l->lock);
}

void loop_run(struct loop *l)
{
    l->running = true;
    set_thread(l, true);
    l->looked = false;
    if (!l->stopping)
        ev_run(l->ev, 0);
    set_thread(l, false);
    l->running = false;
    l->stopping = false;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
    if (l->running)
        ev_break(l->ev, EVBREAK_ALL);
}

static struct ev_timer *timer_ev(struct timer *t)
{
    return (struct ev_timer *)(void *)t->priv;
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int events)
{
    struct timer *t = w->data;

    (void)ev;
    (void)events;
    t->active = ev_is_active(w);
    t->fn(t);
}

void timer_start(struct loop *l, struct timer *t, int64_t delay_ms, int64_t repeat_ms,
                 void (*fn)(struct timer *t))
{
    struct ev_timer *w = timer_ev(t);

    timer_stop(t);
    if (!l->running) {
        ev_now_update(l->ev);
        l->now_ms = monotonic_ms();
    }
    t->fn = fn;
    t->loop = l;
    t->active = true;
    ev_timer_init(w, on_timer, (double)delay_ms / 1000, (double)repeat_ms / 1000);
    w->data = t;
    ev_timer_start(l->ev, w);
}

void timer_stop(struct timer *t)
{
    if (!t->active)
        return;
    ev_timer_stop(t->loop->ev, timer_ev(t));
    t->active = false;
}

static struct ev_io *watch_ev(struct watch *w)
{
    return (struct ev_io *)(void *)w->priv;
}

static void on_io(struct ev_loop *ev, ev_io *io, int events)
{
    struct watch *w = io->data;

    (void)ev;
    w->fn(w, ((events & EV_READ) != 0 ? WATCH_READ : 0) |
                 ((events & EV_WRITE) != 0 ? WATCH_WRITE : 0));
}

void watch_start(struct loop *l, struct watch *w, int fd, int events,
                 void (*fn)(struct watch *w, int events))
{
    struct ev_io *io = watch_ev(w);

    watch_stop(w);
    w->fn = fn;
    w->fd = fd;
    w->loop = l;
    if (events == WATCH_NONE)
        return;
    w->active = true;
    ev_io_init(io, on_io, fd,
               ((events & WATCH_READ) != 0 ? EV_READ : 0) |
                   ((events & WATCH_WRITE) != 0 ? EV_WRITE : 0));
    io->data = w;
    ev_io_start(l->ev, io);
}

void watch_stop(struct watch *w)
{
    if (!w->active)
        return;
    ev_io_stop(w->loop->ev, watch_ev(w));
    w->active = false;
}

static int signal_slot(int signo)
{
    static const int known[SIGNAL_COUNT] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };

    for (int i = 0; i < SIGNAL_COUNT; i++)
        if (known[i] == signo)
            return i;
    return -1;
}

static void on_signal(struct ev_loop *ev, ev_signal *w, int events)
{
    struct on_signal *s = w->data;

    (void)ev;
    (void)events;
    s->fn(s->arg, w->signum);
}

int loop_on_signal(struct loop *l, int signo, void (*fn)(void *arg, int signo), void *arg,
                   struct err *err)
{
    int slot = signal_slot(signo);
    struct on_signal *s;

    if (slot < 0)
        return err_set(err, ERR_INVALID, "signal %d is not one of TERM, INT, HUP, USR1", signo);
    s = &l->signals[slot];
    if (s->active)
        return err_set(err, ERR_EXISTS, "signal %d has a handler", signo);
    s->fn = fn;
    s->arg = arg;
    s->active = true;
    ev_signal_init(&s->ev, on_signal, signo);
    s->ev.data = s;
    ev_signal_start(l->ev, &s->ev);
    return 0;
}
