/* engine simulate-swarm - how long a swarm of many machines takes, in virtual time. */
#include "swarm/simulate.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/curve.h"
#include "cli/flags.h"
#include "cli/quantity.h"
#include "io/files.h"
#include "swarm/peer.h"
#include "wire/pack.h"

enum { REGIONS_MAX = 1000, PIECE_BYTES_MAX = 1 << 30 };

struct texts_given {
    const char *size, *up, *down, *seed_up, *slow, *die, *join, *latency, *notice, *disk, *headers,
        *queue;
    const char *cut, *svg;
    int64_t machines, regions, pieces, rack, seed;
};

/* ---- what was asked for ---- */

static int bad(struct err *err, const char *flag, const char *text, const char *remedy)
{
    return err_set(err, ERR_INVALID, "--%s does not take '%s': %s", flag, text, remedy);
}

static int take_rate(const char *flag, const char *text, double *ret, struct err *err)
{
    if (text == NULL || (quantity_rate(text, ret) && *ret >= 1))
        return 0;
    return bad(err, flag, text, "write a rate like 10Gbit, 100Mbit or 125MB");
}

static int take_time(const char *flag, const char *text, int64_t *ret, struct err *err)
{
    if (text == NULL || quantity_ns(text, ret))
        return 0;
    return bad(err, flag, text, "write a time like 250us, 20ms or 2s");
}

static int take_share(const char *flag, const char *text, double *ret, struct err *err)
{
    if (text == NULL || quantity_share(text, ret))
        return 0;
    return bad(err, flag, text, "write a share like 2% or 0.02, at most 100%");
}

/* Cuts a copy of text at its colons; the number of parts, at most max of them. */
static int split(char *copy, char *parts[], int max)
{
    int n = 0;

    for (char *at = copy; at != NULL && n < max; n++) {
        char *colon = strchr(at, ':');

        parts[n] = at;
        at = colon == NULL ? NULL : colon + 1;
        if (colon != NULL)
            *colon = '\0';
    }
    return n;
}

static int take_slow(const char *text, struct simulate_options *o, struct err *err)
{
    AUTO_FREE char *copy = mem_strdup(text == NULL ? "0:8" : text);
    char *parts[3];

    if (split(copy, parts, 3) == 2 && quantity_share(parts[0], &o->slow_share) &&
        quantity_number(parts[1], &o->slow_factor) && o->slow_factor >= 1)
        return 0;
    return bad(err, "slow", text, "write SHARE:FACTOR like 1%:8, a factor of at least 1");
}

static int take_latency(const char *text, struct simulate_options *o, struct err *err)
{
    AUTO_FREE char *copy = text == NULL ? NULL : mem_strdup(text);
    char *parts[3];

    if (text == NULL || (split(copy, parts, 3) == 2 && quantity_ns(parts[0], &o->near_ns) &&
                         quantity_ns(parts[1], &o->far_ns)))
        return 0;
    return bad(err, "latency", text, "write NEAR:FAR like 50us:250us, one way");
}

static int take_cut(const char *text, struct simulate_options *o, struct err *err)
{
    AUTO_FREE char *copy = text == NULL ? NULL : mem_strdup(text);
    char *parts[4];

    if (text == NULL || (split(copy, parts, 4) == 3 && quantity_share(parts[0], &o->cut_share) &&
                         quantity_ns(parts[1], &o->cut_ns) &&
                         quantity_ns(parts[2], &o->cut_until_ns) && o->cut_ns < o->cut_until_ns))
        return 0;
    return bad(err, "cut", text, "write SHARE:FROM:UNTIL like 10%:20s:30s");
}

static int take_count(const char *flag, int64_t n, int64_t least, int64_t most, uint32_t *ret,
                      struct err *err)
{
    if (n < least || n > most)
        return err_set(err, ERR_INVALID,
                       "--%s is %" PRId64 ": it must be from %" PRId64 " to %" PRId64, flag, n,
                       least, most);
    *ret = (uint32_t)n;
    return 0;
}

