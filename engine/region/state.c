#include "region/state.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"

struct state {
    struct db *db;
    struct state_batch *next; /* artifacts wait here for the next batch */
    bool leases;
};

enum row_kind {
    ROW_NONE = 0,
    ROW_MACHINE,
    ROW_REPORT,
    ROW_WANT,
    ROW_LEASE,
    ROW_DOC,
    ROW_PROGRESS,
    ROW_SENT
};

struct row {
    enum row_kind kind;
    char *id;         /* machine, deployment, or artifact in hex */
    char *service;    /* of a report or lease */
    char *moved;      /* of a report, or NULL; of progress, the other deployment that is kept */
    char *deployment; /* of progress */
    bool linked;      /* of a machine */
    int64_t at_ms;    /* wall: last seen, end of a lease, when it was sent */
    struct hash runs; /* of a report */
    struct buf body;  /* encoded; empty: NULL, or delete */
};

struct state_batch {
    struct row *rows;
    size_t count, cap;
    bool leases; /* rows hold all leases there are */
};

static const char *const schema[] = {
    "CREATE TABLE IF NOT EXISTS machine (id TEXT PRIMARY KEY, self BLOB NOT NULL, "
    "linked BIGINT NOT NULL, seen BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS report (machine TEXT NOT NULL, service TEXT NOT NULL, "
    "runs BLOB NOT NULL, body BLOB, moved TEXT, PRIMARY KEY (machine, service))",
    "CREATE TABLE IF NOT EXISTS artifact (id TEXT PRIMARY KEY, packs BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS lease (service TEXT NOT NULL, machine TEXT NOT NULL, "
    "until BIGINT NOT NULL, PRIMARY KEY (service, machine))",
    "CREATE TABLE IF NOT EXISTS doc (name TEXT PRIMARY KEY, kind BIGINT NOT NULL, "
    "body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS fetched (machine TEXT NOT NULL, service TEXT NOT NULL, "
    "deployment TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (machine, service, deployment))",
    "CREATE TABLE IF NOT EXISTS sent (deployment TEXT PRIMARY KEY, at BIGINT NOT NULL, "
    "body BLOB NOT NULL)",
};

int state_open(struct state **ret, const char *path, struct err *err)
{
    AUTO_BUF url = BUF_INIT;
    struct state *s = mem_alloc(sizeof(*s));
    int r;

    buf_printf(&url, "sqlite:%s", path);
    r = db_open(&s->db, url.data, err);
    for (size_t i = 0; r == 0 && i < COUNT_OF(schema); i++)
        r = DB_EXEC(s->db, err, schema[i]);
    if (r < 0) {
        state_close(s);
        return err_wrap(err, "%s", path);
    }
    *ret = s;
    return 0;
}

void state_close(struct state *s)
{
    if (s == NULL)
        return;
    state_batch_free(s->next);
    db_close(s->db);
    free(s);
}

void state_batch_free(struct state_batch *b)
{
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->count; i++) {
        free(b->rows[i].id);
        free(b->rows[i].service);
        free(b->rows[i].moved);
        free(b->rows[i].deployment);
        buf_release(&b->rows[i].body);
    }
    free(b->rows);
    free(b);
}

static void *decode(enum msg_type type, const struct db_rows *rows, size_t row, int col)
{
    struct err err = ERR_INIT;
    void *msg = NULL;
    size_t len = 0;
    const void *data = db_get_blob(rows, row, col, &len);

    if (codec_decode(&msg, msg_codec(type), data, len, &err) < 0)
        log_warn("state: row left out: %s", err.text);
    return msg;
}

static int load_machines(struct state *s, struct machines *ms, const struct state_clock *clock,
                         struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(s->db, &rows, err, "SELECT id, self, linked, seen FROM machine ORDER BY id");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct msg_machine *self = decode(MSG_MACHINE, rows, i, 1);
        int64_t away = db_get_int(rows, i, 2) != 0 ? 0 : clock->wall_ms - db_get_int(rows, i, 3);
        struct machine *m = NULL;
        struct err why = ERR_INIT;

        if (away < 0)
            away = 0;
        if (self != NULL && machines_restore(ms, db_get_text(rows, i, 0), self,
                                             clock->now_ms - away, clock->now_ms, &m, &why) < 0)
            log_warn("state: machine left out: %s", why.text);
        codec_free(msg_codec(MSG_MACHINE), self);
    }
    db_rows_free(rows);
    return r;
}

