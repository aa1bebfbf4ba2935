#include "peers.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"

/* A machine that some pack wants us to be connected to. */
struct wanted {
    char *id, *host;
    int port;
    int fails;
    int64_t named_ms;
    enum peer_rack rack;
    bool stale; /* is counted as such */
};

/* What the tracker said of one pack. */
struct set {
    struct hash pack;
    struct wanted *peers;
    size_t npeers;
    struct peers_edges edges;
    int64_t told_ms;
    char *banned[BANNED_MAX];
    size_t nbanned;
};

/* A link, ours or accepted. */
struct connection {
    struct list node;
    struct peers *owner;
    struct link *link;
    char *id; /* of one that we opened; an accepted one has its id from the certificate */
    bool open, ours;
    int64_t opened_ms;
};

struct peers {
    struct peers_options o;
    struct link_listener *listener;
    struct map sets; /* by pack */
    struct list connections;
    struct timer look;
    void (*gone)(void *ctx);
    void *gone_ctx;
    struct timer say_gone;
};

static void look_around(struct timer *t);

static void set_free(struct set *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->npeers; i++) {
        free(s->peers[i].id);
        free(s->peers[i].host);
    }
    for (size_t i = 0; i < s->nbanned; i++)
        free(s->banned[i]);
    free(s->peers);
    free(s);
}

static const char *id_of(const struct connection *c)
{
    return c->id != NULL ? c->id : link_peer_id(c->link);
}

static struct connection *find_connection(const struct peers *p, const char *id)
{
    LIST_EACH (&p->connections, n) {
        struct connection *c = CONTAINER_OF(n, struct connection, node);

        if (strcmp(id_of(c), id) == 0)
            return c;
    }
    return NULL;
}

static struct wanted *find_in(const struct set *s, const char *id)
{
    for (size_t k = 0; k < s->npeers; k++) {
        if (strcmp(s->peers[k].id, id) == 0)
            return &s->peers[k];
    }
    return NULL;
}

static struct wanted *find_wanted(const struct peers *p, const char *id)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&p->sets, &i)) != NULL;) {
        struct wanted *w = find_in(e->value, id);

        if (w != NULL)
            return w;
    }
    return NULL;
}

/* --- edges of no use --- */

static void set_stale(struct set *s, struct wanted *w)
{
    if (w->stale)
        return;
    w->stale = true;
    s->edges.stale++;
}

/* It could not be connected to, whichever packs it was named for. */
static void note_dead(struct peers *p, const char *id)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&p->sets, &i)) != NULL;) {
        struct wanted *w = find_in(e->value, id);

        if (w == NULL)
            continue;
        w->fails++;
        set_stale(e->value, w);
    }
}

static void add_banned(struct set *s, const char *id)
{
    for (size_t i = 0; i < s->nbanned; i++) {
        if (strcmp(s->banned[i], id) == 0)
            return;
    }
    if (s->nbanned < BANNED_MAX)
        s->banned[s->nbanned++] = mem_strdup(id);
}

/* Its link has ended. Was it for what it did? Then all packs that it was named for remember it. */
static void note_banned(struct peers *p, const char *id)
{
    struct map_entry *e;

    if (!link_identity_denies(p->o.self, ROLE_AGENT, id))
        return;
    for (size_t i = 0; (e = map_next(&p->sets, &i)) != NULL;) {
        if (find_in(e->value, id) != NULL)
            add_banned(e->value, id);
    }
}

static void note_mute(struct peers *p)
{
    int64_t now_ms = loop_now_ms(p->o.loop);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&p->sets, &i)) != NULL;) {
        struct set *s = e->value;

        for (size_t k = 0; k < s->npeers; k++) {
            const struct connection *c = find_connection(p, s->peers[k].id);

            if (c != NULL && c->open && now_ms - c->opened_ms >= PEERS_MUTE_MS &&
                now_ms - s->told_ms >= PEERS_MUTE_MS &&
                !exchange_has_heard(p->o.exchange, c->link, &s->pack))
                set_stale(s, &s->peers[k]);
        }
    }
}

/* Sent us wrong bytes, or is in the deny list. */
static bool is_unwelcome(const struct peers *p, const char *id)
{
    return exchange_is_banned(p->o.exchange, id) ||
           (p->o.goals != NULL && goals_denies(p->o.goals, id));
}

char *peers_host(const char *listen)
{
    size_t len = (size_t)(strrchr(listen, ':') - listen);
    char *host =
        listen[0] == '[' && len >= 2 ? mem_strndup(listen + 1, len - 2) : mem_strndup(listen, len);

    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || strcmp(host, "*") == 0)
        host[0] = '\0';
    return host;
}

static struct connection *connection_add(struct peers *p, struct link *l, const char *id)
{
    struct connection *c = mem_alloc(sizeof(*c));

