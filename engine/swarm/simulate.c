#include "swarm/simulate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/simulate_internal.h"

enum { PATIENCE = 100 }; /* times the bound, then who is not done is stranded */

struct simulate_options simulate_defaults(void)
{
    return (struct simulate_options){
        .machines = 1000,
        .regions = 1,
        .bytes = 10e9,
        .pieces = 640,
        .up = 1e9 / 8,
        .down = 1e9 / 8,
        .node_up = 2e9 / 8,
        .rack = 40,
        .slow_factor = 8,
        .join_ns = 200 * (int64_t)NS_PER_MS,
        .near_ns = 50000,
        .far_ns = 250000,
        .handshake_ns = 3 * (int64_t)NS_PER_MS,
        .notice_ns = 1000 * (int64_t)NS_PER_MS,
        .verify = 2e9,
        .seed = 1,
    };
}

uint64_t sim_random(struct sim *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u; /* splitmix64 */

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double random_share(struct sim *s)
{
    return (double)(sim_random(s) >> 11) * 0x1p-53;
}

void sim_put(struct sim *s, int64_t at_ns, enum sim_event kind, uint32_t a, uint32_t b, uint32_t c,
             uint32_t d)
{
    (void)calendar_put(s->calendar, at_ns, &(struct calendar_event){ kind, a, b, c, d });
}

static double plain_s(const struct simulate_options *o)
{
    return o->bytes / (o->up < o->down ? o->up : o->down);
}

static double bound_s(const struct simulate_options *o, uint32_t machines)
{
    return plain_s(o) * (1 + log2(machines) / o->pieces);
}

/* As many of the machines as the share says, at random; each in at most one of these roles. */
static void choose(struct sim *s, double share, int role)
{
    uint32_t n = (uint32_t)llround(share * s->node);

    for (uint32_t tries = 0; n > 0 && tries < 64 * s->node; tries++) {
        struct sim_host *h = &s->hosts[sim_random(s) % s->node];
        bool *flag = role == 0 ? &h->slow : role == 1 ? &h->dies : &h->cut;

        if (*flag || (role < 2 && (h->slow || h->dies)))
            continue;
        *flag = true;
        n--;
    }
}

static void place_machines(struct sim *s)
{
    const struct simulate_options *o = s->o;

    choose(s, o->slow_share, 0);
    choose(s, o->die_share, 1);
    choose(s, o->cut_share, 2);
    for (uint32_t i = 0; i < s->node; i++) {
        struct sim_host *h = &s->hosts[i];
        double factor = h->slow ? o->slow_factor : 1;

        h->rack = o->rack == 0 ? 0 : i / o->rack;
        network_host(s->network, i, o->up / factor, o->down / factor);
        sim_put(s, (int64_t)(random_share(s) * (double)o->join_ns), SIM_JOIN, i, 0, 0, 0);
        if (h->dies)
            sim_put(s, (int64_t)(random_share(s) * plain_s(o) * 1e9), SIM_DIE, i, 0, 0, 0);
        else
            s->waiting++;
    }
}

static void begin(struct sim *s, uint32_t machines)
{
    const struct simulate_options *o = s->o;

    s->nhosts = machines + 1;
    s->node = machines;
    s->calendar = calendar_new();
    s->network = network_new(s->nhosts, s->calendar);
    s->tracker = tracker_new(sim_random(s));
    s->hosts = mem_calloc(s->nhosts, sizeof(*s->hosts));
    s->wire_bytes = o->bytes / o->pieces * (1 + o->headers);
    s->hosts[s->node].is_node = true;
    s->hosts[s->node].rack = UINT32_MAX;
    network_host(s->network, s->node, o->node_up, o->node_up);
    host_start(s, s->node, true);
    place_machines(s);
    if (o->cut_share > 0 && o->cut_until_ns > o->cut_ns) {
        int64_t seen_ns = o->cut_ns + o->notice_ns;

        sim_put(s, o->cut_ns, SIM_CUT, 0, 0, 0, 0);
        sim_put(s, seen_ns < o->cut_until_ns ? seen_ns : o->cut_until_ns, SIM_CUT_SEEN, 0, 0, 0, 0);
        sim_put(s, o->cut_until_ns, SIM_HEALED, 0, 0, 0, 0);
    }
}

static void end(struct sim *s)
{
    for (uint32_t i = 0; i < s->nhosts; i++)
        host_release(&s->hosts[i]);
    for (size_t i = 0; i < s->nmessages; i++)
        free(s->messages[i].payload);
    tracker_free(s->tracker);
    network_free(s->network);
    calendar_free(s->calendar);
    free(s->hosts);
    free(s->edges);
    free(s->free_edges);
    free(s->messages);
    free(s->free_messages);
}

/* ---- a partition ---- */

static bool crosses(const struct sim *s, const struct sim_edge *e)
{
    return e->generation % 2 == 1 && s->hosts[e->host[0]].cut != s->hosts[e->host[1]].cut;
}

static void cut(struct sim *s)
{
    s->is_cut = true;
    for (uint32_t i = 0; i < s->nedges; i++)
        if (crosses(s, &s->edges[i]))
            edge_lose(s, i);
}

static void cut_seen(struct sim *s)
{
    for (uint32_t i = 0; i < s->nedges; i++)
        if (crosses(s, &s->edges[i]))
            edge_close(s, i);
    for (uint32_t i = 0; i < s->node; i++)
        if (s->hosts[i].cut && s->hosts[i].peer != NULL)
            graph_lost(s, i);
}

static void healed(struct sim *s)
{
    s->is_cut = false;
    for (uint32_t i = 0; i < s->node; i++) {
        if (!s->hosts[i].cut || s->hosts[i].peer == NULL)
            continue;
        edge_open_now(s, s->node, i);
        sim_put(s, s->now_ns + s->o->far_ns, SIM_ASK, i, 0, 0, 0);
    }
}

/* ---- one event after the other ---- */

static void step(struct sim *s, const struct calendar_event *e)
{
    switch ((enum sim_event)e->kind) {
    case SIM_JOIN:
        host_join(s, e->a);
        break;
    case SIM_DIE:
        host_die(s, e->a);
        break;
    case SIM_NOTICE:
        host_noticed(s, e->a);
        break;
    case SIM_TICK:
        host_tick(s, e->a);
        break;
    case SIM_SENT:
        edge_sent(s, e);
        break;
    case SIM_LEAF:
        edge_leaf(s, e);
        break;
    case SIM_VERIFIED:
        host_verified(s, e);
        break;
    case SIM_MESSAGE:
        edge_message(s, e);
        break;
    case SIM_OPEN:
        edge_opened(s, e->a, e->b);
        break;
    case SIM_LOOK:
        graph_look(s, e->a);
        break;
    case SIM_ASK:
        graph_ask(s, e->a);
        break;
    case SIM_TELL:
        graph_tell(s);
        break;
    case SIM_PEERS:
        graph_peers(s, e->a);
        break;
    case SIM_TRACK:
        graph_track(s);
        break;
    case SIM_CUT:
        cut(s);
        break;
    case SIM_CUT_SEEN:
        cut_seen(s);
        break;
    case SIM_HEALED:
        healed(s);
        break;
    case SIM_NONE:
        break;
    }
}

static void run(struct sim *s, uint32_t region, simulate_progress *progress, void *ctx)
{
    double patience_s = PATIENCE * bound_s(s->o, s->node) * s->o->slow_factor;
    uint64_t all = (uint64_t)s->o->pieces * s->node, told = 0;
    struct calendar_event e;
    int64_t limit_ns = s->o->join_ns + s->o->cut_until_ns + (int64_t)(patience_s * 1e9);

    while (s->waiting > 0 && calendar_next(s->calendar, &s->now_ns, &e) && s->now_ns < limit_ns) {
        s->r->events++;
        ahead_look(s);
        step(s, &e);
        if (progress != NULL && s->waiting > 0 && s->verified * 100 / all > told) {
            told = s->verified * 100 / all;
            progress(ctx, region, (double)told / 100);
        }
    }
    if (progress != NULL)
        progress(ctx, region, 1);
}

/* ---- results ---- */

static void collect(struct sim *s)
{
    struct simulate_result *r = s->r;
    double bound = bound_s(s->o, s->node);
    double copies = network_sent_bytes(s->network, s->node) / s->wire_bytes / s->o->pieces;

    r->node_copies += copies / s->o->regions;
    if (copies > r->node_copies_max)
        r->node_copies_max = copies;
    if (bound > r->bound_s)
        r->bound_s = bound;
    if ((double)s->now_ns / 1e9 > r->virtual_s)
        r->virtual_s = (double)s->now_ns / 1e9;
    for (uint32_t i = 0; i < s->node; i++) {
        struct sim_host *h = &s->hosts[i];
        double ratio = (double)(h->done_ns - h->joined_ns) / 1e9 / bound;

        if (h->peer != NULL)
            host_count(s, h);
        if (h->dies)
            continue;
        r->stranded += !h->done;
        r->slow += h->slow;
        if (h->slow && h->done && ratio > r->slow_max)
            r->slow_max = ratio;
        if (!h->slow && h->done)
            r->ratios[r->healthy++] = ratio;
    }
}

static int compare(const void *a, const void *b)
{
    double x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

/* The smallest value that at least that share does not exceed. */
static double quantile(const struct simulate_result *r, double share)
{
    size_t rank = (size_t)ceil(share * r->healthy);

    return r->healthy == 0 ? 0 : r->ratios[rank == 0 ? 0 : rank - 1];
}

void simulate_swarm(const struct simulate_options *o, simulate_progress *progress, void *ctx,
                    struct simulate_result *ret)
{
    *ret = (struct simulate_result){ .ratios = mem_calloc(o->machines, sizeof(double)) };
    for (uint32_t i = 0; i < o->regions; i++) {
        struct sim s = { .o = o, .r = ret, .random = o->seed + (uint64_t)i * 1000003 };

        begin(&s, o->machines / o->regions + (i < o->machines % o->regions));
        run(&s, i, progress, ctx);
        collect(&s);
        end(&s);
    }
    qsort(ret->ratios, ret->healthy, sizeof(double), compare);
    ret->p50 = quantile(ret, 0.5);
    ret->p99 = quantile(ret, 0.99);
    ret->p999 = quantile(ret, 0.999);
    ret->max = quantile(ret, 1);
}

void simulate_result_release(struct simulate_result *r)
{
    free(r->ratios);
    r->ratios = NULL;
}
