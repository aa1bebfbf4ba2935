#include "control/reach.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "control/history.h"
#include "control/regions.h"
#include "queue/queue.h"
#include "wire/doc.h"

struct reach {
    struct db *d;
    int64_t keep;
    json_t *artifacts;    /* in the order of the answer */
    struct map by_digest; /* to its elements; borrowed */
    json_t *releases;     /* {HASH: [digest…]} */
};

static void reach_release(struct reach *x)
{
    json_decref(x->artifacts);
    json_decref(x->releases);
    map_release(&x->by_digest);
}

static json_t *add_artifact(struct reach *x, const char *digest)
{
    json_t *a = json_pack("{s:s,s:[],s:[],s:[],s:b,s:[]}", "digest", digest, "releases",
                          "deployments", "deltas", "reachable", 0, "reasons");

    json_array_append_new(x->artifacts, a);
    map_put(&x->by_digest, digest, a);
    return a;
}

static void mark(struct reach *x, const char *digest, const char *why)
{
    json_t *a = map_get(&x->by_digest, digest), *reasons, *known;
    size_t i;

    if (a == NULL)
        a = add_artifact(x, digest);
    json_object_set_new(a, "reachable", json_true());
    reasons = json_object_get(a, "reasons");
    json_array_foreach(reasons, i, known)
    {
        if (strcmp(json_string_value(known), why) == 0)
            return;
    }
    json_array_append_new(reasons, json_string(why));
}

/* release: 64 digits; "" and zeros are none. One that is not in the table never was signed here. */
static void mark_release(struct reach *x, const char *release, const char *why)
{
    json_t *digest;
    size_t i;

    json_array_foreach(json_object_get(x->releases, release), i, digest)
        mark(x, json_string_value(digest), why);
}

/* A job's result, or what a deployment kept of it: [{"artifact","pack",…}…]. */
static int mark_all(struct reach *x, const json_t *artifacts, const char *why, struct err *err)
{
    json_t *a;
    size_t i;

    json_array_foreach(artifacts, i, a)
    {
        struct hash h;
        const char *digest = json_string_value(json_object_get(a, "artifact"));

        if (digest == NULL || !hash_parse(&h, digest))
            return err_set(err, ERR_CORRUPT, "an artifact that has no digest");
        mark(x, digest, why);
        json_object_set(map_get(&x->by_digest, digest), "pack", json_object_get(a, "pack"));
    }
    return 0;
}

static int load_artifacts(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT digest, pack, service, bytes, pack_bytes, files, created_at "
                    "FROM artifact ORDER BY created_at DESC, digest");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        json_t *a = add_artifact(x, db_get_text(rows, i, 0));

        json_object_set_new(a, "pack", json_string(db_get_text(rows, i, 1)));
        json_object_set_new(a, "service", json_string(db_get_text(rows, i, 2)));
        json_object_set_new(a, "bytes", json_integer((json_int_t)db_get_int(rows, i, 3)));
        json_object_set_new(a, "pack_bytes", json_integer((json_int_t)db_get_int(rows, i, 4)));
        json_object_set_new(a, "files", json_integer((json_int_t)db_get_int(rows, i, 5)));
        json_object_set_new(a, "created", json_integer((json_int_t)db_get_int(rows, i, 6)));
    }
    db_rows_free(rows);
    return r;
}

/* --- releases --- */

static int parse_release(const struct db_rows *rows, size_t i, struct release **ret,
                         struct err *err)
{
    const char *hex = db_get_text(rows, i, 0);
    struct bytes body;
    struct hash id;
    size_t len = 0;
    const void *doc = db_get_blob(rows, i, 3, &len);
    int r = hash_parse(&id, hex) ? doc_body(doc, len, DOC_RELEASE, &body, err)
                                 : err_set(err, ERR_CORRUPT, "its name is no digest");

    if (r == 0)
        r = release_parse(ret, &id, &body, err);
    return r < 0 ? err_wrap(err, "release %.12s", hex) : 0;
}

static void add_release(struct reach *x, const struct db_rows *rows, size_t i,
                        const struct release *rel)
{
    json_t *digests = json_array();

    for (size_t k = 0; k < rel->nartifacts; k++) {
        char hex[HASH_HEX];
        json_t *a;

        hash_hex(&rel->artifacts[k].artifact, hex);
        json_array_append_new(digests, json_string(hex));
        a = map_get(&x->by_digest, hex);
        if (a != NULL)
            json_array_append_new(json_object_get(a, "releases"),
                                  json_pack("{s:s,s:s,s:s,s:b}", "release", db_get_text(rows, i, 0),
                                            "commit", db_get_text(rows, i, 2), "variant",
                                            rel->artifacts[k].variant, "good",
                                            db_get_int(rows, i, 4) != 0));
    }
    json_object_set_new(x->releases, db_get_text(rows, i, 0), digests);
}

