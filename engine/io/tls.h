/* tls.h - what pki and link share: who a certificate names, and OpenSSL's errors in our words.
 * Private to io. */
#ifndef IO_TLS_H
#define IO_TLS_H

#include <openssl/x509.h>
#include <stdbool.h>

#include "base/err.h"
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

/* Fills err with the text and the first reason in this thread's OpenSSL queue, and empties the
 * queue, so that a later call does not find an old error. */
int tls_error(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
