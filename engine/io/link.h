/* link.h - framed messages over TCP with mutual TLS 1.3: how control plane, region nodes and
 * machines speak.
 *
 *     link_listen() / link_connect()  ->  opened(link)  ->  message(link, type, msg)…  ->
 * closed(link, err)
 *
 * A link is open when TLS has verified the peer's certificate against our CA and both HELLOs agree:
 * same cluster, same version, role and id as the certificate says. Everything before is link's own
 * business, with a deadline (LINK_OPEN_MS). An open link that is silent for LINK_SILENT_MS after
 * pings is closed. Every connection has bounded buffers: link_send() answers -ERR_AGAIN when
 * LINK_OUT_MAX bytes wait, and drained() tells when half of that is free; a peer that sends a
 * malformed frame is told BYE and closed.
 *
 * A link that is opened again soon resumes its TLS session: no signatures are made or checked. The names
 * in the certificates are judged each time all the same, and so is whether they have expired or were denied
 * (link_identity_deny()) since.
 *
 * Messages come in the order in which they were sent, but that large ones (link_send_block()) go in parts, and
 * others that are sent meanwhile come before the rest of them: a question does not wait behind 256 KiB of an
 * answer. So a link is to hold as little as keeps it busy (link_set_low_water()).
 *
 * Connections that are not open yet have limits of their own, in all and for each address: strangers who
 * connect and say nothing do not keep out those who have a certificate, and one of those does not keep out
 * the others (LINK_SAME_ID_MAX).
 *
 * closed() fires exactly once for every link that link_connect() started or a listener accepted and
 * opened, never from inside a call of ours; afterwards the link is freed. Reconnecting is the
 * user's business (link_backoff_ms()). */
#ifndef IO_LINK_H
#define IO_LINK_H

#include "io/loop.h"
#include "io/pki.h"
#include "wire/msg.h"

enum {
    LINK_OPEN_MS = 10000,
    LINK_PING_MS = 10000,
    LINK_SILENT_MS = 30000,
    LINK_OUT_MAX = 4 << 20,
    LINK_OPENING_LINKS = 512, /* of a listener, that are not open yet; more wait to be accepted */
    LINK_OPENING_SHARE = 256, /* of these, from one address */
    LINK_OPENING_GRACE_MS = 1000, /* so old, one may go when another needs its place; */
    LINK_OPENING_SILENT_MS = 100, /* so old, if nothing has come from it yet */
    LINK_SAME_ID_MAX = 16,        /* open links of a listener with the same other side */
    LINK_SESSIONS_MAX = 256,      /* to be resumed, of an identity */
    LINK_DENIED_MAX = 65536,
    LINK_MALFORMED_MAX =
        3, /* links of one name that end by malformed messages; then it is denied */
    LINK_FRAME_SILENTS = 2, /* times LINK_SILENT_MS: in which a message must be whole */
};

struct link;
struct link_listener;
struct link_identity; /* our certificate, key, CA, cluster, role, id, region */

/* Loads dir/{ca,cert,key}.pem; role and id are read from the certificate. */
MUST_CHECK int link_identity_load(struct link_identity **ret, const char *dir, const char *region,
                                  struct err *err);
void link_identity_free(struct link_identity *i); /* after all its links and listeners are closed */
/* Its links that have not ended: run the loop until there are none before it is freed. */
size_t link_identity_links(const struct link_identity *i);
const char *link_identity_id(const struct link_identity *i);
const char *link_identity_cluster(const struct link_identity *i);
/* Other times than LINK_OPEN_MS, LINK_PING_MS and LINK_SILENT_MS for links made from now on: for
 * tests, which must not wait. */
void link_identity_set_times(struct link_identity *i, int64_t open_ms, int64_t ping_ms,
                             int64_t silent_ms);
int64_t link_identity_open_ms(const struct link_identity *i); /* in which a link opens, or ends */

/* From now on who has that name is not let in and not connected to, whatever its certificate; links that
 * are open stay. Until the process ends. Beyond LINK_DENIED_MAX: forgotten. */
void link_identity_deny(struct link_identity *i, enum link_role role, const char *id);
/* Is it so, by that or because it sent malformed messages? */
bool link_identity_denies(const struct link_identity *i, enum link_role role, const char *id);