static void load_report(struct machines *ms, const struct db_rows *rows, size_t i)
{
    struct machine *m = machines_find(ms, db_get_text(rows, i, 0));
    struct msg_report *report = NULL;
    struct hash runs;
    size_t len = 0;
    const void *data = db_get_blob(rows, i, 2, &len);

    if (m == NULL || len != sizeof(runs))
        return;
    memcpy(&runs, data, sizeof(runs));
    if (!db_is_null(rows, i, 3))
        report = decode(MSG_REPORT, rows, i, 3);
    machines_restore_report(ms, m, db_get_text(rows, i, 1), &runs, report, db_get_text(rows, i, 4));
    codec_free(msg_codec(MSG_REPORT), report);
}

static int load_reports(struct state *s, struct machines *ms, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(s->db, &rows, err, "SELECT machine, service, runs, body, moved FROM report");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        load_report(ms, rows, i);
    db_rows_free(rows);
    return r;
}

static int load_progress(struct state *s, struct machines *ms, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(s->db, &rows, err, "SELECT machine, body FROM fetched ORDER BY rowid");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct machine *m = machines_find(ms, db_get_text(rows, i, 0));
        struct msg_progress *p = m == NULL ? NULL : decode(MSG_PROGRESS, rows, i, 1);

        if (p != NULL)
            machines_restore_progress(ms, m, p);
        codec_free(msg_codec(MSG_PROGRESS), p);
    }
    db_rows_free(rows);
    return r;
}

/* What was sent travels in a COUNTS of packs alone. */
int state_load_sent(struct state *s, int64_t wall_ms,
                    void (*fn)(void *ctx, const struct msg_counts *sent), void *ctx,
                    struct err *err)
{
    struct db_rows *rows = NULL;
    int r =
        DB_EXEC(s->db, err, "DELETE FROM sent WHERE at < $1", db_int(wall_ms - STATE_FORGET_MS));

    if (r == 0)
        r = DB_ROWS(s->db, &rows, err, "SELECT body FROM sent ORDER BY at");
    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct msg_counts *m = decode(MSG_COUNTS, rows, i, 0);

        if (m != NULL)
            fn(ctx, m);
        codec_free(msg_codec(MSG_COUNTS), m);
    }
    db_rows_free(rows);
    return r < 0 ? err_wrap(err, "load what was sent") : 0;
}

static int load_leases(struct state *s, struct leases *leases, const struct state_clock *clock,
                       struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(s->db, &rows, err, "SELECT service, machine, until FROM lease");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        int64_t left = db_get_int(rows, i, 2) - clock->wall_ms;

        if (left > 0)
            leases_restore(leases, db_get_text(rows, i, 0), db_get_text(rows, i, 1),
                           clock->now_ms + (left > SLOT_LEASE_MS ? SLOT_LEASE_MS : left));
    }
    db_rows_free(rows);
    return r;
}

/* An artifact travels in a REPLICATE of one. */
static int load_artifacts(struct state *s,
                          void (*wanted)(void *ctx, const struct msg_artifact *artifact), void *ctx,
                          struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(s->db, &rows, err, "SELECT packs FROM artifact");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        struct msg_replicate *m = decode(MSG_REPLICATE, rows, i, 0);

        if (m != NULL && m->artifacts.count == 1)
            wanted(ctx, m->artifacts.items);
        codec_free(msg_codec(MSG_REPLICATE), m);
    }
    db_rows_free(rows);
    return r;
}

int state_load_docs(struct state *s, void (*fn)(void *ctx, const struct msg_doc *doc), void *ctx,
                    struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(s->db, &rows, err, "SELECT kind, body FROM doc ORDER BY kind, name");

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        size_t len = 0;
        const void *data = db_get_blob(rows, i, 1, &len);
        unsigned char *copy = mem_dup(data, len);
        struct msg_doc doc = { (uint8_t)db_get_int(rows, i, 0), { copy, len } };

        fn(ctx, &doc);
        free(copy);
    }
    db_rows_free(rows);
    return r < 0 ? err_wrap(err, "load documents") : 0;
}

static int forget(struct state *s, int64_t wall_ms, struct err *err)
{
    int r = DB_EXEC(s->db, err, "DELETE FROM machine WHERE linked = 0 AND seen < $1",
                    db_int(wall_ms - STATE_FORGET_MS));

    if (r == 0)
        r = DB_EXEC(s->db, err, "DELETE FROM report WHERE machine NOT IN (SELECT id FROM machine)");
    if (r == 0)
        r = DB_EXEC(s->db, err,
                    "DELETE FROM fetched WHERE machine NOT IN (SELECT id FROM machine)");
    return r;
}

