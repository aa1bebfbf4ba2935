/* hostile_peer MODE REFERENCE ADDR:PORT DIR: a machine with a valid certificate that means harm to the swarm of
 * REFERENCE (of engine seed). It says that it has everything, listens at ADDR:PORT, connects to whom the tracker
 * names, comes back whenever it is thrown out, and:
 *
 *     flip        gives leaves with one bit flipped somewhere (it has none: all bits are random)
 *     truncate    gives half of each leaf
 *     stall       gives the first leaf but for its last part, and then nothing
 *     silent      answers nothing
 *     lie         answers that it does not have it, after all
 *     flood       asks for everything all the time, and tells of leaves that it and nobody has
 *     oversized   sends frames that promise more than may be
 *     unknown     sends frames of types that there are not
 *     repeat      sends everybody the same right leaf all the time, without being asked
 *     crowd       opens as many links and silent connections as it can get
 *
 * Prints "ready" once the tracker has been told. Until SIGTERM. DIR keeps its identity. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/enrol.h"
#include "io/link_private.h"
#include "wire/pack.h"
#include "wire/reference.h"

enum {
    AGAIN_MS = 100,
    CROWD_LINKS = 100, /* to each other machine, again and again */
    CROWD_SOCKETS = 300,
    PEERS_KNOWN = 32,
    FLOODS = 64, /* messages a turn */
    REPEATS = 4,
};

enum mode { FLIP, TRUNCATE, STALL, SILENT, LIE, FLOOD, OVERSIZED, UNKNOWN, REPEAT, CROWD, MODES };

static const char *const mode_names[MODES] = {
    "flip",  "truncate",  "stall",   "silent", "lie",
    "flood", "oversized", "unknown", "repeat", "crowd",
};

struct place {
    char host[64];
    int port;
    enum link_role role;
    struct link *link; /* the one that it keeps */
    size_t crowd;      /* links to it */
    int sockets[CROWD_SOCKETS];
};

struct hostile {
    enum mode mode;
    struct loop *loop;
    struct link_identity *self;
    struct link_listener *listener;
    struct reference reference;
    struct place places[PEERS_KNOWN]; /* the first is the seed */
    size_t nplaces;
    struct timer again;
    char *host;
    struct pack_index *index;
    unsigned char *bitmap;
    struct buf leaf; /* the first one, once the seed has given it */
    bool said;
};

static void must(int status, const struct err *err)
{
    if (status == 0)
        return;
    fprintf(stderr, "hostile_peer: %s\n", err->text);
    exit(1);
}

static void say(struct link *l, enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    (void)(link_send(l, type, msg, &err) < 0); /* if it does not fit, there is enough of it */
}

static void say_raw(struct link *l, const void *bytes, size_t len)
{
    AUTO_BUF raw = BUF_INIT;

    buf_append(&raw, bytes, len);
    link_queue(l, &raw);
    link_flush_soon(l);
}

static size_t bitmap_bytes(const struct hostile *h)
{
    return (h->index->nleaves + 7) / 8;
}

static void flood(struct hostile *h, struct link *l)
{
    struct msg_index *leaves = mem_calloc(HAVES_MAX, sizeof(*leaves));
    struct msg_have have = { h->reference.pack, { leaves, HAVES_MAX } };
    struct msg_want want = { h->reference.pack, 0, 64 };

    for (uint32_t i = 0; i < HAVES_MAX; i++)
        leaves[i].index = i % (uint32_t)h->index->nleaves;
    for (uint32_t i = 0; i < FLOODS; i++) {
        want.first = i % (uint32_t)h->index->nleaves;
        say(l, MSG_WANT, &want);
        say(l, MSG_OBJECT_ASK, &(struct msg_object_ask){ h->reference.pack, 0 });
        if (i % 16 == 0)
            say(l, MSG_HAVE, &have);
    }
    free(leaves);
}

/* The leaf that the seed has given. */
static void repeat(struct hostile *h, struct link *l)
{
    struct msg_leaf m = { h->reference.pack, 0, { (unsigned char *)h->leaf.data, h->leaf.len } };

    for (int i = 0; i < REPEATS && h->leaf.len > 0; i++)
        say(l, MSG_LEAF, &m);
    if (h->leaf.len > 0)
        return;
    if (link_peer_role(l) == ROLE_REGION)
        say(l, MSG_WANT, &(struct msg_want){ h->reference.pack, 0, 1 });
}

