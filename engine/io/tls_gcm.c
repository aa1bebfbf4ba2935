#include "io/tls_gcm.h"

#ifdef HAVE_IPSEC_MB

#define NO_COMPAT_IMB_API_053 /* its old names are OpenSSL's as well */
#include <cpuid.h>
#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/proverr.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char library_name[] =
    "libIPSec_MB.so.1"; /* of the header above; its version is compared */
static const uint64_t data_max = (UINT64_C(1) << 36) - 32;

/* For keys of one length. */
struct calls {
    aes_gcm_pre_t expand;
    aes_gcm_init_t begin;
    aes_gcm_enc_dec_update_t seal, open;
    aes_gcm_enc_dec_finalize_t seal_tag, open_tag;
};

struct tls_gcm {
    void *library;
    struct calls by_128, by_256;
};

enum stage {
    NO_IV = 0,
    BEFORE_DATA, /* there is an IV; additional data may come */
    IN_DATA,
};

/* A cipher's context: one direction of a connection. */
struct cipher {
    struct gcm_key_data key;
    struct gcm_context_data run;
    const struct calls *calls;
    size_t key_len;
    bool seals, has_key;
    bool has_tag; /* sealing: it was computed; opening: the one to compare with */
    enum stage stage;
    uint64_t data_len;
    size_t aad_len;
    unsigned char iv[TLS_GCM_IV_BYTES], tag[TLS_GCM_TAG_BYTES], aad[TLS_GCM_AAD_MAX];
};

static int refuse(int reason)
{
    ERR_raise(ERR_LIB_PROV, reason);
    return 0;
}

static struct cipher *cipher_new(const struct calls *calls, size_t key_len)
{
    struct cipher *c = OPENSSL_zalloc(sizeof(*c));

    if (c == NULL)
        return NULL;
    c->calls = calls;
    c->key_len = key_len;
    return c;
}

static void *new_128(void *provider)
{
    const struct tls_gcm *g = provider;

    return cipher_new(&g->by_128, IMB_KEY_128_BYTES);
}

static void *new_256(void *provider)
{
    const struct tls_gcm *g = provider;

    return cipher_new(&g->by_256, IMB_KEY_256_BYTES);
}

static void cipher_free(void *ctx)
{
    OPENSSL_clear_free(ctx, sizeof(struct cipher));
}

static void *cipher_dup(void *ctx)
{
    return OPENSSL_memdup(ctx, sizeof(struct cipher));
}

static int set_ctx_params(void *ctx, const OSSL_PARAM params[])
{
    struct cipher *c = ctx;
    const OSSL_PARAM *p;
    size_t len;

    if (params == NULL)
        return 1;
    p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_IVLEN);
    if (p != NULL && (OSSL_PARAM_get_size_t(p, &len) != 1 || len != TLS_GCM_IV_BYTES))
        return refuse(PROV_R_INVALID_IV_LENGTH);
    p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_KEYLEN);
    if (p != NULL && (OSSL_PARAM_get_size_t(p, &len) != 1 || len != c->key_len))
        return refuse(PROV_R_INVALID_KEY_LENGTH);
    p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_TAG);
    if (p == NULL)
        return 1;
    if (c->seals)
        return refuse(PROV_R_TAG_NOT_NEEDED);
    if (p->data_type != OSSL_PARAM_OCTET_STRING || p->data == NULL ||
        p->data_size != sizeof(c->tag))
        return refuse(PROV_R_INVALID_TAG_LENGTH);
    memcpy(c->tag, p->data, sizeof(c->tag));
    c->has_tag = true;
    return 1;
}

static int set_size(OSSL_PARAM params[], const char *name, size_t size)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, name);

    return p == NULL || OSSL_PARAM_set_size_t(p, size) == 1
               ? 1
               : refuse(PROV_R_FAILED_TO_SET_PARAMETER);
}

static int get_ctx_params(void *ctx, OSSL_PARAM params[])
{
    const struct cipher *c = ctx;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TAG);

    if (p != NULL && (!c->seals || !c->has_tag))
        return refuse(PROV_R_TAG_NOT_SET);
    if (p != NULL && OSSL_PARAM_set_octet_string(p, c->tag, sizeof(c->tag)) != 1)
        return refuse(PROV_R_FAILED_TO_SET_PARAMETER);
    return set_size(params, OSSL_CIPHER_PARAM_IVLEN, TLS_GCM_IV_BYTES) &&
           set_size(params, OSSL_CIPHER_PARAM_KEYLEN, c->key_len) &&
           set_size(params, OSSL_CIPHER_PARAM_AEAD_TAGLEN, sizeof(c->tag));
}

