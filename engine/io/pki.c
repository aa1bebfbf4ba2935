#include "io/pki.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/loop.h"
#include "io/tls.h"

enum {
    PEM_MAX = 64 * 1024,
    CA_DAYS = 3650,
    LEAF_DAYS = 365,
    RENEW_DAYS = 30, /* an identity with less left is issued anew */
    DAY_S = 86400,
    SKEW_S = 3600, /* certificates are valid from this long ago: clocks differ */
    SERIAL_BYTES = 16,
};

static int write_pem(const char *dir, const char *name, BIO *bio, mode_t mode, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);

    return file_publish(path, data, (size_t)len, mode, err);
}

static int write_key(const char *dir, const char *name, EVP_PKEY *key, struct err *err)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    int rc;

    if (bio == NULL || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        rc = tls_error(err, ERR_INTERNAL, "encode a key");
    else
        rc = write_pem(dir, name, bio, 0600, err);
    BIO_free(bio);
    return rc;
}

static int write_cert(const char *dir, const char *name, X509 *cert, struct err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int rc;

    if (bio == NULL || PEM_write_bio_X509(bio, cert) != 1)
        rc = tls_error(err, ERR_INTERNAL, "encode a certificate");
    else
        rc = write_pem(dir, name, bio, 0644, err);
    BIO_free(bio);
    return rc;
}

static BIO *read_pem(const char *dir, const char *name, struct buf *text, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    BIO *bio;

    if (file_read(text, path, PEM_MAX, err) < 0)
        return NULL;
    bio = BIO_new_mem_buf(text->data, (int)text->len);
    if (bio == NULL)
        tls_error(err, ERR_INTERNAL, "read %s", path);
    return bio;
}

/* Never asks a terminal for a pass phrase. */
static int no_password(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static EVP_PKEY *read_key(const char *dir, const char *name, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    BIO *bio = read_pem(dir, name, &text, err);
    EVP_PKEY *key;

    if (bio == NULL)
        return NULL;
    key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    if (key == NULL)
        tls_error(err, ERR_CORRUPT, "%s/%s is not a private key", dir, name);
    BIO_free(bio);
    OPENSSL_cleanse(text.data, text.len);
    return key;
}

static X509 *read_cert(const char *dir, const char *name, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    BIO *bio = read_pem(dir, name, &text, err);
    X509 *cert;

    if (bio == NULL)
        return NULL;
    cert = PEM_read_bio_X509(bio, NULL, no_password, NULL);
    if (cert == NULL)
        tls_error(err, ERR_CORRUPT, "%s/%s is not a certificate", dir, name);
    BIO_free(bio);
    return cert;
}

static bool set_serial(X509 *cert)
{
    unsigned char raw[SERIAL_BYTES];
    BIGNUM *n;
    bool ok;

    random_bytes(raw, sizeof(raw));
    raw[0] &= 0x7f; /* positive */
    n = BN_bin2bn(raw, sizeof(raw), NULL);
    ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
    BN_free(n);
    return ok;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool set_subject(X509 *cert, const char *organization, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    static const int utf8 = MBSTRING_UTF8;

    /* X.520 limits both to 64; the URI is the name that counts */
    return X509_NAME_add_entry_by_txt(subject, "O", utf8, (const unsigned char *)organization,
                                      (int)strnlen(organization, 64), -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", utf8, (const unsigned char *)name,
                                      (int)strnlen(name, 64), -1, 0) == 1;
}

/* A certificate for key, with all but its extensions and signature. Gives, or NULL. */
static X509 *new_cert(EVP_PKEY *key, X509 *issuer, const char *organization, const char *name,
                      int days)
{
    X509 *cert = X509_new();

    if (cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -SKEW_S) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * DAY_S) != NULL &&
        X509_set_pubkey(cert, key) == 1 && set_subject(cert, organization, name) &&
        X509_set_issuer_name(cert, X509_get_subject_name(issuer != NULL ? issuer : cert)) == 1)
        return cert;
    X509_free(cert);
    return NULL;
}

static X509 *make_ca_cert(EVP_PKEY *key, const char *cluster, struct err *err)
{
    AUTO_FREE char *uri = mem_printf("URI:spiffe://%s", cluster);
    X509 *cert = new_cert(key, NULL, cluster, "Slipway cluster CA", CA_DAYS);

    if (cert != NULL &&
        add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(cert, cert, NID_subject_key_identifier, "hash") &&
        add_extension(cert, cert, NID_subject_alt_name, uri) &&
        X509_sign(cert, key, EVP_sha256()) > 0)
        return cert;
    tls_error(err, ERR_INTERNAL, "make the certificate of the CA");
    X509_free(cert);
    return NULL;
}