/* What it does as soon as it can. */
static void begin(struct hostile *h, struct link *l)
{
    struct msg_bitmap m = { h->reference.pack, { h->bitmap, 0 } };

    if (h->index == NULL)
        return;
    m.bitmap.len = bitmap_bytes(h);
    say(l, MSG_BITMAP, &m);
    if (h->mode == FLOOD)
        flood(h, l);
    else if (h->mode == REPEAT)
        repeat(h, l);
    else if (h->mode == OVERSIZED)
        say_raw(l, "\xff\xff\xff\x7f\x63", 5);
    else if (h->mode == UNKNOWN)
        say_raw(l, "\x05\0\0\0\x7e", 5);
}

/* All but the last part, as link does: other messages go on. */
static void stall(struct link *l, const struct buf *frame)
{
    for (size_t at = 0; frame->len - at > PART_MAX_BYTES; at += PART_MAX_BYTES)
        say(l, MSG_PART,
            &(struct msg_part){ { (unsigned char *)frame->data + at, PART_MAX_BYTES } });
}

static void give_wrong(struct hostile *h, struct link *l, uint32_t leaf)
{
    size_t len = pack_leaf_bytes(h->index, leaf);
    struct msg_leaf m = { h->reference.pack, leaf, { mem_alloc(len), len } };
    AUTO_BUF frame = BUF_INIT;

    random_bytes(m.bytes.data, len < 64 ? len : 64);
    if (h->mode == TRUNCATE)
        m.bytes.len /= 2;
    if (h->mode == STALL && msg_frame(&frame, MSG_LEAF, &m, NULL) == 0)
        stall(l, &frame);
    else if (h->mode != STALL)
        say(l, MSG_LEAF, &m);
    free(m.bytes.data);
}

static void on_want(struct hostile *h, struct link *l, const struct msg_want *want)
{
    struct msg_refuse no = { want->pack, want->first, want->count, ERR_NOT_FOUND };

    if (h->mode == LIE)
        say(l, MSG_REFUSE, &no);
    else if (h->mode == FLOOD)
        flood(h, l);
    if (h->mode > STALL || h->index == NULL || (h->mode == STALL && link_user(l) == l))
        return;
    for (uint32_t i = 0; i < want->count && want->first + i < h->index->nleaves; i++) {
        give_wrong(h, l, want->first + i);
        if (h->mode == STALL) {
            link_set_user(l, l); /* nothing else may follow in that stream */
            return;
        }
    }
}

static void on_index(struct hostile *h, const struct msg_object *o)
{
    struct err err = ERR_INIT;

    if (h->index != NULL || !hash_equal(&o->object, &h->reference.pack))
        return;
    if (o->bytes.len < o->total) {
        fputs("hostile_peer: an index of one message is enough for it\n", stderr);
        exit(1);
    }
    must(pack_index_parse(&h->index, o->bytes.data, o->bytes.len, &err), &err);
    h->bitmap = mem_alloc(bitmap_bytes(h));
    for (size_t i = 0; i < h->index->nleaves; i++)
        h->bitmap[i / 8] = (unsigned char)(h->bitmap[i / 8] | 1 << i % 8);
}

static void introduce(struct hostile *h, struct link *l)
{
    char boot[] = "hostile";
    struct msg_machine m = { .boot = boot,
                             .host = h->host,
                             .port = (uint16_t)link_listener_port(h->listener) };
    struct msg_join join = { h->reference.pack, { h->bitmap, bitmap_bytes(h) } };

    say(l, MSG_MACHINE, &m);
    say(l, MSG_JOIN, &join);
    begin(h, l);
    if (!h->said && (puts("ready") < 0 || fflush(stdout) != 0))
        exit(1);
    h->said = true;
}

static void know(struct hostile *h, const char *host, int port, enum link_role role)
{
    struct place *p = &h->places[h->nplaces];

    for (size_t i = 0; i < h->nplaces; i++)
        if (h->places[i].port == port && strcmp(h->places[i].host, host) == 0)
            return;
    if (h->nplaces == PEERS_KNOWN)
        return;
    h->nplaces++;
    snprintf(p->host, sizeof(p->host), "%s", host);
    p->port = port;
    p->role = role;
}

