#include "io/tls_seal.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <pthread.h>

#include "base/log.h"
#include "io/tls_gcm.h"

/* "?": what we do not have, others do. */
static const char prefer_ours[] = "?provider=" TLS_SEAL_PROVIDER;

static const OSSL_ALGORITHM *query(void *gcm, int operation, int *no_cache)
{
    (void)gcm;
    *no_cache = 0;
    return operation == OSSL_OP_CIPHER ? tls_gcm_ciphers : NULL;
}

static void teardown(void *gcm)
{
    tls_gcm_free(gcm);
}

/* Of type OSSL_provider_init_fn. 0: it is of no use on this machine. */
static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
                         const OSSL_DISPATCH **ret, void **ret_gcm)
{
    static const OSSL_DISPATCH dispatch[] = {
        { OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query },
        { OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))teardown },
        { 0, NULL },
    };

    (void)handle;
    (void)core;
    *ret = dispatch;
    *ret_gcm = tls_gcm_new();
    return *ret_gcm != NULL;
}

/* NULL: the default library context is to be used. Written once. */
static OSSL_LIB_CTX *library;

static void make_library(void)
{
    OSSL_LIB_CTX *made;

    if (EVP_default_properties_is_fips_enabled(NULL) == 1) /* by openssl.cnf */
        return;
    made = OSSL_LIB_CTX_new();
    ERR_set_mark();
    if (made != NULL && OSSL_PROVIDER_add_builtin(made, TLS_SEAL_PROVIDER, provider_init) == 1 &&
        OSSL_PROVIDER_load(made, TLS_SEAL_PROVIDER) != NULL &&
        OSSL_PROVIDER_load(made, "default") != NULL)
        library = made;
    else
        OSSL_LIB_CTX_free(made);
    ERR_pop_to_mark();
    log_debug("TLS: AES-GCM is %s", library == NULL ? "libcrypto's" : "libipsec-mb's");
}

/* It is never freed: threads that used it hold random numbers of it until they end. */
static OSSL_LIB_CTX *library_get(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_library);
    return library;
}

SSL_CTX *tls_context_new(const SSL_METHOD *method)
{
    OSSL_LIB_CTX *in = library_get();

    return SSL_CTX_new_ex(in, in == NULL ? NULL : prefer_ours, method);
}

EVP_CIPHER *tls_seal_cipher(const char *name)
{
    OSSL_LIB_CTX *in = library_get();

    return EVP_CIPHER_fetch(in, name, in == NULL ? NULL : prefer_ours);
}
