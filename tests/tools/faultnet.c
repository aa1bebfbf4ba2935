/* faultnet - a TCP proxy that spoils what passes, for tests of everything that speaks over TCP.
 *
 *     faultnet LISTEN_PORT TARGET_HOST:PORT [options]
 *
 *   --delay MS           each byte arrives so much later
 *   --rate BYTES         per second, connection and direction
 *   --cut-after BYTES    resets the connection when so many have passed in one direction
 *   --flip-at BYTE       inverts the lowest bit of that byte (0-based) of each direction
 *   --stall-after BYTES  passes no more than so many in one direction, and keeps the connection
 *   --direction up|down  the last three apply to bytes to (up) or from (down) the target only
 *   --parent-fd N        exits when that pipe reaches its end
 *
 * Listens on 127.0.0.1 only; LISTEN_PORT 0 takes a free port. Prints "port N" when it serves. Every
 * connection is spoilt in the same way. At most CHUNKS_MAX chunks of a direction wait; then reading
 * pauses, so that a slow side slows the other down, as a network does. */
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/proc.h"

enum { CHUNK_BYTES = 16384, CHUNKS_MAX = 64 };

struct faults {
    int64_t delay_ms, rate, cut_after, flip_at, stall_after; /* -1: not so */
    bool up, down;
};

struct proxy {
    struct loop *loop;
    struct faults faults;
    struct addrinfo *target;
    int fd;
    struct watch watch;
};

struct chunk {
    struct list node;
    int64_t due_ms;
    size_t at, len;
    unsigned char data[CHUNK_BYTES];
};

/* One direction: read from one socket, hold, write to the other. */
struct pipe_end {
    struct connection *c;
    bool up;
    int from, to;
    struct watch in, out;
    struct timer timer; /* the first chunk's time, or the next bytes of the rate */
    struct list chunks;
    int nchunks;
    int64_t passed;     /* bytes read so far */
    int64_t free_at_us; /* the rate lets the next bytes out then */
    bool eof, shut, stalled, cut;
};

struct connection {
    struct proxy *p;
    int client, target;
    struct watch connecting;
    struct pipe_end up, down;
};

static void pump(struct pipe_end *e);
static void on_readable(struct watch *w, int events);

static void pipe_release(struct pipe_end *e)
{
    watch_stop(&e->in);
    watch_stop(&e->out);
    timer_stop(&e->timer);
    LIST_EACH (&e->chunks, n) {
        list_remove(n);
        free(CONTAINER_OF(n, struct chunk, node));
    }
}

