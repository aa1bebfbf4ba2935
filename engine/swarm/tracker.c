/* The happy path: JOIN -> add() -> fill() -> link_one() for each missing link, which tries in this
 * order: a peer that itself lacks links; splicing into an edge; the least linked peer below the
 * maximum. What fails: nothing but a full table; a peer for which no partner is found has fewer
 * links, and gets more as others come and go. */
#include "swarm/tracker.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

enum {
    TRIES = 16,    /* random candidates that are looked at for one link */
    SCAN_MAX = 32, /* sets up to this size are looked at whole */
};

struct peer;

struct set { /* of peers, in no order */
    struct peer **peers;
    size_t count, cap;
};

struct peer {
    char *id;
    struct set *rack; /* NULL: unknown */
    struct peer *links[TRACKER_DEGREE_MAX];
    size_t nlinks;
    size_t at, rack_at, some_at; /* where in all, rack and some */
    bool some, complete, changed, lost;
    int64_t lost_ms;
    struct list node;      /* in changed, if so */
    struct list lost_node; /* in lost, if so */
};

struct tracker {
    uint64_t random;
    struct map by_id; /* struct peer */
    struct map racks; /* struct set */
    struct set all, some;
    struct list changed, lost;
};

static uint64_t next_random(struct tracker *t)
{
    uint64_t z = t->random += 0x9e3779b97f4a7c15u; /* splitmix64 */

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(struct tracker *t, size_t n)
{
    return (size_t)(next_random(t) % n);
}

static void set_add(struct set *s, struct peer *p, size_t *at)
{
    VEC_GROW(s->peers, s->count, s->cap);
    *at = s->count;
    s->peers[s->count++] = p;
}

struct tracker *tracker_new(uint64_t seed)
{
    struct tracker *t = mem_alloc(sizeof(*t));

    t->random = seed;
    list_init(&t->changed);
    list_init(&t->lost);
    return t;
}

void tracker_free(struct tracker *t)
{
    struct map_entry *e;

    if (t == NULL)
        return;
    for (size_t i = 0; i < t->all.count; i++) {
        free(t->all.peers[i]->id);
        free(t->all.peers[i]);
    }
    for (size_t i = 0; (e = map_next(&t->racks, &i)) != NULL;) {
        free(((struct set *)e->value)->peers);
        free(e->value);
    }
    map_release(&t->racks);
    map_release(&t->by_id);
    free(t->all.peers);
    free(t->some.peers);
    free(t);
}

static void mark(struct tracker *t, struct peer *p)
{
    if (p->changed)
        return;
    p->changed = true;
    list_push(&t->changed, &p->node);
}

static bool local(const struct peer *a, const struct peer *b)
{
    return a->rack != NULL && a->rack == b->rack;
}

static bool linked(const struct peer *a, const struct peer *b)
{
    for (size_t i = 0; i < a->nlinks; i++) {
        if (a->links[i] == b)
            return true;
    }
    return false;
}

static size_t count_links(const struct peer *p, bool is_local)
{
    size_t n = 0;

    for (size_t i = 0; i < p->nlinks; i++)
        n += local(p, p->links[i]) == is_local;
    return n;
}

static size_t count_useful(const struct peer *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->nlinks; i++)
        n += p->links[i]->some;
    return n;
}

static bool can_link(const struct peer *a, const struct peer *b)
{
    return a != b && !b->lost && a->nlinks < TRACKER_DEGREE_MAX && b->nlinks < TRACKER_DEGREE_MAX &&
           !linked(a, b);
}

static void link_pair(struct tracker *t, struct peer *a, struct peer *b)
{
    a->links[a->nlinks++] = b;
    b->links[b->nlinks++] = a;
    mark(t, a);
    mark(t, b);
}

static void drop_half(struct peer *from, const struct peer *to)
{
    for (size_t i = 0; i < from->nlinks; i++) {
        if (from->links[i] == to) {
            from->links[i] = from->links[--from->nlinks];
            return;
        }
    }
}

static void unlink_pair(struct tracker *t, struct peer *a, struct peer *b)
{
    drop_half(a, b);
    drop_half(b, a);
    mark(t, a);
    mark(t, b);
}

