#include "wire/doc.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"

/* "SLD1" u8 kind u16 key id length, key id, signature, u32 body length */
enum {
    AT_KIND = 4,
    AT_KEY_ID = AT_KIND + 1 + 2,
    AT_SIGNATURE = AT_KEY_ID + KEY_ID_HEX - 1,
    AT_LENGTH = AT_SIGNATURE + SIGNATURE_BYTES,
    HEAD_BYTES = AT_LENGTH + 4,
};

static const char *kind_name(enum doc_kind kind)
{
    switch (kind) {
    case DOC_TRUST:
        return "trust";
    case DOC_RELEASE:
        return "release";
    case DOC_GOAL:
        return "goal";
    case DOC_NONE:
        break;
    }
    return "unknown";
}

static void signed_bytes(struct buf *out, enum doc_kind kind, const void *body, size_t len)
{
    const char *name = kind_name(kind);

    buf_append(out, "slipway.doc", sizeof("slipway.doc"));
    buf_append(out, name, strlen(name) + 1);
    buf_append(out, body, len);
}

/* libcrypto fails here only for want of memory. */
static void must(bool ok)
{
    if (!ok)
        abort();
}

struct public_key key_public(const struct secret_key *secret)
{
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret->seed, KEY_BYTES);
    struct public_key public;
    size_t len = sizeof(public.b);

    must(key != NULL && EVP_PKEY_get_raw_public_key(key, public.b, &len) == 1);
    EVP_PKEY_free(key);
    return public;
}

void key_id(const struct public_key *key, char out[KEY_ID_HEX])
{
    struct hash h = sha256_of(key->b, KEY_BYTES);

    hex_encode(out, h.b, (KEY_ID_HEX - 1) / 2);
}

static void sign(unsigned char out[SIGNATURE_BYTES], const struct buf *text,
                 const struct secret_key *secret)
{
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret->seed, KEY_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t len = SIGNATURE_BYTES;

    must(key != NULL && ctx != NULL);
    must(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1);
    must(EVP_DigestSign(ctx, out, &len, (const unsigned char *)text->data, text->len) == 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
}

static bool verify(const unsigned char *signature, const struct buf *text,
                   const struct public_key *public)
{
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public->b, KEY_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = key != NULL && ctx != NULL &&
                EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(ctx, signature, SIGNATURE_BYTES, (const unsigned char *)text->data,
                                 text->len) == 1;

    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return good;
}

static void put_number(unsigned char *at, size_t v, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (unsigned char)(v >> (8 * i));
}

static size_t number(const unsigned char *at, size_t width)
{
    size_t v = 0;

    for (size_t i = 0; i < width; i++)
        v |= (size_t)at[i] << (8 * i);
    return v;
}

void doc_sign(struct buf *out, enum doc_kind kind, const void *body, size_t len,
              const struct secret_key *key)
{
    AUTO_BUF text = BUF_INIT;
    struct public_key public = key_public(key);
    unsigned char head[HEAD_BYTES] = "SLD1";
    char id[KEY_ID_HEX];

    head[AT_KIND] = (unsigned char)kind;
    put_number(head + AT_KIND + 1, KEY_ID_HEX - 1, 2);
    key_id(&public, id);
    memcpy(head + AT_KEY_ID, id, KEY_ID_HEX - 1);
    signed_bytes(&text, kind, body, len);
    sign(head + AT_SIGNATURE, &text, key);
    put_number(head + AT_LENGTH, len, 4);
    buf_append(out, head, sizeof(head));
    buf_append(out, body, len);
}

static int check_envelope(const unsigned char *b, size_t len, enum doc_kind kind, struct err *err)
{
    const char *name = kind_name(kind);

    if (len > DOC_MAX_BYTES)
        return err_set(err, ERR_INVALID, "%s document: larger than %d bytes", name, DOC_MAX_BYTES);
    if (len < HEAD_BYTES)
        return err_set(err, ERR_INVALID, "%s document: ends after %zu bytes", name, len);
    if (memcmp(b, "SLD1", 4) != 0)
        return err_set(err, ERR_INVALID, "%s document: does not begin with SLD1", name);
    if (b[AT_KIND] != kind)
        return err_set(err, ERR_INVALID, "%s document: is of kind %s", name, kind_name(b[AT_KIND]));
    if (number(b + AT_KIND + 1, 2) != KEY_ID_HEX - 1)
        return err_set(err, ERR_INVALID, "%s document: key id of wrong length", name);
    if (number(b + AT_LENGTH, 4) != len - HEAD_BYTES)
        return err_set(err, ERR_INVALID, "%s document: claims a body of %zu bytes, has %zu", name,
                       number(b + AT_LENGTH, 4), len - HEAD_BYTES);
    return 0;
}

/* The key id of an envelope, made printable for errors. */
static void envelope_key(const unsigned char *b, char out[KEY_ID_HEX])
{
    for (size_t i = 0; i < KEY_ID_HEX - 1; i++)
        out[i] = isxdigit(b[AT_KEY_ID + i]) ? (char)b[AT_KEY_ID + i] : '?';
    out[KEY_ID_HEX - 1] = '\0';
}

int doc_open(const void *data, size_t len, enum doc_kind kind, const struct public_key *keys,
             size_t nkeys, struct bytes *ret_body, struct err *err)
{
    const unsigned char *b = data;
    const char *name = kind_name(kind);
    AUTO_BUF text = BUF_INIT;
    char id[KEY_ID_HEX];
    size_t i;
    int r = check_envelope(b, len, kind, err);

    if (r < 0)
        return r;
    for (i = 0; i < nkeys; i++) {
        key_id(&keys[i], id);
        if (memcmp(id, b + AT_KEY_ID, KEY_ID_HEX - 1) == 0)
            break;
    }
    envelope_key(b, id);
    if (i == nkeys)
        return err_set(err, ERR_DENIED, "%s document: signed by key %s, which is not trusted", name,
                       id);
    signed_bytes(&text, kind, b + HEAD_BYTES, len - HEAD_BYTES);
    if (!verify(b + AT_SIGNATURE, &text, &keys[i]))
        return err_set(err, ERR_DENIED, "%s document: the signature of key %s is wrong", name, id);
    /* Borrowed bytes that nobody writes through; struct bytes has no const twin. */
    *ret_body = (struct bytes){ (unsigned char *)(uintptr_t)(b + HEAD_BYTES), len - HEAD_BYTES };
    return 0;
}

int doc_body(const void *data, size_t len, enum doc_kind kind, struct bytes *ret_body,
             struct err *err)
{
    const unsigned char *b = data;
    int r = check_envelope(b, len, kind, err);

    if (r == 0)
        *ret_body =
            (struct bytes){ (unsigned char *)(uintptr_t)(b + HEAD_BYTES), len - HEAD_BYTES };
    return r;
}

int doc_check_name(const char *what, const char *name, struct err *err)
{
    size_t len = strlen(name);

    if (len == 0)
        return err_set(err, ERR_INVALID, "%s: empty", what);
    if (len > NAME_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "%s: longer than %d bytes", what, NAME_MAX_BYTES);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];

        if (c < 0x80 && (isalnum(c) || c == '_' || (i > 0 && (c == '.' || c == '-'))))
            continue;
        return err_set(err, ERR_INVALID,
                       "%s: '%s': only letters, digits, '_', and after the first '.' and '-'", what,
                       name);
    }
    return 0;
}