/* Not if one of its artifacts was collected: then it is built again before it can run again. */
static bool is_whole(const struct reach *x, const char *release)
{
    const json_t *digests = json_object_get(x->releases, release);
    json_t *digest;
    size_t i;

    json_array_foreach(digests, i, digest)
    {
        if (map_get(&x->by_digest, json_string_value(digest)) == NULL)
            return false;
    }
    return true;
}

/* The last K that succeeded, of each service. rows are newest first. */
static void mark_recent(struct reach *x, const struct db_rows *rows)
{
    AUTO_JSON *seen = json_object();

    for (size_t i = 0; i < db_rows_count(rows); i++) {
        const char *service = db_get_text(rows, i, 1);
        json_int_t n = json_integer_value(json_object_get(seen, service));
        AUTO_FREE char *why =
            mem_printf("one of the last %lld good releases of %s", (long long)x->keep, service);

        if (db_get_int(rows, i, 4) == 0 || n >= x->keep || !is_whole(x, db_get_text(rows, i, 0)))
            continue;
        json_object_set_new(seen, service, json_integer(n + 1));
        mark_release(x, db_get_text(rows, i, 0), why);
    }
}

static int load_releases(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT hash, service, sha, doc, good FROM release "
                    "ORDER BY created_at DESC, hash");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct release *rel = NULL;

        r = parse_release(rows, i, &rel, err);
        if (r == 0)
            add_release(x, rows, i, rel);
        release_free(rel);
    }
    if (r == 0)
        mark_recent(x, rows);
    db_rows_free(rows);
    return r;
}

/* --- what is wanted now --- */

static int mark_goals(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT service, region, release, rollback_to FROM goal ORDER BY service, "
                    "region");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        AUTO_FREE char *runs =
            mem_printf("%s runs it in %s", db_get_text(rows, i, 0), db_get_text(rows, i, 1));
        AUTO_FREE char *back = mem_printf("%s would go back to it in %s", db_get_text(rows, i, 0),
                                          db_get_text(rows, i, 1));

        mark_release(x, db_get_text(rows, i, 2), runs);
        mark_release(x, db_get_text(rows, i, 3), back);
    }
    db_rows_free(rows);
    return r;
}

static int mark_services(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT name, good_release FROM service WHERE good_release IS NOT NULL "
                    "ORDER BY name");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        AUTO_FREE char *why = mem_printf("the last good release of %s", db_get_text(rows, i, 0));

        mark_release(x, db_get_text(rows, i, 1), why);
    }
    db_rows_free(rows);
    return r;
}

static void mark_named(struct reach *x, const json_t *detail, const char *key, const char *why)
{
    const char *release = json_string_value(json_object_get(detail, key));

    if (release != NULL && release[0] != '\0')
        mark_release(x, release, why);
}

/* Columns: id, live, detail, result of the job. */
static int mark_deployment(struct reach *x, const struct db_rows *rows, size_t i, struct err *err)
{
    const char *id = db_get_text(rows, i, 0), *texts[2] = { db_get_text(rows, i, 2), "{}" };
    AUTO_FREE char *why = mem_printf(db_get_int(rows, i, 1) != 0 ? "deployment %s is under way"
                                                                 : "deployment %s was the last",
                                     id);
    int r = 0;

    if (!db_is_null(rows, i, 3) && db_get_text(rows, i, 3)[0] != '\0')
        texts[1] = db_get_text(rows, i, 3);
    for (size_t k = 0; r == 0 && k < COUNT_OF(texts); k++) {
        AUTO_JSON *json = NULL;

        r = json_parse(&json, texts[k], strlen(texts[k]), err);
        if (r == 0)
            r = mark_all(x, json_object_get(json, "artifacts"), why, err);
        if (r == 0)
            mark_named(x, json, "release", why);
        if (r == 0)
            mark_named(x, json, "rollback_to", why);
    }
    return r < 0 ? err_wrap(err, "deployment %s", id) : 0;
}

static int mark_deployments(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT d.id, d.live, d.detail, j.result FROM deployment d "
                    "LEFT JOIN job j ON j.id = d.job WHERE d.live = 1 OR d.tending = 1 "
                    "OR d.id IN (SELECT last_planned FROM service) ORDER BY d.number");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        r = mark_deployment(x, rows, i, err);
    db_rows_free(rows);
    return r;
}

/* Who is away may come back, and a delta from what it has is then worth something. */
static int mark_running(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT release, service, CAST(SUM(machines) AS BIGINT) FROM running "
                    "WHERE machines > 0 GROUP BY release, service ORDER BY service, release");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        long long n = (long long)db_get_int(rows, i, 2);
        AUTO_FREE char *why = mem_printf("%lld machine%s run%s it for %s", n, n == 1 ? "" : "s",
                                         n == 1 ? "s" : "", db_get_text(rows, i, 1));

        if (is_whole(x, db_get_text(rows, i, 0))) /* else it is too late */
            mark_release(x, db_get_text(rows, i, 0), why);
    }
    db_rows_free(rows);
    return r;
}

