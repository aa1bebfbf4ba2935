/* TLS by tls_context_new() with itself and with libcrypto's, and links over it. */
#include <openssl/err.h>
#include <openssl/provider.h>
#include <sys/wait.h>

#include "io/tls_gcm.h"
#include "io/tls_seal.h"
#include "unit/io/link_ends.h"

enum { PIPE_BYTES = 64 << 10, TALK_BYTES = 300000, WRITE_MAX = 20000 };

static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                      "TLS_CHACHA20_POLY1305_SHA256" };

/* Of the region, that its other side's certificate is signed by the same CA; with tickets. */
static SSL_CTX *context(struct fix *f, bool ours, const char *id, const char *suite)
{
    SSL_CTX *c = ours ? tls_context_new(TLS_method()) : SSL_CTX_new(TLS_method());
    AUTO_FREE char *ca = mem_printf("%s/ca-%s/ca.pem", f->dir, id);
    AUTO_FREE char *cert = mem_printf("%s/ca-%s/cert.pem", f->dir, id);
    AUTO_FREE char *key = mem_printf("%s/ca-%s/key.pem", f->dir, id);

    assert_non_null(c);
    assert_int_equal(SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION), 1);
    assert_int_equal(SSL_CTX_set_ciphersuites(c, suite), 1);
    assert_int_equal(SSL_CTX_load_verify_file(c, ca), 1);
    assert_int_equal(SSL_CTX_use_certificate_file(c, cert, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM), 1);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    link_session_setup(c);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_sess_set_new_cb(c, NULL);
    return c;
}

/* Both ends of a connection through memory: 0 accepts, 1 connects. */
struct talk {
    SSL *end[2];
};

static struct talk talk_begin(SSL_CTX *const c[2], SSL_SESSION *resume)
{
    struct talk t;
    BIO *bio[2];
    int ret[2] = { 0, 0 };

    assert_int_equal(BIO_new_bio_pair(&bio[0], PIPE_BYTES, &bio[1], PIPE_BYTES), 1);
    for (int i = 0; i < 2; i++) {
        t.end[i] = SSL_new(c[i]);
        SSL_set_bio(t.end[i], bio[i], bio[i]);
    }
    SSL_set_accept_state(t.end[0]);
    SSL_set_connect_state(t.end[1]);
    if (resume != NULL)
        assert_int_equal(SSL_set_session(t.end[1], resume), 1);
    for (int turn = 0; turn < 10 && (ret[0] != 1 || ret[1] != 1); turn++)
        for (int i = 1; i >= 0; i--)
            ret[i] = SSL_do_handshake(t.end[i]);
    assert_int_equal(ret[0] + ret[1], 2);
    return t;
}

static void talk_end(struct talk *t)
{
    for (int i = 0; i < 2; i++) {
        SSL_shutdown(t->end[i]); /* or the session would not be resumable */
        SSL_free(t->end[i]);
    }
}

/* TALK_BYTES from one end to the other, in writes of all lengths up to WRITE_MAX. */
static void say(SSL *from, SSL *to)
{
    unsigned char *out = mem_alloc(TALK_BYTES), *in = mem_alloc(TALK_BYTES);

    for (int i = 0; i < TALK_BYTES; i++)
        out[i] = (unsigned char)(i * 7 + i / 251);
    for (int at = 0, len = 1; at < TALK_BYTES; at += len, len = len * 3 % WRITE_MAX + 1) {
        len = len < TALK_BYTES - at ? len : TALK_BYTES - at;
        assert_int_equal(SSL_write(from, out + at, len), len);
        for (int got = 0, n; got < len; got += n) {
            n = SSL_read(to, in + at + got, len - got);
            assert_true(n > 0);
        }
    }
    assert_memory_equal(in, out, TALK_BYTES);
    free(out);
    free(in);
}

static void say_both_ways(struct talk *t)
{
    say(t->end[0], t->end[1]);
    say(t->end[1], t->end[0]);
    say(t->end[0], t->end[1]); /* the ticket, too, is read by now */
}

static void talks_with_libcrypto(void **state)
{
    struct fix *f = *state;

    for (size_t suite = 0; suite < COUNT_OF(suites); suite++)
        for (int mix = 0; mix < 3;
             mix++) { /* bit 0: who accepts is libcrypto's; bit 1: the other */
            SSL_CTX *c[] = { context(f, (mix & 1) == 0, "eu", suites[suite]),
                             context(f, (mix & 2) == 0, "m-01", suites[suite]) };
            struct talk t = talk_begin(c, NULL);
            SSL_SESSION *session;

            assert_string_equal(SSL_get_cipher_name(t.end[1]), suites[suite]);
            assert_int_equal(SSL_session_reused(t.end[1]), 0);
            say_both_ways(&t);
            for (int i = 0; i < 2; i++) { /* new keys, in either direction */
                assert_int_equal(SSL_key_update(t.end[i], SSL_KEY_UPDATE_REQUESTED), 1);
                say_both_ways(&t);
            }
            session = SSL_get1_session(t.end[1]);
            talk_end(&t);
            t = talk_begin(c, session);
            assert_int_equal(SSL_session_reused(t.end[0]) + SSL_session_reused(t.end[1]), 2);
            say_both_ways(&t);
            talk_end(&t);
            SSL_SESSION_free(session);
            SSL_CTX_free(c[0]);
            SSL_CTX_free(c[1]);
        }
}

