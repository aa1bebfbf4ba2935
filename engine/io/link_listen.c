/* The accepting side: addresses, limits, and who was refused. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
    PAUSE_MS = 100, /* when the process has no descriptor left */
    LOGS_A_WINDOW = 10,
    LOG_WINDOW_MS = 10000,
};

struct link_listener {
    struct loop *loop;
    struct link_identity *self;
    const struct link_handler *handler;
    void *ctx;
    unsigned roles;
    size_t max_links, count;
    struct list links;
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

void link_listener_ended(struct link *l)
{
    struct link_listener *s = l->listener;

    if (s == NULL)
        return;
    l->listener = NULL;
    list_remove(&l->node);
    s->count--;
    if (!l->told && !l->enrolled)
        refuse(s, l->host, l->why.text);
}

static void adopt(struct link_listener *s, int fd, const struct sockaddr_storage *from,
                  socklen_t from_len)
{
    struct link *l;
    char host[sizeof(l->host)] = "?";

    (void)getnameinfo((const struct sockaddr *)from, from_len, host, sizeof(host), NULL, 0,
                      NI_NUMERICHOST);
    if (s->count >= s->max_links) {
        close(fd);
        refuse(s, host, "as many links as this process takes");
        return;
    }
    link_tune(fd);
    l = link_new(s->loop, s->self, s->handler, s->ctx);
    l->accepted = true;
    l->roles = s->roles;
    l->enrol = s->enrol.fn != NULL ? &s->enrol : NULL;
    memcpy(l->host, host, sizeof(host));
    l->listener = s;
    list_push(&s->links, &l->node);
    s->count++;
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

static void on_accept(struct watch *w, int events)
{
    struct link_listener *s = CONTAINER_OF(w, struct link_listener, watch);

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(s->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

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
        watch_stop(&s->watch);
        timer_start(s->loop, &s->pause, PAUSE_MS, 0, on_pause_over);
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

void link_listener_close(struct link_listener *s)
{
    if (s == NULL)
        return;
    watch_stop(&s->watch);
    timer_stop(&s->pause);
    close(s->fd);
    LIST_EACH (&s->links, n) {
        struct link *l = CONTAINER_OF(n, struct link, node);

        list_remove(n);
        l->listener = NULL;
        if (!l->told)
            link_end(l); /* nobody knows it yet, and nobody would be told */
    }
    free(s);
}
