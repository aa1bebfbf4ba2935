/* bench_floor: what one GiB costs this processor that is received, verified, and sent on over TLS,
 * without anything around it: CPU seconds per GiB, one line each:
 *
 *     sha256 SECONDS        of 256 KiB at a time
 *     seal SECONDS          AES-128-GCM of 16 KiB at a time, as TLS records are
 *     open SECONDS
 *     copies SECONDS        into the kernel and out again, through a socket pair
 *     link-seal SECONDS     as seal and open, by what links have for it: libcrypto's, or better (io/tls_seal.h)
 *     link-open SECONDS
 *     link-sha256 SECONDS   of the same 256 KiB as a leaf's digest (base/merkle.h)
 *
 * Each is the best of ROUNDS. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/merkle.h"
#include "io/tls_seal.h"

enum {
    ROUNDS = 5,
    ROUND_BYTES = 128 << 20,
    LEAF = 256 << 10,
    RECORD = 16 << 10,
    IV_BYTES = 12,
    TAG_BYTES = 16,
    COPY = 64 << 10, /* fits into the buffer of a socket pair */
};

struct tool {
    unsigned char *data, *out; /* LEAF each */
    unsigned char tag[TAG_BYTES];
    const EVP_CIPHER *kind;
    EVP_CIPHER_CTX *cipher;
    int pair[2];
};

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_floor: %s does not work here\n", what);
    exit(1);
}

static void hash_leaf(struct tool *t)
{
    struct hash h = sha256_of(t->data, LEAF);

    t->data[0] = h.b[0];
}

static void digest_leaf(struct tool *t)
{
    struct hash h = merkle_leaf(t->data, LEAF);

    t->data[0] = h.b[0];
}

static void crypt_record(struct tool *t, unsigned char *to, const unsigned char *from, int seal)
{
    static const unsigned char key[16], iv[IV_BYTES];
    int len;

    must(EVP_CipherInit_ex(t->cipher, t->kind, NULL, key, iv, seal) == 1, "AES-128-GCM");
    if (seal == 0)
        EVP_CIPHER_CTX_ctrl(t->cipher, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, t->tag);
    must(EVP_CipherUpdate(t->cipher, to, &len, from, RECORD) == 1, "AES-128-GCM");
    must(EVP_CipherFinal_ex(t->cipher, to + len, &len) == 1, "the tag of AES-128-GCM");
    if (seal == 1)
        EVP_CIPHER_CTX_ctrl(t->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, t->tag);
}

static void seal_leaf(struct tool *t)
{
    for (int at = 0; at < LEAF; at += RECORD)
        crypt_record(t, t->out + at, t->data + at, 1);
}

static void open_leaf(struct tool *t)
{
    for (int at = 0; at < LEAF; at += RECORD)
        crypt_record(t, t->data, t->out, 0);
}

static void copy_leaf(struct tool *t)
{
    for (int at = 0; at < LEAF; at += COPY) {
        must(write(t->pair[0], t->data + at, COPY) == COPY, "a socket pair");
        must(recv(t->pair[1], t->out + at, COPY, MSG_WAITALL) == COPY, "a socket pair");
    }
}

static void measure(struct tool *t, const char *name, void (*leaf)(struct tool *t))
{
    double best = 1e9;

    for (int round = 0; round < ROUNDS; round++) {
        double begun = cpu_s(), took;

        for (int done = 0; done < ROUND_BYTES; done += LEAF)
            leaf(t);
        took = cpu_s() - begun;
        best = took < best ? took : best;
    }
    printf("%s %.4f\n", name, best * ((1 << 30) / ROUND_BYTES));
}

static void measure_kind(struct tool *t, const EVP_CIPHER *kind, const char *seal, const char *open)
{
    t->kind = kind;
    t->cipher = EVP_CIPHER_CTX_new();
    must(kind != NULL && t->cipher != NULL, "AES-128-GCM");
    measure(t, seal, seal_leaf);
    crypt_record(t, t->out, t->data, 1);
    measure(t, open, open_leaf);
    EVP_CIPHER_CTX_free(t->cipher);
}

int main(void)
{
    struct tool t = { .data = mem_alloc(LEAF), .out = mem_alloc(LEAF) };
    EVP_CIPHER *of_links = tls_seal_cipher("AES-128-GCM");
    int size = 4 * COPY;

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, t.pair) == 0, "a socket pair");
    must(setsockopt(t.pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0, "SO_SNDBUF");
    measure(&t, "sha256", hash_leaf);
    measure_kind(&t, EVP_aes_128_gcm(), "seal", "open");
    measure(&t, "copies", copy_leaf);
    measure_kind(&t, of_links, "link-seal", "link-open");
    measure(&t, "link-sha256", digest_leaf);
    EVP_CIPHER_free(of_links);
    close(t.pair[0]);
    close(t.pair[1]);
    free(t.data);
    free(t.out);
    return 0;
}
