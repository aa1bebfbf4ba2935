/* link_private.h - the inside of link: a state machine per connection. Private to io.
 *
 *   RESOLVING -> CONNECTING -> TLS -> HELLO -> OPEN -> CLOSING -> CLOSED
 *       (connecting side)
 *                 accepted ->  TLS -> HELLO -> OPEN -> CLOSING -> CLOSED
 *
 * Happy path: the connecting side checks the certificate when TLS is done and sends its HELLO; the
 * accepting side checks certificate and HELLO, answers with its own, and is open; the connecting
 * side is open when that answer agrees. So `opened` on the connecting side means "accepted". Who has no
 * certificate yet (enrol.h) sends ENROL before its HELLO, and is answered ENROLLED before the other.
 *
 * Ways to fail: the deadline of opening; a TLS error; a certificate or HELLO that does not fit (BYE
 * tells the peer why); EOF or a system error; a malformed frame (BYE, ERR_INVALID); silence. Each
 * ends in link_end(), which releases the socket at once, and posts the closed() callback.
 *
 * CLOSING writes what is queued (the BYE last), then half-closes and reads until the peer's EOF:
 * closing a socket with unread input would reset the connection, and the BYE might be lost. */
#ifndef IO_LINK_PRIVATE_H
#define IO_LINK_PRIVATE_H

#include <netdb.h>
#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/map.h"
#include "io/link.h"
#include "io/link_block.h"
#include "io/tls.h"

enum {
    LINK_CLOSE_MS = 2000,        /* to flush and to see the peer's EOF */
    LINK_TURN_BYTES = 1 << 20,   /* read in one callback, then others have their turn */
    LINK_RECORD_BYTES = 16384,   /* one TLS record */
    LINK_RECORD_HEAD = 5,        /* what says how long it is */
    LINK_AHEAD_BYTES = 64 << 10, /* read with what is missing of a record */
    LINK_MARK_MIN = 2 << 10,     /* so much of a record is worth waiting for, or it comes at once */
    LINK_MARK_MAX = 17 << 10,    /* no record has more */
    LINK_WIRE_BYTES = 2 * (LINK_RECORD_BYTES + 64), /* encrypted, and written in one go */
    LINK_WIRE_MAX = 256 << 10,                      /* encrypted, if the socket takes nothing */
    LINK_CONTROL_SLACK = 65536, /* BYE and PONG may exceed LINK_OUT_MAX by this */
    LINK_BLOCK_HEAD =
        80, /* room for the heads of a frame and of a PART before the bytes of a block */
    LINK_SMALL_BLOCK = 4096,     /* collects small frames that wait */
    LINK_OPENING_MAX = 32 << 10, /* the largest frame before a link is open */
};

enum link_state {
    LINK_NONE = 0,
    LINK_RESOLVING,
    LINK_CONNECTING,
    LINK_TLS,
    LINK_HELLO,
    LINK_OPEN,
    LINK_CLOSING,
    LINK_CLOSED,
};

/* See link_block.h. Freed when its identity is, and all its blocks are back. */
struct link_blocks {
    struct list kept;
    size_t nkept, out; /* out: in somebody's hands */
    bool closed;
};

struct link_block {
    struct list node; /* of those that are kept, or of those that wait on a link */
    struct link_blocks *pool;
    struct link_block *of; /* whose bytes these are; NULL: its own */
    size_t users;          /* it, and those that share its bytes */
    size_t cap;
    size_t at,
        len;     /* bytes from at to len are to be sent; of one that is being read: len are there */
    size_t body; /* where link_block_bytes() begin */
    unsigned char *data; /* with room for the head of a PART before it */
    unsigned char own[];
};

struct link_identity {
    SSL_CTX *tls;
    struct enrolment *enrolment; /* it has no certificate yet (enrol.c); or NULL */
    BIO_METHOD *bio;
    struct link_blocks *blocks;
    struct tls_name name;
    char *region;
    int64_t open_ms, ping_ms, silent_ms;
    size_t links;        /* that are not ended */
    struct map denied;   /* "role/id" */
    struct map offences; /* "role/id": malformed messages, as uintptr_t */
    struct link_counts counts;
    struct map sessions;                     /* link_session.c; struct ssl_session_st */
    unsigned char record[LINK_RECORD_BYTES]; /* that a link is just reading */
    unsigned char ahead[LINK_AHEAD_BYTES];   /* what came on that link, and TLS has not asked for */
    size_t ahead_at, ahead_len;              /* from at to len */
};

