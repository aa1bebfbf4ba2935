/* world.c - what the database knows around a deployment, as the input of a step. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/bases.h"
#include "control/deltas.h"
#include "control/record.h"

/* --- texts and values that live as long as the world --- */

const char *world_keep(struct world *w, const char *text)
{
    w->texts = mem_realloc(w->texts, (w->ntexts + 1) * sizeof(*w->texts));
    w->texts[w->ntexts] = mem_strdup(text);
    return w->texts[w->ntexts++];
}

/* What does not parse was not written by us: it is taken as absent. */
const json_t *world_json(struct world *w, const char *text)
{
    json_t *json = NULL;
    struct err err = ERR_INIT;

    if (text[0] == '\0')
        return NULL;
    if (json_parse(&json, text, strlen(text), &err) < 0) {
        log_error("a row does not parse: %s", err.text);
        return NULL;
    }
    w->jsons = mem_realloc(w->jsons, (w->njsons + 1) * sizeof(*w->jsons));
    w->jsons[w->njsons++] = json;
    return json;
}

void world_free(struct world *w)
{
    if (w == NULL)
        return;
    for (size_t i = 0; i < w->in.nregions; i++) {
        free(w->regions[i].replicas);
        free(w->regions[i].waves);
    }
    for (size_t i = 0; i < w->njsons; i++)
        json_decref(w->jsons[i]);
    for (size_t i = 0; i < w->ntexts; i++)
        free(w->texts[i]);
    job_free(w->job);
    free(w->service_last_planned);
    free(w->regions);
    free(w->replies);
    free(w->deltas);
    free(w->bases);
    free(w->jsons);
    free(w->texts);
    free(w);
}

/* --- regions --- */

static void read_counts(struct world *w, struct deploy_region_input *r, const char *text)
{
    const json_t *body = world_json(w, text);
    const json_t *waves = json_object_get(body, "waves");
    size_t n = json_array_size(waves);

    r->counts_generation = json_integer_value(json_object_get(body, "generation"));
    r->staged_bytes = json_integer_value(json_object_get(body, "staged_bytes"));
    r->wanted_bytes = json_integer_value(json_object_get(body, "wanted_bytes"));
    r->seed_bytes = json_integer_value(json_object_get(body, "seed_bytes"));
    r->peer_bytes = json_integer_value(json_object_get(body, "peer_bytes"));
    r->saved_bytes = json_integer_value(json_object_get(body, "saved_bytes"));
    r->drift = json_integer_value(json_object_get(body, "drift"));
    r->failures = json_object_get(body, "failures");
    r->swarm = json_object_get(body, "swarm");
    r->waves = mem_calloc(n + 1, sizeof(*r->waves));
    r->nwaves = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(waves, i);
        uint64_t *fields[] = { &r->waves[i].total,   &r->waves[i].reachable,
                               &r->waves[i].staged,  &r->waves[i].activated,
                               &r->waves[i].healthy, &r->waves[i].bad,
                               &r->waves[i].unknown, &r->waves[i].rolled_back,
                               &r->waves[i].previous };

        for (size_t k = 0; k < COUNT_OF(fields); k++)
            *fields[k] = (uint64_t)json_integer_value(json_array_get(c, k));
    }
}

/* Counts are believed if they came over the link that is up (or was the last to be). */
static int load_counts(struct db *d, struct world *w, const char *deployment,
                       const int64_t *sessions, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT region, at, body FROM counts WHERE deployment = $1",
                    db_text(deployment));

    for (size_t k = 0; r == 0 && k < db_rows_count(rows); k++) {
        for (size_t i = 0; i < w->in.nregions; i++) {
            if (strcmp(w->regions[i].name, db_get_text(rows, k, 0)) != 0)
                continue;
            read_counts(w, &w->regions[i], db_get_text(rows, k, 2));
            w->regions[i].counted = db_get_int(rows, k, 1) >= sessions[i];
        }
    }
    db_rows_free(rows);
    return r;
}

static int load_regions(struct db *d, struct world *w, int64_t **ret_sessions, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT name, connected, session_at, seen_at, machines, reachable FROM region "
                    "ORDER BY name");
    size_t n = r < 0 ? 0 : db_rows_count(rows);

    *ret_sessions = mem_calloc(n + 1, sizeof(**ret_sessions));
    w->regions = mem_calloc(n + 1, sizeof(*w->regions));
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct deploy_region_input *region = &w->regions[i];

        region->name = world_keep(w, db_get_text(rows, i, 0));
        (*ret_sessions)[i] = db_get_int(rows, i, 2);
        region->seen_ms = db_get_int(rows, i, 3);
        region->connected =
            db_get_int(rows, i, 1) != 0 && w->in.now_ms - region->seen_ms < REGION_SILENT_MS;
        region->machines = db_get_int(rows, i, 4);
        region->reachable = db_get_int(rows, i, 5);
        w->in.nregions++;
    }
    w->in.regions = w->regions;
    db_rows_free(rows);
    return r;
}

