#include "control/trigger.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/auth.h"
#include "control/history.h"
#include "control/record.h"
#include "control/sign.h"
#include "io/loop.h"
#include "rollout/plan.h"

enum {
    REPO_MAX_BYTES = 4096,
    REF_MAX_BYTES = 256,
    REASON_MAX = 1024,
    ACTOR_MAX = 128,
    KEY_MAX = 128,
};
#define MAX_OUTPUT_BYTES (INT64_C(16) << 30)

struct request {
    struct bundle *bundle;
    const char *repo, *commit, *ref, *reason, *key;
    char *actor;
    json_t *params;
    bool no_input, dry_run;
    json_t *data, *build, *spec;
    struct deploy *deploy;
    int64_t job, job_deadline_ms;
    char *dedupe; /* of the job */
    /* results */
    struct buf *id;
    bool *is_new;
};

static void request_release(struct request *q)
{
    bundle_free(q->bundle);
    json_decref(q->data);
    json_decref(q->build);
    json_decref(q->spec);
    if (q->deploy != NULL)
        deploy_free(q->deploy);
    free(q->dedupe);
    free(q->actor);
}

static int check_commit(const char *commit, struct err *err)
{
    if (strlen(commit) != 40 || strspn(commit, "0123456789abcdef") != 40)
        return err_set(err, ERR_INVALID, "commit: not 40 hexadecimal digits");
    return 0;
}

static int check_params(json_t *params, struct err *err)
{
    const char *key;
    json_t *value;

    if (json_object_size(params) > TRIGGER_PARAMS_MAX)
        return err_set(err, ERR_LIMIT, "params: more than %d", TRIGGER_PARAMS_MAX);
    json_object_foreach(params, key, value)
    {
        if (!json_is_string(value) || json_string_length(value) > TRIGGER_PARAM_MAX_BYTES)
            return err_set(err, ERR_INVALID, "params: %.64s: not a text of at most %d bytes", key,
                           TRIGGER_PARAM_MAX_BYTES);
    }
    return 0;
}

static int parse_fields(struct request *q, const json_t *body, const char *token_name,
                        struct err *err)
{
    static const char *const known[] = { "bundle", "repo",     "commit",  "ref", "params", "actor",
                                         "reason", "no_input", "dry_run", "key", NULL };
    int r = json_is_object(body) ? json_only(body, known, err)
                                 : err_set(err, ERR_INVALID, "the body is not an object");
    const char *claimed = NULL;

    q->params = json_object_get(body, "params");
    if (r == 0)
        r = json_get_text(body, "commit", 64, &q->commit, err);
    if (r == 0)
        r = check_commit(q->commit, err);
    if (r == 0)
        r = json_get_text_or(body, "repo", REPO_MAX_BYTES, NULL, &q->repo, err);
    if (r == 0)
        r = json_get_text_or(body, "ref", REF_MAX_BYTES, q->commit, &q->ref, err);
    if (r == 0)
        r = json_get_text_or(body, "actor", ACTOR_MAX, NULL, &claimed, err);
    if (r == 0)
        r = json_get_text_or(body, "reason", REASON_MAX, "", &q->reason, err);
    if (r == 0)
        r = json_get_text_or(body, "key", KEY_MAX, NULL, &q->key, err);
    if (r == 0)
        r = json_get_bool_or(body, "no_input", false, &q->no_input, err);
    if (r == 0)
        r = json_get_bool_or(body, "dry_run", false, &q->dry_run, err);
    if (r == 0 && q->params != NULL && !json_is_null(q->params))
        r = json_is_object(q->params) ? check_params(q->params, err)
                                      : err_set(err, ERR_INVALID, "params: not an object");
    if (r == 0)
        r = bundle_from_json(&q->bundle, json_object_get(body, "bundle"), err);
    q->actor = actor_text(claimed, token_name);
    return r;
}

static json_t *params_copy(const struct request *q)
{
    return json_is_object(q->params) ? json_deep_copy(q->params) : json_object();
}

/* A policy that runs too long is as wrong as one that does not parse. */
static int blame_policy(int r, struct err *err)
{
    if (r != -(int)ERR_TIMEOUT)
        return r;
    err->code = ERR_POLICY;
    return -(int)ERR_POLICY;
}