/* A record begins, a key is given, or both. What was begun with another key or the other way round is dropped. */
static int init(struct cipher *c, bool seals, const unsigned char *key, size_t key_len,
                const unsigned char *iv, size_t iv_len, const OSSL_PARAM params[])
{
    if (key != NULL && key_len != c->key_len)
        return refuse(PROV_R_INVALID_KEY_LENGTH);
    if (iv != NULL && iv_len != sizeof(c->iv))
        return refuse(PROV_R_INVALID_IV_LENGTH);
    if (c->stage == IN_DATA && (key != NULL || c->seals != seals))
        c->stage = NO_IV;
    if (c->seals != seals || (seals && iv != NULL))
        c->has_tag = false;
    c->seals = seals;
    if (key != NULL) {
        c->calls->expand(key, &c->key);
        c->has_key = true;
    }
    if (iv != NULL) {
        memcpy(c->iv, iv, sizeof(c->iv));
        c->aad_len = 0;
        c->stage = BEFORE_DATA;
    }
    return set_ctx_params(c, params);
}

static int seal_init(void *ctx, const unsigned char *key, size_t key_len, const unsigned char *iv,
                     size_t iv_len, const OSSL_PARAM params[])
{
    return init(ctx, true, key, key_len, iv, iv_len, params);
}

static int open_init(void *ctx, const unsigned char *key, size_t key_len, const unsigned char *iv,
                     size_t iv_len, const OSSL_PARAM params[])
{
    return init(ctx, false, key, key_len, iv, iv_len, params);
}

static int ready(const struct cipher *c)
{
    if (!c->has_key)
        return refuse(PROV_R_NO_KEY_SET);
    return c->stage != NO_IV ? 1 : refuse(PROV_R_INVALID_STATE);
}

static int add_aad(struct cipher *c, const unsigned char *aad, size_t len)
{
    if (c->stage != BEFORE_DATA || len > sizeof(c->aad) - c->aad_len)
        return refuse(PROV_R_INVALID_AAD);
    memcpy(c->aad + c->aad_len, aad, len);
    c->aad_len += len;
    return 1;
}

static void begin_data(struct cipher *c)
{
    if (c->stage == IN_DATA)
        return;
    c->calls->begin(&c->key, &c->run, c->iv, c->aad, c->aad_len);
    c->stage = IN_DATA;
    c->data_len = 0;
}

static int update(void *ctx, unsigned char *out, size_t *ret_len, size_t room,
                  const unsigned char *in, size_t len)
{
    struct cipher *c = ctx;

    *ret_len = 0;
    if (len == 0)
        return 1;
    if (in == NULL || !ready(c))
        return 0;
    if (out == NULL) {
        *ret_len = len;
        return add_aad(c, in, len);
    }
    if (room < len)
        return refuse(PROV_R_OUTPUT_BUFFER_TOO_SMALL);
    begin_data(c);
    if (len > data_max - c->data_len)
        return refuse(PROV_R_INVALID_INPUT_LENGTH);
    (c->seals ? c->calls->seal : c->calls->open)(&c->key, &c->run, out, in, len);
    c->data_len += len;
    *ret_len = len;
    return 1;
}

static int final(void *ctx, unsigned char *out, size_t *ret_len, size_t room)
{
    struct cipher *c = ctx;
    unsigned char tag[TLS_GCM_TAG_BYTES];
    int ok;

    (void)out;
    (void)room;
    *ret_len = 0;
    if (!ready(c))
        return 0;
    if (!c->seals && !c->has_tag)
        return refuse(PROV_R_TAG_NOT_SET);
    begin_data(c);
    c->stage = NO_IV;
    if (c->seals) {
        c->calls->seal_tag(&c->key, &c->run, c->tag, sizeof(c->tag));
        c->has_tag = true;
        return 1;
    }
    c->calls->open_tag(&c->key, &c->run, tag, sizeof(tag));
    ok = CRYPTO_memcmp(tag, c->tag, sizeof(tag)) == 0;
    c->has_tag = false;
    OPENSSL_cleanse(tag, sizeof(tag)); /* what a forger would need */
    return ok;
}

static int get_params(OSSL_PARAM params[], size_t key_len)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE);

    if (p != NULL && OSSL_PARAM_set_uint(p, EVP_CIPH_GCM_MODE) != 1)
        return refuse(PROV_R_FAILED_TO_SET_PARAMETER);
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD);
    if (p != NULL && OSSL_PARAM_set_int(p, 1) != 1)
        return refuse(PROV_R_FAILED_TO_SET_PARAMETER);
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_CUSTOM_IV);
    if (p != NULL && OSSL_PARAM_set_int(p, 1) != 1)
        return refuse(PROV_R_FAILED_TO_SET_PARAMETER);
    return set_size(params, OSSL_CIPHER_PARAM_KEYLEN, key_len) &&
           set_size(params, OSSL_CIPHER_PARAM_IVLEN, TLS_GCM_IV_BYTES) &&
           set_size(params, OSSL_CIPHER_PARAM_BLOCK_SIZE, 1); /* as a stream's */
}

static int params_128(OSSL_PARAM params[])
{
    return get_params(params, IMB_KEY_128_BYTES);
}

static int params_256(OSSL_PARAM params[])
{
    return get_params(params, IMB_KEY_256_BYTES);
}

