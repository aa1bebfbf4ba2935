/* tls.h - what pki and link share: who a certificate names, and OpenSSL's errors in our words.
 * Private to io. */
#ifndef IO_TLS_H
#define IO_TLS_H

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/sha256.h"
#include "wire/msg.h"

/* What spiffe://CLUSTER/ROLE/ID says. Cluster and id: 1 to NAME_MAX_BYTES of [A-Za-z0-9._-], and
 * not "." or "..": both become names of files. */
struct tls_name {
    char cluster[NAME_MAX_BYTES + 1];
    enum link_role role;
    char id[NAME_MAX_BYTES + 1];
};

bool tls_name_part_valid(const char *part);

/* "spiffe://c/agent/m-01". False if uri is anything else. */
bool tls_name_parse(struct tls_name *ret, const char *uri);

/* From the one URI of the certificate's subject alternative names. -ERR_DENIED: it has none, more
 * than one, or a malformed one. */
MUST_CHECK int tls_name_of(struct tls_name *ret, X509 *cert, struct err *err);

/* Is this the certificate of that cluster's CA ("spiffe://CLUSTER")? */
bool tls_is_ca_of(X509 *ca, const char *cluster);

/* What only the two ends of this TLS connection know, and no other connection has (RFC 9266): who signs it has
 * the key at this end. */
MUST_CHECK bool tls_binding(SSL *ssl, struct hash *ret);

/* ---- of who enrols (enrol.h); in pki.c ---- */

/* The key in dir/key.pem, made unless it is there. Gives, or NULL. */
EVP_PKEY *pki_own_key(const char *dir, struct err *err);
/* "m-" and 32 hex digits of its digest. */
MUST_CHECK int pki_name_of_key(EVP_PKEY *key, char ret[NAME_MAX_BYTES + 1], struct err *err);
/* Appends a request for a certificate (PKCS #10, DER), signed by the key, that names the connection on which
 * it is sent; binding NULL: none. */
MUST_CHECK int pki_request(EVP_PKEY *key, const struct hash *binding, struct buf *out,
                           struct err *err);
/* From PEM. Gives, or NULL (ERR_INVALID). */
X509 *pki_parse_cert(const struct bytes *pem, struct err *err);
/* As pki_pin(). */
MUST_CHECK int pki_pin_of(X509 *ca, struct hash *ret, struct err *err);

/* Fills err with the text and the first reason in this thread's OpenSSL queue, and empties the
 * queue, so that a later call does not find an old error. */
int tls_error(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