static int take_counts(const struct texts_given *t, struct simulate_options *o, struct err *err)
{
    int64_t leaves = (int64_t)ceil(o->bytes / LEAF_BYTES), pieces = t->pieces;

    if (pieces == 0) { /* as production cuts a pack of that size */
        pieces = (int64_t)ceil((double)leaves / (double)peer_piece_leaves((size_t)leaves));
        pieces = pieces > SIMULATE_PIECES_MAX ? SIMULATE_PIECES_MAX : pieces;
    }
    if (take_count("machines", t->machines, 1, SIMULATE_MACHINES_MAX, &o->machines, err) < 0 ||
        take_count("regions", t->regions, 1, REGIONS_MAX, &o->regions, err) < 0 ||
        take_count("pieces", pieces, 1, SIMULATE_PIECES_MAX, &o->pieces, err) < 0 ||
        take_count("rack", t->rack, 0, SIMULATE_MACHINES_MAX, &o->rack, err) < 0)
        return -ERR_INVALID;
    if (o->regions > o->machines)
        return err_set(err, ERR_INVALID,
                       "--regions %u is more than --machines %u: a region has at "
                       "least one machine",
                       o->regions, o->machines);
    if ((o->machines + o->regions - 1) / o->regions > SIMULATE_REGION_MAX)
        return err_set(err, ERR_LIMIT,
                       "a region would have %u machines, and %d is the most: give "
                       "more --regions",
                       o->machines / o->regions, SIMULATE_REGION_MAX);
    if (o->bytes / o->pieces > PIECE_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "a piece would be over 1 GiB: give more --pieces");
    return 0;
}

static int take_all(const struct texts_given *t, struct simulate_options *o, struct err *err)
{
    o->seed = (uint64_t)t->seed;
    if (t->size != NULL && (!quantity_bytes(t->size, &o->bytes) || o->bytes < 1))
        return bad(err, "size", t->size, "write a size like 10GB or 512MiB");
    if (take_rate("rate-up", t->up, &o->up, err) < 0 ||
        take_rate("rate-down", t->down, &o->down, err) < 0)
        return -ERR_INVALID;
    o->node_up = 2 * o->up;
    if (take_rate("rate-seed", t->seed_up, &o->node_up, err) < 0 ||
        take_rate("disk", t->disk, &o->verify, err) < 0 || take_slow(t->slow, o, err) < 0 ||
        take_share("die", t->die, &o->die_share, err) < 0 ||
        take_share("headers", t->headers, &o->headers, err) < 0 ||
        take_time("join", t->join, &o->join_ns, err) < 0 ||
        take_time("queue", t->queue, &o->queue_ns, err) < 0 ||
        take_time("notice", t->notice, &o->notice_ns, err) < 0 ||
        take_latency(t->latency, o, err) < 0 || take_cut(t->cut, o, err) < 0)
        return -ERR_INVALID;
    if (o->slow_share + o->die_share > 1)
        return err_set(err, ERR_INVALID, "--slow and --die are more than all machines together");
    return take_counts(t, o, err);
}

/* ---- while it runs ---- */

struct watch {
    const struct globals *g;
    const struct simulate_options *o;
};

static void progress(void *ctx, uint32_t region, double done)
{
    const struct watch *w = ctx;

    if (w->g->progress == PROGRESS_TTY)
        fprintf(stderr, "\r\033[Kregion %u of %u: %.0f %%", region + 1, w->o->regions, done * 100);
    else if (w->g->progress == PROGRESS_JSON)
        fprintf(stderr, "{\"v\":1,\"region\":%u,\"regions\":%u,\"done\":%.2f}\n", region + 1,
                w->o->regions, done);
    else if (w->g->progress == PROGRESS_PLAIN && fmod(done * 100 + 0.5, 25) < 1)
        fprintf(stderr, "region %u of %u: %.0f %%\n", region + 1, w->o->regions, done * 100);
    if (w->g->progress == PROGRESS_TTY && region + 1 == w->o->regions && done >= 1)
        fputc('\n', stderr);
}