#define CIPHER(new, params)                                                                   \
    {                                                                                         \
        { OSSL_FUNC_CIPHER_NEWCTX, (void (*)(void))(new) },                                   \
            { OSSL_FUNC_CIPHER_FREECTX, (void (*)(void))cipher_free },                        \
            { OSSL_FUNC_CIPHER_DUPCTX, (void (*)(void))cipher_dup },                          \
            { OSSL_FUNC_CIPHER_ENCRYPT_INIT, (void (*)(void))seal_init },                     \
            { OSSL_FUNC_CIPHER_DECRYPT_INIT, (void (*)(void))open_init },                     \
            { OSSL_FUNC_CIPHER_UPDATE, (void (*)(void))update },                              \
            { OSSL_FUNC_CIPHER_FINAL, (void (*)(void)) final },                               \
            { OSSL_FUNC_CIPHER_GET_PARAMS, (void (*)(void))(params) },                        \
            { OSSL_FUNC_CIPHER_GET_CTX_PARAMS, (void (*)(void))get_ctx_params },              \
            { OSSL_FUNC_CIPHER_SET_CTX_PARAMS, (void (*)(void))set_ctx_params }, { 0, NULL }, \
    }

static const OSSL_DISPATCH gcm_128[] = CIPHER(new_128, params_128);
static const OSSL_DISPATCH gcm_256[] = CIPHER(new_256, params_256);

/* By all the names that libcrypto has for them. */
const OSSL_ALGORITHM tls_gcm_ciphers[TLS_GCM_KEYS + 1] = {
    { "AES-128-GCM:id-aes128-GCM:2.16.840.1.101.3.4.1.6", "provider=slipway", gcm_128,
      "AES-128-GCM by libipsec-mb" },
    { "AES-256-GCM:id-aes256-GCM:2.16.840.1.101.3.4.1.46", "provider=slipway", gcm_256,
      "AES-256-GCM by libipsec-mb" },
    { NULL, NULL, NULL, NULL },
};

static void take_functions(struct tls_gcm *g, const IMB_MGR *m)
{
    g->by_128 = (struct calls){
        .expand = m->gcm128_pre,
        .begin = m->gcm128_init,
        .seal = m->gcm128_enc_update,
        .open = m->gcm128_dec_update,
        .seal_tag = m->gcm128_enc_finalize,
        .open_tag = m->gcm128_dec_finalize,
    };
    g->by_256 = (struct calls){
        .expand = m->gcm256_pre,
        .begin = m->gcm256_init,
        .seal = m->gcm256_enc_update,
        .open = m->gcm256_dec_update,
        .seal_tag = m->gcm256_enc_finalize,
        .open_tag = m->gcm256_dec_finalize,
    };
}

static bool find(void *library, const char *name, void *ret, size_t size)
{
    void *found = dlsym(library, name);

    memcpy(ret, &found, size);
    return found != NULL;
}

#define FIND(library, ret, name) (*(ret) = NULL, find((library), (name), (ret), sizeof(*(ret))))

/* False: it has no such functions, or does not pass its own tests. */
static bool ask_library(struct tls_gcm *g)
{
    __typeof__(&imb_get_version) version;
    __typeof__(&imb_get_errno) error;
    __typeof__(&alloc_mb_mgr) alloc;
    __typeof__(&init_mb_mgr_avx512) init_functions;
    __typeof__(&free_mb_mgr) release;
    IMB_MGR *m;
    bool ok;

    if (!FIND(g->library, &version, "imb_get_version") || version() != IMB_VERSION_NUM ||
        !FIND(g->library, &error, "imb_get_errno") || !FIND(g->library, &alloc, "alloc_mb_mgr") ||
        !FIND(g->library, &init_functions, "init_mb_mgr_avx512") ||
        !FIND(g->library, &release, "free_mb_mgr"))
        return false;
    m = alloc(0);
    if (m == NULL)
        return false;
    init_functions(m);
    ok = error(m) == 0;
    take_functions(g, m);
    release(m); /* 200 KB for queues of jobs: of no use to functions that are called at once */
    return ok;
}

/* What not every compiler's __builtin_cpu_supports() knows by name. */
static bool has_vector_aes(void)
{
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & bit_VAES) != 0 &&
           (c & bit_VPCLMULQDQ) != 0;
}

static bool processor_has_it(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           has_vector_aes();
}

struct tls_gcm *tls_gcm_new(void)
{
    struct tls_gcm *g;

    if (!processor_has_it())
        return NULL;
    g = mem_alloc(sizeof(*g));
    g->library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (g->library != NULL && ask_library(g))
        return g;
    tls_gcm_free(g);
    return NULL;
}

void tls_gcm_free(struct tls_gcm *g)
{
    if (g != NULL && g->library != NULL)
        dlclose(g->library);
    free(g);
}

#else

const OSSL_ALGORITHM tls_gcm_ciphers[TLS_GCM_KEYS + 1] = { { NULL, NULL, NULL, NULL } };

struct tls_gcm *tls_gcm_new(void)
{
    return NULL;
}

void tls_gcm_free(struct tls_gcm *g)
{
    (void)g;
}

#endif