/* How many links in and outside of its rack a peer should have now. */
static void quota(const struct tracker *t, const struct peer *p, size_t *ret_local,
                  size_t *ret_remote)
{
    size_t inside = p->rack == NULL ? 0 : p->rack->count - 1;
    size_t outside = t->all.count - 1 - inside;
    size_t want_local = TRACKER_DEGREE - TRACKER_REMOTE;

    if (outside < TRACKER_REMOTE)
        want_local = TRACKER_DEGREE - outside;
    *ret_local = inside < want_local ? inside : want_local;
    *ret_remote = TRACKER_DEGREE - *ret_local;
    if (*ret_remote > outside)
        *ret_remote = outside;
}

/* Is a a better partner than b? Who lacks links outside of its rack comes first when it is offered
 * one, then who has the fewest. */
static bool better(const struct peer *a, const struct peer *b, bool is_local)
{
    bool a_lacks, b_lacks;

    if (b == NULL)
        return true;
    a_lacks = !is_local && count_links(a, false) < TRACKER_REMOTE;
    b_lacks = !is_local && count_links(b, false) < TRACKER_REMOTE;
    return a_lacks != b_lacks ? a_lacks : a->nlinks < b->nlinks;
}

/* The best of some peers of the set that p can be linked to. */
static struct peer *candidate(struct tracker *t, const struct set *s, const struct peer *p,
                              bool is_local)
{
    size_t looks = s->count <= SCAN_MAX ? s->count : TRIES;
    size_t first = s->count == 0 ? 0 : below(t, s->count);
    struct peer *best = NULL;

    for (size_t i = 0; i < looks; i++) {
        struct peer *c =
            s->peers[s->count <= SCAN_MAX ? (first + i) % s->count : below(t, s->count)];

        if (local(p, c) == is_local && can_link(p, c) && better(c, best, is_local))
            best = c;
    }
    return best;
}

static struct peer *random_link(struct tracker *t, const struct peer *u, bool is_local)
{
    size_t first = u->nlinks == 0 ? 0 : below(t, u->nlinks);

    for (size_t i = 0; i < u->nlinks; i++) {
        struct peer *v = u->links[(first + i) % u->nlinks];

        if (local(u, v) == is_local)
            return v;
    }
    return NULL;
}

/* May u-v go for links of u and v to somebody of that class? A link between two of one rack may
 * only if both have more of these than their share. */
static bool may_cut(const struct peer *u, const struct peer *v, bool is_local)
{
    enum { SHARE = TRACKER_DEGREE - TRACKER_REMOTE };

    return local(u, v) == is_local ||
           (count_links(u, true) > SHARE && count_links(v, true) > SHARE);
}

/* u-v becomes u-p-v, both of p's links in the asked class; nobody else's number of links changes.
 */
static bool splice(struct tracker *t, struct peer *p, bool is_local)
{
    const struct set *s = is_local ? p->rack : &t->all;

    if (p->nlinks + 2 > TRACKER_DEGREE_MAX)
        return false;
    for (int i = 0; i < TRIES; i++) {
        struct peer *u = s->peers[below(t, s->count)];
        struct peer *v = u == p || u->nlinks == 0 ? NULL : u->links[below(t, u->nlinks)];

        if (v == NULL || v == p || !may_cut(u, v, is_local) || u->lost || v->lost || linked(u, p) ||
            linked(v, p))
            continue;
        if (local(p, u) != is_local || local(p, v) != is_local)
            continue;
        unlink_pair(t, u, v);
        link_pair(t, u, p);
        link_pair(t, p, v);
        return true;
    }
    return false;
}

/* A neighbour u of the rack has more remote links than it needs: u-w becomes u-p-w, w outside. */
static bool splice_mixed(struct tracker *t, struct peer *p)
{
    if (p->nlinks + 2 > TRACKER_DEGREE_MAX)
        return false;
    for (int i = 0; i < TRIES; i++) {
        struct peer *u = p->rack->peers[below(t, p->rack->count)];
        struct peer *w;

        if (u == p || u->lost || linked(u, p) || count_links(u, false) <= TRACKER_REMOTE)
            continue;
        w = random_link(t, u, false);
        if (w == NULL || w == p || w->lost || local(p, w) || linked(w, p))
            continue;
        unlink_pair(t, u, w);
        link_pair(t, u, p);
        link_pair(t, p, w);
        return true;
    }
    return false;
}