/* The other side of an open link sent what is no message. */
void link_identity_offended(struct link_identity *i, enum link_role role, const char *id);

struct link {
    enum link_state state;
    struct loop *loop;
    struct link_identity *self;
    const struct link_handler *handler;
    void *ctx, *user;

    struct link_listener *listener; /* NULL: we connected, or the listener is closed */
    struct list node;               /* in listener */
    int64_t begun_ms;               /* when it was accepted */
    bool counted;                   /* among the listener's open ones */
    char *session_key;              /* what it resumes and is resumed by; NULL: accepted */
    bool accepted;
    const struct link_enrol *enrol; /* of the listener, or NULL; read while opening only */
    bool enrolled;                  /* got a certificate here and is to come again: not refused */
    bool vouched; /* has proven to have that certificate's key: peer says who it is */
    void (*early)(void *ctx, struct link *l); /* or NULL */
    bool is_early;                            /* it was called: messages may be sent */
    bool awaits_certificate; /* has asked for one: before any HELLO comes ENROLLED */
    bool told;               /* opened() was called */
    bool resumed;            /* once there is no TLS to ask */
    unsigned roles;
    enum link_role expect_role;
    char *expect_id; /* or NULL */

    struct tls_name peer;
    char *peer_region;
    char host[64]; /* numeric; before that, the name to resolve is in resolve_host */
    char *resolve_host;
    int port;
    struct addrinfo *addresses, *address; /* to try, while connecting */

    int fd;
    SSL *ssl;
    struct watch watch;
    int events;         /* that watch waits for */
    bool tls_wants_out; /* TLS itself has something to write */
    bool keeps_buffers; /* TLS keeps its buffers when they are empty */
    bool half_closed;
    bool more_posted; /* a continuation of reading is on its way */
    bool flush_posted;
    bool
        in_empty; /* the socket gave less than was asked for: no use in asking again in this turn */
    size_t in_left; /* bytes that TLS may have in this turn */
    bool in_eof;
    bool in_any;                                 /* has anything ever come? */
    unsigned char record_head[LINK_RECORD_HEAD]; /* of the TLS record that is arriving; */
    size_t record_have;                          /* so much of it is there; */
    size_t record_left;                          /* then, so much of what follows is not */
    struct link_block *ahead; /* came, and TLS has not asked for it, while others have their turn */
    int in_mark;              /* SO_RCVLOWAT: the socket is readable when so much is there */
    struct timer timer;

    struct buf in;
    struct link_block *in_block;   /* a large frame that is being read whole */
    struct link_block *part_block; /* one that is being read in parts */
    struct link_block *held;       /* in which what message() looks at lies */
    size_t in_bytes, part_bytes;   /* that the frames will have */
    size_t part_left;              /* of the PART that is being read */
    bool in_message;               /* what message() looks at must stay */
    struct list out, large;        /* struct link_block: frames, and those that go in parts */
    size_t out_bytes;              /* in both */
    struct link_block *wire;       /* encrypted bytes that the socket has not taken, or NULL */
    unsigned char
        *part_head; /* where the head of a PART stands in a block, or NULL; what stood there: */
    unsigned char under_head[PART_HEAD_BYTES];
    bool out_blocked; /* the socket takes no more now */
    size_t low_water;
    bool above;       /* more than low_water waited */
    bool out_refused; /* a link_send() was answered -ERR_AGAIN: drained() is owed */
    uint64_t sent, received;
    uint64_t wired;                     /* bytes that the socket has taken */
    size_t burst;                       /* as many as it is given at a time */
    size_t held_bytes;                  /* as many as it may hold; 0: the kernel judges */
    uint64_t look_at;                   /* wired: time for link_socket_look() */
    uint64_t tick_wired, tick_received; /* as they were at the last tick */
    uint64_t frames, tick_frames;       /* that came */
    uint64_t larges, tick_larges;       /* of these, in parts */
    int64_t silent_ms, stuck_ms;        /* without a byte in; with bytes waiting and none out */
    int64_t frame_ms;                   /* the same frame has not been whole */

    struct err why;
};

struct link *link_new(struct loop *loop, struct link_identity *self,
                      const struct link_handler *handler, void *ctx);
void link_discard(struct link *l); /* one that was never started: no callback */
void link_start_tls(struct link *l, int fd, bool accept); /* takes fd */
void link_end(struct link *l);                            /* with l->why */
void link_update_watch(struct link *l);
void link_flush_soon(struct link *l);

/* link_socket.c: the options of a socket on either side; and, to be called when it is connected and each time that
 * look_at bytes are wired, how much the socket is to hold. */
