/* Between TLS and the socket: as OpenSSL's own socket BIO, but records are collected, to be written to the socket
 * several at a time (link_io.c), and a socket that has just been emptied is not asked again.
 *
 * The heads of the records that come are followed, so that it is known how much of one is still to come: TLS can
 * make nothing of less, and so the socket is told to wait for it (SO_RCVLOWAT) instead of waking us for every
 * packet. Nothing that could be read waits for that: what follows the record comes after it, and who has begun
 * one sends the rest. The end of the stream wakes us whatever is waited for.
 *
 * TLS asks for as much as it has room for between records, but in one for what is missing of it and no more; with
 * that we read what follows, into a buffer that all links of the identity have in common.
 *
 * How much a link reads before others have their turn is counted here: there are records of which TLS gives nothing
 * to its reader, and it goes on reading until one comes that is of another kind. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "io/link_private.h"

static int bio_write(BIO *bio, const char *data, int len)
{
    BIO_clear_retry_flags(bio);
    if (link_wire_put(BIO_get_data(bio), data, (size_t)len))
        return len;
    BIO_set_retry_write(bio);
    return -1;
}

/* These bytes have come. */
static void follow(struct link *l, const unsigned char *data, size_t len)
{
    while (len > 0) {
        bool in_head = l->record_left == 0;
        size_t most = in_head ? LINK_RECORD_HEAD - l->record_have : l->record_left;
        size_t n = len < most ? len : most;

        if (in_head) {
            memcpy(l->record_head + l->record_have, data, n);
            l->record_have += n;
        } else {
            l->record_left -= n;
        }
        if (l->record_have == LINK_RECORD_HEAD) {
            l->record_left = (size_t)l->record_head[3] << 8 | (size_t)l->record_head[4];
            l->record_have = 0;
        }
        data += n;
        len -= n;
    }
}

bool link_bio_between_records(const struct link *l)
{
    return l->record_left == 0 && l->record_have == 0 && l->ahead == NULL;
}

/* Once the socket is empty, it is to wake the watch when the record that has begun is whole; before, at once. */
static void mark(struct link *l)
{
    size_t most = l->record_left < LINK_MARK_MAX ? l->record_left : LINK_MARK_MAX;
    int bytes = l->in_empty && most >= LINK_MARK_MIN ? (int)most : 1;

    if (bytes != l->in_mark &&
        setsockopt(l->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)) == 0)
        l->in_mark = bytes;
}

void link_bio_turn(struct link *l)
{
    l->in_empty = false;
    l->in_left = LINK_TURN_BYTES;
}

void link_bio_rest(struct link *l)
{
    struct link_identity *i = l->self;
    size_t left = i->ahead_len - i->ahead_at;

    if (l->state != LINK_CLOSED) {
        if (left > 0) { /* l->ahead was used up before that was read */
            l->ahead = link_block_sized(i->blocks, left);
            memcpy(l->ahead->data, i->ahead + i->ahead_at, left);
            l->ahead->len = left;
        }
        if (l->ahead == NULL)
            mark(l);
    }
    i->ahead_at = i->ahead_len = 0;
}

/* Of what was read ahead, as much as there is. */
static size_t take_ahead(struct link *l, void *data, size_t len)
{
    struct link_identity *i = l->self;
    const unsigned char *from = l->ahead == NULL ? i->ahead : l->ahead->data;
    size_t *at = l->ahead == NULL ? &i->ahead_at : &l->ahead->at;
    size_t have = (l->ahead == NULL ? i->ahead_len : l->ahead->len) - *at;

    if (len > have)
        len = have;
    memcpy(data, from + *at, len);
    *at += len;
    if (l->ahead != NULL && l->ahead->at == l->ahead->len) {
        link_block_free(l->ahead);
        l->ahead = NULL;
    }
    return len;
}

/* As recv(), and what follows is read ahead. */
static ssize_t receive(struct link *l, void *data, size_t len)
{
    struct link_identity *i = l->self;
    struct iovec to[] = { { data, len }, { i->ahead, sizeof(i->ahead) } };
    /* During the handshake nobody calls link_bio_rest(). */
    int count = l->state == LINK_TLS ? 1 : 2;
    ssize_t n = readv(l->fd, to, count);

    l->in_empty = n != 0 && n < (ssize_t)len + (count == 1 ? 0 : LINK_AHEAD_BYTES);
    if (n <= 0)
        return n;
    if ((size_t)n <= len) {
        follow(l, data, (size_t)n);
        return n;
    }
    follow(l, data, len);
    follow(l, i->ahead, (size_t)n - len);
    i->ahead_at = 0;
    i->ahead_len = (size_t)n - len;
    return (ssize_t)len;
}

static int bio_read(BIO *bio, char *data, int len)
{
    struct link *l = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    if ((size_t)len > l->in_left)
        len = (int)l->in_left;
    n = (ssize_t)take_ahead(l, data, (size_t)len);
    if (n > 0) {
        l->in_left -= (size_t)n;
        return (int)n;
    }
    if (l->in_empty || len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    n = receive(l, data, (size_t)len);
    if (n > 0)
        l->in_left -= (size_t)n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    l->in_eof = n == 0;
    l->in_any = l->in_any || n > 0;
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    const struct link *l = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_FLUSH)
        return 1;
    return command == BIO_CTRL_EOF ? l->in_eof : 0;
}

BIO_METHOD *link_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "link");

    if (m == NULL)
        return NULL;
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_ctrl(m, bio_ctrl);
    return m;
}

bool link_bio_set(struct link *l)
{
    BIO *bio = BIO_new(l->self->bio);

    if (bio == NULL)
        return false;
    BIO_set_data(bio, l);
    BIO_set_init(bio, 1);
    SSL_set_bio(l->ssl, bio, bio);
    return true;
}
