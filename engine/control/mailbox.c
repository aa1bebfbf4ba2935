#include "control/mailbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/regions.h"

struct said *said_new(enum said_kind kind, const char *region, const char *key, int64_t at_ms)
{
    struct said *s = mem_alloc(sizeof(*s));

    s->kind = kind;
    s->region = mem_strdup(region);
    s->key = mem_strdup(key);
    s->state = "";
    s->at_ms = at_ms;
    list_init(&s->node);
    return s;
}

void said_free(struct said *s)
{
    list_remove(&s->node);
    free(s->region);
    free(s->key);
    free(s->ask);
    free(s->body);
    free(s);
}

void telling_free(struct telling *t)
{
    list_remove(&t->node);
    codec_free(msg_codec(t->type), t->msg);
    free(t->region);
    free(t->ask_deployment);
    free(t->ask_key);
    free(t->ask_kind);
    free(t);
}

void mailbox_init(struct mailbox *b)
{
    *b = (struct mailbox){ 0 };
    list_init(&b->said);
    list_init(&b->told);
}

void mailbox_release(struct mailbox *b)
{
    LIST_EACH (&b->said, n)
        said_free(CONTAINER_OF(n, struct said, node));
    LIST_EACH (&b->told, n)
        telling_free(CONTAINER_OF(n, struct telling, node));
    for (size_t i = 0; i < b->nlisteners; i++)
        free(b->listeners[i].region);
    free(b->listeners);
    mailbox_init(b);
}

/* --- in --- */

/* Who has lost a link says so only of its own: the region may be linked to another serve by now. */
static int write_region(struct db *d, const struct mailbox *b, const struct said *s,
                        struct err *err)
{
    return DB_EXEC(d, err,
                   "INSERT INTO region (name, holder, connected, session_at, seen_at, machines, "
                   "reachable) VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 < 0 THEN 0 ELSE $6 END, "
                   "CASE WHEN $7 < 0 THEN 0 ELSE $7 END) ON CONFLICT (name) DO UPDATE "
                   "SET holder = $2, connected = $3, session_at = $4, seen_at = $5, "
                   "machines = CASE WHEN $6 < 0 THEN region.machines ELSE $6 END, "
                   "reachable = CASE WHEN $7 < 0 THEN region.reachable ELSE $7 END "
                   "WHERE $3 = 1 OR (region.holder = $2 AND region.session_at = $4)",
                   db_text(s->region), db_text(b->holder), db_int(s->n[0]), db_int(s->n[1]),
                   db_int(s->at_ms), db_int(s->n[2]), db_int(s->n[3]));
}

static int write_replica(struct db *d, const struct said *s, struct err *err)
{
    return DB_EXEC(d, err,
                   "INSERT INTO replica (artifact, region, state, bytes, total, origin_bytes, "
                   "reason, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
                   "ON CONFLICT (artifact, region) DO UPDATE SET state = $3, bytes = $4, "
                   "total = $5, origin_bytes = $6, reason = $7, at = $8",
                   db_text(s->key), db_text(s->region), db_text(s->state), db_int(s->n[0]),
                   db_int(s->n[1]), db_int(s->n[2]), db_text(s->body), db_int(s->at_ms));
}

static int write_counts(struct db *d, const struct said *s, struct err *err)
{
    return DB_EXEC(d, err,
                   "INSERT INTO counts (deployment, region, at, body) VALUES ($1, $2, $3, $4) "
                   "ON CONFLICT (deployment, region) DO UPDATE SET at = $3, body = $4",
                   db_text(s->key), db_text(s->region), db_int(s->at_ms), db_text(s->body));
}

static int write_runs(struct db *d, const struct said *s, struct err *err)
{
    AUTO_JSON *releases = NULL;
    int r = json_parse(&releases, s->body, strlen(s->body), err);

    return r < 0 ? r : region_runs(d, s->region, s->key, releases, s->at_ms, err);
}

static int write_said(struct db *d, void *arg, struct err *err)
{
    struct mailbox *b = arg;
    int r = 0;

    LIST_EACH (&b->said, n) {
        const struct said *s = CONTAINER_OF(n, struct said, node);

        if (s->kind == SAID_REGION)
            r = write_region(d, b, s, err);
        else if (s->kind == SAID_REPLICA)
            r = write_replica(d, s, err);
        else if (s->kind == SAID_COUNTS)
            r = write_counts(d, s, err);
        else if (s->kind == SAID_RUNS)
            r = write_runs(d, s, err);
        else if (s->kind == SAID_ANSWER)
            r = DB_EXEC(d, err, "UPDATE ask SET answer = $3 WHERE deployment = $1 AND key = $2",
                        db_text(s->key), db_text(s->ask), db_text(s->body));
        if (r < 0)
            break;
    }
    return r;
}

/* --- out --- */

static struct telling *tell(struct mailbox *b, const char *region, enum msg_type type, void *msg,
                            int64_t seq)
{
    struct telling *t = mem_alloc(sizeof(*t));

    t->region = mem_strdup(region);
    t->type = type;
    t->msg = msg;
    t->seq = seq;
    list_push(&b->told, &t->node);
    return t;
}

static void tell_doc(struct mailbox *b, const char *region, enum doc_kind kind, const void *data,
                     size_t len, int64_t seq)
{
    struct msg_doc *m = mem_alloc(sizeof(*m));

    m->kind = (uint8_t)kind;
    m->bytes.data = mem_dup(data, len);
    m->bytes.len = len;
    tell(b, region, MSG_DOC, m, seq);
}

static int tell_release(struct mailbox *b, struct db *d, const char *region, const char *hash,
                        struct err *err)
{
    struct db_rows *rows = NULL;
    const void *doc;
    size_t len = 0;
    int r;

