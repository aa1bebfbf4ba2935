#include "io/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/link_private.h"
#include "io/pki.h"

enum { BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 30000 };

static void on_timer(struct timer *t);

struct link *link_new(struct loop *loop, struct link_identity *self,
                      const struct link_handler *handler, void *ctx)
{
    struct link *l = mem_alloc(sizeof(*l));

    l->loop = loop;
    l->self = self;
    l->handler = handler;
    l->ctx = ctx;
    l->fd = -1;
    l->in_mark = 1;
    l->peer_region = mem_strdup("");
    self->links++;
    list_init(&l->node);
    list_init(&l->out);
    list_init(&l->large);
    timer_start(loop, &l->timer, self->open_ms, 0, on_timer);
    return l;
}

static void link_free(struct link *l)
{
    if (l->addresses != NULL)
        freeaddrinfo(l->addresses);
    free(l->resolve_host);
    free(l->expect_id);
    free(l->session_key);
    free(l->peer_region);
    free(l);
}

void link_discard(struct link *l)
{
    timer_stop(&l->timer);
    l->self->links--;
    link_free(l);
}

void link_tell_closed(void *arg)
{
    struct link *l = arg;

    l->self->links--; /* before: the last one to be told may free the identity */
    if (l->told || !l->accepted)
        l->handler->closed(l->ctx, l, &l->why);
    link_free(l);
}

void link_end(struct link *l)
{
    bool resolving = l->state == LINK_RESOLVING;

    if (l->state == LINK_CLOSED)
        return;
    l->state = LINK_CLOSED;
    if (!l->told)
        link_session_drop(l);
    watch_stop(&l->watch);
    timer_stop(&l->timer);
    l->resumed = link_was_resumed(l);
    SSL_free(l->ssl);
    l->ssl = NULL;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    link_input_release(l);
    link_block_free(l->ahead);
    l->ahead = NULL;
    link_queue_release(l);
    link_listener_ended(l);
    /* The resolver's thread still holds the link; its answer ends it (link_connect.c). */
    if (!resolving)
        loop_post(l->loop, link_tell_closed, l);
}

static int over(const struct link *l, struct err *err)
{
    return err_set(err, ERR_AGAIN, "%zu bytes wait for %s %s", link_pending(l),
                   role_name(l->peer.role), l->peer.id);
}

/* Queues a frame if not more than max bytes wait then. */
static int queue(struct link *l, enum msg_type type, const void *msg, size_t max, struct err *err)
{
    AUTO_BUF frame = BUF_INIT;
    int rc = msg_frame(&frame, type, msg, err);

    if (rc < 0)
        return rc;
    if (link_pending(l) + frame.len > max)
        return over(l, err);
    link_queue(l, &frame);
    return 0;
}

static int queue_block(struct link *l, enum msg_type type, const void *msg, struct link_block *b,
                       struct err *err)
{
    int rc = link_block_frame(b, type, msg, err);

    if (rc < 0)
        return rc;
    if (link_pending(l) + b->len - b->at > LINK_OUT_MAX)
        return over(l, err);
    link_queue_block(l, b);
    return 0;
}

static int sent(struct link *l, int rc)
{
    if (rc == -ERR_AGAIN)
        l->out_refused = true;
    l->above = l->above || (l->low_water > 0 && link_pending(l) > l->low_water);
    link_flush_soon(l);
    return rc;
}

static int not_open(const struct link *l, struct err *err)
{
    return err_set(err, ERR_CANCELLED, "the link to %s is not open", l->host);
}

int link_send(struct link *l, enum msg_type type, const void *msg, struct err *err)
{
    if (l->state != LINK_OPEN && !(l->state == LINK_HELLO && l->is_early))
        return not_open(l, err);
    return sent(l, link_pending(l) >= LINK_OUT_MAX ? over(l, err)
                                                   : queue(l, type, msg, LINK_OUT_MAX, err));
}

int link_send_block(struct link *l, enum msg_type type, const void *msg, struct link_block *b,
                    struct err *err)
{
    if (l->state != LINK_OPEN)
        return not_open(l, err);
    return sent(l, queue_block(l, type, msg, b, err));
}

struct link_block *link_take_block(struct link *l, const unsigned char *bytes)
{
    struct link_block *b = l->held;

    if (b != NULL)
        b->body = (size_t)(bytes - b->data);
    l->held = NULL;
    return b;
}

/* Our own small messages. If even the slack is used up, the peer does not read, and will be found
 * out by the stall clock. */
static void send_control(struct link *l, enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    if (queue(l, type, msg, LINK_OUT_MAX + LINK_CONTROL_SLACK, &err) < 0)
        log_debug("link %s: %s is not sent: %s", l->host, msg_name(type), err.text);
    link_flush_soon(l);
}