/* Of what is sent, some byte of a record is another when it arrives. */
static void changed_record_ends_the_connection(void **state)
{
    struct fix *f = *state;

    for (size_t suite = 0; suite < 2; suite++)
        for (int at = 5; at < 200; at += 13) {
            SSL_CTX *c[] = { context(f, true, "eu", suites[suite]),
                             context(f, true, "m-01", suites[suite]) };
            struct talk t = talk_begin(c, NULL);
            unsigned char record[1024], data[180] = { 1 };
            int len;

            say_both_ways(&t);
            assert_int_equal(SSL_write(t.end[0], data, sizeof(data)), sizeof(data));
            len = BIO_read(SSL_get_rbio(t.end[1]), record, sizeof(record));
            assert_int_equal(len, 5 + sizeof(data) + 1 + 16);
            record[at] ^= 0x10;
            SSL_set0_rbio(t.end[1], BIO_new_mem_buf(record, len));
            assert_int_equal(SSL_read(t.end[1], data, sizeof(data)), -1);
            assert_int_equal(ERR_GET_REASON(ERR_peek_error()),
                             SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC);
            ERR_clear_error();
            SSL_free(t.end[0]);
            SSL_free(t.end[1]);
            SSL_CTX_free(c[0]);
            SSL_CTX_free(c[1]);
        }
}

static const char *whose(const EVP_CIPHER *c)
{
    assert_non_null(c);
    return OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(c));
}

/* Where it can be, links have our cipher; users of OpenSSL who know nothing of us do not. */
static void only_links_have_ours(void **state)
{
    static const char *const both[] = { "AES-128-GCM", "AES-256-GCM" };
    struct tls_gcm *gcm = tls_gcm_new();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(both); i++) {
        EVP_CIPHER *ours = tls_seal_cipher(both[i]),
                   *theirs = EVP_CIPHER_fetch(NULL, both[i], NULL);

        assert_string_equal(whose(ours), gcm == NULL ? "default" : TLS_SEAL_PROVIDER);
        assert_string_equal(whose(theirs), "default");
        EVP_CIPHER_free(ours);
        EVP_CIPHER_free(theirs);
    }
    assert_int_equal(OSSL_PROVIDER_available(NULL, TLS_SEAL_PROVIDER), 0);
    tls_gcm_free(gcm);
}

static void answer_and_close(struct end *e, struct link *l, enum msg_type type, const void *msg)
{
    (void)type;
    (void)msg;
    e->next = link_was_resumed(l);
    if (e == &e->f->client)
        link_close(l, ERR_NONE, "");
    else
        send_number(e, l, 2);
}

/* A whole link: opened, a question and an answer, closed. */
static void link_once(struct fix *f, bool resumed)
{
    f->client.on_open = count_crowd;
    f->client.on_message = f->server.on_message = answer_and_close;
    f->stop_after_closed = f->client.closed + f->server.closed + 2;
    connect_as(f, f->agent, ROLE_REGION, "eu");
    loop_run(f->loop);
    assert_int_equal(f->client.why.code, ERR_NONE);
    assert_int_equal(f->client.next, resumed);
    assert_int_equal(f->server.next, resumed);
}

static void link_to_libcrypto(void **state)
{
    struct fix *f = *state;
    struct link_identity *const sides[] = { f->agent, f->region };
    const char *const ids[] = { "m-01", "eu" };

    for (int i = 0; i < 2; i++) {
        SSL_CTX *ours = sides[i]->tls;

        sides[i]->tls = context(f, false, ids[i], suites[0]);
        link_session_setup(sides[i]->tls);
        link_sessions_release(f->agent);
        link_once(f, false);
        link_once(f, true);
        link_once(f, true);
        assert_int_equal(f->client.messages, 3 * (i + 1));
        SSL_CTX_free(sides[i]->tls);
        sides[i]->tls = ours;
    }
    link_sessions_release(f->agent);
}

/* Asked in a process of its own, before anything else is. */
static void who_is_held_to_fips_is_not_given_ours(void **state)
{
    int status = -1;
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        EVP_CIPHER *c;

        (void)EVP_default_properties_enable_fips(NULL, 1);
        c = tls_seal_cipher("AES-128-GCM"); /* NULL: no approved one is installed */
        _exit(c != NULL && strcmp(whose(c), TLS_SEAL_PROVIDER) == 0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest first[] = { cmocka_unit_test(who_is_held_to_fips_is_not_given_ours) };
    const struct CMUnitTest tests[] = {
        T(talks_with_libcrypto),
        T(changed_record_ends_the_connection),
        T(only_links_have_ours),
        T(link_to_libcrypto),
    };

    return cmocka_run_group_tests(first, NULL, NULL) +
           cmocka_run_group_tests(tests, group_setup, group_teardown);
}