static bool denied(const struct trust *t, const char *id)
{
    for (size_t i = 0; i < t->ndeny; i++) {
        if (strcmp(t->deny[i], id) == 0)
            return true;
    }
    return false;
}

/* doc_open() under a trust document: the deny list counts too. */
static int open_trusted(const struct trust *t, const void *data, size_t len, enum doc_kind kind,
                        const struct public_key *keys, size_t nkeys, struct bytes *ret_body,
                        struct err *err)
{
    char id[KEY_ID_HEX];
    int r = doc_open(data, len, kind, keys, nkeys, ret_body, err);

    if (r < 0)
        return r;
    envelope_key(data, id);
    if (denied(t, id))
        return err_set(err, ERR_DENIED, "%s document: key %s is in the deny list", kind_name(kind),
                       id);
    return 0;
}

static int same_cluster(const char *what, const char *cluster, const char *ours, struct err *err)
{
    if (strcmp(cluster, ours) == 0)
        return 0;
    return err_set(err, ERR_DENIED, "%s document: is of cluster %s, not of %s", what, cluster,
                   ours);
}

int release_open(struct release **ret, const struct trust *t, const void *data, size_t len,
                 struct err *err)
{
    struct release *release = NULL;
    struct bytes body;
    struct hash id;
    char hex[HASH_HEX];
    int r;

    r = open_trusted(t, data, len, DOC_RELEASE, t->release_keys, t->nrelease, &body, err);
    if (r < 0)
        return r;
    id = sha256_of(data, len);
    if (denied(t, hash_hex(&id, hex)))
        return err_set(err, ERR_DENIED, "release %s: is in the deny list", hex);
    r = release_parse(&release, &id, &body, err);
    if (r == 0)
        r = same_cluster("release", release->cluster, t->cluster, err);
    if (r < 0) {
        release_free(release);
        return r;
    }
    *ret = release;
    return 0;
}

int goal_open(struct goal **ret, const struct trust *t, const void *data, size_t len,
              struct err *err)
{
    struct goal *goal = NULL;
    struct bytes body;
    int r = open_trusted(t, data, len, DOC_GOAL, t->goal_keys, t->ngoal, &body, err);

    if (r == 0)
        r = goal_parse(&goal, &body, err);
    if (r == 0)
        r = same_cluster("goal", goal->cluster, t->cluster, err);
    if (r < 0) {
        goal_free(goal);
        return r;
    }
    *ret = goal;
    return 0;
}

static int check_successor(const struct trust *next, const struct trust *current,
                           const struct public_key *pin, struct err *err)
{
    if (current == NULL) {
        if (memcmp(next->root.b, pin->b, KEY_BYTES) != 0)
            return err_set(err, ERR_DENIED, "trust document: its root key is not the pinned one");
        return 0;
    }
    if (next->version < current->version)
        return err_set(err, ERR_DENIED, "trust document: version %llu is older than %llu",
                       (unsigned long long)next->version, (unsigned long long)current->version);
    return same_cluster("trust", next->cluster, current->cluster, err);
}

int trust_open(struct trust **ret, const struct trust *current, const struct public_key *pin,
               const void *data, size_t len, struct err *err)
{
    const struct public_key *key = current == NULL ? pin : &current->root;
    struct trust *trust = NULL;
    struct bytes body;
    int r = doc_open(data, len, DOC_TRUST, key, 1, &body, err);

    if (r == 0)
        r = trust_parse(&trust, &body, err);
    if (r == 0)
        r = check_successor(trust, current, pin, err);
    if (r < 0) {
        trust_free(trust);
        return r;
    }
    *ret = trust;
    return 0;
}