/* A region that tells of fewer machines than before may not know all that it has. */
static int mark_running_before(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT release, service, region, machines FROM running_before "
                    "WHERE at >= now_ms() - $1 ORDER BY service, region, release",
                    db_int(REGION_LOST_MS));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        long long n = (long long)db_get_int(rows, i, 3);
        AUTO_FREE char *why =
            mem_printf("%lld machine%s of %s ran it for %s, and %s has told of fewer since", n,
                       n == 1 ? "" : "s", db_get_text(rows, i, 2), db_get_text(rows, i, 1),
                       db_get_text(rows, i, 2));

        if (is_whole(x, db_get_text(rows, i, 0)))
            mark_release(x, db_get_text(rows, i, 0), why);
    }
    db_rows_free(rows);
    return r;
}

static void add_delta(struct reach *x, const struct db_rows *rows, size_t i)
{
    json_t *a = map_get(&x->by_digest, db_get_text(rows, i, 0));

    if (a == NULL)
        return;
    json_array_append_new(json_object_get(a, "deltas"),
                          json_pack("{s:s,s:s,s:s,s:I}", "base", db_get_text(rows, i, 1), "state",
                                    db_get_text(rows, i, 2), "pack", db_get_text(rows, i, 3),
                                    "bytes", (json_int_t)db_get_int(rows, i, 4)));
}

static int mark_deltas(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT target, base, state, pack, pack_bytes FROM delta "
                    "ORDER BY target, base");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        if (strcmp(db_get_text(rows, i, 2), "making") == 0) {
            mark(x, db_get_text(rows, i, 0), "a delta of it is being made");
            mark(x, db_get_text(rows, i, 1), "a delta from it is being made");
        }
        add_delta(x, rows, i);
    }
    db_rows_free(rows);
    return r;
}

/* --- for people --- */

static void name_deployment(struct reach *x, const char *id, const json_t *result)
{
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(result, "artifacts"), i, a)
    {
        const char *digest = json_string_value(json_object_get(a, "artifact"));
        json_t *known = digest == NULL ? NULL : map_get(&x->by_digest, digest);
        json_t *list = json_object_get(known, "deployments");

        if (known != NULL && json_array_size(list) < REACH_DEPLOYMENTS)
            json_array_append_new(list, json_string(id));
    }
}

static int name_deployments(struct reach *x, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(x->d, &rows, err,
                    "SELECT d.id, j.result FROM deployment d JOIN job j ON j.id = d.job "
                    "WHERE j.result IS NOT NULL ORDER BY d.number DESC LIMIT 10000");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        AUTO_JSON *result = NULL;
        const char *text = db_get_text(rows, i, 1);

        if (json_parse(&result, text, strlen(text), NULL) == 0)
            name_deployment(x, db_get_text(rows, i, 0), result);
    }
    db_rows_free(rows);
    return r;
}

/* --- the answer --- */

static int load_all(struct reach *x, struct err *err)
{
    int r = load_artifacts(x, err);

    if (r == 0)
        r = load_releases(x, err);
    if (r == 0)
        r = mark_goals(x, err);
    if (r == 0)
        r = mark_services(x, err);
    if (r == 0)
        r = mark_running(x, err);
    if (r == 0)
        r = mark_running_before(x, err);
    if (r == 0)
        r = mark_deltas(x, err);
    return r < 0 ? r : mark_deployments(x, err);
}

static struct reach reach_of(struct db *d, int64_t keep)
{
    struct reach x = { .d = d,
                       .keep = keep,
                       .artifacts = json_array(),
                       .by_digest = MAP_INIT,
                       .releases = json_object() };

    return x;
}

int reach_load(struct db *d, int64_t keep, json_t **ret, struct err *err)
{
    struct reach x = reach_of(d, keep);
    struct db_rows *rows = NULL;
    /* Asked first: a job that ends meanwhile is then seen with its result, or counts as running. */
    int r = DB_ROWS(d, &rows, err,
                    "SELECT now_ms(), MIN(started_at) FROM job WHERE status = 'running'");

    if (r == 0)
        r = load_all(&x, err);
    if (r == 0)
        r = name_deployments(&x, err);
    if (r == 0)
        *ret = json_pack("{s:O,s:I,s:o,s:I}", "artifacts", x.artifacts, "now",
                         (json_int_t)db_get_int(rows, 0, 0), "safe_before",
                         db_is_null(rows, 0, 1) ? json_null()
                                                : json_integer((json_int_t)db_get_int(rows, 0, 1)),
                         "keep", (json_int_t)keep);
    db_rows_free(rows);
    reach_release(&x);
    return r < 0 ? err_wrap(err, "which artifacts are needed") : 0;
}

