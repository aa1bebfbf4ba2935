#include "control/view.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/loop.h"
#include "rollout/swarm_json.h"
#include "wire/utf8.h"

static json_t *text_or_null(const char *text)
{
    return text == NULL || text[0] == '\0' ? json_null() : json_string(text);
}

static json_t *ms_or_null(int64_t ms)
{
    return ms == 0 ? json_null() : json_integer((json_int_t)ms);
}

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)n);
}

json_t *job_view(const struct job *j)
{
    return json_pack("{s:I,s:s,s:s,s:s,s:I,s:s,s:o,s:o,s:o,s:o,s:o}", "id", (json_int_t)j->id,
                     "name", j->name, "sha", j->sha, "status", job_status_name(j->status),
                     "attempt", (json_int_t)j->attempt, "worker",
                     j->worker == NULL ? "" : j->worker, "created", ms_or_null(j->created_ms),
                     "started", ms_or_null(j->started_ms), "finished", ms_or_null(j->finished_ms),
                     "last_beat", ms_or_null(j->last_beat_ms), "reason", text_or_null(j->reason));
}

static json_t *artifacts_json(const struct deploy *d)
{
    static const char *const keys[][2] = {
        { "variant", "variant" }, { "digest", "artifact" },       { "pack", "pack" },
        { "bytes", "bytes" },     { "pack_bytes", "pack_bytes" }, { "files", "files" }
    };
    json_t *list = json_array(), *a;
    size_t i;

    json_array_foreach(d->artifacts, i, a)
    {
        json_t *one = json_object();

        for (size_t k = 0; k < COUNT_OF(keys); k++) {
            json_t *value = json_object_get(a, keys[k][1]);

            json_object_set_new(one, keys[k][0],
                                value == NULL ? json_null() : json_deep_copy(value));
        }
        json_array_append_new(list, one);
    }
    return list;
}

static const char *variant_of(const struct deploy *d, const char *artifact)
{
    for (size_t i = 0; i < json_array_size(d->artifacts); i++) {
        const json_t *a = json_array_get(d->artifacts, i);
        const char *digest = json_string_value(json_object_get(a, "artifact"));
        const char *variant = json_string_value(json_object_get(a, "variant"));

        if (digest != NULL && variant != NULL && strcmp(digest, artifact) == 0)
            return variant;
    }
    return "";
}

/* What was asked for, in that order, and what has become of it. */
static json_t *deltas_json(const struct deploy *d)
{
    static const char *const keys[] = {
        "artifact", "base",   "machines", "state",   "pack",
        "bytes",    "reason", "packed",   "npacked", "packed_bytes"
    };
    json_t *list = json_array(), *e;
    size_t i;

    json_array_foreach(d->deltas, i, e)
    {
        const char *artifact = json_string_value(json_object_get(e, "artifact"));
        json_t *one =
            json_pack("{s:s}", "variant", variant_of(d, artifact == NULL ? "" : artifact));

        for (size_t k = 0; k < COUNT_OF(keys); k++) {
            json_t *value = json_object_get(e, keys[k]);

            json_object_set_new(one, keys[k], value == NULL ? json_null() : json_deep_copy(value));
        }
        json_array_append_new(list, one);
    }
    return list;
}

static struct wave_counts sum_region(const struct deploy_region_input *r)
{
    struct wave_counts sum = { 0 };

    for (size_t w = 0; w < r->nwaves; w++) {
        sum.total += r->waves[w].total;
        sum.reachable += r->waves[w].reachable;
        sum.staged += r->waves[w].staged;
        sum.activated += r->waves[w].activated;
        sum.healthy += r->waves[w].healthy;
        sum.bad += r->waves[w].bad;
        sum.rolled_back += r->waves[w].rolled_back;
        sum.previous += r->waves[w].previous;
    }
    return sum;
}

/* Healthy on what they are to run. The counts of a deployment that ended before it had a plan are those of
 * the deployment before it (world.c); once the deployment does not go forward any more, that is the release
 * before where they are back on it or never left it. */