int state_load(struct state *s, struct machines *ms, struct leases *leases,
               const struct state_clock *clock,
               void (*wanted)(void *ctx, const struct msg_artifact *artifact), void *ctx,
               struct err *err)
{
    int r = forget(s, clock->wall_ms, err);

    if (r == 0)
        r = load_machines(s, ms, clock, err);
    if (r == 0)
        r = load_reports(s, ms, err);
    if (r == 0)
        r = load_progress(s, ms, err);
    if (r == 0)
        r = load_leases(s, leases, clock, err);
    if (r == 0)
        r = load_artifacts(s, wanted, ctx, err);
    return r < 0 ? err_wrap(err, "load the region's state") : 0;
}

static struct row *add_row(struct state_batch **b, enum row_kind kind, const char *id)
{
    struct row *row;

    if (*b == NULL)
        *b = mem_alloc(sizeof(**b));
    VEC_GROW((*b)->rows, (*b)->count, (*b)->cap);
    row = &(*b)->rows[(*b)->count++];
    *row = (struct row){ .kind = kind, .id = mem_strdup(id) };
    return row;
}

static void encode(struct buf *out, enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    if (codec_encode(out, msg_codec(type), msg, &err) < 0)
        log_error("state: %s", err.text);
}

void state_want(struct state *s, const struct hash *artifact, const struct msg_artifact *packs)
{
    char hex[HASH_HEX];
    struct row *row = add_row(&s->next, ROW_WANT, hash_hex(artifact, hex));
    struct msg_replicate one = { .deployment = NULL };
    struct msg_artifact copy;

    if (packs == NULL)
        return;
    copy = *packs;
    one.artifacts = (struct list_of){ &copy, 1 };
    encode(&row->body, MSG_REPLICATE, &one);
}

void state_doc(struct state *s, char *name, struct bytes *doc)
{
    struct row *row = add_row(&s->next, ROW_DOC, name);

    buf_append(&row->body, doc->data, doc->len);
    free(name);
    free(doc->data);
    *doc = (struct bytes){ NULL, 0 };
}

void state_sent(struct state *s, const struct msg_counts *sent, int64_t wall_ms)
{
    struct row *row = add_row(&s->next, ROW_SENT, sent->deployment);

    row->at_ms = wall_ms;
    encode(&row->body, MSG_COUNTS, sent);
}

void state_leases(struct state *s)
{
    s->leases = true;
}

static void collect_progress(struct state_batch **b, const struct machine *m,
                             struct machine_service *v)
{
    struct row *row;

    if (!v->progress_unsaved)
        return;
    v->progress_unsaved = false;
    row = add_row(b, ROW_PROGRESS, m->id);
    row->service = mem_strdup(v->name);
    row->deployment = mem_strdup(v->progress[0]->deployment);
    row->moved = v->progress[1] == NULL ? NULL : mem_strdup(v->progress[1]->deployment);
    encode(&row->body, MSG_PROGRESS, v->progress[0]);
}

static void collect_machine(struct state_batch **b, struct machine *m,
                            const struct state_clock *clock)
{
    struct row *row;

    if (m->unsaved) {
        row = add_row(b, ROW_MACHINE, m->id);
        row->linked = m->linked;
        row->at_ms = clock->wall_ms - (m->linked ? 0 : clock->now_ms - m->seen_ms);
        encode(&row->body, MSG_MACHINE, m->self);
        m->unsaved = false;
    }
    for (size_t i = 0; i < m->nservices; i++) {
        struct machine_service *v = &m->services[i];

        collect_progress(b, m, v);
        if (!v->unsaved)
            continue;
        v->unsaved = false;
        row = add_row(b, ROW_REPORT, m->id);
        row->service = mem_strdup(v->name);
        row->moved = v->moved == NULL ? NULL : mem_strdup(v->moved);
        row->runs = v->runs;
        if (v->report != NULL)
            encode(&row->body, MSG_REPORT, v->report);
    }
}

struct lease_walk {
    struct state_batch **batch;
    const struct state_clock *clock;
};

static void collect_lease(void *ctx, const char *service, const char *machine, int64_t until_ms)
{
    struct lease_walk *w = ctx;
    struct row *row = add_row(w->batch, ROW_LEASE, machine);

    row->service = mem_strdup(service);
    row->at_ms = w->clock->wall_ms + until_ms - w->clock->now_ms;
}