/* reset: both sides see a broken connection instead of an orderly end. */
static void connection_free(struct connection *c, bool reset)
{
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };

    watch_stop(&c->connecting);
    pipe_release(&c->up);
    pipe_release(&c->down);
    if (reset) {
        (void)setsockopt(c->client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        (void)setsockopt(c->target, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    }
    close(c->client);
    close(c->target);
    free(c);
}

static void on_tick(struct timer *t)
{
    pump(CONTAINER_OF(t, struct pipe_end, timer));
}

static void on_writable(struct watch *w, int events)
{
    (void)events;
    pump(CONTAINER_OF(w, struct pipe_end, out));
}

/* How many bytes of the first chunk may leave now; if none, the timer is set for when some may. */
static size_t may_pass(struct pipe_end *e, const struct chunk *first)
{
    const struct faults *f = &e->c->p->faults;
    int64_t now = monotonic_ms();
    int64_t wait = first->due_ms - now, burst;
    size_t len = first->len - first->at;

    if (f->rate > 0 && e->free_at_us / 1000 - now > wait)
        wait = e->free_at_us / 1000 - now;
    if (wait > 0) {
        timer_start(e->c->p->loop, &e->timer, wait, 0, on_tick);
        return 0;
    }
    burst = f->rate < 0 ? (int64_t)len : f->rate / 100 + 1; /* about 10 ms worth */
    return (int64_t)len < burst ? len : (size_t)burst;
}

static void account(struct pipe_end *e, size_t sent)
{
    int64_t now_us = monotonic_ms() * 1000;

    if (e->c->p->faults.rate <= 0)
        return;
    if (e->free_at_us < now_us - 10000) /* no burst after a pause */
        e->free_at_us = now_us - 10000;
    e->free_at_us += (int64_t)sent * 1000000 / e->c->p->faults.rate;
}

/* The source has ended and everything is written: so ends the destination; with both, all. */
static void maybe_shut(struct pipe_end *e)
{
    struct connection *c = e->c;

    if (e->cut) {
        connection_free(c, true);
        return;
    }
    if (e->eof && !e->shut && e->nchunks == 0) {
        e->shut = true;
        shutdown(e->to, SHUT_WR);
    }
    if (c->up.shut && c->down.shut)
        connection_free(c, false);
}

/* Writes what may leave. Frees the connection at its end. */
static void pump(struct pipe_end *e)
{
    struct loop *loop = e->c->p->loop;

    while (e->nchunks > 0) {
        struct chunk *first = CONTAINER_OF(e->chunks.next, struct chunk, node);
        size_t len = may_pass(e, first);
        ssize_t n;

        if (len == 0) {
            watch_stop(&e->out);
            return;
        }
        n = send(e->to, first->data + first->at, len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!e->out.active)
                watch_start(loop, &e->out, e->to, WATCH_WRITE, on_writable);
            return;
        }
        if (n < 0) {
            connection_free(e->c, true);
            return;
        }
        account(e, (size_t)n);
        first->at += (size_t)n;
        if (first->at == first->len) {
            list_remove(&first->node);
            free(first);
            e->nchunks--;
        }
    }
    watch_stop(&e->out);
    if (!e->in.active && !e->eof && !e->stalled)
        watch_start(loop, &e->in, e->from, WATCH_READ, on_readable);
    maybe_shut(e);
}

/* Applies the faults that count bytes to the n that just came in. How many may go on. */
static int64_t spoil(struct pipe_end *e, unsigned char *data, int64_t n)
{
    const struct faults *f = &e->c->p->faults;
    int64_t before = e->passed;

    e->passed += n;
    if ((e->up && !f->up) || (!e->up && !f->down))
        return n;
    if (f->flip_at >= before && f->flip_at < before + n)
        data[f->flip_at - before] ^= 1;
    if (f->cut_after >= 0 && e->passed > f->cut_after) {
        e->cut = e->stalled = true; /* when what may pass is written */
        return f->cut_after - before;
    }
    if (f->stall_after < 0 || e->passed <= f->stall_after)
        return n;
    e->stalled = true; /* nothing more is read: the sender's own buffers fill up */
    return f->stall_after - before;
}

static void on_readable(struct watch *w, int events)
{
    struct pipe_end *e = CONTAINER_OF(w, struct pipe_end, in);
    struct chunk *chunk = mem_alloc(sizeof(*chunk));
    ssize_t n = recv(e->from, chunk->data, sizeof(chunk->data), 0);
    int64_t may = n <= 0 ? 0 : spoil(e, chunk->data, n);

    (void)events;
    if (may > 0) {
        chunk->len = (size_t)may;
        chunk->due_ms =
            monotonic_ms() + (e->c->p->faults.delay_ms > 0 ? e->c->p->faults.delay_ms : 0);
        list_push(&e->chunks, &chunk->node);
        e->nchunks++;
    } else {
        free(chunk);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        connection_free(e->c, true);
        return;
    }
    if (n == 0)
        e->eof = true;
    if (e->eof || e->stalled || e->nchunks >= CHUNKS_MAX)
        watch_stop(&e->in);
    pump(e);
}

static void pipe_start(struct pipe_end *e, struct connection *c, bool up)
{
    e->c = c;
    e->up = up;
    e->from = up ? c->client : c->target;
    e->to = up ? c->target : c->client;
    watch_start(c->p->loop, &e->in, e->from, WATCH_READ, on_readable);
}