    c->owner = p;
    c->link = l;
    c->id = id == NULL ? NULL : mem_strdup(id);
    c->ours = id != NULL;
    list_push(&p->connections, &c->node);
    return c;
}

/* Of two machines the one with the lesser id opens the link. */
static bool is_opener(const struct peers *p, const char *id)
{
    return strcmp(link_identity_id(p->o.self), id) < 0;
}

/* The other side connects only while it has no link to us: does it still know of this one? If that has been open
 * for longer than a link may take to open, the other one was begun later, by a side that has lost it. */
static bool is_known_there(const struct peers *p, const struct connection *c)
{
    return loop_now_ms(p->o.loop) - c->opened_ms < link_identity_open_ms(p->o.self);
}

/* Of two links to one machine both sides keep the same: the opener's, or else the newer. */
static bool keep_one(struct peers *p, struct connection *c)
{
    bool keep = c->ours == is_opener(p, id_of(c));

    LIST_EACH (&p->connections, n) {
        struct connection *other = CONTAINER_OF(n, struct connection, node);

        if (other == c || !other->open || strcmp(id_of(other), id_of(c)) != 0)
            continue;
        if (!keep && other->ours != c->ours && is_known_there(p, other))
            return false;
        link_close(other->link, ERR_CANCELLED, "another link to the same machine");
    }
    return true;
}

/* The link of a connection that we started carries it as user; an accepted one gets it here. */
static void opened(void *ctx, struct link *l)
{
    struct peers *p = ctx;
    struct connection *c = link_user(l);
    const struct wanted *w;

    if (c == NULL) {
        c = connection_add(p, l, NULL);
        link_set_user(l, c);
    }
    c->open = true;
    c->opened_ms = loop_now_ms(p->o.loop);
    if (p->gone != NULL || is_unwelcome(p, link_peer_id(l))) {
        link_close(l, ERR_DENIED, "not welcome");
        return;
    }
    if (!keep_one(p, c)) {
        link_close(l, ERR_CANCELLED, "another link to the same machine");
        return;
    }
    exchange_attach(p->o.exchange, l);
    w = find_wanted(p, link_peer_id(l));
    if (w != NULL)
        exchange_set_rack(p->o.exchange, l, w->rack);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct peers *p = ctx;

    if (!exchange_message(p->o.exchange, l, type, msg))
        link_close(l, ERR_INVALID, "not a message between machines");
}

static void drained(void *ctx, struct link *l)
{
    struct peers *p = ctx;

    exchange_drained(p->o.exchange, l);
}

static void tell_gone(struct timer *t)
{
    struct peers *p = CONTAINER_OF(t, struct peers, say_gone);

    p->gone(p->gone_ctx);
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct peers *p = ctx;
    struct connection *c = link_user(l);

    if (c == NULL)
        return;
    log_debug("peer %s: %s", id_of(c), why->text);
    if (c->open) {
        exchange_detach(p->o.exchange, l);
        note_banned(p, id_of(c));
    } else if (p->gone == NULL) {
        note_dead(p, id_of(c));
    }
    list_remove(&c->node);
    free(c->id);
    free(c);
    if (p->gone != NULL && list_empty(&p->connections))
        timer_start(p->o.loop, &p->say_gone, 0, 0, tell_gone);
}

static const struct link_handler handler = { opened, message, drained, closed };

int peers_new(struct peers **ret, const struct peers_options *o, struct err *err)
{
    struct peers *p = mem_alloc(sizeof(*p));

    p->o = *o;
    list_init(&p->connections);
    if (link_listen(&p->listener, o->loop, o->self, o->listen, 1u << ROLE_AGENT, PEERS_LINKS_MAX,
                    &handler, p, err) < 0) {
        free(p);
        return err_wrap(err, "listen for peers");
    }
    timer_start(o->loop, &p->look, PEERS_RETRY_MS, PEERS_RETRY_MS, look_around);
    *ret = p;
    return 0;
}

int peers_port(const struct peers *p)
{
    return link_listener_port(p->listener);
}

uint64_t peers_refused(const struct peers *p)
{
    return p->listener == NULL ? 0 : link_listener_refused(p->listener);
}

static void connect_to(struct peers *p, struct wanted *w)
{
    struct connection *c;
    struct link *l = NULL;
    struct err err = ERR_INIT;

    if (link_connect(&l, p->o.loop, p->o.self, w->host, w->port, ROLE_AGENT, w->id, &handler, p,
                     &err) < 0) {
        log_debug("peer %s: %s", w->id, err.text);
        note_dead(p, w->id);
        return;
    }
    c = connection_add(p, l, w->id);
    link_set_user(l, c);
}

/* The other side may be unable to reach us: then it is our turn all the same. */
static bool is_our_turn(const struct peers *p, const struct wanted *w)
{
    return is_opener(p, w->id) || loop_now_ms(p->o.loop) - w->named_ms >= PEERS_TURN_MS;
}