static void send_hello(struct link *l)
{
    struct msg_hello hello = {
        .version = LINK_VERSION,
        .cluster = l->self->name.cluster,
        .role = (uint8_t)l->self->name.role,
        .id = l->self->name.id,
        .region = l->self->region,
    };

    send_control(l, MSG_HELLO, &hello);
}

void link_close(struct link *l, enum err_code code, const char *reason)
{
    char text[REASON_MAX_BYTES / 2];
    struct msg_bye bye = { .code = (uint16_t)code, .reason = text };

    if (l->state == LINK_CLOSING || l->state == LINK_CLOSED)
        return;
    err_set(&l->why, code, "%s", reason);
    if (l->state != LINK_HELLO && l->state != LINK_OPEN) {
        link_end(l);
        return;
    }
    snprintf(text, sizeof(text), "%s", reason);
    send_control(l, MSG_BYE, &bye);
    l->state = LINK_CLOSING;
    link_input_release(l);
    timer_start(l->loop, &l->timer, LINK_CLOSE_MS, 0, on_timer);
    link_update_watch(l);
}

void link_ban(struct link *l, enum err_code code, const char *reason)
{
    if (l->told)
        link_identity_deny(l->self, l->peer.role, l->peer.id);
    link_close(l, code, reason);
}

bool link_was_resumed(const struct link *l)
{
    return l->resumed || (l->ssl != NULL && SSL_session_reused(l->ssl) == 1);
}

void link_malformed(struct link *l, const struct err *why)
{
    char text[sizeof(why->text)];

    snprintf(text, sizeof(text), "%s", why->text);
    if (l->state == LINK_OPEN)
        link_identity_offended(l->self, l->peer.role, l->peer.id);
    link_close(l, ERR_INVALID, text);
}

/* May this one be at the other side? */
static int check_name(const struct link *l, struct err *err)
{
    const struct tls_name *self = &l->self->name;

    if (link_identity_denies(l->self, l->peer.role, l->peer.id))
        return err_set(err, ERR_DENIED, "%s is banned here", l->peer.id);
    if (strcmp(l->peer.cluster, self->cluster) != 0)
        return err_set(err, ERR_DENIED, "cluster %s is not %s", l->peer.cluster, self->cluster);
    if (l->accepted && (l->roles & 1U << l->peer.role) == 0)
        return err_set(err, ERR_DENIED, "no %s may connect here", role_name(l->peer.role));
    if (!l->accepted && l->peer.role != l->expect_role)
        return err_set(err, ERR_DENIED, "%s is a %s, not a %s", l->peer.id, role_name(l->peer.role),
                       role_name(l->expect_role));
    if (l->expect_id != NULL && strcmp(l->peer.id, l->expect_id) != 0)
        return err_set(err, ERR_DENIED, "it is %s, not %s", l->peer.id, l->expect_id);
    return 0;
}

static int read_certificate(struct link *l, struct err *err)
{
    X509 *cert = SSL_get0_peer_certificate(l->ssl);

    if (cert == NULL)
        return err_set(err, ERR_DENIED, "the peer has no certificate");
    if (tls_name_of(&l->peer, cert, err) < 0)
        return -ERR_DENIED;
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) /* a ticket may outlive it */
        return err_set(err, ERR_DENIED, "the certificate of %s has expired", l->peer.id);
    return 0;
}

/* Has no certificate yet, and may ask for one here. */
static bool is_stranger(const struct link *l)
{
    return l->enrol != NULL && !l->vouched && SSL_get0_peer_certificate(l->ssl) == NULL;
}

/* Has who enrolled shown on this connection that he has the key? Then peer is who he is now. */
static bool has_proven(struct link *l, const struct pki_signed *s)
{
    struct hash binding;

    if (!s->bound || !tls_binding(l->ssl, &binding) || !hash_equal(&binding, &s->binding))
        return false;
    memcpy(l->peer.cluster, l->self->name.cluster, sizeof(l->peer.cluster));
    memcpy(l->peer.id, s->id, sizeof(l->peer.id));
    l->peer.role = s->role;
    return true;
}

static void send_enrolled(struct link *l, const struct pki_signed *s)
{
    struct msg_enrolled m = { .ca = { (unsigned char *)s->ca.data, s->ca.len },
                              .certificate = { (unsigned char *)s->certificate.data,
                                               s->certificate.len } };

    send_control(l, MSG_ENROLLED, &m);
}

static void on_enrol(struct link *l, const struct msg_enrol *ask)
{
    struct pki_signed s = { .role = ROLE_NONE };
    struct err err = ERR_INIT;

    if (l->enrol->fn(l->enrol->ctx, ask, &s, &err) < 0) {
        link_close(l, err.code, err.text);
    } else if (!has_proven(l, &s)) {
        send_enrolled(l, &s);
        l->enrolled = true;
        link_close(l, ERR_CANCELLED, "enrolled");
    } else if (check_name(l, &err) < 0) {
        link_close(l, err.code, err.text);
    } else {
        send_enrolled(l, &s);
        l->vouched = true;
    }
    pki_signed_release(&s);
}

