/* The socket and TLS of a link: handshake, bounded reading and writing, the frames in the stream.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/link_private.h"

static void on_more(void *arg);

/* As ERR_clear_error(), which is not cheap, called before each record. */
static void forget_errors(void)
{
    if (ERR_peek_error() != 0)
        ERR_clear_error();
}

/* What an SSL call that returned <= 0 means. True: try again when the socket is ready; false: the
 * connection is over, and *why says how. os_errno as it was right after the call. */
static bool may_retry(struct link *l, int ret, int os_errno, const char *doing, struct err *why)
{
    bool opening = l->state == LINK_TLS || l->state == LINK_HELLO;
    unsigned long first;

    switch (SSL_get_error(l->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return true;
    case SSL_ERROR_WANT_WRITE:
        l->tls_wants_out = true;
        return true;
    case SSL_ERROR_ZERO_RETURN:
        err_set(why, ERR_UNREACHABLE, "the peer closed the connection");
        return false;
    case SSL_ERROR_SYSCALL:
        if (os_errno == 0)
            err_set(why, ERR_UNREACHABLE, "the peer closed the connection");
        else
            err_set(why, ERR_UNREACHABLE, "%s: %s", doing, strerror(os_errno));
        ERR_clear_error();
        return false;
    default:
        break;
    }
    first = ERR_peek_error();
    if (ERR_GET_REASON(first) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        err_set(why, ERR_UNREACHABLE, "the peer closed the connection");
    else if (SSL_get_verify_result(l->ssl) != X509_V_OK && l->self->enrolment != NULL)
        err_set(why, ERR_DENIED, "it is not the cluster that the pin names");
    else if (SSL_get_verify_result(l->ssl) != X509_V_OK)
        err_set(why, ERR_DENIED, "%s: %s", doing,
                X509_verify_cert_error_string(SSL_get_verify_result(l->ssl)));
    else
        tls_error(why, opening ? ERR_DENIED : ERR_CORRUPT, "%s", doing);
    ERR_clear_error();
    return false;
}

void link_start_tls(struct link *l, int fd, bool accept)
{
    l->fd = fd;
    l->state = LINK_TLS;
    link_socket_look(l);
    l->ssl = SSL_new(l->self->tls);
    if (l->ssl == NULL || !link_bio_set(l)) {
        tls_error(&l->why, ERR_INTERNAL, "set up TLS");
        link_end(l);
        return;
    }
    if (l->enrol != NULL) /* a certificate may be missing, but not be wrong */
        SSL_set_verify(l->ssl, SSL_VERIFY_PEER, NULL);
    if (accept)
        SSL_set_accept_state(l->ssl);
    else
        SSL_set_connect_state(l->ssl);
    link_session_offer(l);
    l->events = WATCH_NONE;
    l->tls_wants_out = !accept; /* the connecting side speaks first */
    link_update_watch(l);
}

void link_update_watch(struct link *l)
{
    int events = WATCH_READ;

    if (l->state < LINK_TLS || l->state == LINK_CLOSED)
        return;
    if (l->tls_wants_out || (l->out_blocked && link_pending(l) > 0))
        events |= WATCH_WRITE;
    if (events == l->events && l->watch.active)
        return;
    l->events = events;
    watch_start(l->loop, &l->watch, l->fd, events, link_on_io);
}

/* Writes what is encrypted. 0: the socket took it all, 1: it did not, -1: the connection is over. */
static int write_wire(struct link *l, struct err *why)
{
    size_t len = link_wire_bytes(l);
    ssize_t n;

    if (len == 0)
        return 0;
    n = send(l->fd, link_wire_front(l), len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        err_set(why, ERR_UNREACHABLE, "write: %s", strerror(errno));
        return -1;
    }
    if (n > 0)
        link_wire_sent(l, (size_t)n);
    return link_wire_bytes(l) > 0;
}

static void handshake(struct link *l)
{
    struct err why = ERR_INIT;
    int ret, os_errno;

    forget_errors();
    l->tls_wants_out = false;
    link_bio_turn(l);
    errno = 0;
    ret = SSL_do_handshake(l->ssl);
    os_errno = errno;
    l->out_blocked = write_wire(l, &why) > 0; /* if it fails, so does reading */
    if (ret == 1)
        link_secured(l);
    else if (!may_retry(l, ret, os_errno, "TLS handshake", &l->why))
        link_end(l);
}

/* One TLS record. Returns its bytes, 0 if there is none for now, -1 at the connection's end (then
 * *why is set). */
static int read_record(struct link *l, void *data, size_t room, struct err *why)
{
    int ret, os_errno;

    forget_errors();
    errno = 0;
    ret = SSL_read(l->ssl, data, (int)room);
    os_errno = errno;
    if (ret > 0) {
        l->received += (uint64_t)ret;
        return ret;
    }
    if (may_retry(l, ret, os_errno, "read", why)) {
        link_flush_soon(l); /* TLS may have answered something itself */
        return 0;
    }
    (void)write_wire(l, &(struct err)ERR_INIT); /* an alert that says why */
    return -1;
}

/* What TLS has taken from the socket already does not wake the watch again. */
static void post_more(struct link *l)
{
    if (l->more_posted || (SSL_has_pending(l->ssl) != 1 && l->ahead == NULL))
        return;
    l->more_posted = true;
    loop_post(l->loop, on_more, l);
}

static bool is_reading(const struct link *l)
{
    return l->state == LINK_HELLO || l->state == LINK_OPEN || l->state == LINK_CLOSING;
}

static int drop_record(struct link *l, struct err *why)
{
    char dropped[LINK_RECORD_BYTES];

    return read_record(l, dropped, sizeof(dropped), why);
}

/* Reads a record to where it belongs, and hands over what is whole by then. */
static int take_record(struct link *l, struct err *why)
{
    size_t room;
    unsigned char *to = link_in_room(l, &room);
    int n = read_record(l, to, room, why);

    if (n > 0)
        link_in_got(l, (size_t)n);
    return n;
}

/* TLS frees its buffers whenever they are empty, which is after each record: not amidst a large message. */
static void keep_buffers(struct link *l)
{
    bool keep = l->part_block != NULL || !list_empty(&l->large);

    if (keep == l->keeps_buffers)
        return;
    l->keeps_buffers = keep;
    if (keep)
        SSL_clear_mode(l->ssl, SSL_MODE_RELEASE_BUFFERS);
    else
        SSL_set_mode(l->ssl, SSL_MODE_RELEASE_BUFFERS);
}

/* What came has been read, or others have their turn. Links that are idle keep no buffers: TLS frees one for reading
 * when it is empty, but one for writing only when something was written; reading a ticket takes one, too. */
static void input_rests(struct link *l, bool others)
{
    if (others)
        post_more(l);
    if (l->in.len == 0)
        buf_release(&l->in);
    keep_buffers(l);
    if (!l->keeps_buffers && link_bio_between_records(l) && SSL_has_pending(l->ssl) == 0)
        (void)SSL_free_buffers(l->ssl);
}

/* While closing, input is read and dropped (see link_private.h). */
static void read_some(struct link *l)
{
    link_bio_turn(l);
    while (is_reading(l)) {
        struct err why = ERR_INIT;
        bool drop = l->state == LINK_CLOSING;
        int n = drop ? drop_record(l, &why) : take_record(l, &why);
        if (n < 0) {
            if (!drop) /* closing on purpose keeps its own reason */
                l->why = why;
            link_end(l);
            break;
        }
        if (n == 0)
            break;
    }
    link_bio_rest(l);
    if (is_reading(l))
        input_rests(l, l->in_left == 0);
}

/* Makes records of what waits, until they are worth writing. 1: TLS takes nothing now; -1: the connection is
 * over, *why says how. */
static int encrypt_some(struct link *l, struct err *why)
{
    const unsigned char *data;
    size_t len = 0;

    while (link_wire_bytes(l) + LINK_RECORD_BYTES < LINK_WIRE_BYTES &&
           (data = link_queue_front(l, &len)) != NULL) {
        int ret, os_errno;

        forget_errors();
        errno = 0;
        ret = SSL_write(l->ssl, data, (int)len);
        os_errno = errno;
        link_queue_put_back(l);
        if (ret <= 0)
            return may_retry(l, ret, os_errno, "write", why) ? 1 : -1;
        link_queue_sent(l, (size_t)ret);
        l->sent += (uint64_t)ret;
    }
    return 0;
}

/* -1: the connection is over, *why says how. */
static int write_some(struct link *l, struct err *why)
{
    uint64_t before = l->wired;
    int rc = 0;

    l->tls_wants_out = l->out_blocked = false;
    keep_buffers(l);
    while (rc == 0 && link_pending(l) > 0 && l->wired - before < l->burst) {
        int wire;

        rc = encrypt_some(l, why);
        wire = rc < 0 ? 0 : write_wire(l, why);
        rc = wire != 0 ? wire : rc;
    }
    l->out_blocked = link_pending(l) > 0;
    if (l->wired >= l->look_at)
        link_socket_look(l);
    return rc < 0 ? -1 : 0;
}

static void half_close(struct link *l)
{
    if (l->half_closed)
        return;
    l->half_closed = true;
    forget_errors();
    (void)SSL_shutdown(l->ssl);
    forget_errors();
    (void)write_wire(
        l, &(struct err)ERR_INIT); /* if close_notify does not fit, the FIN says the same */
    link_queue_release(l);
    shutdown(l->fd, SHUT_WR);
}

static void write_ready(struct link *l)
{
    struct err why = ERR_INIT;

    if (write_some(l, &why) < 0) {
        /* The peer may have told its reason before it went. */
        bool keep = l->state == LINK_CLOSING;

        read_some(l);
        if (l->state != LINK_CLOSED) {
            if (!keep)
                l->why = why;
            link_end(l);
        }
        return;
    }
    if (l->state == LINK_CLOSING && link_pending(l) == 0)
        half_close(l);
    else
        link_drain_tell(l);
}

static void on_more(void *arg)
{
    struct link *l = arg;

    l->more_posted = false;
    if (is_reading(l)) {
        read_some(l);
        link_update_watch(l);
    }
}

static void on_flush(void *arg)
{
    struct link *l = arg;

    l->flush_posted = false;
    if (is_reading(l) && !l->out_blocked) {
        write_ready(l);
        link_update_watch(l);
    }
}

void link_flush_soon(struct link *l)
{
    if (l->flush_posted || l->out_blocked || link_pending(l) == 0)
        return;
    l->flush_posted = true;
    loop_post(l->loop, on_flush, l);
}

void link_on_io(struct watch *w, int events)
{
    struct link *l = CONTAINER_OF(w, struct link, watch);

    if (l->state == LINK_CONNECTING) {
        link_connect_done(l);
        return;
    }
    if (l->state == LINK_TLS)
        handshake(l);
    /* TLS may have read further than the handshake: always look. */
    if (is_reading(l))
        read_some(l);
    if (is_reading(l) && ((events & WATCH_WRITE) != 0 || l->state == LINK_CLOSING))
        write_ready(l);
    link_update_watch(l);
}