struct state_batch *state_collect(struct state *s, struct machines *ms, const struct leases *leases,
                                  const struct state_clock *clock)
{
    struct state_batch *b = s->next;

    s->next = NULL;
    LIST_EACH (&ms->unsaved, n) {
        struct machine *m = CONTAINER_OF(n, struct machine, node);

        list_remove(&m->node);
        collect_machine(&b, m, clock);
    }
    if (s->leases) {
        struct lease_walk walk = { &b, clock };

        if (b == NULL)
            b = mem_alloc(sizeof(*b));
        b->leases = true;
        s->leases = false;
        leases_each(leases, collect_lease, &walk);
    }
    return b;
}

static enum doc_kind kind_of(const char *name)
{
    return name[0] == 't' ? DOC_TRUST : name[0] == 'r' ? DOC_RELEASE : DOC_GOAL;
}

static int write_doc(struct db *d, const struct row *row, struct err *err)
{
    if (row->body.len == 0)
        return DB_EXEC(d, err, "DELETE FROM doc WHERE name = $1", db_text(row->id));
    return DB_EXEC(d, err,
                   "INSERT INTO doc (name, kind, body) VALUES ($1, $2, $3) "
                   "ON CONFLICT (name) DO UPDATE SET body = excluded.body",
                   db_text(row->id), db_int(kind_of(row->id)),
                   db_blob(row->body.data, row->body.len));
}

/* The row of a deployment that neither is nor was the last one goes. */
static int write_progress(struct db *d, const struct row *row, struct err *err)
{
    int r = DB_EXEC(
        d, err, "DELETE FROM fetched WHERE machine = $1 AND service = $2 AND deployment <> $3",
        db_text(row->id), db_text(row->service), db_text(row->moved == NULL ? "" : row->moved));

    return r < 0 ? r
                 : DB_EXEC(d, err,
                           "INSERT INTO fetched (machine, service, deployment, body) "
                           "VALUES ($1, $2, $3, $4)",
                           db_text(row->id), db_text(row->service), db_text(row->deployment),
                           db_blob(row->body.data, row->body.len));
}

static int write_row(struct db *d, const struct row *row, struct err *err)
{
    const struct db_value body =
        row->body.len == 0 ? db_null() : db_blob(row->body.data, row->body.len);

    switch (row->kind) {
    case ROW_MACHINE:
        return DB_EXEC(d, err,
                       "INSERT INTO machine (id, self, linked, seen) VALUES ($1, $2, $3, $4) "
                       "ON CONFLICT (id) DO UPDATE SET self = excluded.self, "
                       "linked = excluded.linked, seen = excluded.seen",
                       db_text(row->id), body, db_int(row->linked), db_int(row->at_ms));
    case ROW_REPORT:
        return DB_EXEC(d, err,
                       "INSERT INTO report (machine, service, runs, body, moved) "
                       "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (machine, service) DO UPDATE SET "
                       "runs = excluded.runs, body = excluded.body, moved = excluded.moved",
                       db_text(row->id), db_text(row->service),
                       db_blob(&row->runs, sizeof(row->runs)), body, db_text(row->moved));
    case ROW_WANT:
        if (row->body.len == 0)
            return DB_EXEC(d, err, "DELETE FROM artifact WHERE id = $1", db_text(row->id));
        return DB_EXEC(d, err,
                       "INSERT INTO artifact (id, packs) VALUES ($1, $2) "
                       "ON CONFLICT (id) DO UPDATE SET packs = excluded.packs",
                       db_text(row->id), body);
    case ROW_LEASE:
        return DB_EXEC(d, err, "INSERT INTO lease (service, machine, until) VALUES ($1, $2, $3)",
                       db_text(row->service), db_text(row->id), db_int(row->at_ms));
    case ROW_DOC:
        return write_doc(d, row, err);
    case ROW_PROGRESS:
        return write_progress(d, row, err);
    case ROW_SENT:
        return DB_EXEC(d, err,
                       "INSERT INTO sent (deployment, at, body) VALUES ($1, $2, $3) "
                       "ON CONFLICT (deployment) DO UPDATE SET at = excluded.at, "
                       "body = excluded.body",
                       db_text(row->id), db_int(row->at_ms), body);
    case ROW_NONE:
        break;
    }
    return err_set(err, ERR_INTERNAL, "a row of no kind");
}

static int write_all(struct db *d, void *arg, struct err *err)
{
    const struct state_batch *b = arg;
    int r = b->leases ? DB_EXEC(d, err, "DELETE FROM lease") : 0;

    for (size_t i = 0; r == 0 && i < b->count; i++)
        r = write_row(d, &b->rows[i], err);
    return r;
}

int state_write(struct state *s, struct state_batch *b, struct err *err)
{
    int r = db_transaction(s->db, write_all, b, err);

    return r < 0 ? err_wrap(err, "save the region's state") : 0;
}
