#include "io/tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/pki.h"

static const char *const role_names[] = {
    [ROLE_CONTROL] = "control",
    [ROLE_REGION] = "region",
    [ROLE_AGENT] = "agent",
    [ROLE_WORKER] = "worker",
};

const char *role_name(enum link_role role)
{
    if ((size_t)role >= COUNT_OF(role_names) || role_names[role] == NULL)
        return "none";
    return role_names[role];
}

static bool part_ok(const char *part, size_t len)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (len == 0 || len > NAME_MAX_BYTES || strspn(part, allowed) < len)
        return false;
    return !(len <= 2 && strspn(part, ".") >= len);
}

bool tls_name_part_valid(const char *part)
{
    return part_ok(part, strlen(part));
}

bool tls_name_parse(struct tls_name *ret, const char *uri)
{
    static const char scheme[] = "spiffe://";
    const char *cluster = uri + sizeof(scheme) - 1, *role, *id;

    if (strncmp(uri, scheme, sizeof(scheme) - 1) != 0)
        return false;
    role = strchr(cluster, '/');
    id = role == NULL ? NULL : strchr(role + 1, '/');
    if (id == NULL || !part_ok(cluster, (size_t)(role - cluster)) || !tls_name_part_valid(id + 1))
        return false;
    memset(ret, 0, sizeof(*ret));
    for (size_t i = 1; i < COUNT_OF(role_names); i++) {
        size_t len = strlen(role_names[i]);

        if (len == (size_t)(id - role) - 1 && memcmp(role + 1, role_names[i], len) == 0)
            ret->role = (enum link_role)i;
    }
    memcpy(ret->cluster, cluster, (size_t)(role - cluster));
    memcpy(ret->id, id + 1, strlen(id + 1));
    return ret->role != ROLE_NONE;
}

/* The text of the only URI among names, or NULL. Borrows; the text may hold a NUL (len tells). */
static const ASN1_IA5STRING *only_uri(const GENERAL_NAMES *names)
{
    const ASN1_IA5STRING *uri = NULL;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_URI)
            continue;
        if (uri != NULL)
            return NULL;
        uri = name->d.uniformResourceIdentifier;
    }
    return uri;
}

int tls_name_of(struct tls_name *ret, X509 *cert, struct err *err)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    const ASN1_IA5STRING *uri = names == NULL ? NULL : only_uri(names);
    int rc = 0;

    if (uri == NULL) {
        rc = err_set(err, ERR_DENIED, "the certificate names nobody by a single URI");
    } else {
        const char *text = (const char *)ASN1_STRING_get0_data(uri);
        size_t len = (size_t)ASN1_STRING_length(uri);

        /* data is NUL-ended by OpenSSL; an inner NUL would cut the name short */
        if (strlen(text) != len || !tls_name_parse(ret, text))
            rc = err_set(err, ERR_DENIED, "the certificate's URI is not spiffe://CLUSTER/ROLE/ID");
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return rc;
}

bool tls_is_ca_of(X509 *ca, const char *cluster)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(ca, NID_subject_alt_name, NULL, NULL);
    const ASN1_IA5STRING *uri = names == NULL ? NULL : only_uri(names);
    static const char scheme[] = "spiffe://";
    const char *text = uri == NULL ? "" : (const char *)ASN1_STRING_get0_data(uri);
    bool is = strncmp(text, scheme, sizeof(scheme) - 1) == 0 &&
              strcmp(text + sizeof(scheme) - 1, cluster) == 0;

    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return is;
}

bool tls_binding(SSL *ssl, struct hash *ret)
{
    static const char label[] = "EXPORTER-Channel-Binding";

    return SSL_export_keying_material(ssl, ret->b, HASH_BYTES, label, sizeof(label) - 1, NULL, 0,
                                      0) == 1;
}

int tls_error(struct err *err, enum err_code code, const char *fmt, ...)
{
    unsigned long first = ERR_get_error();
    const char *reason = first == 0 ? NULL : ERR_reason_error_string(first);
    char what[256];
    va_list args;

    ERR_clear_error();
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    if (reason == NULL)
        return err_set(err, code, "%s", what);
    return err_set(err, code, "%s: %s", what, reason);
}