static X509 *make_leaf_cert(EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key, const struct tls_name *name,
                            struct err *err)
{
    AUTO_FREE char *uri =
        mem_printf("URI:spiffe://%s/%s/%s", name->cluster, role_name(name->role), name->id);
    X509 *cert = new_cert(key, ca, role_name(name->role), name->id, LEAF_DAYS);

    if (cert != NULL && add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
        add_extension(cert, ca, NID_authority_key_identifier, "keyid:always") &&
        add_extension(cert, ca, NID_subject_alt_name, uri) &&
        X509_sign(cert, ca_key, EVP_sha256()) > 0)
        return cert;
    tls_error(err, ERR_INTERNAL, "make the certificate of %s", uri + strlen("URI:"));
    X509_free(cert);
    return NULL;
}

static EVP_PKEY *new_key(struct err *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    if (key == NULL)
        tls_error(err, ERR_INTERNAL, "make a P-256 key");
    return key;
}

/* A crash between the two leaves a key alone, which the next call replaces. A certificate alone is
 * an operator who took the key away: replacing it would cut off every node. */
static bool has(const char *dir, const char *name)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);

    return path_exists(path);
}

static int check_ca(const char *dir, const char *cluster, struct err *err)
{
    X509 *ca;
    int rc = 0;

    if (!has(dir, "ca.key"))
        return err_set(err, ERR_EXISTS, "%s has ca.pem without ca.key", dir);
    ca = read_cert(dir, "ca.pem", err);
    if (ca == NULL)
        return err_set(err, ERR_CORRUPT, "%s/ca.pem is not a certificate", dir);
    if (!tls_is_ca_of(ca, cluster))
        rc = err_set(err, ERR_CONFLICT, "%s has the CA of another cluster than %s", dir, cluster);
    X509_free(ca);
    return rc;
}

static int create_ca(const char *dir, const char *cluster, struct err *err)
{
    EVP_PKEY *key = new_key(err);
    X509 *cert = key == NULL ? NULL : make_ca_cert(key, cluster, err);
    int rc = cert == NULL ? -ERR_INTERNAL : dir_make(dir, 0700, err);

    if (rc == 0)
        rc = write_key(dir, "ca.key", key, err);
    if (rc == 0)
        rc = write_cert(dir, "ca.pem", cert, err);
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

int pki_make_ca(const char *dir, const char *cluster, struct err *err)
{
    int rc;

    if (!tls_name_part_valid(cluster))
        return err_set(err, ERR_INVALID, "cluster name '%s': letters, digits, '.', '_', '-'",
                       cluster);
    rc = has(dir, "ca.pem") ? check_ca(dir, cluster, err) : create_ca(dir, cluster, err);
    if (rc < 0)
        err_wrap(err, "make CA");
    return rc;
}

static bool is_current(X509 *cert)
{
    time_t soon = time(NULL) + (time_t)RENEW_DAYS * DAY_S;

    return X509_cmp_current_time(X509_get0_notBefore(cert)) < 0 &&
           X509_cmp_time(X509_get0_notAfter(cert), &soon) > 0;
}

/* Is a whole, current identity of that name and CA in dir? */
static bool is_issued(const char *dir, X509 *ca, const struct tls_name *name)
{
    X509 *cert = read_cert(dir, "cert.pem", NULL);
    X509 *their_ca = read_cert(dir, "ca.pem", NULL);
    EVP_PKEY *key = read_key(dir, "key.pem", NULL);
    struct tls_name is;
    bool ok = cert != NULL && their_ca != NULL && key != NULL && X509_cmp(ca, their_ca) == 0 &&
              X509_check_private_key(cert, key) == 1 &&
              X509_verify(cert, X509_get0_pubkey(ca)) == 1 && is_current(cert) &&
              tls_name_of(&is, cert, NULL) == 0 && is.role == name->role &&
              strcmp(is.id, name->id) == 0 && strcmp(is.cluster, name->cluster) == 0;

    tls_error(NULL, ERR_NONE, "drop what the checks left in the queue");
    EVP_PKEY_free(key);
    X509_free(their_ca);
    X509_free(cert);
    return ok;
}

static int write_identity(const char *dir, EVP_PKEY *key, X509 *cert, X509 *ca, struct err *err)
{
    int rc = dir_make(dir, 0700, err);

    if (rc == 0)
        rc = write_key(dir, "key.pem", key, err);
    if (rc == 0)
        rc = write_cert(dir, "cert.pem", cert, err);
    if (rc == 0)
        rc = write_cert(dir, "ca.pem", ca, err);
    return rc;
}

static int issue(X509 *ca, EVP_PKEY *ca_key, const char *out_dir, const struct tls_name *name,
                 struct err *err)
{
    EVP_PKEY *key = new_key(err);
    X509 *cert = key == NULL ? NULL : make_leaf_cert(key, ca, ca_key, name, err);
    int rc = cert == NULL ? -ERR_INTERNAL : write_identity(out_dir, key, cert, ca, err);

    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

int pki_issue(const char *ca_dir, const char *out_dir, const char *cluster, enum link_role role,
              const char *id, struct err *err)
{
    AUTO_FREE char *uri = mem_printf("spiffe://%s/%s/%s", cluster, role_name(role), id);
    struct err why = ERR_INIT;
    struct tls_name name;
    EVP_PKEY *ca_key;
    X509 *ca;
    int rc;

    if (!tls_name_parse(&name, uri))
        return err_set(err, ERR_INVALID, "issue identity: '%s' is no name of a node", uri);
    ca = read_cert(ca_dir, "ca.pem", &why);
    ca_key = ca == NULL ? NULL : read_key(ca_dir, "ca.key", &why);
    if (ca_key == NULL)
        rc = -(int)why.code;
    else if (!tls_is_ca_of(ca, cluster))
        rc = err_set(&why, ERR_CONFLICT, "%s is the CA of another cluster", ca_dir);
    else if (X509_check_private_key(ca, ca_key) != 1)
        rc = tls_error(&why, ERR_CORRUPT, "%s: ca.key is not the key of ca.pem", ca_dir);
    else
        rc = is_issued(out_dir, ca, &name) ? 0 : issue(ca, ca_key, out_dir, &name, &why);
    EVP_PKEY_free(ca_key);
    X509_free(ca);
    return rc < 0 ? err_set(err, why.code, "issue identity %s: %s", uri, why.text) : 0;
}

/* ---- enrolment ---- */

static int key_digest(EVP_PKEY *key, struct hash *ret, struct err *err)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);

    if (len <= 0)
        return tls_error(err, ERR_INTERNAL, "encode a public key");
    *ret = sha256_of(der, (size_t)len);
    OPENSSL_free(der);
    return 0;
}

