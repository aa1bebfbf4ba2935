#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "region/node.h"

struct swarm {
    struct hash pack;
    struct tracker *tracker;
};

static struct swarm *find(const struct region *r, const struct hash *pack)
{
    char hex[HASH_HEX];

    return map_get(&r->swarms, hash_hex(pack, hex));
}

static struct swarm *find_or_make(struct region *r, const struct hash *pack)
{
    struct swarm *w = find(r, pack);
    uint64_t salt;
    char hex[HASH_HEX];

    if (w != NULL)
        return w;
    memcpy(&salt, pack->b, sizeof(salt));
    w = mem_alloc(sizeof(*w));
    w->pack = *pack;
    w->tracker = tracker_new(r->seed ^ salt);
    map_put(&r->swarms, hash_hex(pack, hex), w);
    return w;
}

static void drop_if_empty(struct region *r, struct swarm *w)
{
    char hex[HASH_HEX];

    if (tracker_count(w->tracker) > 0)
        return;
    map_remove(&r->swarms, hash_hex(&w->pack, hex));
    tracker_free(w->tracker);
    free(w);
}

void swarms_free(struct region *r)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->swarms, &i)) != NULL;) {
        struct swarm *w = e->value;

        tracker_free(w->tracker);
        free(w);
    }
    map_release(&r->swarms);
}

/* Where peers reach a machine: what it says, or where its link comes from. */
static bool address_of(const struct machine *m, struct msg_peer *ret)
{
    struct session *s = session_of(m);

    if (s == NULL || m->self->port == 0)
        return false;
    ret->id = m->id;
    ret->host = m->self->host;
    ret->port = m->self->port;
    if (ret->host[0] == '\0') {
        AUTO_BUF host = BUF_INIT;

        buf_str_append(&host, link_peer_host(s->link));
        ret->host = buf_steal(&host);
    } else {
        ret->host = mem_strdup(ret->host);
    }
    return true;
}

static enum peer_rack rack_between(const struct machine *a, const struct machine *b)
{
    const char *x = machine_label(a, "rack"), *y = machine_label(b, "rack");

    if (x == NULL || y == NULL || x[0] == '\0' || y[0] == '\0')
        return RACK_UNKNOWN;
    return strcmp(x, y) == 0 ? RACK_SAME : RACK_OTHER;
}

static void tell(struct region *r, const struct swarm *w, const char *peer)
{
    const struct machine *m = machines_find(r->machines, peer);
    struct session *s = m == NULL ? NULL : session_of(m);
    const char *ids[TRACKER_DEGREE_MAX];
    struct msg_peer peers[TRACKER_DEGREE_MAX];
    struct msg_peers msg = { w->pack, { peers, 0 } };
    size_t n;

    if (s == NULL)
        return;
    n = tracker_peers(w->tracker, peer, ids);
    for (size_t i = 0; i < n; i++) {
        const struct machine *other = machines_find(r->machines, ids[i]);

        if (other == NULL || !address_of(other, &peers[msg.peers.count]))
            continue;
        peers[msg.peers.count++].rack = (uint8_t)rack_between(m, other);
    }
    session_send(s, MSG_PEERS, &msg);
    for (size_t i = 0; i < msg.peers.count; i++)
        free(peers[i].host);
}

static void tell_all(struct timer *t)
{
    struct region *r = CONTAINER_OF(t, struct region, peers_timer);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->swarms, &i)) != NULL;) {
        struct swarm *w = e->value;
        const char *peer;

        while ((peer = tracker_changed(w->tracker)) != NULL)
            tell(r, w, peer);
    }
}

static void tell_soon(struct region *r)
{
    if (!r->peers_timer.active && !r->closing)
        timer_start(r->loop, &r->peers_timer, REGION_PEERS_MS, 0, tell_all);
}

static void step(struct region *r, struct swarm *w, enum tracker_event_kind kind, const char *peer)
{
    struct tracker_event e = { kind, peer, NULL, false, false };

    tracker_step(w->tracker, &e, loop_now_ms(r->loop));
    tell_soon(r);
}

/* How many leaves it has, and whether that is all of them. A pack that is not (yet) here has an
 * unknown size: nobody counts as complete. */
static void read_bitmap(const struct region *r, const struct msg_join *m, bool *ret_some,
                        bool *ret_complete)
{
    uint64_t bytes = replicas_pack_bytes(r->replicas, &m->pack);
    uint64_t set = 0;

    for (size_t i = 0; i < m->bitmap.len; i++)
        set += (uint64_t)__builtin_popcount(m->bitmap.data[i]);
    *ret_some = set > 0;
    *ret_complete = bytes > 0 && set >= (bytes + LEAF_BYTES - 1) / LEAF_BYTES;
}

static bool has_joined(const struct session *s, const struct hash *pack, size_t *ret)
{
    for (size_t i = 0; i < s->njoined; i++) {
        if (!hash_equal(&s->joined[i], pack))
            continue;
        *ret = i;
        return true;
    }
    return false;
}

void swarms_join(struct session *s, const struct msg_join *m)
{
    struct region *r = s->r;
    struct tracker_event e = { TRACKER_JOIN, s->machine->id, NULL, false, false };
    struct swarm *w;
    const char *first;
    size_t at;

    if (!has_joined(s, &m->pack, &at)) {
        if (s->njoined == REGION_JOINS_MAX) {
            log_debug("%s: in more than %d swarms", s->machine->id, REGION_JOINS_MAX);
            return;
        }
        VEC_GROW(s->joined, s->njoined, s->joined_cap);
        s->joined[s->njoined++] = m->pack;
    }
    w = find_or_make(r, &m->pack);
    e.rack = machine_label(s->machine, "rack");
    read_bitmap(r, m, &e.some, &e.complete);
    tracker_step(w->tracker, &e, loop_now_ms(r->loop));
    first = tracker_changed(w->tracker); /* that is who joined: it hears at once */
    if (first != NULL)
        tell(r, w, first);
    tell_soon(r);
}

void swarms_leave(struct session *s, const struct msg_leave *m)
{
    struct swarm *w = find(s->r, &m->pack);
    size_t at;

    if (!has_joined(s, &m->pack, &at))
        return;
    s->joined[at] = s->joined[--s->njoined];
    if (w == NULL)
        return;
    step(s->r, w, TRACKER_LEAVE, s->machine->id);
    drop_if_empty(s->r, w);
}

void swarms_lost(struct session *s)
{
    for (size_t i = 0; i < s->njoined; i++) {
        struct swarm *w = find(s->r, &s->joined[i]);

        if (w != NULL)
            step(s->r, w, TRACKER_LOST, s->machine->id);
    }
}

void swarms_moved(struct session *s)
{
    for (size_t i = 0; i < s->njoined; i++) {
        struct swarm *w = find(s->r, &s->joined[i]);

        if (w != NULL)
            step(s->r, w, TRACKER_MOVED, s->machine->id);
    }
}

void swarms_again(struct session *s)
{
    for (size_t i = 0; i < s->njoined; i++) {
        struct swarm *w = find(s->r, &s->joined[i]);

        if (w != NULL)
            tell(s->r, w, s->machine->id);
    }
}

void swarms_tick(struct region *r)
{
    int64_t now_ms = loop_now_ms(r->loop);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->swarms, &i)) != NULL;) {
        struct swarm *w = e->value;
        int64_t next_ms = tracker_next_ms(w->tracker);

        if (next_ms < 0 || next_ms > now_ms)
            continue;
        step(r, w, TRACKER_TICK, NULL);
        drop_if_empty(r, w);
    }
}
