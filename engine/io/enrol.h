/* enrol.h - how a machine gets its first certificate: it knows where the cluster is, the digest of
 * its CA's public key (the pin), and a secret that says that it may join.
 *
 * TLS 1.3 without a certificate of ours; the other side must show a CA whose key is the pinned one,
 * and a certificate of role region that this CA has signed. Only then the secret and our request are
 * sent; the answer must be a certificate of that CA for our key. So a stranger in between learns
 * nothing, and gets nobody to trust him. */
#ifndef IO_ENROL_H
#define IO_ENROL_H

#include "base/err.h"
#include "base/sha256.h"
#include "wire/msg.h"

struct enrol_options {
    const char *host;
    int port;
    struct hash pin;
    unsigned char secret[SECRET_BYTES];
    int64_t timeout_ms; /* in all */
};

enum {
    ENROL_AGAIN = 5
}; /* times, with growing pauses, when nobody answers or the connection ends */

/* Makes the identity in dir (ca.pem, cert.pem, key.pem), unless there is one of that CA. Blocks.
 * -ERR_DENIED: it is not the pinned CA, or the secret is wrong; -ERR_UNREACHABLE, -ERR_TIMEOUT. */
MUST_CHECK int enrol(const char *dir, const struct enrol_options *o, struct err *err);

#endif