    if (hash[0] == '\0')
        return 0;
    r = DB_ROWS(d, &rows, err, "SELECT doc FROM release WHERE hash = $1", db_text(hash));
    if (r == 0 && db_rows_count(rows) > 0) {
        doc = db_get_blob(rows, 0, 0, &len);
        tell_doc(b, region, DOC_RELEASE, doc, len, 0);
    }
    db_rows_free(rows);
    return r;
}

static int tell_goals(struct mailbox *b, struct db *d, const struct listener *l, int64_t upto,
                      struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT release, rollback_to, doc, seq FROM goal WHERE region = $1 "
                    "AND seq > $2 AND seq <= $3 ORDER BY seq",
                    db_text(l->region), db_int(l->seq), db_int(upto));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        size_t len = 0;
        const void *doc = db_get_blob(rows, i, 2, &len);

        r = tell_release(b, d, l->region, db_get_text(rows, i, 0), err);
        if (r == 0 && strcmp(db_get_text(rows, i, 0), db_get_text(rows, i, 1)) != 0)
            r = tell_release(b, d, l->region, db_get_text(rows, i, 1), err);
        if (r == 0)
            tell_doc(b, l->region, DOC_GOAL, doc, len, db_get_int(rows, i, 3));
    }
    db_rows_free(rows);
    return r;
}

/* A row that we cannot read is our own bug: it must not stop the others. */
static void tell_relay(struct mailbox *b, const char *region, const char *kind, const char *text,
                       int64_t seq)
{
    AUTO_JSON *body = NULL;
    struct err err = ERR_INIT;
    struct msg_plan *plan = NULL;
    struct msg_replicate *replicate = NULL;

    if (json_parse(&body, text, strlen(text), &err) == 0 && strcmp(kind, "plan") == 0) {
        if (msg_from_plan(&plan, body, &err) == 0)
            tell(b, region, MSG_PLAN, plan, seq);
    } else if (body != NULL && msg_from_replicate(&replicate, body, &err) == 0) {
        tell(b, region, MSG_REPLICATE, replicate, seq);
    }
    if (err.code != ERR_NONE)
        log_error("relay to region %s: %s", region, err.text);
}

static int tell_relays(struct mailbox *b, struct db *d, const struct listener *l, int64_t upto,
                       struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT kind, body, seq FROM relay WHERE (region = $1 OR region = '*') "
                    "AND seq > $2 AND seq <= $3 ORDER BY seq",
                    db_text(l->region), db_int(l->seq), db_int(upto));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        tell_relay(b, l->region, db_get_text(rows, i, 0), db_get_text(rows, i, 1),
                   db_get_int(rows, i, 2));
    db_rows_free(rows);
    return r;
}

static void tell_ask(struct mailbox *b, const struct db_rows *rows, size_t i)
{
    AUTO_JSON *request = NULL;
    struct err err = ERR_INIT;
    const char *kind = db_get_text(rows, i, 3), *text = db_get_text(rows, i, 4);
    struct msg_fleet_ask *fleet = NULL;
    struct msg_quantile_ask *quantile = NULL;
    struct telling *t = NULL;

    if (json_parse(&request, text, strlen(text), &err) == 0 && strcmp(kind, "fleet") == 0) {
        if (msg_from_fleet_ask(&fleet, request, &err) == 0)
            t = tell(b, db_get_text(rows, i, 2), MSG_FLEET_ASK, fleet, 0);
    } else if (request != NULL && msg_from_quantile_ask(&quantile, request, &err) == 0) {
        t = tell(b, db_get_text(rows, i, 2), MSG_QUANTILE_ASK, quantile, 0);
    }
    if (t == NULL) {
        log_error("question to region %s: %s", db_get_text(rows, i, 2), err.text);
        return;
    }
    t->ask_deployment = mem_strdup(db_get_text(rows, i, 0));
    t->ask_key = mem_strdup(db_get_text(rows, i, 1));
    t->ask_kind = mem_strdup(kind);
}

static int tell_asks(struct mailbox *b, struct db *d, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT deployment, key, region, kind, request FROM ask WHERE answer IS NULL "
                    "ORDER BY created_at LIMIT 10000");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        for (size_t k = 0; k < b->nlisteners; k++)
            if (strcmp(b->listeners[k].region, db_get_text(rows, i, 2)) == 0)
                tell_ask(b, rows, i);
    db_rows_free(rows);
    return r;
}

/* Only up to what the counter says now: rows that are committed between two of our queries might
 * else be taken for told. */
static int tell_new(struct mailbox *b, struct db *d, struct err *err)
{
    struct db_rows *rows = NULL;
    int64_t now = 0;
    int r = DB_ROWS(d, &rows, err, "SELECT value FROM counter WHERE name = 'relay'");

    if (r == 0 && db_rows_count(rows) > 0)
        now = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    if (r == 0 && (now != b->relay_seen || b->anew)) {
        for (size_t i = 0; r == 0 && i < b->nlisteners; i++) {
            r = tell_relays(b, d, &b->listeners[i], now, err);
            if (r == 0)
                r = tell_goals(b, d, &b->listeners[i], now, err);
        }
    }
    if (r == 0)
        r = tell_asks(b, d, err);
    if (r == 0)
        b->relay_seen = now;
    return r;
}

void mailbox_run(struct mailbox *b, struct db *d)
{
    b->result = 0;
    b->wrote = false;
    if (!list_empty(&b->said)) {
        b->result = db_transaction(d, write_said, b, &b->err);
        b->wrote = b->result == 0;
    }
    if (b->wrote)
        LIST_EACH (&b->said, n)
            said_free(CONTAINER_OF(n, struct said, node));
    if (b->result == 0 && b->nlisteners > 0)
        b->result = tell_new(b, d, &b->err);
}
