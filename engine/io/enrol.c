#include "io/enrol.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/files.h"
#include "io/link_private.h"
#include "io/pki.h"
#include "io/tls.h"

struct enrolment {
    struct enrol_options o;
    char *dir;
    EVP_PKEY *key;
};

void enrolment_free(struct enrolment *e)
{
    if (e == NULL)
        return;
    EVP_PKEY_free(e->key);
    OPENSSL_cleanse(&e->o, sizeof(e->o));
    free(e->dir);
    free(e);
}

bool link_identity_is_enrolled(const struct link_identity *i)
{
    return i->enrolment == NULL;
}

static bool is_pinned(X509 *ca, const struct hash *pin)
{
    struct hash digest;

    return pki_pin_of(ca, &digest, NULL) == 0 && hash_equal(&digest, pin);
}

/* The chain must end in a CA with the pinned key; that CA must have signed the certificate, which
 * must be a region node's. Names in it count only after that. */
static int check_chain(X509_STORE_CTX *store, void *arg)
{
    const struct enrolment *e = arg;
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    struct tls_name name;

    for (int i = 0; cert != NULL && i < sk_X509_num(sent); i++) {
        X509 *ca = sk_X509_value(sent, i);

        if (is_pinned(ca, &e->o.pin) && X509_check_ca(ca) == 1 &&
            X509_verify(cert, X509_get0_pubkey(ca)) == 1 &&
            X509_cmp_current_time(X509_get0_notAfter(cert)) > 0 &&
            tls_name_of(&name, cert, NULL) == 0 && name.role == ROLE_REGION &&
            tls_is_ca_of(ca, name.cluster))
            return 1;
    }
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
    return 0;
}

static bool is_member(const char *dir, const struct hash *pin)
{
    AUTO_FREE char *cert = mem_printf("%s/cert.pem", dir);
    struct hash digest;

    return path_exists(cert) && pki_pin(dir, &digest, NULL) == 0 && hash_equal(&digest, pin);
}

static int begin(struct link_identity *i, const char *dir, const struct enrol_options *o,
                 struct err *err)
{
    struct enrolment *e = mem_alloc(sizeof(*e));

    e->o = *o;
    e->dir = mem_strdup(dir);
    i->enrolment = e;
    e->key = pki_own_key(dir, err);
    if (e->key == NULL)
        return -(int)err->code;
    SSL_CTX_set_cert_verify_callback(i->tls, check_chain, e);
    return 0;
}

int link_identity_enrol(struct link_identity **ret, const char *dir, const char *region,
                        const struct enrol_options *o, struct err *err)
{
    struct link_identity *i = link_identity_blank(region, err);
    int rc;

    if (i == NULL)
        return -(int)err->code;
    rc = is_member(dir, &o->pin) ? link_identity_load_files(i, dir, err) : begin(i, dir, o, err);
    if (rc < 0) {
        link_identity_free(i);
        return rc;
    }
    *ret = i;
    return 0;
}

int enrol_name(struct link *l, struct err *err)
{
    struct tls_name *name = &l->self->name;

    memcpy(name->cluster, l->peer.cluster,
           sizeof(name->cluster)); /* check_chain() has seen to it */
    name->role = ROLE_AGENT;
    return pki_name_of_key(l->self->enrolment->key, name->id, err);
}

int enrol_ask(struct link *l, struct buf *frame, struct err *err)
{
    struct enrolment *e = l->self->enrolment;
    AUTO_BUF request = BUF_INIT;
    struct msg_enrol m = { .secret = { e->o.secret, sizeof(e->o.secret) } };
    struct hash binding;

    if (!tls_binding(l->ssl, &binding))
        return tls_error(err, ERR_INTERNAL, "name the connection");
    if (pki_request(e->key, &binding, &request, err) < 0)
        return -(int)err->code;
    m.request = (struct bytes){ (unsigned char *)request.data, request.len };
    return msg_frame(frame, MSG_ENROL, &m, err);
}

static int check_answer(const struct link_identity *i, X509 *cert, X509 *ca, struct err *err)
{
    const struct enrolment *e = i->enrolment;
    struct tls_name name;

    if (!is_pinned(ca, &e->o.pin))
        return err_set(err, ERR_DENIED, "the answer's CA is not the pinned one");
    if (X509_verify(cert, X509_get0_pubkey(ca)) != 1 ||
        EVP_PKEY_eq(X509_get0_pubkey(cert), e->key) != 1)
        return tls_error(err, ERR_DENIED, "the answer is not that CA's certificate of our key");
    if (tls_name_of(&name, cert, err) < 0)
        return -(int)err->code;
    if (name.role != i->name.role || strcmp(name.id, i->name.id) != 0 ||
        strcmp(name.cluster, i->name.cluster) != 0)
        return err_set(err, ERR_DENIED, "the answer's certificate names somebody else");
    return 0;
}

static int keep(const char *dir, const struct msg_enrolled *m, struct err *err)
{
    AUTO_FREE char *ca = mem_printf("%s/ca.pem", dir);
    AUTO_FREE char *cert = mem_printf("%s/cert.pem", dir);

    if (file_publish(ca, m->ca.data, m->ca.len, 0644, err) < 0)
        return -(int)err->code;
    return file_publish(cert, m->certificate.data, m->certificate.len, 0644, err);
}

static int become_member(struct link_identity *i, const struct msg_enrolled *m, X509 *cert,
                         X509 *ca, struct err *err)
{
    if (check_answer(i, cert, ca, err) < 0 || keep(i->enrolment->dir, m, err) < 0 ||
        link_identity_take(i, cert, i->enrolment->key, ca, err) < 0)
        return -(int)err->code;
    SSL_CTX_set_cert_verify_callback(i->tls, NULL, NULL);
    enrolment_free(i->enrolment);
    i->enrolment = NULL;
    return 0;
}

int enrol_answered(struct link_identity *i, const struct msg_enrolled *m, struct err *err)
{
    X509 *ca, *cert;
    int rc = -ERR_INVALID;

    if (i->enrolment == NULL) /* another link was faster */
        return 0;
    ca = pki_parse_cert(&m->ca, err);
    cert = ca == NULL ? NULL : pki_parse_cert(&m->certificate, err);
    if (cert != NULL)
        rc = become_member(i, m, cert, ca, err);
    X509_free(cert);
    X509_free(ca);
    return rc < 0 ? err_wrap(err, "enrol") : 0;
}