/* Asks for a certificate, and goes on as if it were there: it comes before anything else does. */
static int ask_to_enrol(struct link *l, struct err *err)
{
    AUTO_BUF frame = BUF_INIT;

    if (enrol_ask(l, &frame, err) < 0)
        return -(int)err->code;
    l->awaits_certificate = true;
    link_session_refuse(l);
    link_queue(l, &frame);
    return 0;
}

static int on_enrolled(struct link *l, const struct msg_enrolled *m, struct err *err)
{
    l->awaits_certificate = false;
    return enrol_answered(l->self, m, err);
}

static void greet(struct link *l)
{
    send_hello(l);
    if (l->early == NULL)
        return;
    l->is_early = true;
    l->early(l->ctx, l);
}

void link_secured(struct link *l)
{
    bool enrols = !l->accepted && l->self->enrolment != NULL;
    struct err err = ERR_INIT;

    l->state = LINK_HELLO;
    if (is_stranger(l))
        return;
    if (read_certificate(l, &err) < 0 || (enrols && enrol_name(l, &err) < 0) ||
        check_name(l, &err) < 0 || (enrols && ask_to_enrol(l, &err) < 0))
        link_close(l, err.code, err.text);
    else if (!l->accepted)
        greet(l);
}

static int check_hello(struct link *l, const struct msg_hello *h, struct err *err)
{
    if (h->version != LINK_VERSION)
        return err_set(err, ERR_INVALID, "version %u is not %d", h->version, LINK_VERSION);
    if (strcmp(h->cluster, l->self->name.cluster) != 0)
        return err_set(err, ERR_DENIED, "cluster '%s' is not %s", h->cluster,
                       l->self->name.cluster);
    if (h->role != l->peer.role || strcmp(h->id, l->peer.id) != 0)
        return err_set(err, ERR_DENIED, "HELLO says another name than the certificate of %s %s",
                       role_name(l->peer.role), l->peer.id);
    return 0;
}

static void on_hello(struct link *l, const struct msg_hello *h)
{
    struct err err = ERR_INIT;

    if (check_hello(l, h, &err) < 0 || (l->accepted && link_listener_admit(l, &err) < 0)) {
        link_close(l, err.code, err.text);
        return;
    }
    free(l->peer_region);
    l->peer_region = mem_strdup(h->region);
    if (l->accepted)
        send_hello(l);
    l->state = LINK_OPEN;
    l->told = true;
    timer_start(l->loop, &l->timer, l->self->ping_ms, l->self->ping_ms, on_timer);
    l->handler->opened(l->ctx, l);
    link_drain_tell(l); /* of what was said early */
}

static void on_bye(struct link *l, const struct msg_bye *bye)
{
    enum err_code code = bye->code > ERR_INTERNAL ? ERR_UNREACHABLE : (enum err_code)bye->code;

    err_set(&l->why, code, "peer: %s", bye->reason);
    link_end(l);
}

static void on_stranger(struct link *l, enum msg_type type, const void *msg)
{
    if (type == MSG_ENROL)
        on_enrol(l, msg);
    else
        link_close(l, ERR_DENIED, "the peer has no certificate");
}

static void on_message(struct link *l, enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    if (type == MSG_BYE) {
        on_bye(l, msg);
    } else if (l->state == LINK_HELLO && is_stranger(l)) {
        on_stranger(l, type, msg);
    } else if (l->awaits_certificate && type == MSG_ENROLLED) {
        if (on_enrolled(l, msg, &err) < 0)
            link_close(l, err.code, err.text);
    } else if (l->state == LINK_HELLO && type == MSG_HELLO && !l->awaits_certificate) {
        on_hello(l, msg);
    } else if (l->state == LINK_HELLO || type == MSG_HELLO) {
        err_set(&err, ERR_INVALID, "%s %s HELLO", msg_name(type),
                type == MSG_HELLO ? "after" : "before");
        link_malformed(l, &err);
    } else if (type == MSG_PING) {
        if (link_pending(l) < LINK_OUT_MAX)
            send_control(l, MSG_PONG, "");
    } else if (type == MSG_ENROL || type == MSG_ENROLLED) {
        link_close(l, ERR_INVALID, "who is enrolled does not enrol");
    } else if (type != MSG_PONG) {
        l->handler->message(l->ctx, l, type, msg);
    }
}

void link_input_release(struct link *l)
{
    if (l->in_message)
        return;
    buf_release(&l->in);
    link_block_free(l->in_block);
    link_block_free(l->part_block);
    l->in_block = l->part_block = NULL;
    l->part_left = 0;
}