/* ---- results ---- */

static double share(double part, double all)
{
    return all > 0 ? part / all : 0;
}

static void print_table(const struct simulate_options *o, const struct simulate_result *r,
                        double cpu_s)
{
    printf("%u machines in %u region%s, %.4g GB in %u pieces, %.4g Gbit/s up, %.4g down\n",
           o->machines, o->regions, o->regions == 1 ? "" : "s", o->bytes / 1e9, o->pieces,
           o->up * 8e-9, o->down * 8e-9);
    printf("bound                  %10.2f s   size/rate x (1 + log2 machines / pieces)\n",
           r->bound_s);
    printf("time over the bound    p50 %.3f   p99 %.3f   p99.9 %.3f   max %.3f\n", r->p50, r->p99,
           r->p999, r->max);
    printf("machines               %10u healthy   %u slow   %u died\n", r->healthy, r->slow,
           r->died);
    if (r->slow > 0)
        printf("the last slow machine  %10.3f x the bound\n", r->slow_max);
    if (r->stranded > 0)
        printf("never complete         %10u\n", r->stranded);
    printf("copies from a seed     %10.2f   at most %.2f in a region\n", r->node_copies,
           r->node_copies_max);
    printf("bytes across racks     %9.1f %%   of %.4g TB\n",
           100 * share(r->far_bytes, r->sent_bytes), r->sent_bytes / 1e12);
    printf("pieces                 %10" PRIu64 "   %" PRIu64 " stolen, %" PRIu64
           " asked twice at the end, %" PRIu64 " came twice\n",
           r->transfers, r->stolen, r->doubled, r->useless);
    printf("simulated              %10.2f s   in %.1f s of CPU time, %" PRIu64 " events\n",
           r->virtual_s, cpu_s, r->events);
}

static void print_json(const struct simulate_options *o, const struct simulate_result *r,
                       double cpu_s)
{
    json_t *out = json_pack(
        "{s:i,s:I,s:I,s:f,s:I,s:f,s:f,s:f,s:I,s:f,s:{s:f,s:f,s:f,s:f},s:f}", "v", 1, "machines",
        (json_int_t)o->machines, "regions", (json_int_t)o->regions, "bytes", o->bytes, "pieces",
        (json_int_t)o->pieces, "rate_up", o->up, "rate_down", o->down, "rate_seed", o->node_up,
        "seed", (json_int_t)o->seed, "bound_seconds", r->bound_s, "ratio", "p50", r->p50, "p99",
        r->p99, "p999", r->p999, "max", r->max, "slow_max", r->slow_max);
    json_t *rest = json_pack(
        "{s:I,s:I,s:I,s:I,s:{s:f,s:f},s:f,s:f,s:f,s:I,s:I,s:I,s:I,s:I,s:f,s:f}", "healthy",
        (json_int_t)r->healthy, "slow", (json_int_t)r->slow, "died", (json_int_t)r->died,
        "stranded", (json_int_t)r->stranded, "seed_copies", "mean", r->node_copies, "max",
        r->node_copies_max, "bytes_sent", r->sent_bytes, "bytes_across_racks", r->far_bytes,
        "across_racks", share(r->far_bytes, r->sent_bytes), "pieces_sent", (json_int_t)r->transfers,
        "stolen", (json_int_t)r->stolen, "doubled", (json_int_t)r->doubled, "useless",
        (json_int_t)r->useless, "events", (json_int_t)r->events, "virtual_seconds", r->virtual_s,
        "cpu_seconds", cpu_s);

    json_object_update(out, rest);
    json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
    putchar('\n');
    json_decref(rest);
    json_decref(out);
}

static int draw(const char *path, const struct simulate_options *o, const struct simulate_result *r,
                struct err *err)
{
    AUTO_BUF title = BUF_INIT;
    AUTO_BUF out = BUF_INIT;