static void on_connected(struct watch *w, int events)
{
    struct connection *c = CONTAINER_OF(w, struct connection, connecting);
    int os_errno = 0;
    socklen_t len = sizeof(os_errno);

    (void)events;
    watch_stop(w);
    if (getsockopt(c->target, SOL_SOCKET, SO_ERROR, &os_errno, &len) < 0 || os_errno != 0) {
        connection_free(c, true);
        return;
    }
    pipe_start(&c->up, c, true);
    pipe_start(&c->down, c, false);
}

static void on_accept(struct watch *w, int events)
{
    struct proxy *p = CONTAINER_OF(w, struct proxy, watch);
    int fd = accept4(p->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    const struct addrinfo *to = p->target;
    struct connection *c;
    int on = 1;

    (void)events;
    if (fd < 0)
        return;
    c = mem_alloc(sizeof(*c));
    c->p = p;
    c->client = fd;
    list_init(&c->up.chunks);
    list_init(&c->down.chunks);
    c->target = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(c->target, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (c->target < 0 ||
        (connect(c->target, to->ai_addr, to->ai_addrlen) < 0 && errno != EINPROGRESS)) {
        connection_free(c, true);
        return;
    }
    watch_start(p->loop, &c->connecting, c->target, WATCH_WRITE, on_connected);
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "faultnet: %s\n", what);
    exit(2);
}

static int64_t number(const char *text)
{
    char *end;
    long long n = strtoll(text, &end, 10);

    if (*text == '\0' || *end != '\0' || n < 0)
        die("a number is malformed");
    return n;
}

static struct addrinfo *resolve(const char *target)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    const char *colon = strrchr(target, ':');
    AUTO_FREE char *host = colon == NULL ? NULL : mem_strndup(target, (size_t)(colon - target));

    if (host == NULL || getaddrinfo(host, colon + 1, &hints, &found) != 0)
        die("want TARGET_HOST:PORT");
    return found;
}

static int listen_on(int port)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)port),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        die(strerror(errno));
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void parse_faults(struct faults *f, int *ret_parent_fd, int argc, char **argv)
{
    static const struct option options[] = {
        { "delay", 1, NULL, 'd' },     { "rate", 1, NULL, 'r' },
        { "cut-after", 1, NULL, 'c' }, { "flip-at", 1, NULL, 'f' },
        { "direction", 1, NULL, 'D' }, { "stall-after", 1, NULL, 's' },
        { "parent-fd", 1, NULL, 'p' }, { NULL, 0, NULL, 0 },
    };
    int o;

    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o == 'd')
            f->delay_ms = number(optarg);
        else if (o == 'r')
            f->rate = number(optarg);
        else if (o == 'c')
            f->cut_after = number(optarg);
        else if (o == 'f')
            f->flip_at = number(optarg);
        else if (o == 's')
            f->stall_after = number(optarg);
        else if (o == 'p')
            *ret_parent_fd = (int)number(optarg);
        else if (o == 'D' && strcmp(optarg, "up") == 0)
            f->down = false;
        else if (o == 'D' && strcmp(optarg, "down") == 0)
            f->up = false;
        else
            die("unknown option");
    }
    if (f->rate == 0)
        die("a rate of 0 is --stall-after 0");
}

int main(int argc, char **argv)
{
    struct proxy p = { .faults = { -1, -1, -1, -1, -1, true, true } };
    struct err err = ERR_INIT;
    int parent_fd = -1;

    parse_faults(&p.faults, &parent_fd, argc, argv);
    if (argc - optind != 2)
        die("usage: faultnet LISTEN_PORT TARGET_HOST:PORT [options]");
    p.target = resolve(argv[optind + 1]);
    if (loop_new(&p.loop, &err) < 0 ||
        (parent_fd >= 0 && proc_exit_with_parent(p.loop, parent_fd, &err) < 0))
        die(err.text);
    p.fd = listen_on((int)number(argv[optind]));
    watch_start(p.loop, &p.watch, p.fd, WATCH_READ, on_accept);
    loop_run(p.loop); /* until it is killed */
    return 0;
}