/* The job's are the worker's word, which nobody has checked yet. */
static const json_t *artifacts_of(const struct world *w, const struct deploy *deploy)
{
    const json_t *built = json_object_get(w->in.job_result, "artifacts");

    if (json_array_size(deploy->artifacts) > 0 || json_array_size(built) > DEPLOY_ARTIFACTS_MAX)
        return deploy->artifacts;
    return built;
}

static int load_replicas(struct db *d, struct world *w, const struct deploy *deploy,
                         struct err *err)
{
    const json_t *artifacts = artifacts_of(w, deploy);
    size_t k, n = json_array_size(artifacts);
    json_t *a;
    int r = 0;

    for (size_t i = 0; i < w->in.nregions; i++)
        w->regions[i].replicas = mem_calloc(n + 1, sizeof(struct deploy_replica));
    json_array_foreach(artifacts, k, a)
    {
        struct db_rows *rows = NULL;

        r = DB_ROWS(d, &rows, err,
                    "SELECT region, state, bytes, total, origin_bytes, reason FROM replica "
                    "WHERE artifact = $1",
                    db_text(json_string_value(json_object_get(a, "artifact"))));
        for (size_t row = 0; r == 0 && row < db_rows_count(rows); row++) {
            for (size_t i = 0; i < w->in.nregions; i++) {
                struct deploy_region_input *region = &w->regions[i];

                if (strcmp(region->name, db_get_text(rows, row, 0)) != 0)
                    continue;
                region->replicas[region->nreplicas++] = (struct deploy_replica){
                    .artifact = world_keep(w, json_string_value(json_object_get(a, "artifact"))),
                    .state = world_keep(w, db_get_text(rows, row, 1)),
                    .bytes = db_get_int(rows, row, 2),
                    .total = db_get_int(rows, row, 3),
                    .origin_bytes = db_get_int(rows, row, 4),
                    .reason = world_keep(w, db_get_text(rows, row, 5)),
                };
            }
        }
        db_rows_free(rows);
        if (r < 0)
            return r;
    }
    return 0;
}

/* --- the job, and other deployments --- */

static int load_job(struct db *d, struct world *w, int64_t id, struct err *err)
{
    int r = queue_get(d, id, &w->job, err);

    if (r == -ERR_NOT_FOUND)
        return 0;
    if (r < 0)
        return r;
    w->in.job_id = id;
    w->in.job_status = job_status_name(w->job->status);
    w->in.job_reason = w->job->reason == NULL ? "" : w->job->reason;
    w->in.job_result = world_json(w, w->job->result == NULL ? "" : w->job->result);
    return 0;
}

static int load_neighbours(struct db *d, struct world *w, const struct record *rec, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT id, number FROM deployment WHERE service = $1 AND live = 1 "
                    "AND number <> $2 ORDER BY number",
                    db_text(rec->deploy->service), db_int(rec->number));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        if (db_get_int(rows, i, 1) > rec->number)
            w->in.newer = world_keep(w, db_get_text(rows, i, 0));
        else if (w->in.ahead == NULL)
            w->in.ahead = world_keep(w, db_get_text(rows, i, 0));
    }
    db_rows_free(rows);
    return r;
}

static void sum_last(struct world *w, const struct deploy_region_input *regions)
{
    w->in.last_settled = w->in.nregions > 0;
    for (size_t i = 0; i < w->in.nregions; i++) {
        const struct deploy_region_input *r = &regions[i];

        if (!r->connected || (!r->counted && r->machines > 0))
            w->in.last_settled = false;
        for (size_t k = 0; k < r->nwaves; k++) {
            w->in.last_total += r->waves[k].total;
            w->in.last_healthy += r->waves[k].healthy;
        }
    }
}

/* Of another deployment's counts only who is healthy tells something about this one. */
static void keep_health_only(struct world *w)
{
    for (size_t i = 0; i < w->in.nregions; i++) {
        struct deploy_region_input *r = &w->regions[i];

        r->failures = NULL;
        r->swarm = NULL;
        r->staged_bytes = r->wanted_bytes = r->seed_bytes = r->peer_bytes = r->saved_bytes = 0;
        for (size_t k = 0; k < r->nwaves; k++)
            r->waves[k] = (struct wave_counts){ .total = r->waves[k].total,
                                                .reachable = r->waves[k].reachable,
                                                .healthy = r->waves[k].healthy,
                                                .previous = r->waves[k].previous };
    }
}

/* The deployment whose goals the machines have. If it brought exactly this commit and recipe, or if this one
 * has ended without a plan, its counts are read in place of this one's, which has none. */
