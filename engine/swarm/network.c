#include "swarm/network.h"

#include <stdlib.h>

#include "base/mem.h"

enum side { UP = NETWORK_UP, DOWN = NETWORK_DOWN, SIDES = 2 };

#define NS_PER_S 1e9
#define FULL 0.95

struct transfer {
    uint32_t host[SIDES]; /* [UP] sends, [DOWN] receives */
    double grant[SIDES];  /* bytes/ns that its link at that end offers it */
    double rate, left;    /* bytes/ns; bytes at since_ns */
    int64_t since_ns;
    uint32_t event;
};

struct end { /* one direction of a host's link */
    double rate, carried;
    uint32_t *transfers;
    size_t count, cap;
};

struct host {
    struct end ends[SIDES];
};

struct network {
    struct calendar *calendar;
    struct host *hosts;
    size_t nhosts;
    struct transfer *transfers;
    size_t ntransfers, transfers_cap;
    uint32_t *free_ids;
    size_t nfree, free_cap;
    double *wishes; /* of water_fill() */
    size_t wishes_cap;
};

struct network *network_new(size_t nhosts, struct calendar *calendar)
{
    struct network *n = mem_alloc(sizeof(*n));

    n->calendar = calendar;
    n->hosts = mem_calloc(nhosts, sizeof(*n->hosts));
    n->nhosts = nhosts;
    return n;
}

void network_free(struct network *n)
{
    if (n == NULL)
        return;
    for (size_t i = 0; i < n->nhosts; i++)
        for (int side = UP; side < SIDES; side++)
            free(n->hosts[i].ends[side].transfers);
    free(n->hosts);
    free(n->transfers);
    free(n->free_ids);
    free(n->wishes);
    free(n);
}

void network_host(struct network *n, uint32_t host, double up_bytes, double down_bytes)
{
    n->hosts[host].ends[UP].rate = up_bytes / NS_PER_S;
    n->hosts[host].ends[DOWN].rate = down_bytes / NS_PER_S;
}

static struct end *end_of(struct network *n, const struct transfer *t, enum side side)
{
    return &n->hosts[t->host[side]].ends[side];
}

static void settle(struct network *n, struct transfer *t, int64_t now_ns)
{
    double moved = (double)(now_ns - t->since_ns) * t->rate;

    if (moved > t->left)
        moved = t->left;
    t->left -= moved;
    t->since_ns = now_ns;
    end_of(n, t, UP)->carried += moved;
    end_of(n, t, DOWN)->carried += moved;
}

/* The rate is the smaller grant. */
static void rerate(struct network *n, struct transfer *t, int64_t now_ns)
{
    double rate = t->grant[UP] < t->grant[DOWN] ? t->grant[UP] : t->grant[DOWN];
    int64_t at = CALENDAR_NEVER;

    if (rate == t->rate)
        return;
    settle(n, t, now_ns);
    t->rate = rate;
    if (rate > 0)
        at = now_ns + (int64_t)(t->left / rate) + 1;
    calendar_move(n->calendar, t->event, at);
}

/* The level to which a link's transfers are filled up: those that wish less keep their wish. */
static double water_level(double rate, double *wishes, size_t count)
{
    double level = rate / (double)count;

    for (size_t i = 1; i < count; i++) {
        double w = wishes[i];
        size_t k = i;

        for (; k > 0 && wishes[k - 1] > w; k--)
            wishes[k] = wishes[k - 1];
        wishes[k] = w;
    }
    for (size_t i = 0; i < count; i++) {
        level = rate / (double)(count - i);
        if (wishes[i] >= level)
            return level;
        rate -= wishes[i];
    }
    return -rate / (double)count; /* all wishes are met: so much more for each */
}

