/* enrol.h - how a machine gets its first certificate: it knows where the cluster is, the digest of
 * its CA's public key (the pin), and a secret that says that it may join.
 *
 *     link_identity_enrol(&self, dir, region, &options, &err)
 *     link_connect(&l, loop, self, host, port, ROLE_REGION, …)    the first link gets the certificate
 *     opened(l) or closed(l, why)                                 on the same connection: it is a link
 *
 * TLS 1.3 without a certificate of ours; the other side must show a CA whose key is the pinned one,
 * and a certificate of role region that this CA has signed. Only then the secret and our request are
 * sent; the answer must be a certificate of that CA for our key and the name that goes with it. So a
 * stranger in between learns nothing, and gets nobody to trust him.
 *
 * The request names the connection that it is sent on (tls_binding()) and is signed: that proves as
 * well as a certificate shown in a handshake that who is at this end has the key. So HELLO follows
 * at once, and the link opens without a second connection: ENROL and HELLO, ENROLLED and HELLO. */
#ifndef IO_ENROL_H
#define IO_ENROL_H

#include "base/err.h"
#include "base/sha256.h"
#include "io/link.h"

struct enrol_options {
    struct hash pin;
    unsigned char secret[SECRET_BYTES];
};

/* The identity that is in dir (ca.pem, cert.pem, key.pem), if it is of that CA; or else one without a
 * certificate, which is put there when the first link gets it. Until then links to others end, and links
 * from others are refused. closed() of a link that does not get it: -ERR_DENIED (it is not the pinned CA, or the secret
 * is wrong), or the errors of any link. */
MUST_CHECK int link_identity_enrol(struct link_identity **ret, const char *dir, const char *region,
                                   const struct enrol_options *o, struct err *err);
bool link_identity_is_enrolled(const struct link_identity *i);

#endif
