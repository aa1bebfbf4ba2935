/* The connecting side until TCP stands: a numeric address at once, a name through a thread of its
 * own (getaddrinfo blocks, for as long as name servers please), then one address after the other.
 */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/link_private.h"

static int lookup(struct link *l, int flags)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = flags | AI_NUMERICSERV };
    char port[16];

    snprintf(port, sizeof(port), "%d", l->port);
    return getaddrinfo(l->resolve_host, port, &hints, &l->addresses);
}

/* On the loop, after the thread. The link may have been closed meanwhile: it waited for this. */
static void on_resolved(void *arg)
{
    struct link *l = arg;

    if (l->state == LINK_CLOSED) {
        link_tell_closed(l);
        return;
    }
    l->state = LINK_CONNECTING;
    l->address = l->addresses;
    if (l->addresses == NULL)
        err_set(&l->why, ERR_UNREACHABLE, "%s: no such host", l->resolve_host);
    link_connect_next(l);
}

static void *resolve_thread(void *arg)
{
    struct link *l = arg;

    /* Writes addresses only, which the loop does not touch before on_resolved(). */
    if (lookup(l, 0) != 0)
        l->addresses = NULL;
    loop_post(l->loop, on_resolved, l);
    return NULL;
}

static int resolve(struct link *l, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    int rc;

    l->state = LINK_RESOLVING;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&thread, &attr, resolve_thread, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0 ? 0 : err_sys(err, rc, "resolve %s", l->resolve_host);
}

/* A socket on its way to the address, or -1 and errno. */
static int start_connect(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    link_tune(fd);
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static void failed(struct link *l, int os_errno)
{
    err_set(&l->why, ERR_UNREACHABLE, "connect to %s port %d: %s", l->host, l->port,
            strerror(os_errno));
}

void link_connect_next(struct link *l)
{
    while (l->address != NULL) {
        const struct addrinfo *a = l->address;

        l->address = a->ai_next;
        if (getnameinfo(a->ai_addr, a->ai_addrlen, l->host, sizeof(l->host), NULL, 0,
                        NI_NUMERICHOST) != 0)
            snprintf(l->host, sizeof(l->host), "?");
        l->fd = start_connect(a);
        if (l->fd >= 0) {
            watch_start(l->loop, &l->watch, l->fd, WATCH_WRITE, link_on_io);
            return;
        }
        failed(l, errno);
    }
    link_end(l);
}

void link_connect_done(struct link *l)
{
    int os_errno = 0;
    socklen_t len = sizeof(os_errno);
    int fd = l->fd;

    watch_stop(&l->watch);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &os_errno, &len) < 0)
        os_errno = errno;
    l->fd = -1;
    if (os_errno == 0) {
        link_start_tls(l, fd, false);
        return;
    }
    failed(l, os_errno);
    close(fd);
    link_connect_next(l);
}

int link_connect(struct link **ret, struct loop *loop, struct link_identity *self, const char *host,
                 int port, enum link_role role, const char *id, const struct link_handler *handler,
                 void *ctx, struct err *err)
{
    struct link *l;
    int rc;

    if (host == NULL || host[0] == '\0' || strlen(host) > LABEL_MAX_BYTES || port < 1 ||
        port > 65535)
        return err_set(err, ERR_INVALID, "connect to '%s' port %d: no such address",
                       host == NULL ? "" : host, port);
    l = link_new(loop, self, handler, ctx);
    l->expect_role = role;
    l->expect_id = id == NULL ? NULL : mem_strdup(id);
    l->resolve_host = mem_strdup(host);
    l->port = port;
    snprintf(l->host, sizeof(l->host), "%s", host);
    if (lookup(l, AI_NUMERICHOST) == 0) {
        l->state = LINK_CONNECTING;
        l->address = l->addresses;
        link_connect_next(l);
        rc = 0; /* a failure is told by closed() */
    } else {
        l->addresses = NULL;
        rc = resolve(l, err);
    }
    if (rc < 0)
        link_discard(l);
    else
        *ret = l;
    return rc;
}
