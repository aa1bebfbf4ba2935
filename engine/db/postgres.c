#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "db/db.h"
#include "db/driver.h"
#include "io/loop.h"

/* Object identifiers of built-in types (pg_type.dat); they never change. */
enum { OID_BOOL = 16, OID_BYTEA = 17, OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, OID_TEXT = 25 };

enum { CHANNELS_MAX = 8, CHANNEL_MAX_BYTES = 63 };

struct postgres {
    PGconn *handle;
    char channels[CHANNELS_MAX][CHANNEL_MAX_BYTES + 1]; /* listened to on this connection */
    size_t nchannels;
};

static PGconn *of(struct db *d)
{
    return ((struct postgres *)d->conn)->handle;
}

struct state_code {
    const char *prefix; /* of the SQLSTATE */
    enum err_code code;
};

/* First match wins. 25006: connected to a server that has become read-only. */
static const struct state_code state_codes[] = {
    { "08", ERR_UNREACHABLE },  { "57P", ERR_UNREACHABLE }, { "25006", ERR_UNREACHABLE },
    { "533", ERR_UNREACHABLE }, { "40", ERR_AGAIN },        { "55P03", ERR_AGAIN },
    { "23505", ERR_CONFLICT },  { "23503", ERR_CONFLICT },  { "42501", ERR_DENIED },
    { "28", ERR_DENIED },       { "53100", ERR_NO_SPACE },  { "53", ERR_AGAIN },
    { "57014", ERR_TIMEOUT },
};

static enum err_code code_of(const char *state)
{
    for (size_t i = 0; i < COUNT_OF(state_codes); i++) {
        if (strncmp(state, state_codes[i].prefix, strlen(state_codes[i].prefix)) == 0)
            return state_codes[i].code;
    }
    return ERR_INTERNAL;
}

/* libpq ends its messages with a newline, and has several lines in some. */
static int fail_text(struct err *err, enum err_code code, const char *what, const char *message)
{
    char line[400];
    size_t len;

    snprintf(line, sizeof(line), "%s", message);
    len = strlen(line);
    while (len > 0 && line[len - 1] == '\n')
        line[--len] = '\0';
    for (char *p = line; *p != '\0'; p++) {
        if (*p == '\n' || *p == '\t')
            *p = ' ';
    }
    return err_set(err, code, "%s: %s", what, line);
}

static int fail(struct db *d, const PGresult *result, struct err *err, const char *what)
{
    const char *state = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (PQstatus(of(d)) != CONNECTION_OK)
        return fail_text(err, ERR_UNREACHABLE, "database connection lost", PQerrorMessage(of(d)));
    if (state == NULL)
        return fail_text(err, ERR_INTERNAL, what, PQerrorMessage(of(d)));
    return fail_text(err, code_of(state), what, PQresultErrorMessage(result));
}

static void postgres_close(struct db *d)
{
    PQfinish(of(d));
    free(d->conn);
    d->conn = NULL;
}

static void ignore_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

struct setting {
    const char *key, *value;
    const char *environment; /* the variable that says the same; NULL: none does */
};

/* A dead server is noticed within half a minute, and of several hosts the one that takes writes is
 * used, unless the URL or the environment says otherwise. */
static const struct setting settings[] = {
    { "connect_timeout", "5", "PGCONNECT_TIMEOUT" },
    { "keepalives_idle", "10", NULL },
    { "keepalives_interval", "5", NULL },
    { "keepalives_count", "3", NULL },
    { "tcp_user_timeout", "25000", NULL },
    { "target_session_attrs", "read-write", "PGTARGETSESSIONATTRS" },
    { "client_encoding", "UTF8", NULL },
    { "fallback_application_name", "slipway", NULL },
};

static PGconn *connect_to(const char *url)
{
    const char *keys[COUNT_OF(settings) + 2], *values[COUNT_OF(settings) + 2];
    size_t n = 0;

    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        if (settings[i].environment != NULL && getenv(settings[i].environment) != NULL)
            continue;
        keys[n] = settings[i].key;
        values[n++] = settings[i].value;
    }
    keys[n] = "dbname"; /* expanded; what stands in the URL overrides what stands before */
    values[n++] = url;
    keys[n] = values[n] = NULL;
    return PQconnectdbParams(keys, values, 1);
}