static uint64_t healthy_now(const struct deploy *d, const struct wave_counts *c)
{
    bool forward = !deploy_state_is_final(d->state) && d->state != DEPLOY_ROLLING_BACK;

    return c->healthy + (forward || d->state == DEPLOY_SUCCEEDED ? 0 : c->previous);
}

/* The worst of a region's replicas, and how much of them is there. */
static const char *replica_state(const struct deploy_region_input *r, bool verified, int64_t *bytes,
                                 int64_t *total)
{
    static const char *const order[] = { "failed", "fetching", "waiting", "verified" };
    size_t worst = COUNT_OF(order) - 1;

    for (size_t i = 0; i < r->nreplicas; i++) {
        *bytes += r->replicas[i].bytes;
        *total += r->replicas[i].total;
        for (size_t k = 0; k < worst; k++)
            if (strcmp(order[k], r->replicas[i].state) == 0)
                worst = k;
    }
    if (verified)
        return "verified";
    if (!r->connected)
        return "unreachable";
    return r->nreplicas == 0 ? "waiting" : order[worst];
}

/* The region's machines that are selected: by its counts, or else by what it is known to have. */
static uint64_t machines_of(const struct deploy *d, const struct deploy_region_input *r)
{
    const struct deploy_region *known = deploy_find_region(d, r->name);

    if (r->nwaves > 0)
        return sum_region(r).total;
    return known != NULL && known->fleet_known ? known->fleet_total : (uint64_t)r->machines;
}

static json_t *region_json(const struct deploy *d, const struct deploy_region_input *r)
{
    const struct deploy_region *known = deploy_find_region(d, r->name);
    bool has_artifacts = json_array_size(d->artifacts) > 0;
    bool verified = has_artifacts && (d->nothing_to_do || deploy_region_verified(d, r));
    struct wave_counts c = sum_region(r);
    int64_t bytes = 0, total = 0;
    const char *state = replica_state(r, verified, &bytes, &total);

    return json_pack("{s:s,s:b,s:s,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:b,s:b,s:o}", "name", r->name,
                     "replicated", verified, "state", state, "bytes", (json_int_t)bytes, "total",
                     (json_int_t)total, "machines", number(machines_of(d, r)), "reachable",
                     c.total > 0 ? number(c.reachable) : json_integer((json_int_t)r->reachable),
                     "staged", number(c.staged), "healthy", number(healthy_now(d, &c)), "bad",
                     number(c.bad), "connected", r->connected, "late",
                     known != NULL && known->late && known->generation == 0, "swarm",
                     d->nothing_to_do ? json_null()
                                      : swarm_view(&(struct swarm_region){ r->name, r->swarm }, 1));
}

static json_t *swarm_json(const struct deploy *d, const struct world *w)
{
    struct swarm_region *all = mem_calloc(w->in.nregions + 1, sizeof(*all));
    json_t *view;

    for (size_t i = 0; i < w->in.nregions; i++)
        all[i] = (struct swarm_region){ w->regions[i].name, w->regions[i].swarm };
    view = d->nothing_to_do ? json_null() : swarm_view(all, w->in.nregions);
    free(all);
    return view;
}

static json_t *regions_json(const struct deploy *d, const struct world *w)
{
    json_t *list = json_array();

    for (size_t i = 0; i < w->in.nregions; i++)
        json_array_append_new(list, region_json(d, &w->regions[i]));
    return list;
}

static const char *wave_state(const struct deploy *d, size_t w)
{
    bool failed = d->rollback_ms != 0 || d->state == DEPLOY_FAILED || d->state == DEPLOY_ABORTED;

    if ((int64_t)w < d->wave)
        return "done";
    if ((int64_t)w > d->wave || !d->wave_open)
        return "waiting";
    if (failed)
        return "failed";
    return d->healthy_ms != 0 ? "baking" : "open";
}

