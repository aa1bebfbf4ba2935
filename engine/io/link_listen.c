/* The accepting side: addresses, limits, and who was refused. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/link_private.h"
#include "io/port.h"

enum {
    BACKLOG = 4096,
    ACCEPTS_A_TURN = 32,
    PAUSE_MS = 100,     /* when the process has no descriptor left */
    FULL_PAUSE_MS = 10, /* when as many links are opening as may be */
    LOGS_A_WINDOW = 10,
    LOG_WINDOW_MS = 10000,
};

struct link_listener {
    struct loop *loop;
    struct link_identity *self;
    const struct link_handler *handler;
    void *ctx;
    unsigned roles;
    size_t max_links, count; /* of open ones */
    size_t opening_max, nopening;
    size_t share, same_id;
    struct list links;   /* open */
    struct list opening; /* not yet, the oldest first */
    struct map ids;      /* of open ones: how many, as uintptr_t */
    int fd, port;
    struct watch watch;
    struct timer pause;
    struct link_enrol enrol;
    uint64_t refused;
    int64_t log_window; /* start of the current one */
    int logged;         /* in it */
};

/* Counts, and logs so that a flood of strangers does not become a flood of lines. */
static void refuse(struct link_listener *s, const char *host, const char *why)
{
    int64_t now = loop_now_ms(s->loop);

    s->refused++;
    if (now - s->log_window >= LOG_WINDOW_MS) {
        s->log_window = now;
        s->logged = 0;
    }
    if (++s->logged <= LOGS_A_WINDOW)
        log_warn("refused %s: %s (%llu so far)%s", host, why, (unsigned long long)s->refused,
                 s->logged == LOGS_A_WINDOW ? "; more in these 10 s are not logged" : "");
}

static uintptr_t links_of(const struct link_listener *s, const char *id)
{
    return (uintptr_t)map_get(&s->ids, id);
}

static void count_id(struct link_listener *s, const char *id, uintptr_t count)
{
    if (count == 0)
        map_remove(&s->ids, id);
    else
        map_put(&s->ids, id, (void *)count); /* NOLINT: a counter, not a pointer */
}

int link_listener_admit(struct link *l, struct err *err)
{
    struct link_listener *s = l->listener;

    if (s == NULL)
        return err_set(err, ERR_CANCELLED, "nobody listens any more");
    if (s->count >= s->max_links)
        return err_set(err, ERR_AGAIN, "%zu links are as many as this process takes", s->count);
    if (links_of(s, l->peer.id) >= s->same_id)
        return err_set(err, ERR_AGAIN, "%s has %zu links here, which is enough", l->peer.id,
                       s->same_id);
    list_remove(&l->node);
    list_push(&s->links, &l->node);
    s->nopening--;
    s->count++;
    l->counted = true;
    count_id(s, l->peer.id, links_of(s, l->peer.id) + 1);
    return 0;
}

void link_listener_ended(struct link *l)
{
    struct link_listener *s = l->listener;

    if (s == NULL)
        return;
    l->listener = NULL;
    list_remove(&l->node);
    if (l->counted) {
        s->count--;
        count_id(s, l->peer.id, links_of(s, l->peer.id) - 1);
    } else {
        s->nopening--;
    }
    if (!l->told && !l->enrolled)
        refuse(s, l->host, l->why.text);
}

/* May it go to make room? Who is honest speaks at once. */
static bool may_go(const struct link *l, int64_t now_ms)
{
    return now_ms - l->begun_ms >= (l->in_any ? LINK_OPENING_GRACE_MS : LINK_OPENING_SILENT_MS);
}

/* Ends the oldest that may go of those that are opening (from that host, if it is not NULL). */
static bool evict(struct link_listener *s, const char *host)
{
    int64_t now_ms = loop_now_ms(s->loop);

    LIST_EACH (&s->opening, n) {
        struct link *l = CONTAINER_OF(n, struct link, node);

        if ((host != NULL && strcmp(l->host, host) != 0) || !may_go(l, now_ms))
            continue;
        err_set(&l->why, ERR_TIMEOUT, "others want its place, and it is not open after %lld ms",
                (long long)(now_ms - l->begun_ms));
        link_end(l);
        return true;
    }
    return false;
}

static size_t opening_from(const struct link_listener *s, const char *host)
{
    size_t count = 0;

    LIST_EACH (&s->opening, n)
        count += strcmp(CONTAINER_OF(n, struct link, node)->host, host) == 0;
    return count;
}