static void connect_missing(struct peers *p)
{
    const char *self = link_identity_id(p->o.self);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&p->sets, &i)) != NULL;) {
        struct set *s = e->value;

        for (size_t k = 0; k < s->npeers; k++) {
            struct wanted *w = &s->peers[k];

            if (w->fails < PEERS_FAILS_MAX && strcmp(w->id, self) != 0 && is_our_turn(p, w) &&
                find_connection(p, w->id) == NULL && !is_unwelcome(p, w->id))
                connect_to(p, w);
        }
    }
}

static void close_unwanted(struct peers *p)
{
    LIST_EACH (&p->connections, n) {
        struct connection *c = CONTAINER_OF(n, struct connection, node);

        if (c->open && is_unwelcome(p, id_of(c)))
            link_close(c->link, ERR_DENIED, "not welcome");
        else if (c->ours && c->open && find_wanted(p, id_of(c)) == NULL)
            link_close(c->link, ERR_CANCELLED, "no pack in common");
    }
}

static void look_around(struct timer *t)
{
    struct peers *p = CONTAINER_OF(t, struct peers, look);

    note_mute(p);
    close_unwanted(p);
    connect_missing(p);
}

/* Who was named before, at the same address, is the same edge still. */
static void add_wanted(const struct peers *p, struct set *s, const struct set *before,
                       const struct msg_peer *m)
{
    const struct wanted *known = before == NULL ? NULL : find_in(before, m->id);
    struct wanted *w = &s->peers[s->npeers++];

    *w = (struct wanted){ .id = mem_strdup(m->id),
                          .host = mem_strdup(m->host),
                          .port = m->port,
                          .named_ms = s->told_ms,
                          .rack = (enum peer_rack)m->rack };
    if (known != NULL)
        w->named_ms = known->named_ms;
    if (known != NULL && known->port == w->port && strcmp(known->host, w->host) == 0)
        w->stale = known->stale;
    else if (strcmp(w->id, link_identity_id(p->o.self)) != 0)
        s->edges.named++;
}

static void tell_racks(struct peers *p, const struct set *s)
{
    for (size_t i = 0; i < s->npeers; i++) {
        const struct connection *c = find_connection(p, s->peers[i].id);

        if (c != NULL && c->open)
            exchange_set_rack(p->o.exchange, c->link, s->peers[i].rack);
    }
}

void peers_set(struct peers *p, const struct msg_peers *m)
{
    const struct msg_peer *items = m->peers.items;
    struct set *s = mem_alloc(sizeof(*s)), *before;
    char hex[HASH_HEX];

    before = map_get(&p->sets, hash_hex(&m->pack, hex));
    s->pack = m->pack;
    s->told_ms = loop_now_ms(p->o.loop);
    if (before != NULL) {
        s->edges = before->edges;
        memcpy(s->banned, before->banned, sizeof(s->banned));
        s->nbanned = before->nbanned;
        before->nbanned = 0;
    }
    s->peers = mem_calloc(m->peers.count + 1, sizeof(*s->peers));
    for (size_t i = 0; i < m->peers.count; i++)
        add_wanted(p, s, before, &items[i]);
    set_free(map_put(&p->sets, hex, s));
    tell_racks(p, s);
    if (p->gone == NULL)
        connect_missing(p);
}

size_t peers_banned(const struct peers *p, const struct hash *pack, const char *ret[BANNED_MAX])
{
    char hex[HASH_HEX];
    const struct set *s = map_get(&p->sets, hash_hex(pack, hex));
    size_t n = s == NULL ? 0 : s->nbanned;

    for (size_t i = 0; i < n; i++)
        ret[i] = s->banned[i];
    return n;
}

struct peers_edges peers_edges(const struct peers *p, const struct hash *pack)
{
    char hex[HASH_HEX];
    const struct set *s = map_get(&p->sets, hash_hex(pack, hex));

    return s == NULL ? (struct peers_edges){ 0, 0 } : s->edges;
}

void peers_forget(struct peers *p, const struct hash *pack)
{
    char hex[HASH_HEX];

    set_free(map_remove(&p->sets, hash_hex(pack, hex)));
}

void peers_close(struct peers *p, void (*gone)(void *ctx), void *ctx)
{
    p->gone = gone;
    p->gone_ctx = ctx;
    timer_stop(&p->look);
    link_listener_close(p->listener);
    LIST_EACH (&p->connections, n)
        link_close(CONTAINER_OF(n, struct connection, node)->link, ERR_CANCELLED,
                   "the agent stops");
    if (list_empty(&p->connections))
        timer_start(p->o.loop, &p->say_gone, 0, 0, tell_gone);
}

void peers_free(struct peers *p)
{
    struct map_entry *e;

    if (p == NULL)
        return;
    for (size_t i = 0; (e = map_next(&p->sets, &i)) != NULL;)
        set_free(e->value);
    map_release(&p->sets);
    timer_stop(&p->say_gone);
    free(p);
}
