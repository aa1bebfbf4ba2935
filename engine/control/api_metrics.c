/* api_metrics.c - GET /metrics: what the database knows, in Prometheus' text format. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/api_call.h"
#include "control/record.h"
#include "control/swarm_totals.h"
#include "io/loop.h"
#include "rollout/swarm_json.h"

/* A family of samples: name, help, type, and the query for its label's values and numbers; label NULL: the
 * query gives one number. Values are our own words or checked names: none needs escaping. */
struct family {
    const char *name, *type, *help, *label, *sql;
};

static const struct family families[] = {
    { "slipway_deployments", "gauge", "Deployments by state.", "state",
      "SELECT state, COUNT(*) FROM deployment GROUP BY state ORDER BY state" },
    { "slipway_jobs", "gauge", "Jobs by status.", "status",
      "SELECT status, COUNT(*) FROM job GROUP BY status ORDER BY status" },
    { "slipway_region_machines", "gauge", "Machines that a region knows.", "region",
      "SELECT name, machines FROM region ORDER BY name" },
    { "slipway_region_reachable", "gauge", "Machines that a region can reach.", "region",
      "SELECT name, reachable FROM region ORDER BY name" },
    { "slipway_service_machines", "gauge", "Machines that run a release of a service.", "service",
      "SELECT service, CAST(SUM(machines) AS BIGINT) FROM running GROUP BY service "
      "ORDER BY service" },
    { "slipway_delta_packs", "gauge", "Delta packs by what has become of them.", "state",
      "SELECT state, COUNT(*) FROM delta GROUP BY state ORDER BY state" },
    { "slipway_delta_pack_bytes", "gauge", "Bytes of the delta packs that are ready.", NULL,
      "SELECT CAST(COALESCE(SUM(pack_bytes), 0) AS BIGINT) FROM delta WHERE state = 'ready'" },
    { "slipway_delta_full_bytes", "gauge",
      "Bytes of the full packs in whose place the delta packs stand that are ready.", NULL,
      "SELECT CAST(COALESCE(SUM(a.pack_bytes), 0) AS BIGINT) FROM delta d JOIN artifact a "
      "ON a.digest = d.target WHERE d.state = 'ready'" },
    { "slipway_scrub_bytes_total", "counter", "Bytes of the origin store read by the scrubber.",
      NULL, "SELECT bytes FROM scrub" },
    { "slipway_scrub_objects_total", "counter", "Manifests and packs read, by verdict.", "verdict",
      "SELECT 'good', good FROM scrub UNION ALL SELECT 'healed', healed FROM scrub "
      "UNION ALL SELECT 'rotten', rotten FROM scrub" },
    { "slipway_scrub_passes_total", "counter", "Passes over the whole origin store.", NULL,
      "SELECT passes FROM scrub" },
    { "slipway_scrub_last_pass_timestamp_seconds", "gauge",
      "When the last pass ended; 0: none has.", NULL, "SELECT finished_at / 1000 FROM scrub" },
};

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static int put_family(struct call *c, struct buf *out, const struct family *f, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = db_query(c->db, f->sql, NULL, 0, &rows, NULL, err);

    if (r == 0)
        head(out, f->name, f->type, f->help);
    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        if (f->label == NULL)
            buf_printf(out, "%s %lld\n", f->name, (long long)db_get_int(rows, i, 0));
        else
            buf_printf(out, "%s{%s=\"%s\"} %lld\n", f->name, f->label, db_get_text(rows, i, 0),
                       (long long)db_get_int(rows, i, 1));
    }
    db_rows_free(rows);
    return r;
}

/* --- of deployments that have ended, and of those under way --- */

enum { REGIONS_SHOWN = 64 };

struct sums {
    struct moved_bytes moved;
    struct swarm_totals swarm;
    struct {
        char *region;
        uint64_t copies; /* thousandths, the most of any live deployment */
    } sent[REGIONS_SHOWN];
    size_t nsent;
};

static void note_copies(struct sums *s, const struct deploy_region_input *r)
{
    struct msg_swarm m;
    size_t i = 0;

    if (r->swarm == NULL)
        return;
    swarm_from_row(&m, r->swarm);
    while (i < s->nsent && strcmp(s->sent[i].region, r->name) != 0)
        i++;
    if (i == s->nsent && i < REGIONS_SHOWN && m.packs.count > 0)
        s->sent[s->nsent++].region = mem_strdup(r->name);
    if (i < s->nsent && figures_copies(&m) > s->sent[i].copies)
        s->sent[i].copies = figures_copies(&m);
    swarm_release(&m);
}

