#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/link_private.h"
#include "io/pki.h"
#include "io/tls_seal.h"

static int load_files(SSL_CTX *tls, const char *dir, struct err *err)
{
    AUTO_FREE char *ca = mem_printf("%s/ca.pem", dir);
    AUTO_FREE char *cert = mem_printf("%s/cert.pem", dir);
    AUTO_FREE char *key = mem_printf("%s/key.pem", dir);

    if (SSL_CTX_load_verify_file(tls, ca) != 1)
        return tls_error(err, ERR_INVALID, "load %s", ca);
    if (SSL_CTX_use_certificate_file(tls, cert, SSL_FILETYPE_PEM) != 1)
        return tls_error(err, ERR_INVALID, "load %s", cert);
    if (SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        return tls_error(err, ERR_INVALID, "load %s", key);
    if (SSL_CTX_check_private_key(tls) != 1)
        return tls_error(err, ERR_INVALID, "%s is not the key of %s", key, cert);
    return 0;
}

/* One context for both sides. Idle links keep no record buffers. */
static SSL_CTX *new_context(void)
{
    SSL_CTX *tls = tls_context_new(TLS_method());

    if (tls == NULL)
        return NULL;
    SSL_CTX_set_options(tls, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    link_session_setup(tls);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(tls, 1);
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_default_read_buffer_len(tls, 4 * LINK_RECORD_BYTES);
    if (SSL_CTX_set_num_tickets(tls, 1) == 1 &&
        SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_max_proto_version(tls, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                                      "TLS_AES_256_GCM_SHA384") == 1)
        return tls;
    SSL_CTX_free(tls);
    return NULL;
}

struct link_identity *link_identity_blank(const char *region, struct err *err)
{
    struct link_identity *i = mem_alloc(sizeof(*i));

    i->region = mem_strdup(region == NULL ? "" : region);
    link_identity_set_times(i, LINK_OPEN_MS, LINK_PING_MS, LINK_SILENT_MS);
    i->tls = new_context();
    i->bio = link_bio_method();
    i->blocks = link_blocks_new();
    if (i->tls != NULL && i->bio != NULL)
        return i;
    tls_error(err, ERR_INTERNAL, "set up TLS");
    link_identity_free(i);
    return NULL;
}

int link_identity_load_files(struct link_identity *i, const char *dir, struct err *err)
{
    int rc = load_files(i->tls, dir, err);

    if (rc == 0)
        rc = tls_name_of(&i->name, SSL_CTX_get0_certificate(i->tls), err);
    return rc < 0 ? err_wrap(err, "identity %s", dir) : 0;
}

int link_identity_take(struct link_identity *i, X509 *cert, EVP_PKEY *key, X509 *ca,
                       struct err *err)
{
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(i->tls), ca) != 1 ||
        SSL_CTX_use_certificate(i->tls, cert) != 1 || SSL_CTX_use_PrivateKey(i->tls, key) != 1)
        return tls_error(err, ERR_INVALID, "use the new certificate");
    return 0;
}

int link_identity_load(struct link_identity **ret, const char *dir, const char *region,
                       struct err *err)
{
    struct link_identity *i = link_identity_blank(region, err);

    if (i == NULL)
        return -(int)err->code;
    if (link_identity_load_files(i, dir, err) < 0) {
        link_identity_free(i);
        return -(int)err->code;
    }
    *ret = i;
    return 0;
}

void link_identity_free(struct link_identity *i)
{
    if (i == NULL)
        return;
    enrolment_free(i->enrolment);
    link_sessions_release(i);
    map_release(&i->denied);
    map_release(&i->offences);
    SSL_CTX_free(i->tls);
    BIO_meth_free(i->bio);
    link_blocks_close(i->blocks);
    free(i->region);
    free(i);
}

void link_identity_set_times(struct link_identity *i, int64_t open_ms, int64_t ping_ms,
                             int64_t silent_ms)
{
    i->open_ms = open_ms;
    i->ping_ms = ping_ms;
    i->silent_ms = silent_ms;
}

int64_t link_identity_open_ms(const struct link_identity *i)
{
    return i->open_ms;
}

/* Of both kinds of names: a role's is one digit. */
enum { DENIED_KEY = NAME_MAX_BYTES + 8 };

static const char *denied_key(enum link_role role, const char *id, char key[DENIED_KEY])
{
    snprintf(key, DENIED_KEY, "%d/%s", (int)role, id);
    return key;
}

void link_identity_deny(struct link_identity *i, enum link_role role, const char *id)
{
    char key[DENIED_KEY];

    if (i->denied.count >= LINK_DENIED_MAX)
        log_warn("%s %s is not remembered as denied: so many are", role_name(role), id);
    else if (map_put(&i->denied, denied_key(role, id, key), i) == NULL)
        i->counts.denied++;
}

void link_identity_offended(struct link_identity *i, enum link_role role, const char *id)
{
    char key[DENIED_KEY];
    uintptr_t count = (uintptr_t)map_get(&i->offences, denied_key(role, id, key)) + 1;

    i->counts.malformed++;
    if (count >= LINK_MALFORMED_MAX) {
        log_warn("%s %s is banned: it has sent %d malformed messages", role_name(role), id,
                 LINK_MALFORMED_MAX);
        map_remove(&i->offences, key);
        link_identity_deny(i, role, id);
    } else if (i->offences.count < LINK_DENIED_MAX) {
        map_put(&i->offences, key, (void *)count); /* NOLINT: a counter, not a pointer */
    }
}

struct link_counts link_identity_counts(const struct link_identity *i)
{
    return i->counts;
}

bool link_identity_denies(const struct link_identity *i, enum link_role role, const char *id)
{
    char key[DENIED_KEY];

    return map_get(&i->denied, denied_key(role, id, key)) != NULL;
}

size_t link_identity_links(const struct link_identity *i)
{
    return i == NULL ? 0 : i->links;
}

const char *link_identity_id(const struct link_identity *i)
{
    return i->name.id;
}

const char *link_identity_cluster(const struct link_identity *i)
{
    return i->name.cluster;
}
