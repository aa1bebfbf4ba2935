/* api_metrics.c - GET /metrics: what the database knows, in Prometheus' text format. */
#include <string.h>

#include "base/mem.h"
#include "control/api_call.h"
#include "control/record.h"
#include "io/loop.h"

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

/* --- bytes: of deployments that have ended, and of those under way --- */

static int add_live(struct call *c, struct moved_bytes *sum, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(c->db, &rows, err, "SELECT id FROM deployment WHERE live = 1 ORDER BY number");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct record *rec = NULL;
        struct world *w = NULL;

        r = record_load(c->db, db_get_text(rows, i, 0), &rec, err);
        if (r == 0)
            r = world_load(c->db, rec, wall_ms(), &w, err);
        if (r == 0) {
            struct moved_bytes m = world_moved(w, rec->deploy);

            sum->origin += m.origin;
            sum->seed += m.seed;
            sum->peer += m.peer;
            sum->saved += m.saved;
        }
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

static int put_bytes(struct call *c, struct buf *out, struct err *err)
{
    struct moved_bytes sum = { 0 };
    int r = add_ended(c, &sum, err);

    if (r == 0)
        r = add_live(c, &sum, err);
    if (r < 0)
        return r;
    head(out, "slipway_bytes_total", "counter",
         "Bytes moved for deployments: origin (from the origin store to region nodes), seed (from "
         "region nodes to machines), peer (between machines).");
    buf_printf(out,
               "slipway_bytes_total{source=\"origin\"} %lld\n"
               "slipway_bytes_total{source=\"seed\"} %lld\n"
               "slipway_bytes_total{source=\"peer\"} %lld\n",
               (long long)sum.origin, (long long)sum.seed, (long long)sum.peer);
    head(out, "slipway_delta_saved_bytes_total", "counter",
         "Bytes of full packs that machines did not have to fetch.");
    buf_printf(out, "slipway_delta_saved_bytes_total %lld\n", (long long)sum.saved);
    return 0;
}

int route_metrics(struct call *c, struct err *err)
{
    AUTO_BUF out = BUF_INIT;
    int r = put_bytes(c, &out, err);

    for (size_t i = 0; r == 0 && i < COUNT_OF(families); i++)
        r = put_family(c, &out, &families[i], err);
    if (r == 0)
        call_answer_text(c, MHD_HTTP_OK, "text/plain; version=0.0.4", buf_str(&out));
    return r;
}