/* What each transfer wishes of this end is what its other end grants it. */
static void regrant(struct network *n, struct end *e, enum side side)
{
    enum side other = side == UP ? DOWN : UP;
    double level;

    while (n->wishes_cap < e->count)
        VEC_GROW(n->wishes, n->wishes_cap, n->wishes_cap);
    for (size_t i = 0; i < e->count; i++)
        n->wishes[i] = n->transfers[e->transfers[i]].grant[other];
    level = e->count == 0 ? 0 : water_level(e->rate, n->wishes, e->count);
    for (size_t i = 0; i < e->count; i++) {
        struct transfer *t = &n->transfers[e->transfers[i]];

        if (level <= 0)
            t->grant[side] = t->grant[other] - level;
        else
            t->grant[side] = t->grant[other] < level ? t->grant[other] : level;
    }
}

static void rerate_end(struct network *n, struct end *e, int64_t now_ns)
{
    for (size_t i = 0; i < e->count; i++)
        rerate(n, &n->transfers[e->transfers[i]], now_ns);
}

/* The transfer came or goes. The sender's end last: it sees what the receiver's can take now. */
static void rework(struct network *n, const struct transfer *t, int64_t now_ns)
{
    struct end *up = end_of(n, t, UP), *down = end_of(n, t, DOWN);

    regrant(n, up, UP);
    regrant(n, down, DOWN);
    regrant(n, up, UP);
    rerate_end(n, up, now_ns);
    rerate_end(n, down, now_ns);
}

static uint32_t take_id(struct network *n)
{
    if (n->nfree > 0)
        return n->free_ids[--n->nfree];
    VEC_GROW(n->transfers, n->ntransfers, n->transfers_cap);
    return (uint32_t)n->ntransfers++;
}

uint32_t network_start(struct network *n, uint32_t from, uint32_t to, double bytes, int64_t now_ns,
                       const struct calendar_event *event)
{
    uint32_t id = take_id(n);
    struct transfer *t = &n->transfers[id];
    struct calendar_event e = *event;

    e.d = id;
    *t = (struct transfer){ .host = { from, to }, .left = bytes, .since_ns = now_ns };
    t->event = calendar_put(n->calendar, CALENDAR_NEVER, &e);
    for (enum side side = UP; side < SIDES; side++) {
        struct end *end = end_of(n, t, side);

        VEC_GROW(end->transfers, end->count, end->cap);
        end->transfers[end->count++] = id;
        t->grant[side] = end->rate / (double)end->count;
    }
    rework(n, t, now_ns);
    return id;
}

static void take_out(struct end *e, uint32_t id)
{
    for (size_t i = 0; i < e->count; i++) {
        if (e->transfers[i] == id) {
            e->transfers[i] = e->transfers[--e->count];
            return;
        }
    }
}

static void take_away(struct network *n, uint32_t id, int64_t now_ns)
{
    struct transfer *t = &n->transfers[id];

    take_out(end_of(n, t, UP), id);
    take_out(end_of(n, t, DOWN), id);
    rework(n, t, now_ns);
    VEC_GROW(n->free_ids, n->nfree, n->free_cap);
    n->free_ids[n->nfree++] = id;
}

void network_finish(struct network *n, uint32_t transfer, int64_t now_ns)
{
    struct transfer *t = &n->transfers[transfer];

    end_of(n, t, UP)->carried += t->left;
    end_of(n, t, DOWN)->carried += t->left;
    take_away(n, transfer, now_ns);
}

void network_break(struct network *n, uint32_t transfer, int64_t now_ns)
{
    struct transfer *t = &n->transfers[transfer];

    settle(n, t, now_ns);
    calendar_drop(n->calendar, t->event);
    take_away(n, transfer, now_ns);
}

double network_rate(const struct network *n, uint32_t transfer)
{
    return n->transfers[transfer].rate * NS_PER_S;
}

bool network_is_full(const struct network *n, uint32_t host, enum network_side side)
{
    const struct end *e = &n->hosts[host].ends[side];
    double rate = 0;

    for (size_t i = 0; i < e->count; i++)
        rate += n->transfers[e->transfers[i]].rate;
    return e->count > 0 && rate >= FULL * e->rate;
}

double network_sent_bytes(const struct network *n, uint32_t host)
{
    return n->hosts[host].ends[UP].carried;
}

double network_received_bytes(const struct network *n, uint32_t host)
{
    return n->hosts[host].ends[DOWN].carried;
}