static int load_last(struct db *d, struct world *w, const struct record *rec,
                     const int64_t *sessions, struct err *err)
{
    const struct deploy *deploy = rec->deploy;
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT d.id, d.state, d.sha, d.recipe, s.good_release FROM service s "
                    "JOIN deployment d ON d.id = s.last_planned WHERE s.name = $1",
                    db_text(deploy->service));
    bool same = r == 0 && db_rows_count(rows) > 0 &&
                strcmp(db_get_text(rows, 0, 1), "succeeded") == 0 &&
                strcmp(db_get_text(rows, 0, 2), deploy->commit) == 0 &&
                strcmp(db_get_text(rows, 0, 3), deploy->recipe) == 0;

    if (same) {
        w->in.same_as_last = true;
        w->in.last_release = world_keep(w, db_get_text(rows, 0, 4));
    }
    if (r == 0 && db_rows_count(rows) > 0 && (same || deploy_state_is_final(deploy->state)))
        r = load_counts(d, w, db_get_text(rows, 0, 0), sessions, err);
    if (r == 0 && same)
        sum_last(w, w->regions);
    else if (r == 0)
        keep_health_only(w);
    db_rows_free(rows);
    return r;
}

static int load_floor(struct db *d, struct world *w, const char *service, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT MAX(generation) FROM goal WHERE service = $1",
                    db_text(service));

    if (r == 0)
        w->in.generation_floor = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return r;
}

static int load_replies(struct db *d, struct world *w, const char *deployment, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT key, answer FROM ask WHERE deployment = $1 AND answer IS NOT NULL",
                    db_text(deployment));

    if (r == 0)
        w->replies = mem_calloc(db_rows_count(rows) + 1, sizeof(*w->replies));
    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        w->replies[w->in.nreplies++] = (struct deploy_reply){
            .key = world_keep(w, db_get_text(rows, i, 0)),
            .value = world_json(w, db_get_text(rows, i, 1)),
        };
    w->in.replies = w->replies;
    db_rows_free(rows);
    return r;
}

static int load_command(struct db *d, struct world *w, const char *deployment, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT number, verb, actor, reason FROM command WHERE deployment = $1 "
                    "AND result IS NULL ORDER BY number LIMIT 1",
                    db_text(deployment));

    if (r == 0 && db_rows_count(rows) > 0) {
        w->command = db_get_int(rows, 0, 0);
        if (!deploy_verb_parse(&w->in.command, db_get_text(rows, 0, 1)))
            r = err_set(err, ERR_CORRUPT, "command %lld: unknown verb", (long long)w->command);
        w->in.command_actor = world_keep(w, db_get_text(rows, 0, 2));
        w->in.command_reason = world_keep(w, db_get_text(rows, 0, 3));
    }
    db_rows_free(rows);
    return r;
}

int world_load(struct db *d, const struct record *rec, int64_t now_ms, struct world **ret,
               struct err *err)
{
    const struct deploy *deploy = rec->deploy;
    struct world *w = mem_alloc(sizeof(*w));
    int64_t *sessions = NULL;
    int r;

    w->in.now_ms = now_ms;
    r = load_regions(d, w, &sessions, err);
    if (r == 0)
        r = load_job(d, w, rec->job, err);
    if (r == 0)
        r = load_replicas(d, w, deploy, err);
    if (r == 0)
        r = deltas_load(d, w, deploy, err);
    if (r == 0)
        r = bases_load(d, w, deploy, err);
    if (r == 0)
        r = load_neighbours(d, w, rec, err);
    if (r == 0 && (deploy->state == DEPLOY_QUEUED ||
                   (deploy->plan == NULL && deploy_state_is_final(deploy->state))))
        r = load_last(d, w, rec, sessions, err);
    else if (r == 0)
        r = load_counts(d, w, deploy->id, sessions, err);
    if (r == 0)
        r = load_floor(d, w, deploy->service, err);
    if (r == 0)
        r = load_replies(d, w, deploy->id, err);
    if (r == 0)
        r = load_command(d, w, deploy->id, err);
    free(sessions);
    if (r < 0) {
        world_free(w);
        return err_wrap(err, "load %s", deploy->id);
    }
    *ret = w;
    return 0;
}

/* What was moved for an earlier deployment is not this one's. */
struct moved_bytes world_moved(const struct world *w, const struct deploy *d)
{
    struct moved_bytes m = { 0 };

    for (size_t i = 0; i < w->in.nregions && !d->nothing_to_do; i++) {
        const struct deploy_region_input *r = &w->regions[i];

        for (size_t k = 0; k < r->nreplicas; k++)
            m.origin += r->replicas[k].origin_bytes;
        m.seed += r->seed_bytes;
        m.peer += r->peer_bytes;
        m.saved += r->saved_bytes;
        m.staged += r->staged_bytes;
        m.wanted += r->wanted_bytes;
    }
    m.origin = m.origin > d->origin_before ? m.origin - d->origin_before : 0;
    return m;
}
