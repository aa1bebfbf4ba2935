#include "io/enrol.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link_private.h"
#include "io/loop.h"
#include "io/pki.h"
#include "io/tls.h"

enum { ANSWER_MAX = 4 * CERTIFICATE_MAX, READ_BYTES = 4096 };

struct talk {
    const struct enrol_options *o;
    SSL_CTX *tls;
    SSL *ssl;
    int fd;
    int64_t until_ms;
};

static int wait_for(const struct talk *t, short events, struct err *err)
{
    struct pollfd p = { t->fd, events, 0 };
    int64_t left_ms = t->until_ms - monotonic_ms();

    if (left_ms > 0 && poll(&p, 1, (int)left_ms) >= 0)
        return 0;
    return err_set(err, ERR_TIMEOUT, "no answer in %lld ms", (long long)t->o->timeout_ms);
}

/* What an SSL call that returned ret <= 0 wants; 0: try again. */
static int again(const struct talk *t, int ret, struct err *err)
{
    int what = SSL_get_error(t->ssl, ret);

    if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE)
        return wait_for(t, what == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, err);
    if (what == SSL_ERROR_SSL && SSL_get_verify_result(t->ssl) != X509_V_OK) {
        ERR_clear_error();
        return err_set(err, ERR_DENIED, "it is not the cluster that the pin names");
    }
    return tls_error(err, ERR_UNREACHABLE, "the connection ended");
}

/* The chain must end in a CA with the pinned key; that CA must have signed the certificate, which
 * must be a region node's. Names in it count only after that. */
static int check_chain(X509_STORE_CTX *store, void *arg)
{
    const struct talk *t = arg;
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    struct tls_name name;

    for (int i = 0; cert != NULL && i < sk_X509_num(sent); i++) {
        X509 *ca = sk_X509_value(sent, i);
        unsigned char *der = NULL;
        int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(ca), &der);
        struct hash digest = sha256_of(der, len < 0 ? 0 : (size_t)len);

        OPENSSL_free(der);
        if (hash_equal(&digest, &t->o->pin) && X509_check_ca(ca) == 1 &&
            X509_verify(cert, X509_get0_pubkey(ca)) == 1 &&
            X509_cmp_current_time(X509_get0_notAfter(cert)) > 0 &&
            tls_name_of(&name, cert, NULL) == 0 && name.role == ROLE_REGION &&
            tls_is_ca_of(ca, name.cluster))
            return 1;
    }
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
    return 0;
}

static int tcp_connect(struct talk *t, struct err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all, *a;
    int broken = 0;
    socklen_t len = sizeof(broken);
    char port[16];

    snprintf(port, sizeof(port), "%d", t->o->port);
    if (getaddrinfo(t->o->host, port, &hints, &all) != 0)
        return err_set(err, ERR_UNREACHABLE, "%s: no such host", t->o->host);
    for (a = all; a != NULL && t->fd < 0; a = a->ai_next) {
        t->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (t->fd < 0)
            continue;
        link_tune(t->fd); /* the request does not wait for the handshake's end to be acknowledged */
        if (connect(t->fd, a->ai_addr, a->ai_addrlen) == 0 ||
            (errno == EINPROGRESS && wait_for(t, POLLOUT, err) == 0 &&
             getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &broken, &len) == 0 && broken == 0))
            continue;
        close(t->fd);
        t->fd = -1;
    }
    freeaddrinfo(all);
    return t->fd >= 0 ? 0 : err_set(err, ERR_UNREACHABLE, "nobody answers there");
}