/* The job's spec: what the policy wants built (engine/build/recipe.h). */
static int ask_build(const struct trigger *t, struct request *q, struct err *err)
{
    const char *service = NULL, *repo = q->repo;
    AUTO_JSON *input = NULL;
    AUTO_FREE char *text = NULL;
    struct hash hash;
    char hex[HASH_HEX];
    int r = json_get_text(q->data, "service", NAME_MAX_BYTES, &service, err);

    if (r == 0 && repo == NULL)
        r = json_get_text(q->data, "repo", REPO_MAX_BYTES, &repo, err);
    if (r < 0)
        return r;
    input = json_pack("{s:s,s:s,s:s,s:o}", "service", service, "commit", q->commit, "ref", q->ref,
                      "params", params_copy(q));
    r = blame_policy(policy_call(t->host, q->bundle, POLICY_BUILD, input, &q->build, err), err);
    if (r < 0)
        return r;
    q->spec = json_pack("{s:i,s:s,s:s,s:s,s:O,s:O,s:O,s:I}", "v", 1, "service", service, "repo",
                        repo, "sha", q->commit, "steps", json_object_get(q->build, "steps"),
                        "outputs", json_object_get(q->build, "outputs"), "deadline",
                        json_object_get(q->build, "deadline"), "max_output_bytes",
                        (json_int_t)MAX_OUTPUT_BYTES);
    text = json_text(q->spec);
    hash = sha256_of(text, strlen(text));
    q->dedupe = mem_strdup(hash_hex(&hash, hex));
    q->job_deadline_ms =
        json_integer_value(json_object_get(q->build, "deadline")) * 1000 + TRIGGER_BUILD_MARGIN_MS;
    return 0;
}

/* The waves are asked for once with the fleet that is known now, so that a mistake shows before
 * anything is built. The real question comes when the gate opens. A fleet that nobody has seen yet
 * is taken as one region of ten machines. */
static json_t *known_fleet(const struct request *q, struct db_rows *rows)
{
    json_t *regions = json_array();
    json_int_t total = 0, reachable = 0;

    for (size_t i = 0; rows != NULL && i < db_rows_count(rows); i++) {
        json_array_append_new(regions, json_pack("{s:s,s:I,s:I}", "name", db_get_text(rows, i, 0),
                                                 "total", (json_int_t)db_get_int(rows, i, 1),
                                                 "reachable", (json_int_t)db_get_int(rows, i, 2)));
        total += (json_int_t)db_get_int(rows, i, 1);
        reachable += (json_int_t)db_get_int(rows, i, 2);
    }
    if (total == 0) {
        json_array_clear(regions);
        json_array_append_new(
            regions, json_pack("{s:s,s:i,s:i}", "name", "unknown", "total", 10, "reachable", 10));
        total = reachable = 10;
    }
    return json_pack("{s:I,s:I,s:O,s:o,s:{s:s,s:s,s:s,s:s,s:s},s:o}", "total", total, "reachable",
                     reachable, "regions", regions, "regions_by_size", regions, "deployment", "id",
                     q->deploy->id, "service", q->deploy->service, "commit", q->commit, "actor",
                     q->actor, "reason", q->reason, "params", params_copy(q));
}

static int check_waves(const struct trigger *t, struct request *q, struct err *err)
{
    const json_t *select = json_object_get(q->data, "select");
    AUTO_FREE char *text = json_is_object(select) ? json_text(select) : mem_strdup("{}");
    struct db_rows *rows = NULL;
    AUTO_JSON *input = NULL, *waves = NULL;
    struct plan *plan = NULL;
    int r = DB_ROWS(t->db, &rows, err,
                    "SELECT name, machines, reachable FROM region WHERE machines > 0 "
                    "ORDER BY machines, name");

    if (r < 0)
        return r;
    input = known_fleet(q, rows);
    db_rows_free(rows);
    r = blame_policy(policy_call(t->host, q->bundle, POLICY_WAVES, input, &waves, err), err);
    if (r == 0)
        r = plan_from_waves(&plan, waves, text, err);
    plan_free(plan);
    if (r == -(int)ERR_POLICY && strncmp(err->text, "waves:", 6) == 0)
        return err_wrap(err, "%s", bundle_main(q->bundle));
    return r;
}

static void make_id(char out[11])
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char random[8];

    random_bytes(random, sizeof(random));
    out[0] = 'd';
    out[1] = '-';
    for (size_t i = 0; i < sizeof(random); i++)
        out[2 + i] = digits[random[i] & 31];
    out[10] = '\0';
}