/* --- forgetting --- */

struct forgetting {
    const json_t *digests;
    int64_t keep;
    const char *actor;
    json_t *gone; /* {digest: true} */
};

static bool names_one(const json_t *result, const json_t *gone)
{
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(result, "artifacts"), i, a)
    {
        const char *digest = json_string_value(json_object_get(a, "artifact"));

        if (digest != NULL && json_object_get(gone, digest) != NULL)
            return true;
    }
    return false;
}

/* The next trigger of the same sources builds them again. */
static int forget_jobs(struct db *d, const json_t *gone, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT id, result FROM job WHERE status = 'succeeded' AND dedupe IS NOT NULL "
                    "AND result IS NOT NULL");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        const char *text = db_get_text(rows, i, 1);
        AUTO_JSON *result = NULL;

        if (json_parse(&result, text, strlen(text), NULL) == 0 && names_one(result, gone))
            r = queue_forget(d, db_get_int(rows, i, 0), err);
    }
    db_rows_free(rows);
    return r;
}

/* What was made of it, or for it: the next one who wants such a delta has it made. */
static int forget_deltas(struct db *d, const char *digest, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT job FROM delta WHERE target = $1 OR base = $1",
                    db_text(digest));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        r = queue_forget(d, db_get_int(rows, i, 0), err);
    db_rows_free(rows);
    return r < 0 ? r
                 : DB_EXEC(d, err, "DELETE FROM delta WHERE target = $1 OR base = $1",
                           db_text(digest));
}

static int forget_rows(struct db *d, const struct forgetting *f, struct err *err)
{
    const char *digest;
    json_t *value;
    int r = 0;

    json_object_foreach(f->gone, digest, value)
    {
        if (r == 0)
            r = DB_EXEC(d, err, "DELETE FROM artifact WHERE digest = $1", db_text(digest));
        if (r == 0)
            r = DB_EXEC(d, err, "DELETE FROM replica WHERE artifact = $1", db_text(digest));
        if (r == 0)
            r = forget_deltas(d, digest, err);
        if (r == 0)
            r = audit_add(d, f->actor, "forget", digest, "garbage collection", "done", err);
    }
    return r;
}

/* On PostgreSQL a trigger that has looked at the job table is waited for, and its deployment then
 * seen; one that comes later waits for us. SQLite has one writer at a time anyway. */
static int lock_out_triggers(struct db *d, struct err *err)
{
    return db_is_sqlite(d)
               ? 0
               : DB_EXEC(d, err, "LOCK TABLE job, deployment IN SHARE ROW EXCLUSIVE MODE");
}

static int forget(struct db *d, void *arg, struct err *err)
{
    struct forgetting *f = arg;
    struct reach x = reach_of(d, f->keep);
    json_t *digest;
    size_t i;
    int r = lock_out_triggers(d, err);

    json_object_clear(f->gone);
    if (r == 0)
        r = load_all(&x, err);
    json_array_foreach(f->digests, i, digest)
    {
        const json_t *a = map_get(&x.by_digest, json_string_value(digest));

        if (r == 0 && !json_is_true(json_object_get(a, "reachable")))
            json_object_set_new(f->gone, json_string_value(digest), json_true());
    }
    if (r == 0)
        r = forget_jobs(d, f->gone, err);
    if (r == 0)
        r = forget_rows(d, f, err);
    reach_release(&x);
    return r;
}

static int check_digests(const json_t *digests, struct err *err)
{
    json_t *digest;
    size_t i;

    if (!json_is_array(digests) || json_array_size(digests) > REACH_FORGET_MAX)
        return err_set(err, ERR_INVALID, "digests: not a list of at most %d", REACH_FORGET_MAX);
    json_array_foreach(digests, i, digest)
    {
        const char *text = json_string_value(digest);
        struct hash h;

        if (text == NULL || !hash_parse(&h, text) ||
            strspn(text, "0123456789abcdef") != strlen(text))
            return err_set(err, ERR_INVALID, "digests: not 64 lower-case hexadecimal digits");
    }
    return 0;
}

int reach_forget(struct db *d, const json_t *digests, int64_t keep, const char *actor, json_t **ret,
                 struct err *err)
{
    struct forgetting f = { digests, keep, actor, NULL };
    const char *digest;
    json_t *value;
    int r = check_digests(digests, err);

    if (r < 0)
        return r;
    f.gone = json_object();
    r = db_transaction(d, forget, &f, err);
    if (r == 0) {
        *ret = json_array();
        json_object_foreach(f.gone, digest, value) json_array_append_new(*ret, json_string(digest));
    }
    json_decref(f.gone);
    return r < 0 ? err_wrap(err, "forget artifacts") : 0;
}