/* One or two more links of that class; false if there is no way. lacks: how many it lacks. */
static bool link_one(struct tracker *t, struct peer *p, bool is_local, size_t lacks,
                     size_t lacks_remote)
{
    struct peer *c = candidate(t, is_local ? p->rack : &t->all, p, is_local);

    if (c != NULL &&
        (c->nlinks < TRACKER_DEGREE || (!is_local && count_links(c, false) < TRACKER_REMOTE))) {
        link_pair(t, p, c);
        return true;
    }
    if (is_local && lacks_remote > 0 && splice_mixed(t, p))
        return true;
    if (lacks >= 2 && splice(t, p, is_local))
        return true;
    if (c == NULL)
        return false;
    link_pair(t, p, c);
    return true;
}

/* At least TRACKER_USEFUL links to peers that have something; at the maximum a link to one that has
 * nothing goes for it. */
static void link_useful(struct tracker *t, struct peer *p)
{
    for (int i = 0; i < 2 * TRIES && t->some.count > 0 && count_useful(p) < TRACKER_USEFUL; i++) {
        struct peer *c = t->some.peers[below(t, t->some.count)];

        if (c == p || c->lost || linked(p, c) || c->nlinks >= TRACKER_DEGREE_MAX)
            continue;
        for (size_t k = 0; k < p->nlinks && p->nlinks >= TRACKER_DEGREE_MAX; k++) {
            if (!p->links[k]->some) {
                unlink_pair(t, p, p->links[k]);
                break;
            }
        }
        if (p->nlinks < TRACKER_DEGREE_MAX)
            link_pair(t, p, c);
    }
}

static void fill(struct tracker *t, struct peer *p)
{
    size_t want_local, want_remote, have;

    if (p->complete || p->lost)
        return;
    quota(t, p, &want_local, &want_remote);
    while ((have = count_links(p, true)) < want_local && p->nlinks < TRACKER_DEGREE_MAX) {
        size_t remote = count_links(p, false);

        if (!link_one(t, p, true, want_local - have,
                      remote < want_remote ? want_remote - remote : 0))
            break;
    }
    while ((have = count_links(p, false)) < want_remote && p->nlinks < TRACKER_DEGREE_MAX) {
        if (!link_one(t, p, false, want_remote - have, 0))
            break;
    }
    link_useful(t, p);
}

/* A complete newcomer wants nothing, but is wanted by those that have too few links. */
static void offer(struct tracker *t, struct peer *p)
{
    size_t looks = t->all.count <= SCAN_MAX ? t->all.count : 4 * TRIES;

    for (size_t i = 0; i < looks && p->nlinks < TRACKER_DEGREE; i++) {
        struct peer *c = t->all.peers[t->all.count <= SCAN_MAX ? i : below(t, t->all.count)];

        if (!c->complete && can_link(p, c) &&
            (c->nlinks < TRACKER_DEGREE || count_useful(c) < TRACKER_USEFUL))
            link_pair(t, p, c);
    }
}

static struct set *rack_of(struct tracker *t, const char *name)
{
    struct set *s;

    if (name == NULL || name[0] == '\0')
        return NULL;
    s = map_get(&t->racks, name);
    if (s == NULL) {
        s = mem_alloc(sizeof(*s));
        map_put(&t->racks, name, s);
    }
    return s;
}

static struct peer *add(struct tracker *t, const struct tracker_event *e)
{
    struct peer *p = mem_alloc(sizeof(*p));

    p->id = mem_strdup(e->peer);
    list_init(&p->node);
    list_init(&p->lost_node);
    p->rack = rack_of(t, e->rack);
    set_add(&t->all, p, &p->at);
    if (p->rack != NULL)
        set_add(p->rack, p, &p->rack_at);
    map_put(&t->by_id, p->id, p);
    return p;
}

static void forget_some(struct tracker *t, struct peer *p)
{
    struct peer *last;

    if (!p->some)
        return;
    last = t->some.peers[--t->some.count];
    t->some.peers[p->some_at] = last;
    last->some_at = p->some_at;
    p->some = false;
}

static void remove_peer(struct tracker *t, struct peer *p)
{
    struct peer *last = t->all.peers[--t->all.count];

    t->all.peers[p->at] = last;
    last->at = p->at;
    if (p->rack != NULL) {
        last = p->rack->peers[--p->rack->count];
        p->rack->peers[p->rack_at] = last;
        last->rack_at = p->rack_at;
    }
    forget_some(t, p);
    map_remove(&t->by_id, p->id);
    list_remove(&p->node);
    list_remove(&p->lost_node);
    free(p->id);
    free(p);
}