void link_tune(int fd);
void link_socket_look(struct link *l);
void link_socket_let_go(struct link *l); /* from now on the kernel judges */

/* link_block.c */
struct link_blocks *link_blocks_new(void);
void link_blocks_close(struct link_blocks *p); /* NULL is fine */
/* Room for bytes in all, empty. */
struct link_block *link_block_sized(struct link_blocks *p, size_t bytes);
/* Writes the head of the frame in front of the bytes. */
MUST_CHECK int link_block_frame(struct link_block *b, enum msg_type type, const void *msg,
                                struct err *err);

/* link_in.c: where the next bytes of the stream go, and how many (> 0); then, that so many came: whole frames go
 * to link_frame(). While HELLO or OPEN. */
unsigned char *link_in_room(struct link *l, size_t *ret_room);
void link_in_got(struct link *l, size_t len);

/* link_out.c: what waits to be sent. */
size_t link_pending(const struct link *l);
void link_queue(struct link *l, const struct buf *frame);
void link_queue_block(struct link *l, struct link_block *b); /* takes b */
void link_queue_release(struct link *l);
/* What is to be the next TLS record, and its bytes; NULL: nothing waits. The record is sent whole. To be called
 * when it has been looked at: _put_back(), and then, if it was sent, _sent(). */
const unsigned char *link_queue_front(struct link *l, size_t *ret_len);
void link_queue_put_back(struct link *l);
void link_queue_sent(struct link *l, size_t len);
/* Encrypted bytes that wait for the socket. put: false if there is no room. */
size_t link_wire_bytes(const struct link *l);
bool link_wire_put(struct link *l, const void *data, size_t len);
const unsigned char *link_wire_front(const struct link *l); /* all of them; there must be some */
void link_wire_sent(struct link *l, size_t len);

/* link_bio.c: between TLS and the socket. */
BIO_METHOD *link_bio_method(void);
MUST_CHECK bool link_bio_set(struct link *l); /* false: out of memory */
/* To be called before the link reads: LINK_TURN_BYTES at most are there for it, as if no more had come. */
void link_bio_turn(struct link *l);
/* To be called when the link stops reading: others of the identity may read now. */
void link_bio_rest(struct link *l);
/* Nothing of the next TLS record has come. */
bool link_bio_between_records(const struct link *l);

/* From link.c for link_io.c: the certificate is verified; a frame is there; the peer's EOF. */
void link_secured(struct link *l);
void link_frame(struct link *l, enum msg_type type, const struct bytes *payload);
void link_input_release(
    struct link *l); /* unless message() is looking at it: then it is released after */
void link_malformed(struct link *l, const struct err *why);
void link_drain_tell(struct link *l);

/* The connecting side's TCP: next address, or the end of a connection attempt. */
void link_connect_next(struct link *l);
void link_connect_done(struct link *l);

void link_tell_closed(void *link); /* from the loop only: calls closed(), frees */

/* link_identity.c: without a certificate and a name. Gives, or NULL. */
struct link_identity *link_identity_blank(const char *region, struct err *err);
/* From now on links show this certificate and expect others of that CA; files in dir. */
MUST_CHECK int link_identity_load_files(struct link_identity *i, const char *dir, struct err *err);
MUST_CHECK int link_identity_take(struct link_identity *i, X509 *cert, EVP_PKEY *key, X509 *ca,
                                  struct err *err);

/* enrol.c: the connecting side of a link of an identity that has no certificate yet. TLS is done: which name will
 * it have, and what does it ask? Then, the answer. */
MUST_CHECK int enrol_name(struct link *l, struct err *err);
MUST_CHECK int enrol_ask(struct link *l, struct buf *frame, struct err *err);
MUST_CHECK int enrol_answered(struct link_identity *i, const struct msg_enrolled *m,
                              struct err *err);
void enrolment_free(struct enrolment *e); /* NULL is fine */

/* link_session.c: TLS sessions of the connecting side. */
void link_session_setup(SSL_CTX *tls);
void link_session_offer(struct link *l); /* before the handshake */
void link_session_drop(struct link *l);  /* it was of no use */
void link_session_refuse(
    struct link *l); /* none is kept of this link: there is no certificate in it */
void link_sessions_release(struct link_identity *i);

/* The certificate and the HELLO of an accepted link are good: may it open? */
MUST_CHECK int link_listener_admit(struct link *l, struct err *err);

/* Called when a link that the listener accepted ends. */
void link_listener_ended(struct link *l);

void link_on_io(struct watch *w, int events);

#endif