static json_t *waves_json(const struct deploy *d, const struct world *w, int64_t now)
{
    json_t *list = json_array();

    for (size_t i = 0; d->plan != NULL && i < d->plan->nwaves; i++) {
        const struct plan_wave *wave = &d->plan->waves[i];
        struct wave_counts c = deploy_wave_counts(d, &w->in, i);
        int64_t baked = (int64_t)i == d->wave ? deploy_bake_ms(d, now) : 0;

        if ((int64_t)i < d->wave || baked > wave->bake_ms)
            baked = wave->bake_ms;
        json_array_append_new(
            list,
            json_pack("{s:I,s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:I}", "index",
                      (json_int_t)i + 1, "name", wave->name, "state", wave_state(d, i), "total",
                      number(c.total), "reachable", number(c.reachable), "staged", number(c.staged),
                      "activated", number(c.activated), "healthy", number(c.healthy), "bad",
                      number(c.bad), "unknown", number(c.unknown), "bake",
                      (json_int_t)(wave->bake_ms / 1000), "baked", (json_int_t)(baked / 1000)));
    }
    return list;
}

static json_t *machines_json(const struct deploy *d, const struct world *w)
{
    struct wave_counts sum = { 0 };
    uint64_t total = 0;
    int64_t drift = 0;

    for (size_t i = 0; i < w->in.nregions; i++) {
        struct wave_counts c = sum_region(&w->regions[i]);

        total += machines_of(d, &w->regions[i]);
        sum.reachable += c.reachable;
        sum.healthy += c.healthy;
        sum.bad += c.bad;
        sum.rolled_back += c.rolled_back;
        sum.previous += c.previous;
        drift += w->regions[i].drift;
    }
    if ((int64_t)sum.bad < d->bad)
        sum.bad = (uint64_t)d->bad;
    return json_pack("{s:o,s:o,s:o,s:o,s:I,s:o}", "total", number(total), "reachable",
                     number(sum.reachable), "healthy", number(healthy_now(d, &sum)), "failed",
                     number(sum.bad), "drift", (json_int_t)drift, "rolled_back",
                     number(sum.rolled_back));
}

static json_t *bytes_json(const struct deploy *d, const struct world *w)
{
    struct moved_bytes m = world_moved(w, d);

    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "origin", (json_int_t)m.origin, "seed",
                     (json_int_t)m.seed, "peer", (json_int_t)m.peer, "saved_by_delta",
                     (json_int_t)m.saved, "staged", (json_int_t)m.staged, "wanted",
                     (json_int_t)m.wanted);
}

/* From one moment to the next, which may be still to come, or never have come. */
static double seconds(int64_t from, int64_t to, int64_t end)
{
    if (from == 0)
        return 0;
    return (double)((to == 0 ? end : to) - from) / 1000;
}

static json_t *seconds_json(const struct deploy *d, int64_t now)
{
    int64_t end = d->finished_ms != 0 ? d->finished_ms : now;

    return json_pack("{s:f,s:f,s:f,s:f,s:f}", "build",
                     d->nothing_to_do ? 0.0 : seconds(d->created_ms, d->built_ms, end), "replicate",
                     seconds(d->built_ms, d->gated_ms, end), "stage",
                     seconds(d->gated_ms, d->staged_ms, end), "rollout",
                     seconds(d->staged_ms, 0, end), "total", seconds(d->created_ms, 0, end));
}

static json_t *failures_json(const struct deploy *d, const struct world *w)
{
    json_t *list;

    if (json_array_size(d->failures) > 0)
        return json_deep_copy(d->failures);
    list = json_array();
    for (size_t i = 0; i < w->in.nregions; i++) {
        const json_t *failures = w->regions[i].failures;

        for (size_t k = 0; k < json_array_size(failures); k++) {
            json_t *one = json_deep_copy(json_array_get(failures, k));

            json_object_set_new(one, "region", json_string(w->regions[i].name));
            if (json_array_size(list) < DEPLOY_FAILURES_SHOWN)
                json_array_append(list, one);
            json_decref(one);
        }
    }
    return list;
}