void link_frame(struct link *l, enum msg_type type, const struct bytes *payload)
{
    const struct codec *codec = msg_codec(type);
    struct err err = ERR_INIT;
    void *msg = NULL;

    l->frames++;
    if (codec_view(&msg, codec, payload->data, payload->len, &err) < 0) {
        link_malformed(l, &err);
        return;
    }
    l->in_message = true;
    on_message(l, type, msg);
    l->in_message = false;
    codec_view_free(codec, msg);
    if (l->state != LINK_HELLO && l->state != LINK_OPEN)
        link_input_release(l);
}

void link_drain_tell(struct link *l)
{
    bool low = l->above && link_pending(l) <= l->low_water;
    bool again = l->out_refused && link_pending(l) <= LINK_OUT_MAX / 2;

    if (l->state != LINK_OPEN || !(low || again))
        return;
    if (low)
        l->above = false;
    if (again)
        l->out_refused = false;
    if (l->handler->drained != NULL)
        l->handler->drained(l->ctx, l);
}

/* Counts ticks without a byte instead of comparing clocks: when this process itself was stopped for
 * long, what the peer sent meanwhile waits in the socket, and only one tick has passed. */
static void on_tick(struct link *l)
{
    bool heard = l->received != l->tick_received;
    bool stuck = link_pending(l) > 0 && l->wired == l->tick_wired;
    bool in_parts = l->part_block != NULL && l->larges == l->tick_larges;
    bool in_frame = (l->in_block != NULL || l->in.len > 0) && l->frames == l->tick_frames;

    l->tick_frames = l->frames;
    l->tick_larges = l->larges;
    l->frame_ms = in_frame || in_parts ? l->frame_ms + l->self->ping_ms : 0;
    l->tick_received = l->received;
    l->tick_wired = l->wired;
    l->silent_ms = heard ? 0 : l->silent_ms + l->self->ping_ms;
    l->stuck_ms = stuck ? l->stuck_ms + l->self->ping_ms : 0;
    if (l->silent_ms >= l->self->silent_ms) {
        err_set(&l->why, ERR_TIMEOUT, "silent for %lld ms", (long long)l->silent_ms);
        link_end(l);
    } else if (l->stuck_ms >= l->self->silent_ms) {
        err_set(&l->why, ERR_TIMEOUT, "takes nothing for %lld ms", (long long)l->stuck_ms);
        link_end(l);
    } else if (l->frame_ms >= LINK_FRAME_SILENTS * l->self->silent_ms) {
        err_set(&l->why, ERR_TIMEOUT, "a message is not whole after %lld ms",
                (long long)l->frame_ms);
        link_end(l);
    } else if (!heard) {
        send_control(l, MSG_PING, "");
    }
}

static void on_timer(struct timer *t)
{
    static const char *const waits[] = {
        [LINK_RESOLVING] = "its name is not resolved",
        [LINK_CONNECTING] = "it does not accept",
        [LINK_TLS] = "TLS is not done",
        [LINK_HELLO] = "no HELLO",
    };
    struct link *l = CONTAINER_OF(t, struct link, timer);

    if (l->state == LINK_OPEN) {
        on_tick(l);
        return;
    }
    if (l->state < LINK_OPEN)
        err_set(&l->why, ERR_TIMEOUT, "not open after %lld ms: %s", (long long)l->self->open_ms,
                waits[l->state]);
    link_end(l);
}

void link_set_early(struct link *l, void (*fn)(void *ctx, struct link *l))
{
    l->early = fn;
}

void link_set_low_water(struct link *l, size_t bytes)
{
    l->low_water = bytes;
}

void link_set_user(struct link *l, void *user)
{
    l->user = user;
}

void *link_user(const struct link *l)
{
    return l->user;
}

enum link_role link_peer_role(const struct link *l)
{
    return l->peer.role;
}

const char *link_peer_id(const struct link *l)
{
    return l->peer.id;
}

const char *link_peer_region(const struct link *l)
{
    return l->peer_region;
}

const char *link_peer_host(const struct link *l)
{
    return l->host;
}

size_t link_out_bytes(const struct link *l)
{
    return link_pending(l);
}

uint64_t link_sent_bytes(const struct link *l)
{
    return l->sent;
}

uint64_t link_received_bytes(const struct link *l)
{
    return l->received;
}

int64_t link_backoff_ms(int attempt)
{
    int64_t most = BACKOFF_MAX_MS;
    uint32_t r;

    if (attempt < 0)
        attempt = 0;
    if (attempt < 16 && ((int64_t)BACKOFF_FIRST_MS << attempt) < most)
        most = (int64_t)BACKOFF_FIRST_MS << attempt;
    random_bytes(&r, sizeof(r));
    return (int64_t)(r % (uint32_t)(most + 1));
}
