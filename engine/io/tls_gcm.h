/* tls_gcm.h - AES-GCM by libipsec-mb, as the ciphers of an OpenSSL provider. Private to tls_seal.
 *
 * What the record layer of TLS 1.3 asks of an AEAD, and no more (RFC 8446 §5.2, §5.3; RFC 5116 §5.1): an IV of
 * 12 bytes, a tag of 16, and TLS_GCM_AAD_MAX bytes of additional data at most, of which a record has 5. What
 * only TLS 1.2 asks of it is not there. For each record:
 *
 *     init(iv)  [opening: set tag]  update(additional data)  update(data)…  final  [sealing: get tag]
 *
 * with the key that an earlier init() gave. An IV is good for one final() (NIST SP 800-38D §8): what follows without
 * a new one is refused, as are data before the additional data, other lengths than those above, and more than
 * 2^36 - 32 bytes (§5.2.1.1). Opening, update() gives bytes that nobody has vouched for; final() fails if the tag is
 * not theirs, and they are to be thrown away, as with every EVP cipher.
 *
 * The library: Intel Multi-Buffer Crypto for IPsec 1.3, intel-ipsec-mb.h (IMB_AES128_GCM_INIT and those after it). */
#ifndef IO_TLS_GCM_H
#define IO_TLS_GCM_H

#include <openssl/core_dispatch.h>

enum { TLS_GCM_KEYS = 2, TLS_GCM_IV_BYTES = 12, TLS_GCM_TAG_BYTES = 16, TLS_GCM_AAD_MAX = 64 };

/* The library's functions: the provider's context. It is loaded (12 MB, of which 3 are looked at) where the
 * processor has AVX-512, VAES and VPCLMULQDQ, and tests itself, which takes 1 ms. NULL: it is not there, or is
 * another version than the header that this was built with, or there was none, or libcrypto is as fast, or the
 * processor lacks what makes it worth while. */
struct tls_gcm;
struct tls_gcm *tls_gcm_new(void);
void tls_gcm_free(struct tls_gcm *g);

extern const OSSL_ALGORITHM tls_gcm_ciphers[TLS_GCM_KEYS + 1];

#endif
