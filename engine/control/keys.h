/* keys.h - the cluster's keys: what signs, and what everybody else trusts.
 *
 * A keys directory (control plane only, 0700) holds three Ed25519 seeds as 64 hex digits (root.key,
 * release.key, goal.key; 0600), the CA (ca.pem, ca.key), the cluster's name, the pinned public root
 * key (root.pub, 64 hex digits) and the signed trust document (trust.doc). Whatever is missing is
 * made; a start that was killed half-way is completed by the next one. */
#ifndef CONTROL_KEYS_H
#define CONTROL_KEYS_H

#include "base/buf.h"
#include "wire/doc.h"

struct keys {
    char *dir, *cluster;
    struct secret_key root, release, goal;
    char root_pub[65];
    struct buf trust_doc;
    struct trust *trust;
};

/* cluster: name for a new cluster; NULL: "local-" and four random digits. An existing directory
 * keeps its own. -ERR_INVALID: a key file is malformed; -ERR_DENIED: trust.doc does not fit the
 * keys; -ERR_AGAIN: another process is making keys here. Gives *ret. */
MUST_CHECK int keys_open(struct keys **ret, const char *dir, const char *cluster, struct err *err);
void keys_free(struct keys *k); /* wipes the seeds; NULL is fine */

/* Writes an identity directory: pki_issue() and root.pub. */
MUST_CHECK int keys_issue(const struct keys *k, const char *out_dir, enum link_role role,
                          const char *id, struct err *err);

#endif