static void adopt(struct link_listener *s, int fd, const struct sockaddr_storage *from,
                  socklen_t from_len)
{
    struct link *l;
    char host[sizeof(l->host)] = "?";

    (void)getnameinfo((const struct sockaddr *)from, from_len, host, sizeof(host), NULL, 0,
                      NI_NUMERICHOST);
    if (opening_from(s, host) >= s->share && !evict(s, host)) {
        close(fd);
        refuse(s, host, "as many links as may be are opening from there");
        return;
    }
    link_tune(fd);
    l = link_new(s->loop, s->self, s->handler, s->ctx);
    l->accepted = true;
    l->roles = s->roles;
    l->enrol = s->enrol.fn != NULL ? &s->enrol : NULL;
    l->begun_ms = loop_now_ms(s->loop);
    memcpy(l->host, host, sizeof(host));
    l->listener = s;
    list_push(&s->opening, &l->node);
    s->nopening++;
    link_start_tls(l, fd, true);
}

static void on_accept(struct watch *w, int events);

static void on_pause_over(struct timer *t)
{
    struct link_listener *s = CONTAINER_OF(t, struct link_listener, pause);

    watch_start(s->loop, &s->watch, s->fd, WATCH_READ, on_accept);
}

/* Errors of the connection that was about to be accepted are not the listener's. */
static bool is_transient(int os_errno)
{
    return os_errno == EINTR || os_errno == ECONNABORTED || os_errno == EPROTO ||
           os_errno == EPERM || os_errno == ENETDOWN || os_errno == EHOSTUNREACH ||
           os_errno == ENETUNREACH || os_errno == ETIMEDOUT;
}

static void pause_accepting(struct link_listener *s, int64_t ms)
{
    watch_stop(&s->watch);
    timer_start(s->loop, &s->pause, ms, 0, on_pause_over);
}

static void on_accept(struct watch *w, int events)
{
    struct link_listener *s = CONTAINER_OF(w, struct link_listener, watch);

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd;

        if (s->nopening >= s->opening_max && !evict(s, NULL)) {
            pause_accepting(s, FULL_PAUSE_MS); /* the others wait in the kernel's queue */
            return;
        }
        fd = accept4(s->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            adopt(s, fd, &from, len);
            continue;
        }
        if (is_transient(errno))
            continue;
        if (errno == EAGAIN)
            return;
        /* Out of descriptors or memory. The connection stays in the queue and the socket readable:
         * without a pause this would spin. */
        log_error("accept: %s; pausing", strerror(errno));
        pause_accepting(s, PAUSE_MS);
        return;
    }
}

int link_listen(struct link_listener **ret, struct loop *loop, struct link_identity *self,
                const char *addr, unsigned roles, size_t max_links,
                const struct link_handler *handler, void *ctx, struct err *err)
{
    struct link_listener *s = mem_alloc(sizeof(*s));
    int rc;

    s->loop = loop;
    s->self = self;
    s->handler = handler;
    s->ctx = ctx;
    s->roles = roles;
    s->max_links = max_links;
    s->fd = -1;
    s->log_window = loop_now_ms(loop);
    list_init(&s->links);
    list_init(&s->opening);
    link_listener_set_limits(s, LINK_OPENING_LINKS, LINK_OPENING_SHARE, LINK_SAME_ID_MAX);
    rc = port_listen(addr, BACKLOG, &s->fd, &s->port, err);
    if (rc < 0) {
        free(s);
        return rc;
    }
    watch_start(loop, &s->watch, s->fd, WATCH_READ, on_accept);
    *ret = s;
    return 0;
}

void link_listener_set_enrol(struct link_listener *s, const struct link_enrol *e)
{
    s->enrol = *e;
}

int link_listener_port(const struct link_listener *s)
{
    return s->port;
}

uint64_t link_listener_refused(const struct link_listener *s)
{
    return s->refused;
}

void link_listener_set_limits(struct link_listener *s, size_t opening, size_t share, size_t same_id)
{
    s->opening_max = opening;
    s->share = share;
    s->same_id = same_id;
}

void link_listener_close(struct link_listener *s)
{
    if (s == NULL)
        return;
    watch_stop(&s->watch);
    timer_stop(&s->pause);
    close(s->fd);
    LIST_EACH (&s->links, n) {
        list_remove(n);
        CONTAINER_OF(n, struct link, node)->listener = NULL;
    }
    LIST_EACH (&s->opening, n) { /* nobody knows them yet, and nobody would be told */
        struct link *l = CONTAINER_OF(n, struct link, node);

        list_remove(n);
        l->listener = NULL;
        link_end(l);
    }
    map_release(&s->ids);
    free(s);
}