    buf_printf(&title, "%u machines, %.4g GB in %u pieces: p99.9 %.3f", o->machines, o->bytes / 1e9,
               o->pieces, r->p999);
    curve_svg(&out, &(struct curve){ .title = buf_str(&title),
                                     .x = "time over the bound",
                                     .y = "machines that are complete",
                                     .values = r->ratios,
                                     .count = r->healthy,
                                     .mark = 1,
                                     .mark_name = "bound" });
    return file_publish(path, out.data, out.len, 0644, err);
}

static int simulate(const struct globals *g, const struct simulate_options *o, const char *svg,
                    struct err *err)
{
    struct watch w = { g, o };
    struct simulate_result r;
    clock_t begun = clock();
    double cpu_s;
    int rv = 0;

    simulate_swarm(o, progress, &w, &r);
    cpu_s = (double)(clock() - begun) / CLOCKS_PER_SEC;
    if (g->json)
        print_json(o, &r, cpu_s);
    else
        print_table(o, &r, cpu_s);
    if (svg != NULL)
        rv = draw(svg, o, &r, err);
    if (rv == 0 && r.stranded > 0)
        rv = err_set(err, ERR_INTERNAL, "%u machines were never complete", r.stranded);
    simulate_result_release(&r);
    return rv;
}

int cli_simulate_swarm(int argc, char **argv)
{
    struct simulate_options o = simulate_defaults();
    struct texts_given t = { .machines = o.machines, .regions = 1, .rack = o.rack, .seed = 1 };
    const struct flag flags[] = {
        { "machines", FLAG_INT, &t.machines, "N", "in all regions together (1000)" },
        { "regions", FLAG_INT, &t.regions, "R", "that know nothing of each other (1)" },
        { "size", FLAG_TEXT, &t.size, "BYTES", "of the pack, like 512MiB (10GB)" },
        { "pieces", FLAG_INT, &t.pieces, "N", "of the pack (as it would be cut)" },
        { "rate-up", FLAG_TEXT, &t.up, "RATE", "of a machine, like 10Gbit (1Gbit)" },
        { "rate-down", FLAG_TEXT, &t.down, "RATE", "of a machine (1Gbit)" },
        { "rate-seed", FLAG_TEXT, &t.seed_up, "RATE", "of each region's seed (2 x rate-up)" },
        { "slow", FLAG_TEXT, &t.slow, "SHARE:TIMES",
          "so many are so many times slower, like 1%:8" },
        { "die", FLAG_TEXT, &t.die, "SHARE", "fall silent half-way, like 2%" },
        { "rack", FLAG_INT, &t.rack, "N", "machines in a rack; 0: unknown (40)" },
        { "join", FLAG_TEXT, &t.join, "TIME", "in which all machines join (200ms)" },
        { "latency", FLAG_TEXT, &t.latency, "NEAR:FAR", "in a rack, and beyond (50us:250us)" },
        { "queue", FLAG_TEXT, &t.queue, "TIME", "that a full link adds to latency, like 50ms (0)" },
        { "notice", FLAG_TEXT, &t.notice, "TIME", "until a dead machine is noticed (1s)" },
        { "disk", FLAG_TEXT, &t.disk, "RATE", "at which a machine hashes and writes (2GB)" },
        { "headers", FLAG_TEXT, &t.headers, "SHARE",
          "of TCP/IP, TLS and what is sent again, like 5% (0)" },
        { "cut", FLAG_TEXT, &t.cut, "SHARE:FROM:UNTIL", "of a region, cut off, like 10%:20s:30s" },
        { "seed", FLAG_INT, &t.seed, "S", "of the randomness (1)" },
        { "svg", FLAG_TEXT, &t.svg, "FILE", "draw who is complete when" },
    };
    const struct verb verb = {
        "simulate-swarm [options]",
        "Runs the state machines of the swarm in virtual time, over a model "
        "of links, disks and failures, and prints how long the machines take "
        "over what the wires allow.",
        flags,
        COUNT_OF(flags),
        0,
        0
    };
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    if (take_all(&t, &o, &err) < 0 || simulate(&g, &o, t.svg, &err) < 0)
        return fail(&g, &err);
    return EXIT_OK;
}