static bool lacks(const struct tracker *t, const struct peer *p, bool is_local)
{
    size_t want_local, want_remote;

    if (p->complete || p->lost)
        return false;
    quota(t, p, &want_local, &want_remote);
    return count_links(p, is_local) < (is_local ? want_local : want_remote);
}

/* Its neighbours each lost a link: they become each other's, then whoever still lacks is filled. */
static void leave(struct tracker *t, struct peer *p)
{
    struct peer *orphans[TRACKER_DEGREE_MAX];
    size_t n = p->nlinks;

    memcpy(orphans, p->links, sizeof(orphans));
    for (size_t i = 0; i < n; i++)
        unlink_pair(t, p, orphans[i]);
    remove_peer(t, p);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            bool is_local = local(orphans[i], orphans[k]);

            if (lacks(t, orphans[i], is_local) && lacks(t, orphans[k], is_local) &&
                can_link(orphans[i], orphans[k]))
                link_pair(t, orphans[i], orphans[k]);
        }
    }
    for (size_t i = 0; i < n; i++)
        fill(t, orphans[i]);
}

static void join(struct tracker *t, const struct tracker_event *e)
{
    struct peer *p = map_get(&t->by_id, e->peer);
    bool is_new = p == NULL;

    if (!is_new && p->rack != rack_of(t, e->rack)) { /* it was moved: begin anew */
        leave(t, p);
        is_new = true;
    }
    if (is_new && t->all.count >= TRACKER_PEERS_MAX)
        return;
    if (is_new)
        p = add(t, e);
    if (p->lost) {
        p->lost = false;
        list_remove(&p->lost_node);
        for (size_t i = 0; i < p->nlinks; i++)
            mark(t, p->links[i]);
    }
    if (!e->some && !e->complete)
        forget_some(t, p);
    else if (!p->some) {
        p->some = true;
        set_add(&t->some, p, &p->some_at);
    }
    p->complete = e->complete;
    /* Newcomers hear at once; who asks again is told again. */
    list_remove(&p->node);
    list_push(t->changed.next, &p->node);
    p->changed = true;
    fill(t, p);
    if (is_new && p->complete)
        offer(t, p);
}

static void lose(struct tracker *t, struct peer *p, int64_t now_ms)
{
    if (p->lost)
        return;
    p->lost = true;
    p->lost_ms = now_ms;
    list_push(&t->lost, &p->lost_node);
}

static void tick(struct tracker *t, int64_t now_ms)
{
    while (!list_empty(&t->lost)) {
        struct peer *p = CONTAINER_OF(t->lost.next, struct peer, lost_node);

        if (now_ms - p->lost_ms < TRACKER_LOST_MS)
            return;
        leave(t, p);
    }
}

void tracker_step(struct tracker *t, const struct tracker_event *e, int64_t now_ms)
{
    struct peer *p = e->peer == NULL ? NULL : map_get(&t->by_id, e->peer);

    if (e->kind == TRACKER_JOIN)
        join(t, e);
    else if (e->kind == TRACKER_TICK)
        tick(t, now_ms);
    else if (p != NULL && e->kind == TRACKER_LEAVE)
        leave(t, p);
    else if (p != NULL && e->kind == TRACKER_LOST)
        lose(t, p, now_ms);
    for (size_t i = 0; p != NULL && e->kind == TRACKER_MOVED && i < p->nlinks; i++)
        mark(t, p->links[i]);
}

const char *tracker_changed(struct tracker *t)
{
    while (!list_empty(&t->changed)) {
        struct peer *p = CONTAINER_OF(t->changed.next, struct peer, node);

        list_remove(&p->node);
        p->changed = false;
        if (!p->lost)
            return p->id;
    }
    return NULL;
}

size_t tracker_peers(const struct tracker *t, const char *peer, const char *out[TRACKER_DEGREE_MAX])
{
    struct peer *p = map_get(&t->by_id, peer);
    size_t n = 0;

    for (size_t i = 0; p != NULL && i < p->nlinks; i++) {
        if (!p->links[i]->lost)
            out[n++] = p->links[i]->id;
    }
    return n;
}

int64_t tracker_next_ms(const struct tracker *t)
{
    struct peer *p;

    if (list_empty(&t->lost))
        return -1;
    p = CONTAINER_OF(t->lost.next, struct peer, lost_node);
    return p->lost_ms + TRACKER_LOST_MS;
}

size_t tracker_count(const struct tracker *t)
{
    return t->all.count;
}
