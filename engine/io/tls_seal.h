/* tls_seal.h - contexts of TLS whose records are sealed and opened as fast as this processor can.
 *
 * Every byte of an artifact is sealed once and opened once on each of its ways, and with libcrypto 3.0, which
 * has AES-GCM by AES-NI only, that is half of what delivering it costs. Where libipsec-mb is there, and the
 * processor has VAES, VPCLMULQDQ and AVX-512, AES-128-GCM and AES-256-GCM come from that library, at a
 * quarter of the time, by a provider of OpenSSL that is part of this program ("slipway", tls_gcm.h).
 * Elsewhere, and for all else, libcrypto's own is used; so it is where openssl.cnf asks for FIPS. What goes over
 * the wire is the same.
 *
 * The provider is in a library context of its own, which is made by the first call and lives as long as the
 * process does: nobody but users of tls_context_new() meets it. Thread-safe. */
#ifndef IO_TLS_SEAL_H
#define IO_TLS_SEAL_H

#include <openssl/ssl.h>

#define TLS_SEAL_PROVIDER "slipway"

/* As SSL_CTX_new(); for TLS 1.3 only: the caller is to refuse what is older. NULL: OpenSSL's queue says why. */
SSL_CTX *tls_context_new(const SSL_METHOD *method);

/* The cipher ("id-aes128-GCM") with which such a context seals. Gives: EVP_CIPHER_free(). NULL: there is none.
 * EVP_CIPHER_get0_provider() tells whose it is. */
EVP_CIPHER *tls_seal_cipher(const char *name);

#endif