int pki_pin_of(X509 *ca, struct hash *ret, struct err *err)
{
    return key_digest(X509_get0_pubkey(ca), ret, err);
}

int pki_pin(const char *dir, struct hash *ret, struct err *err)
{
    X509 *ca = read_cert(dir, "ca.pem", err);
    int rc;

    if (ca == NULL)
        return err_wrap(err, "pin of %s", dir);
    rc = pki_pin_of(ca, ret, err);
    X509_free(ca);
    return rc;
}

X509 *pki_parse_cert(const struct bytes *pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
    X509 *cert = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, no_password, NULL);

    if (cert == NULL)
        tls_error(err, ERR_INVALID, "not a certificate");
    BIO_free(bio);
    return cert;
}

/* RFC 7030 (EST), 3.5, has the name of a connection in a request as its challenge password. */
static bool add_binding(X509_REQ *request, const struct hash *binding)
{
    char hex[HASH_HEX];

    return binding == NULL || X509_REQ_add1_attr_by_NID(
                                  request, NID_pkcs9_challengePassword, V_ASN1_PRINTABLESTRING,
                                  (const unsigned char *)hash_hex(binding, hex), HASH_HEX - 1) == 1;
}

static bool find_binding(const X509_REQ *request, struct hash *ret)
{
    int at = X509_REQ_get_attr_by_NID(request, NID_pkcs9_challengePassword, -1);
    X509_ATTRIBUTE *attribute = at < 0 ? NULL : X509_REQ_get_attr(request, at);
    const ASN1_STRING *text =
        attribute == NULL ? NULL
                          : X509_ATTRIBUTE_get0_data(attribute, 0, V_ASN1_PRINTABLESTRING, NULL);
    char hex[HASH_HEX] = "";

    ERR_clear_error();
    if (text == NULL || ASN1_STRING_length(text) != HASH_HEX - 1)
        return false;
    memcpy(hex, ASN1_STRING_get0_data(text), HASH_HEX - 1);
    return hex_decode(ret->b, HASH_BYTES, hex);
}

int pki_request(EVP_PKEY *key, const struct hash *binding, struct buf *out, struct err *err)
{
    X509_REQ *request = X509_REQ_new();
    unsigned char *der = NULL;
    int len = 0, rc = 0;

    if (request != NULL && X509_REQ_set_pubkey(request, key) == 1 &&
        add_binding(request, binding) && X509_REQ_sign(request, key, EVP_sha256()) > 0)
        len = i2d_X509_REQ(request, &der);
    if (len > 0)
        buf_append(out, der, (size_t)len);
    else
        rc = tls_error(err, ERR_INTERNAL, "make a request for a certificate");
    OPENSSL_free(der);
    X509_REQ_free(request);
    return rc;
}