static void add_world(struct sums *s, const struct world *w, const struct deploy *d)
{
    struct moved_bytes m = world_moved(w, d);

    s->moved.origin += m.origin;
    s->moved.seed += m.seed;
    s->moved.peer += m.peer;
    s->moved.saved += m.saved;
    swarm_totals_add(&s->swarm, w, d);
    for (size_t i = 0; i < w->in.nregions && !d->nothing_to_do; i++)
        note_copies(s, &w->regions[i]);
}

static int add_live(struct call *c, struct sums *sum, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(c->db, &rows, err, "SELECT id FROM deployment WHERE live = 1 ORDER BY number");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct record *rec = NULL;
        struct world *w = NULL;

        r = record_load(c->db, db_get_text(rows, i, 0), &rec, err);
        if (r == 0)
            r = world_load(c->db, rec, wall_ms(), &w, err);
        if (r == 0)
            add_world(sum, w, rec->deploy);
        world_free(w);
        record_free(rec);
    }
    db_rows_free(rows);
    return r;
}

static int add_ended(struct call *c, struct moved_bytes *sum, struct err *err)
{
    const struct {
        const char *name;
        int64_t *to;
    } totals[] = {
        { "bytes_origin", &sum->origin },
        { "bytes_seed", &sum->seed },
        { "bytes_peer", &sum->peer },
        { "bytes_saved", &sum->saved },
    };
    struct db_rows *rows = NULL;
    int r = DB_ROWS(c->db, &rows, err, "SELECT name, value FROM total");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        for (size_t k = 0; k < COUNT_OF(totals); k++)
            if (strcmp(totals[k].name, db_get_text(rows, i, 0)) == 0)
                *totals[k].to += db_get_int(rows, i, 1);
    db_rows_free(rows);
    return r;
}

static void put_bytes(struct buf *out, const struct moved_bytes *sum)
{
    head(out, "slipway_bytes_total", "counter",
         "Bytes moved for deployments: origin (from the origin store to region nodes), seed (from "
         "region nodes to machines), peer (between machines).");
    buf_printf(out,
               "slipway_bytes_total{source=\"origin\"} %lld\n"
               "slipway_bytes_total{source=\"seed\"} %lld\n"
               "slipway_bytes_total{source=\"peer\"} %lld\n",
               (long long)sum->origin, (long long)sum->seed, (long long)sum->peer);
    head(out, "slipway_delta_saved_bytes_total", "counter",
         "Bytes of full packs that machines did not have to fetch.");
    buf_printf(out, "slipway_delta_saved_bytes_total %lld\n", (long long)sum->saved);
}

static void put_copies(struct buf *out, const struct sums *s)
{
    head(out, "slipway_swarm_seed_copies", "gauge",
         "Copies of a pack that a region node has sent for a live deployment: the most.");
    for (size_t i = 0; i < s->nsent; i++)
        buf_printf(out, "slipway_swarm_seed_copies{region=\"%s\"} %.3f\n", s->sent[i].region,
                   (double)s->sent[i].copies / 1000);
}

static int put_sums(struct call *c, struct buf *out, struct err *err)
{
    struct sums *s = mem_alloc(sizeof(*s));
    int r = add_ended(c, &s->moved, err);

    if (r == 0)
        r = swarm_totals_load(c->db, &s->swarm, err);
    if (r == 0)
        r = add_live(c, s, err);
    if (r == 0) {
        put_bytes(out, &s->moved);
        swarm_totals_print(out, &s->swarm);
        put_copies(out, s);
    }
    for (size_t i = 0; i < s->nsent; i++)
        free(s->sent[i].region);
    free(s);
    return r;
}

int route_metrics(struct call *c, struct err *err)
{
    AUTO_BUF out = BUF_INIT;
    int r = put_sums(c, &out, err);

    for (size_t i = 0; r == 0 && i < COUNT_OF(families); i++)
        r = put_family(c, &out, &families[i], err);
    if (r == 0)
        call_answer_text(c, MHD_HTTP_OK, "text/plain; version=0.0.4", buf_str(&out));
    return r;
}