static int secure(struct talk *t, struct err *err)
{
    int ret;

    t->tls = SSL_CTX_new(TLS_client_method());
    if (t->tls == NULL || SSL_CTX_set_min_proto_version(t->tls, TLS1_3_VERSION) != 1)
        return tls_error(err, ERR_INTERNAL, "set up TLS");
    SSL_CTX_set_verify(t->tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(t->tls, check_chain, t);
    t->ssl = SSL_new(t->tls);
    if (t->ssl == NULL || SSL_set_fd(t->ssl, t->fd) != 1)
        return tls_error(err, ERR_INTERNAL, "set up TLS");
    ERR_clear_error();
    while ((ret = SSL_connect(t->ssl)) != 1)
        if (again(t, ret, err) < 0)
            return -(int)err->code;
    return 0;
}

static int say(struct talk *t, const struct buf *frame, struct err *err)
{
    int ret;

    while ((ret = SSL_write(t->ssl, frame->data, (int)frame->len)) <= 0)
        if (again(t, ret, err) < 0)
            return -(int)err->code;
    return 0;
}

/* The next whole frame; in is emptied by the caller. */
static int hear(struct talk *t, struct buf *in, enum msg_type *type, struct bytes *payload,
                struct err *err)
{
    size_t len = 0;

    for (;;) {
        int ret;

        if (msg_next_frame(in->data, in->len, &len, type, payload, err) < 0)
            return -(int)err->code;
        if (len > 0)
            return 0;
        if (in->len > ANSWER_MAX)
            return err_set(err, ERR_LIMIT, "the answer is too long");
        buf_reserve(in, READ_BYTES);
        ret = SSL_read(t->ssl, in->data + in->len, READ_BYTES);
        if (ret > 0)
            in->len += (size_t)ret;
        else if (again(t, ret, err) < 0)
            return -(int)err->code;
    }
}

static int keep(const char *dir, const struct msg_enrolled *m, const struct hash *pin,
                struct err *err)
{
    AUTO_FREE char *ca = mem_printf("%s/ca.pem", dir);
    AUTO_FREE char *cert = mem_printf("%s/cert.pem", dir);
    struct hash digest;

    if (file_publish(ca, m->ca.data, m->ca.len, 0644, err) < 0 || pki_pin(dir, &digest, err) < 0)
        return -(int)err->code;
    if (!hash_equal(&digest, pin)) {
        (void)unlink(ca);
        return err_set(err, ERR_DENIED, "the answer's CA is not the pinned one");
    }
    return file_publish(cert, m->certificate.data, m->certificate.len, 0644, err);
}

static int on_answer(const char *dir, const struct enrol_options *o, enum msg_type type,
                     const struct bytes *payload, struct err *err)
{
    void *msg = NULL;
    int rc = codec_decode(&msg, msg_codec(type), payload->data, payload->len, err);

    if (rc < 0)
        return rc;
    if (type == MSG_ENROLLED)
        rc = keep(dir, msg, &o->pin, err);
    else if (type == MSG_BYE)
        rc = err_set(err, ERR_DENIED, "%s", ((const struct msg_bye *)msg)->reason);
    else
        rc = err_set(err, ERR_INVALID, "%s instead of an answer", msg_name(type));
    codec_free(msg_codec(type), msg);
    return rc;
}

static int ask(struct talk *t, const char *dir, struct err *err)
{
    AUTO_BUF request = BUF_INIT;
    AUTO_BUF frame = BUF_INIT;
    AUTO_BUF in = BUF_INIT;
    unsigned char secret[SECRET_BYTES];
    struct msg_enrol m = { .secret = { secret, sizeof(secret) } };
    struct bytes payload = { NULL, 0 };
    enum msg_type type = MSG_NONE;

    memcpy(secret, t->o->secret, sizeof(secret));
    if (pki_request(dir, &request, err) < 0)
        return -(int)err->code;
    m.request = (struct bytes){ (unsigned char *)request.data, request.len };
    if (msg_frame(&frame, MSG_ENROL, &m, err) < 0 || say(t, &frame, err) < 0 ||
        hear(t, &in, &type, &payload, err) < 0)
        return -(int)err->code;
    return on_answer(dir, t->o, type, &payload, err);
}

static bool is_enrolled(const char *dir, const struct hash *pin)
{
    AUTO_FREE char *cert = mem_printf("%s/cert.pem", dir);
    struct hash digest;

    return path_exists(cert) && pki_pin(dir, &digest, NULL) == 0 && hash_equal(&digest, pin);
}

static int try_once(const char *dir, const struct enrol_options *o, int64_t until_ms,
                    struct err *err)
{
    struct talk t = { .o = o, .fd = -1, .until_ms = until_ms };
    int rc = tcp_connect(&t, err);

    if (rc == 0)
        rc = secure(&t, err);
    if (rc == 0)
        rc = ask(&t, dir, err);
    SSL_free(t.ssl);
    SSL_CTX_free(t.tls);
    if (t.fd >= 0)
        close(t.fd);
    return rc;
}

int enrol(const char *dir, const struct enrol_options *o, struct err *err)
{
    int64_t until_ms = monotonic_ms() + o->timeout_ms;
    int rc;

    if (is_enrolled(dir, &o->pin))
        return 0;
    rc = dir_make(dir, 0700, err);
    if (rc == 0)
        rc = try_once(dir, o, until_ms, err);
    for (int i = 0; i < ENROL_AGAIN && rc == -ERR_UNREACHABLE; i++) {
        int64_t ms = link_backoff_ms(i);
        struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

        (void)nanosleep(&pause, NULL);
        rc = try_once(dir, o, until_ms, err);
    }
    return rc < 0 ? err_wrap(err, "enrol at %s port %d", o->host, o->port) : 0;
}