EVP_PKEY *pki_own_key(const char *dir, struct err *err)
{
    EVP_PKEY *key = has(dir, "key.pem") ? read_key(dir, "key.pem", NULL) : NULL;

    if (key != NULL)
        return key;
    key = new_key(err);
    if (key == NULL || (dir_make(dir, 0700, err) == 0 && write_key(dir, "key.pem", key, err) == 0))
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

static bool is_p256(EVP_PKEY *key)
{
    char group[64];
    size_t len;

    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_group_name(key, group, sizeof(group), &len) == 1 &&
           strcmp(group, "prime256v1") == 0;
}

/* The key of a request that is signed by it; borrowed from *ret_request, which is the caller's. */
static EVP_PKEY *parse_request(const struct bytes *bytes, X509_REQ **ret_request, struct err *err)
{
    const unsigned char *at = bytes->data;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)bytes->len);
    EVP_PKEY *key = request == NULL ? NULL : X509_REQ_get0_pubkey(request);

    *ret_request = request;
    if (key != NULL && at == bytes->data + bytes->len && is_p256(key) &&
        X509_REQ_verify(request, key) == 1)
        return key;
    tls_error(err, ERR_INVALID, "not a request for a certificate with a P-256 key");
    return NULL;
}

static int append_pem(struct buf *out, X509 *cert, struct err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    int rc = 0;

    if (bio == NULL || PEM_write_bio_X509(bio, cert) != 1)
        rc = tls_error(err, ERR_INTERNAL, "encode a certificate");
    else {
        long len = BIO_get_mem_data(bio, &data);

        buf_append(out, data, (size_t)len);
    }
    BIO_free(bio);
    return rc;
}

struct pki_ca {
    X509 *cert;
    EVP_PKEY *key;
    char cluster[NAME_MAX_BYTES + 1];
};

int pki_ca_open(struct pki_ca **ret, const char *dir, const char *cluster, struct err *err)
{
    struct pki_ca *ca = mem_alloc(sizeof(*ca));

    snprintf(ca->cluster, sizeof(ca->cluster), "%s", cluster);
    ca->cert = read_cert(dir, "ca.pem", err);
    ca->key = ca->cert == NULL ? NULL : read_key(dir, "ca.key", err);
    *ret = ca;
    if (ca->key != NULL)
        return 0;
    pki_ca_free(ca);
    *ret = NULL;
    return err_wrap(err, "CA in %s", dir);
}

void pki_ca_free(struct pki_ca *ca)
{
    if (ca == NULL)
        return;
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
    free(ca);
}

int pki_name_of_key(EVP_PKEY *key, char ret[NAME_MAX_BYTES + 1], struct err *err)
{
    struct hash digest;
    char hex[HASH_HEX];

    if (key_digest(key, &digest, err) < 0)
        return -(int)err->code;
    snprintf(ret, NAME_MAX_BYTES + 1, "m-%.32s", hash_hex(&digest, hex));
    return 0;
}

static int sign_key(const struct pki_ca *ca, EVP_PKEY *key, struct pki_signed *ret, struct err *err)
{
    struct tls_name name = { .role = ret->role };
    X509 *cert;
    int rc;

    memcpy(name.cluster, ca->cluster, sizeof(name.cluster));
    rc = pki_name_of_key(key, name.id, err);
    if (rc < 0)
        return rc;
    memcpy(ret->id, name.id, sizeof(ret->id));
    cert = make_leaf_cert(key, ca->cert, ca->key, &name, err);
    rc = cert == NULL ? -ERR_INTERNAL : append_pem(&ret->certificate, cert, err);
    X509_free(cert);
    return rc < 0 ? rc : append_pem(&ret->ca, ca->cert, err);
}

int pki_sign(const struct pki_ca *ca, enum link_role role, const struct bytes *request,
             struct pki_signed *ret, struct err *err)
{
    X509_REQ *parsed;
    EVP_PKEY *key = parse_request(request, &parsed, err);
    int rc = -ERR_INVALID;

    ret->role = role;
    if (key != NULL) {
        ret->bound = find_binding(parsed, &ret->binding);
        rc = sign_key(ca, key, ret, err);
    }
    X509_REQ_free(parsed);
    return rc < 0 ? err_wrap(err, "sign a certificate") : 0;
}

void pki_signed_release(struct pki_signed *s)
{
    buf_release(&s->ca);
    buf_release(&s->certificate);
}
