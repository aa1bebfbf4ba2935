#include "control/swarm_totals.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/swarm_json.h"

/* The upper ends of the buckets in thousandths, and as Prometheus is told. */
struct end {
    uint64_t upto;
    const char *text;
};

static const struct end ratio_ends[] = {
    { 1050, "1.05" }, { 1100, "1.1" }, { 1150, "1.15" }, { 1250, "1.25" }, { 1500, "1.5" },
    { 2000, "2" },    { 3000, "3" },   { 5000, "5" },    { 10000, "10" },
};
static const struct end time_ends[] = {
    { 1000, "1" },     { 5000, "5" },     { 15000, "15" },   { 30000, "30" },     { 60000, "60" },
    { 120000, "120" }, { 300000, "300" }, { 600000, "600" }, { 1800000, "1800" },
};

/* The order of struct swarm_totals: a histogram is its ends, the count and the sum in thousandths. */
enum {
    ENDS = COUNT_OF(ratio_ends),
    RATIOS = 0,
    TIMES = RATIOS + ENDS + 2,
    PLAIN = TIMES + ENDS + 2,
    BANNED = 8, /* of the plain ones */
    NPLAIN = 13,
};

_Static_assert(COUNT_OF(time_ends) == ENDS && PLAIN + NPLAIN == SWARM_TOTALS, "the table's size");

static const struct plain {
    const char *family, *label, *help;
} plains[NPLAIN] = {
    { "slipway_swarm_rack_bytes_total", "rack=\"same\"",
      "Bytes between machines whose racks are known." },
    { "slipway_swarm_rack_bytes_total", "rack=\"other\"", NULL },
    { "slipway_swarm_leaves_asked_again_total", "why=\"overdue\"",
      "Leaves asked of a second machine." },
    { "slipway_swarm_leaves_asked_again_total", "why=\"end\"", NULL },
    { "slipway_swarm_leaves_wasted_total", "why=\"useless\"",
      "Leaves that came although they were here, or did not match their digest." },
    { "slipway_swarm_leaves_wasted_total", "why=\"bad\"", NULL },
    { "slipway_swarm_edges_total", NULL, "Peers that trackers named." },
    { "slipway_swarm_edges_stale_total", NULL,
      "Peers that trackers named, and that could not be reached or said nothing." },
    { "slipway_swarm_banned_total", NULL, "Machines that others have banned." },
    { "slipway_swarm_refused_total", NULL, "Figures that no machine can have had." },
    { "slipway_swarm_measured_total", "by=\"limit\"",
      "Machines whose fetch has a ratio, by what it was measured." },
    { "slipway_swarm_measured_total", "by=\"link\"", NULL },
    { "slipway_swarm_measured_total", "by=\"observed\"", NULL },
};

static void add_spread(int64_t *n, const struct spread *s, const struct end *ends)
{
    double sum = 0;

    for (size_t i = 0; i < ENDS; i++)
        n[i] += (int64_t)spread_upto(s, ends[i].upto);
    for (size_t i = 0; i < SPREAD_BUCKETS; i++)
        sum += (double)spread_value(i) * (double)s->counts[i];
    n[ENDS] += (int64_t)s->total;
    n[ENDS + 1] += sum < (double)SWARM_NUMBER_MAX ? (int64_t)sum : SWARM_NUMBER_MAX;
}

static void add_region(struct swarm_totals *t, struct figures *f, const json_t *row)
{
    struct msg_swarm m;

    swarm_from_row(&m, row);
    figures_merge(f, &m);
    t->n[PLAIN + BANNED] += (int64_t)m.offenders.count;
    swarm_release(&m);
}

void swarm_totals_add(struct swarm_totals *t, const struct world *w, const struct deploy *d)
{
    struct figures *f = figures_new();
    const struct msg_swarm *m = &f->sums;

    for (size_t i = 0; i < w->in.nregions && !d->nothing_to_do; i++) {
        if (w->regions[i].swarm != NULL)
            add_region(t, f, w->regions[i].swarm);
    }
    {
        const uint64_t sums[NPLAIN] = { m->near_bytes, m->far_bytes, m->stolen,
                                        m->doubled,    m->useless,   m->bad,
                                        m->edges,      m->stale,     0,
                                        m->refused,    m->by_limit,  m->by_link,
                                        m->by_observed };

        for (size_t i = 0; i < NPLAIN; i++)
            t->n[PLAIN + i] += (int64_t)sums[i];
    }
    add_spread(&t->n[RATIOS], &f->ratios, ratio_ends);
    add_spread(&t->n[TIMES], &f->times, time_ends);
    figures_free(f);
}

/* --- rows: swarm_0, swarm_1, … are kept for ever under these numbers --- */

int swarm_totals_save(struct db *d, const struct swarm_totals *t, struct err *err)
{
    int r = 0;

    for (int i = 0; r == 0 && i < SWARM_TOTALS; i++) {
        AUTO_FREE char *name = mem_printf("swarm_%02d", i);

        if (t->n[i] > 0)
            r = DB_EXEC(d, err,
                        "INSERT INTO total (name, value) VALUES ($1, $2) ON CONFLICT (name) "
                        "DO UPDATE SET value = total.value + $2",
                        db_text(name), db_int(t->n[i]));
    }
    return r;
}

int swarm_totals_load(struct db *d, struct swarm_totals *t, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT name, value FROM total WHERE name LIKE 'swarm_%'");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        const char *digits = db_get_text(rows, i, 0) + strlen("swarm_");
        long at = digits[0] >= '0' && digits[0] <= '9' ? strtol(digits, NULL, 10) : SWARM_TOTALS;

        if (at < SWARM_TOTALS)
            t->n[at] += db_get_int(rows, i, 1);
    }
    db_rows_free(rows);
    return r;
}

/* --- as text --- */

static void print_histogram(struct buf *out, const char *name, const char *help, const int64_t *n,
                            const struct end *ends)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (size_t i = 0; i < ENDS; i++)
        buf_printf(out, "%s_bucket{le=\"%s\"} %lld\n", name, ends[i].text, (long long)n[i]);
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %lld\n%s_sum %.3f\n%s_count %lld\n", name,
               (long long)n[ENDS], name, (double)n[ENDS + 1] / 1000, name, (long long)n[ENDS]);
}

void swarm_totals_print(struct buf *out, const struct swarm_totals *t)
{
    print_histogram(out, "slipway_swarm_ratio",
                    "Time of a machine's fetch over bytes/rate, of fetches of a second and more.",
                    &t->n[RATIOS], ratio_ends);
    print_histogram(out, "slipway_swarm_fetch_seconds",
                    "From the first byte asked for to the last one verified on disk.", &t->n[TIMES],
                    time_ends);
    for (size_t i = 0; i < NPLAIN; i++) {
        const struct plain *p = &plains[i];

        if (p->help != NULL)
            buf_printf(out, "# HELP %s %s\n# TYPE %s counter\n", p->family, p->help, p->family);
        if (p->label != NULL)
            buf_printf(out, "%s{%s} %lld\n", p->family, p->label, (long long)t->n[PLAIN + i]);
        else
            buf_printf(out, "%s %lld\n", p->family, (long long)t->n[PLAIN + i]);
    }
}