struct link_counts {
    uint64_t malformed; /* open links that ended by a malformed message */
    uint64_t denied;    /* names */
};
struct link_counts link_identity_counts(const struct link_identity *i);

struct link_handler {
    void (*opened)(void *ctx, struct link *l);
    /* msg is decoded (struct msg_…) and borrowed until return. The handler may close l. */
    void (*message)(void *ctx, struct link *l, enum msg_type type, const void *msg);
    void (*drained)(void *ctx, struct link *l); /* may be NULL */
    void (*closed)(void *ctx, struct link *l, const struct err *why);
};

/* addr: "127.0.0.1:0" or "[::1]:7000"; port 0 takes a free one. accepted may refuse roles by mask:
 * roles = 1 << ROLE_AGENT | … Refused and failed handshakes are logged with the peer's address and
 * counted. */
MUST_CHECK int link_listen(struct link_listener **ret, struct loop *loop,
                           struct link_identity *self, const char *addr, unsigned roles,
                           size_t max_links, const struct link_handler *handler, void *ctx,
                           struct err *err);
/* Lets strangers in who have no certificate yet: each may send one ENROL, which fn judges (0, and what
 * pki_sign() gives, or an error). One whose request names this very connection has proven by it that he has
 * the key of the certificate that he just got: the link goes on with HELLO, and opens as if he had shown it.
 * Others are to come again with it. */
struct link_enrol {
    int (*fn)(void *ctx, const struct msg_enrol *ask, struct pki_signed *ret, struct err *err);
    void *ctx;
};
void link_listener_set_enrol(struct link_listener *s, const struct link_enrol *e);
/* Other numbers than LINK_OPENING_LINKS, LINK_OPENING_SHARE and LINK_SAME_ID_MAX. */
void link_listener_set_limits(struct link_listener *s, size_t opening, size_t share,
                              size_t same_id);
int link_listener_port(const struct link_listener *s);
uint64_t link_listener_refused(const struct link_listener *s);
void link_listener_close(struct link_listener *s); /* its open links live on */

/* Expects the peer to be of that role, and, if id is not NULL, that id. */
MUST_CHECK int link_connect(struct link **ret, struct loop *loop, struct link_identity *self,
                            const char *host, int port, enum link_role role, const char *id,
                            const struct link_handler *handler, void *ctx, struct err *err);

/* fn(ctx, l) is called when TLS has verified the other side and our HELLO goes out: what link_send() takes
 * from then on goes right behind it, a round trip before opened(). If the link does not open, that is lost,
 * and closed() tells. For one that link_connect() has just made. */
void link_set_early(struct link *l, void (*fn)(void *ctx, struct link *l));

/* Queues a message. -ERR_AGAIN: over LINK_OUT_MAX, nothing queued; drained() will tell.
 * -ERR_CANCELLED: the link is closing, closed() will tell. Other errors are our own bugs. */
MUST_CHECK int link_send(struct link *l, enum msg_type type, const void *msg, struct err *err);

/* drained() is also called when what waits falls to that many bytes, having been more; 0: not. */
void link_set_low_water(struct link *l, size_t bytes);

/* As link_close(), and link_identity_deny() of its other side. */
void link_ban(struct link *l, enum err_code code, const char *reason);

/* BYE, flush, close. No message() comes after this, and closed() gets this code and reason. Closing
 * twice is harmless; not after closed(). */
void link_close(struct link *l, enum err_code code, const char *reason);

void link_set_user(struct link *l, void *user);
void *link_user(const struct link *l);
enum link_role link_peer_role(const struct link *l);
const char *link_peer_id(const struct link *l);
const char *link_peer_region(const struct link *l); /* as it says; no certificate vouches for it */
const char *link_peer_host(const struct link *l);   /* its numeric address */
bool link_was_resumed(const struct link *l);
size_t link_out_bytes(const struct link *l);
uint64_t link_sent_bytes(const struct link *l);
uint64_t link_received_bytes(const struct link *l);

/* Full jitter: a random delay up to min(30 s, 100 ms * 2^attempt). */
int64_t link_backoff_ms(int attempt);

#endif