static int64_t log_size(struct db *d, int64_t job)
{
    struct db_rows *rows = NULL;
    struct err err = ERR_INIT;
    int64_t size = 0;

    if (DB_ROWS(d, &rows, &err, "SELECT MAX(start_byte + size) FROM job_log WHERE job = $1",
                db_int(job)) == 0)
        size = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return size;
}

/* The end of the log, from the beginning of a line, as text that JSON can hold. */
static json_t *log_end(struct db *d, int64_t job)
{
    int64_t size = log_size(d, job), from = size > VIEW_LOG_BYTES ? size - VIEW_LOG_BYTES : 0;
    AUTO_BUF text = BUF_INIT;
    struct err err = ERR_INIT;
    const char *start;

    if (queue_read_log(d, job, from, VIEW_LOG_BYTES, &text, &err) < 0) {
        log_warn("log of job %lld: %s", (long long)job, err.text);
        return json_null();
    }
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] >= 0x7f || text.data[i] == '\0')
            text.data[i] = '?';
    start = buf_str(&text);
    if (from > 0 && strchr(start, '\n') != NULL)
        start = strchr(start, '\n') + 1;
    return json_string(start);
}

static json_t *job_json(const struct world *w)
{
    return w->job == NULL
               ? json_null()
               : json_pack("{s:I,s:s,s:I,s:o}", "id", (json_int_t)w->job->id, "status",
                           job_status_name(w->job->status), "attempt", (json_int_t)w->job->attempt,
                           "reason", text_or_null(w->job->reason));
}

json_t *view_build(struct db *db, const struct record *rec, const struct world *w)
{
    const struct deploy *d = rec->deploy;
    int64_t now = w->in.now_ms;
    int code = deploy_exit_code(d);
    json_t *v =
        json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:o,s:s,s:b,s:b}", "v", 1, "id", d->id,
                  "service", d->service, "commit", d->commit, "ref", d->ref, "state",
                  deploy_state_name(d->state), "reason", d->reason, "waiting_for", d->waiting_for,
                  "created", (json_int_t)d->created_ms, "finished", ms_or_null(d->finished_ms),
                  "actor", d->actor, "no_input", d->no_input, "nothing_to_do", d->nothing_to_do);

    json_object_set_new(v, "now", json_integer((json_int_t)now));
    json_object_set_new(
        v, "deadline_left",
        json_integer((json_int_t)((deploy_deadline_ms(d) - deploy_elapsed_ms(d, now)) / 1000)));
    json_object_set_new(v, "job", job_json(w));
    json_object_set_new(v, "release", text_or_null(d->release));
    json_object_set_new(v, "rollback_to", text_or_null(d->rollback_to));
    json_object_set_new(v, "artifacts", artifacts_json(d));
    json_object_set_new(v, "deltas", deltas_json(d));
    json_object_set_new(v, "regions", regions_json(d, w));
    json_object_set_new(v, "waves", waves_json(d, w, now));
    json_object_set_new(v, "machines", machines_json(d, w));
    json_object_set_new(v, "bytes", bytes_json(d, w));
    json_object_set_new(v, "swarm", swarm_json(d, w));
    json_object_set_new(v, "seconds", seconds_json(d, now));
    json_object_set_new(v, "failures", failures_json(d, w));
    json_object_set_new(v, "exit", code < 0 ? json_null() : json_integer(code));
    json_object_set_new(v, "failed_step_log",
                        d->build_failed ? log_end(db, rec->job) : json_null());
    return v;
}

int view_load(struct db *d, const char *id, json_t **ret, struct err *err)
{
    struct record *rec = NULL;
    struct world *w = NULL;
    int r = record_load(d, id, &rec, err);

    if (r == 0)
        r = world_load(d, rec, wall_ms(), &w, err);
    if (r == 0)
        *ret = view_build(d, rec, w);
    world_free(w);
    record_free(rec);
    return r;
}