static int postgres_open(struct db *d, struct err *err)
{
    struct postgres *p;
    PGconn *handle = connect_to(d->url);

    if (handle == NULL)
        return err_set(err, ERR_INTERNAL, "out of memory");
    if (PQstatus(handle) != CONNECTION_OK) {
        const char *host = PQhost(handle), *name = PQdb(handle), *message = PQerrorMessage(handle);
        char what[300];
        enum err_code code = ERR_UNREACHABLE;

        if (strstr(message, "authentication failed") != NULL ||
            strstr(message, "no password supplied") != NULL ||
            strstr(message, "no pg_hba.conf entry") != NULL)
            code = ERR_DENIED;
        snprintf(what, sizeof(what), "cannot open database '%s' on %s (%s)",
                 name == NULL ? "" : name, host == NULL || host[0] == '\0' ? "this host" : host,
                 code == ERR_DENIED ? "check user and password in the URL or PGPASSWORD"
                                    : "is the server running, and the URL right?");
        fail_text(err, code, what, message);
        PQfinish(handle);
        return -(int)code;
    }
    PQsetNoticeReceiver(handle, ignore_notice, NULL);
    p = mem_alloc(sizeof(*p));
    p->handle = handle;
    d->conn = p;
    return 0;
}

/* An idle connection that the server has closed is readable. */
static bool postgres_alive(struct db *d)
{
    struct pollfd fd = { PQsocket(of(d)), POLLIN, 0 };

    if (PQstatus(of(d)) != CONNECTION_OK)
        return false;
    if (poll(&fd, 1, 0) <= 0)
        return true;
    return PQconsumeInput(of(d)) == 1 && PQstatus(of(d)) == CONNECTION_OK;
}

static void postgres_forget(struct db *d, struct db_statement *s)
{
    char sql[64];

    /* Those of a broken connection are gone with it. */
    if (d->conn != NULL && PQstatus(of(d)) == CONNECTION_OK && !d->lost) {
        snprintf(sql, sizeof(sql), "DEALLOCATE s%d", s->number);
        PQclear(PQexec(of(d), sql));
    }
    s->handle = NULL;
}

struct bound {
    const char *values[DB_PARAMS_MAX];
    int lengths[DB_PARAMS_MAX];
    int formats[DB_PARAMS_MAX];
    Oid types[DB_PARAMS_MAX];
    char numbers[DB_PARAMS_MAX][24];
};

static void bind_params(struct bound *b, const struct db_value *params, size_t nparams)
{
    for (size_t i = 0; i < nparams; i++) {
        const struct db_value *v = &params[i];

        b->values[i] = v->data;
        b->lengths[i] = (int)v->len;
        b->formats[i] = v->kind == DB_BLOB;
        b->types[i] = 0;
        if (v->kind == DB_INT) {
            snprintf(b->numbers[i], sizeof(b->numbers[i]), "%lld", (long long)v->i);
            b->values[i] = b->numbers[i];
            b->types[i] = OID_INT8;
        } else if (v->kind == DB_TEXT) {
            b->types[i] = OID_TEXT;
        } else if (v->kind == DB_BLOB) {
            b->types[i] = OID_BYTEA;
        }
    }
}

static void add_cell(struct db_rows *rows, const PGresult *result, int row, int col)
{
    const char *text = PQgetvalue(result, row, col);
    size_t len = (size_t)PQgetlength(result, row, col);
    unsigned char *bytes;

    if (PQgetisnull(result, row, col)) {
        db_rows_add(rows, DB_NULL, 0, NULL, 0);
        return;
    }
    switch (PQftype(result, col)) {
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
        db_rows_add(rows, DB_INT, strtoll(text, NULL, 10), text, len);
        break;
    case OID_BOOL:
        db_rows_add(rows, DB_INT, text[0] == 't', text[0] == 't' ? "1" : "0", 1);
        break;
    case OID_BYTEA:
        bytes = PQunescapeBytea((const unsigned char *)text, &len);
        db_rows_add(rows, DB_BLOB, 0, bytes, bytes == NULL ? 0 : len);
        PQfreemem(bytes);
        break;
    default:
        db_rows_add(rows, DB_TEXT, 0, text, len);
    }
}

static int collect(const PGresult *result, struct db_rows *rows, struct err *err)
{
    int count = PQntuples(result);

    if (count > DB_ROWS_MAX)
        return err_set(err, ERR_LIMIT, "answer has more than %d rows", DB_ROWS_MAX);
    rows->cols = PQnfields(result);
    for (int row = 0; row < count; row++) {
        for (int col = 0; col < rows->cols; col++)
            add_cell(rows, result, row, col);
    }
    return 0;
}

