/* Between TLS and the socket: as OpenSSL's own socket BIO, but records are collected, to be written to the socket
 * several at a time (link_io.c), and a socket that has just been emptied is not asked again. */
#include <errno.h>
#include <sys/socket.h>

#include "io/link_private.h"

static int bio_write(BIO *bio, const char *data, int len)
{
    BIO_clear_retry_flags(bio);
    if (link_wire_put(BIO_get_data(bio), data, (size_t)len))
        return len;
    BIO_set_retry_write(bio);
    return -1;
}

static int bio_read(BIO *bio, char *data, int len)
{
    struct link *l = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (l->in_empty) {
        BIO_set_retry_read(bio);
        return -1;
    }
    n = recv(l->fd, data, (size_t)len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    l->in_empty = n < len && n != 0; /* the end of the stream shows at once */
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