static void opened(void *ctx, struct link *l)
{
    struct hostile *h = ctx;

    if (link_peer_role(l) != ROLE_REGION)
        begin(h, l);
    else if (h->index == NULL)
        say(l, MSG_OBJECT_ASK, &(struct msg_object_ask){ h->reference.pack, 0 });
    else
        introduce(h, l);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct hostile *h = ctx;
    const struct msg_peers *peers = msg;
    const struct msg_peer *peer;

    if (type == MSG_WANT) {
        on_want(h, l, msg);
    } else if (type == MSG_LEAF && h->mode == REPEAT && h->leaf.len == 0) {
        const struct msg_leaf *leaf = msg;

        buf_append(&h->leaf, leaf->bytes.data, leaf->bytes.len);
    } else if (type == MSG_OBJECT) {
        on_index(h, msg);
        if (!h->said)
            introduce(h, l);
    } else if (type == MSG_PEERS) {
        peer = peers->peers.items;
        for (size_t i = 0; i < peers->peers.count; i++)
            know(h, peer[i].host, peer[i].port, ROLE_AGENT);
    }
    if (h->mode == REPEAT && h->leaf.len > 0)
        repeat(h, l);
}

static void drained(void *ctx, struct link *l)
{
    struct hostile *h = ctx;

    if (h->mode == FLOOD && h->index != NULL)
        flood(h, l);
    else if (h->mode == REPEAT)
        repeat(h, l);
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct hostile *h = ctx;

    (void)why;
    for (size_t i = 0; i < h->nplaces; i++) {
        if (h->places[i].link == l)
            h->places[i].link = NULL;
        else if (link_user(l) == &h->places[i])
            h->places[i].crowd--;
    }
}

static const struct link_handler handler = { opened, message, drained, closed };

static struct link *go_to(struct hostile *h, struct place *p)
{
    struct link *l = NULL;

    if (link_connect(&l, h->loop, h->self, p->host, p->port, p->role, NULL, &handler, h, NULL) < 0)
        return NULL;
    return l;
}

static void silent_sockets(struct place *p)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)p->port) };

    if (inet_pton(AF_INET, p->host, &to.sin_addr) != 1)
        return;
    for (size_t i = 0; i < CROWD_SOCKETS; i++) {
        char c;

        if (p->sockets[i] > 0 && recv(p->sockets[i], &c, 1, MSG_DONTWAIT) != 0)
            continue;
        if (p->sockets[i] > 0)
            close(p->sockets[i]);
        p->sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(p->sockets[i], (struct sockaddr *)&to, sizeof(to));
    }
}

static void again(struct timer *t)
{
    struct hostile *h = CONTAINER_OF(t, struct hostile, again);

    for (size_t i = 0; i < h->nplaces; i++) {
        struct place *p = &h->places[i];

        if (p->link == NULL)
            p->link = go_to(h, p);
        else if (h->mode == REPEAT && h->leaf.len > 0)
            repeat(h, p->link);
        if (h->mode != CROWD || !h->said)
            continue;
        silent_sockets(p);
        while (p->crowd < CROWD_LINKS) {
            struct link *l = go_to(h, p);

            if (l == NULL)
                break;
            link_set_user(l, p);
            p->crowd++;
        }
    }
}

static void on_term(void *arg, int signo)
{
    (void)arg;
    (void)signo;
    _exit(0); /* as enemies go */
}

static enum mode mode_of(const char *name)
{
    for (int i = 0; i < MODES; i++)
        if (strcmp(mode_names[i], name) == 0)
            return (enum mode)i;
    fprintf(stderr, "hostile_peer: no mode %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    struct hostile *h = mem_alloc(sizeof(*h));
    struct rlimit files = { 65536, 65536 };
    struct enrol_options o;
    struct err err = ERR_INIT;

    if (argc != 5) {
        fputs("hostile_peer: MODE REFERENCE ADDR:PORT DIR\n", stderr);
        return 2;
    }
    log_setup("hostile", 2);
    (void)setrlimit(RLIMIT_NOFILE, &files);
    h->mode = mode_of(argv[1]);
    must(reference_parse(&h->reference, argv[2], &err), &err);
    o.pin = h->reference.pin;
    memcpy(o.secret, h->reference.secret, SECRET_BYTES);
    must(loop_new(&h->loop, &err), &err);
    must(link_identity_enrol(&h->self, argv[4], "", &o, &err), &err);
    must(link_listen(&h->listener, h->loop, h->self, argv[3], 1U << ROLE_AGENT, 1000, &handler, h,
                     &err),
         &err);
    h->host = mem_strndup(argv[3], (size_t)(strrchr(argv[3], ':') - argv[3]));
    know(h, h->reference.host, h->reference.port, ROLE_REGION);
    must(loop_on_signal(h->loop, SIGTERM, on_term, h, &err), &err);
    timer_start(h->loop, &h->again, 0, AGAIN_MS, again);
    loop_run(h->loop);
    return 0;
}
