/* pki.h - the cluster's own certificate authority and identities (X.509, ECDSA P-256).
 *
 * A node's certificate names it by URI: spiffe://CLUSTER/ROLE/ID. The CA signs nothing else. Files
 * of an identity directory: ca.pem, cert.pem, key.pem (0600), all published by rename. */
#ifndef IO_PKI_H
#define IO_PKI_H

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "wire/msg.h"

/* Makes ca.pem and ca.key in dir unless both exist. -ERR_CONFLICT: they are another cluster's;
 * -ERR_EXISTS: ca.pem without its key (taken away by an operator; nothing is replaced). */
MUST_CHECK int pki_make_ca(const char *dir, const char *cluster, struct err *err);

/* Issues an identity (key, certificate valid 365 days, copy of ca.pem) into out_dir, unless a valid
 * one for the same cluster, role, id and CA is there already that is good for another 30 days.
 * hosts: none; peers are checked by URI, not by name. Cluster and id: letters, digits, '.', '_',
 * '-', at most NAME_MAX_BYTES; else -ERR_INVALID. -ERR_CONFLICT: the CA is another cluster's. */
MUST_CHECK int pki_issue(const char *ca_dir, const char *out_dir, const char *cluster,
                         enum link_role role, const char *id, struct err *err);

/* A CA with its key, loaded to sign requests (io/enrol.h). -ERR_NOT_FOUND, -ERR_CORRUPT: its files. */
struct pki_ca;
MUST_CHECK int pki_ca_open(struct pki_ca **ret, const char *dir, const char *cluster,
                           struct err *err);
void pki_ca_free(struct pki_ca *ca); /* NULL is fine */

struct pki_signed {
    struct buf ca, certificate; /* PEM */
    enum link_role role;
    char id[NAME_MAX_BYTES + 1];
    bool bound;          /* the request names a connection, and is signed with that: */
    struct hash binding; /* see tls_binding() */
};

/* Answers a request (PKCS #10, DER): a certificate of that role whose id is "m-" and 32 hex digits of the
 * key's digest, so that nobody can take somebody else's name. Fills *ret, which begins as zeros, and is to be
 * released whatever happens. -ERR_INVALID: not a request, not signed by its own key, or not a P-256 key. */
MUST_CHECK int pki_sign(const struct pki_ca *ca, enum link_role role, const struct bytes *request,
                        struct pki_signed *ret, struct err *err);
void pki_signed_release(struct pki_signed *s);

/* SHA-256 of the public key (its SubjectPublicKeyInfo) of dir/ca.pem: what a stranger can be told
 * beforehand to know the cluster by. */
MUST_CHECK int pki_pin(const char *dir, struct hash *ret, struct err *err);

const char *role_name(enum link_role role); /* "control", "region", "agent", "worker" */

#endif