static bool is_done(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

static int prepare(struct db *d, struct db_statement *s, const struct bound *b, size_t nparams,
                   struct err *err)
{
    char name[24];
    PGresult *result;
    int r = 0;

    snprintf(name, sizeof(name), "s%d", s->number);
    result = PQprepare(of(d), name, s->sql, (int)nparams, b->types);
    if (!is_done(result))
        r = fail(d, result, err, s->sql);
    else
        s->handle = s;
    PQclear(result);
    return r;
}

/* The server no longer knows what we prepared: a pooler gave us another session, or the tables were
 * altered. */
static bool is_stale(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return state != NULL && (strcmp(state, "26000") == 0 || strcmp(state, "0A000") == 0);
}

static int postgres_run(struct db *d, struct db_statement *s, const struct db_value *params,
                        size_t nparams, struct db_rows *rows, int64_t *changed, struct err *err)
{
    struct bound b;
    char name[24];
    PGresult *result;
    int r = 0;

    bind_params(&b, params, nparams);
    if (s->handle == NULL)
        r = prepare(d, s, &b, nparams, err);
    if (r < 0)
        return r;
    snprintf(name, sizeof(name), "s%d", s->number);
    result = PQexecPrepared(of(d), name, (int)nparams, b.values, b.lengths, b.formats, 0);
    if (is_done(result)) {
        r = collect(result, rows, err);
        *changed = strtoll(PQcmdTuples(result), NULL, 10);
    } else if (is_stale(result)) {
        s->handle = NULL;
        s->number = ++d->next_number;
        r = err_set(err, ERR_AGAIN, "the server has forgotten a prepared statement");
    } else {
        r = fail(d, result, err, "query");
    }
    PQclear(result);
    if (r == -(int)ERR_AGAIN && s->handle == NULL && !d->in_transaction)
        return postgres_run(d, s, params, nparams, rows, changed, err);
    return r;
}

static int postgres_script(struct db *d, const char *sql, struct err *err)
{
    PGresult *result = PQexec(of(d), sql);
    int r = 0;

    if (!is_done(result))
        r = fail(d, result, err, strlen(sql) < 80 ? sql : "script");
    else if (strcmp(sql, "COMMIT") == 0 && strcmp(PQcmdStatus(result), "ROLLBACK") == 0)
        r = err_set(err, ERR_INTERNAL, "a failed statement was ignored inside a transaction");
    PQclear(result);
    return r;
}

static void postgres_notify(struct db *d, const char *channel)
{
    const char *values[] = { channel };

    if (PQstatus(of(d)) == CONNECTION_OK && PQtransactionStatus(of(d)) != PQTRANS_INERROR)
        PQclear(PQexecParams(of(d), "SELECT pg_notify($1, '')", 1, NULL, values, NULL, NULL, 0));
}

static bool is_listening(const struct postgres *p, const char *channel)
{
    for (size_t i = 0; i < p->nchannels; i++) {
        if (strcmp(p->channels[i], channel) == 0)
            return true;
    }
    return false;
}

static void listen_to(struct postgres *p, const char *channel)
{
    AUTO_BUF sql = BUF_INIT;
    char *name;

    if (is_listening(p, channel) || p->nchannels == CHANNELS_MAX ||
        strlen(channel) > CHANNEL_MAX_BYTES)
        return;
    name = PQescapeIdentifier(p->handle, channel, strlen(channel));
    if (name == NULL)
        return;
    buf_printf(&sql, "LISTEN %s", name);
    PQfreemem(name);
    PQclear(PQexec(p->handle, sql.data));
    snprintf(p->channels[p->nchannels++], sizeof(p->channels[0]), "%s", channel);
}

static bool take_notifications(PGconn *handle)
{
    PGnotify *n;
    bool any = false;

    PQconsumeInput(handle);
    while ((n = PQnotifies(handle)) != NULL) {
        any = true;
        PQfreemem(n);
    }
    return any;
}

static bool postgres_wait(struct db *d, const char *channel, int64_t max_ms)
{
    struct postgres *p = d->conn;
    int64_t end = monotonic_ms() + max_ms;

    listen_to(p, channel);
    for (;;) {
        struct pollfd fd = { PQsocket(p->handle), POLLIN, 0 };
        int64_t left = end - monotonic_ms();

        if (take_notifications(p->handle))
            return true;
        if (left <= 0)
            return false;
        if (PQstatus(p->handle) != CONNECTION_OK)
            fd.fd = -1; /* poll(2) then only waits; the next query opens it again */
        if (poll(&fd, 1, (int)left) < 0 && errno != EINTR)
            return false;
    }
}

const struct db_driver db_postgres = {
    .sqlite = false,
    .open = postgres_open,
    .close = postgres_close,
    .alive = postgres_alive,
    .run = postgres_run,
    .forget = postgres_forget,
    .script = postgres_script,
    .notify = postgres_notify,
    .wait = postgres_wait,
};
