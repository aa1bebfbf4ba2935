/* pki.h - the cluster's own certificate authority and identities (X.509, ECDSA P-256).
 *
 * A node's certificate names it by URI: spiffe://CLUSTER/ROLE/ID. The CA signs nothing else. Files
 * of an identity directory: ca.pem, cert.pem, key.pem (0600), all published by rename. */
#ifndef IO_PKI_H
#define IO_PKI_H

#include "base/err.h"
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

const char *role_name(enum link_role role); /* "control", "region", "agent", "worker" */

#endif