static void make_deploy(const struct trigger *t, struct request *q)
{
    struct hash recipe = recipe_hash(q->spec, q->data);
    char id[11], hex[HASH_HEX];
    struct deploy *d;

    make_id(id);
    d = deploy_new(id, t->cluster, json_string_value(json_object_get(q->data, "service")),
                   q->commit, wall_ms());
    deploy_set_text(&d->ref, q->ref);
    deploy_set_text(&d->actor, q->actor);
    deploy_set_text(&d->why, q->reason);
    deploy_set_text(&d->recipe, hash_hex(&recipe, hex));
    d->params = params_copy(q);
    d->data = json_incref(q->data);
    d->no_input = q->no_input;
    q->deploy = d;
}

static int find_by_key(struct db *d, struct request *q, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = 0;

    if (q->key == NULL)
        return 0;
    r = DB_ROWS(d, &rows, err, "SELECT id FROM deployment WHERE dedupe = $1", db_text(q->key));
    if (r == 0 && db_rows_count(rows) > 0) {
        buf_reset(q->id);
        buf_str_append(q->id, db_get_text(rows, 0, 0));
    }
    db_rows_free(rows);
    return r;
}

static int insert_bundle(struct db *d, const struct request *q, const char *hex, struct err *err)
{
    AUTO_JSON *json = bundle_to_json(q->bundle);
    AUTO_FREE char *text = json_text(json);

    return DB_EXEC(d, err,
                   "INSERT INTO bundle (hash, body, created_at) VALUES ($1, $2, now_ms()) "
                   "ON CONFLICT (hash) DO NOTHING",
                   db_text(hex), db_text(text));
}

static int log_trigger(struct db *d, const struct request *q, struct err *err)
{
    const struct deploy *dep = q->deploy;
    AUTO_FREE char *text = mem_printf("%s@%.12s triggered by %s%s%s", dep->service, dep->commit,
                                      dep->actor, dep->why[0] == '\0' ? "" : ": ", dep->why);
    AUTO_JSON *data =
        json_pack("{s:s,s:s,s:s,s:s,s:I}", "service", dep->service, "commit", dep->commit, "ref",
                  dep->ref, "actor", dep->actor, "job", (json_int_t)q->job);
    int r = event_add(d, dep->id, "created", text, data, err);

    return r < 0 ? r : audit_add(d, dep->actor, "deploy", dep->id, dep->why, "done", err);
}

static int insert_all(struct db *d, void *arg, struct err *err)
{
    struct request *q = arg;
    AUTO_FREE char *spec = json_text(q->spec);
    struct hash hash = bundle_hash(q->bundle);
    char hex[HASH_HEX];
    int r;

    hash_hex(&hash, hex);
    buf_reset(q->id);
    *q->is_new = false;
    r = find_by_key(d, q, err);
    if (r < 0 || q->id->len > 0)
        return r;
    r = insert_bundle(d, q, hex, err);
    if (r == 0)
        r = DB_EXEC(d, err,
                    "INSERT INTO service (name, created_at) VALUES ($1, now_ms()) "
                    "ON CONFLICT (name) DO NOTHING",
                    db_text(q->deploy->service));
    if (r == 0)
        r = queue_enqueue(d, q->deploy->service, q->commit, spec, q->dedupe, q->job_deadline_ms,
                          &q->job, err);
    if (r == 0)
        r = record_insert(d, q->deploy, hex, q->job, q->key, err);
    if (r == 0)
        r = log_trigger(d, q, err);
    if (r == 0) {
        buf_str_append(q->id, q->deploy->id);
        *q->is_new = true;
    }
    return r;
}

/* Two requests with the same key at once: the slower one finds what the other has inserted. */
static int insert(struct db *d, struct request *q, struct err *err)
{
    int r = db_transaction(d, insert_all, q, err);

    if (r == -(int)ERR_CONFLICT && q->key != NULL)
        r = db_transaction(d, insert_all, q, err);
    return r;
}

int trigger_deployment(const struct trigger *t, const json_t *body, const char *token_name,
                       struct buf *ret_id, bool *ret_new, json_t **ret_plan, struct err *err)
{
    struct request q = { .id = ret_id, .is_new = ret_new };
    int r = parse_fields(&q, body, token_name, err);

    if (r == 0)
        r = blame_policy(policy_data(t->host, q.bundle, &q.data, err), err);
    if (r == 0)
        r = ask_build(t, &q, err);
    if (r == 0) {
        make_deploy(t, &q);
        r = check_waves(t, &q, err);
    }
    if (r == 0 && q.dry_run)
        *ret_plan =
            json_pack("{s:i,s:b,s:s,s:s,s:O,s:O}", "v", 1, "dry_run", 1, "service",
                      q.deploy->service, "commit", q.commit, "build", q.spec, "data", q.data);
    else if (r == 0)
        r = insert(t->db, &q, err);
    request_release(&q);
    return r;
}
