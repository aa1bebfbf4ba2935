/* The port over both databases: PostgreSQL's half runs when ENGINE_TEST_PG names a server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "db/db.h"
#include "db/driver.h"
#include "lib/database.h"

struct fixture {
    enum test_backend backend;
    struct test_database database;
    struct db *d;
};

static int set_up(void **state, enum test_backend backend)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    f->backend = backend;
    if (test_database_init(&f->database, backend))
        f->d = test_database_open(&f->database);
    *state = f;
    return 0;
}

static int set_up_sqlite(void **state)
{
    return set_up(state, TEST_SQLITE);
}

static int set_up_postgres(void **state)
{
    return set_up(state, TEST_POSTGRES);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    db_close(f->d);
    if (f->database.url != NULL)
        test_database_release(&f->database);
    free(f);
    return 0;
}

static struct db *db_of(void **state)
{
    struct fixture *f = *state;

    if (f->d == NULL)
        skip();
    return f->d;
}

#define OK(call)                                 \
    do {                                         \
        struct err err = ERR_INIT;               \
        if ((call) != 0)                         \
            fail_msg("%s: %s", #call, err.text); \
    } while (0)

static void values_come_back(void **state)
{
    struct db *d = db_of(state);
    static const unsigned char bytes[] = { 0, 1, 0xff, '\\', 0, 'x' };
    struct db_rows *rows;
    const void *blob;
    size_t len;

    OK(DB_EXEC(d, &err, "CREATE TABLE t (id {{id}}, n BIGINT, s TEXT, b {{blob}})"));
    OK(DB_EXEC(d, &err, "INSERT INTO t (n, s, b) VALUES ($1, $2, $3)", db_int(INT64_MIN),
               db_text("it's $1 {x}"), db_blob(bytes, sizeof(bytes))));
    OK(DB_EXEC(d, &err, "INSERT INTO t (s, n, b) VALUES ($2, $3, $1)", db_null(), db_text(NULL),
               db_int(7)));
    OK(DB_EXEC(d, &err, "INSERT INTO t (b) VALUES ($1)", db_blob(NULL, 0)));
    OK(DB_ROWS(d, &rows, &err, "SELECT id, n, s, b FROM t ORDER BY id"));
    assert_int_equal(db_rows_count(rows), 3);
    assert_int_equal(db_get_int(rows, 0, 0), 1);
    assert_true(db_get_int(rows, 0, 1) == INT64_MIN);
    assert_string_equal(db_get_text(rows, 0, 1), "-9223372036854775808");
    assert_string_equal(db_get_text(rows, 0, 2), "it's $1 {x}");
    blob = db_get_blob(rows, 0, 3, &len);
    assert_int_equal(len, sizeof(bytes));
    assert_memory_equal(blob, bytes, len);
    assert_int_equal(db_get_int(rows, 1, 1), 7);
    assert_true(db_is_null(rows, 1, 2));
    assert_string_equal(db_get_text(rows, 1, 2), "");
    assert_true(db_is_null(rows, 1, 3));
    assert_false(db_is_null(rows, 2, 3));
    (void)db_get_blob(rows, 2, 3, &len);
    assert_int_equal(len, 0);
    assert_true(db_is_null(rows, 3, 0)); /* outside the answer */
    assert_true(db_is_null(rows, 0, 4));
    db_rows_free(rows);
}

static void changes_are_counted(void **state)
{
    struct db *d = db_of(state);
    int64_t changed = -1;
    struct db_rows *rows;

    OK(DB_EXEC(d, &err, "CREATE TABLE t (n BIGINT)"));
    OK(DB_CHANGE(d, &changed, &err, "INSERT INTO t (n) VALUES (1), (2), (3)"));
    assert_int_equal(changed, 3);
    OK(DB_CHANGE(d, &changed, &err, "UPDATE t SET n = n + $1 WHERE n > $2", db_int(1), db_int(1)));
    assert_int_equal(changed, 2);
    OK(DB_CHANGE(d, &changed, &err, "DELETE FROM t WHERE n = $1", db_int(99)));
    assert_int_equal(changed, 0);
    OK(DB_ROWS(d, &rows, &err, "UPDATE t SET n = 0 WHERE n = $1 RETURNING n", db_int(1)));
    assert_int_equal(db_rows_count(rows), 1);
    db_rows_free(rows);
}

/* Parameters are found by their number, not by the order in which they stand. */
static void parameters_by_number(void **state)
{
    struct db *d = db_of(state);
    struct db_rows *rows;

    OK(DB_ROWS(d, &rows, &err, "SELECT $2, $1, $2", db_text("one"), db_text("two")));
    assert_string_equal(db_get_text(rows, 0, 0), "two");
    assert_string_equal(db_get_text(rows, 0, 1), "one");
    assert_string_equal(db_get_text(rows, 0, 2), "two");
    db_rows_free(rows);
}

struct failure {
    const char *sql;
    enum err_code code;
};

static void failures_have_codes(void **state)
{
    static const struct failure failures[] = {
        { "SELEC 1", ERR_INTERNAL },
        { "SELECT 1 FROM no_such_table", ERR_INTERNAL },
        { "SELECT {{nonsense}}", ERR_INTERNAL },
        { "SELECT {{lock", ERR_INTERNAL },
        { "INSERT INTO t (n) VALUES (1)", ERR_CONFLICT },
        { "INSERT INTO t (n, parent) VALUES (2, 99)", ERR_CONFLICT },
        { "INSERT INTO t (n, even) VALUES (2, 3)", ERR_INTERNAL },
    };
    struct db *d = db_of(state);

    OK(DB_EXEC(d, &err,
               "CREATE TABLE t (n BIGINT PRIMARY KEY, parent BIGINT REFERENCES t (n), even "
               "BIGINT CHECK (even % 2 = 0))"));
    OK(DB_EXEC(d, &err, "INSERT INTO t (n) VALUES (1)"));
    for (size_t i = 0; i < COUNT_OF(failures); i++) {
        struct err err = ERR_INIT;

        if (DB_EXEC(d, &err, failures[i].sql) != -(int)failures[i].code)
            fail_msg("%s: %s, %s", failures[i].sql, err_name(err.code), err.text);
        assert_true(err.text[0] != '\0');
    }
}

static void expands_tokens(void **state)
{
    AUTO_BUF pg = BUF_INIT;
    AUTO_BUF lite = BUF_INIT;

    (void)state;
    OK(db_expand(&pg, "a {{id}} {{lock}} {{pg:x}}{{sqlite:y}} {{blob}} b", false, &err));
    OK(db_expand(&lite, "a {{id}} {{lock}} {{pg:x}}{{sqlite:y}} {{blob}} b", true, &err));
    assert_string_equal(pg.data, "a BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY FOR UPDATE "
                                 "SKIP LOCKED x BYTEA b");
    assert_string_equal(lite.data, "a INTEGER PRIMARY KEY AUTOINCREMENT  y BLOB b");
}

static void clock_of_the_database(void **state)
{
    struct db *d = db_of(state);
    struct db_rows *rows;

    OK(db_migrate(d, &err));
    OK(DB_ROWS(d, &rows, &err, "SELECT now_ms(), now_ms() > $1", db_int(1600000000000)));
    assert_int_equal(db_get_int(rows, 0, 1), 1);
    db_rows_free(rows);
}

static void migrates_once(void **state)
{
    struct db *d = db_of(state);
    struct db_rows *rows;
    struct err why = ERR_INIT;

    OK(db_migrate(d, &err));
    OK(db_migrate(d, &err));
    OK(DB_ROWS(d, &rows, &err, "SELECT version, name FROM schema_version ORDER BY version"));
    assert_true(db_rows_count(rows) >= 1);
    assert_int_equal(db_get_int(rows, 0, 0), 1);
    assert_string_equal(db_get_text(rows, 0, 1), "001_queue.sql");
    db_rows_free(rows);
    OK(DB_EXEC(d, &err, "INSERT INTO schema_version (version, name) VALUES (9999, 'later')"));
    assert_int_equal(db_migrate(d, &why), -ERR_INVALID);
    assert_non_null(strstr(why.text, "9999"));
}

static void *migrate_thread(void *arg)
{
    struct db *d = test_database_open(arg);
    struct err err = ERR_INIT;
    int r = db_migrate(d, &err);

    if (r < 0)
        fprintf(stderr, "migrate: %s\n", err.text);
    db_close(d);
    return r == 0 ? NULL : arg;
}

static void migrates_under_a_lock(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[6];

    (void)db_of(state);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, migrate_thread, &f->database), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

static int insert_and_fail(struct db *d, void *arg, struct err *err)
{
    int *codes = arg;
    int code = codes[0];
    int r = DB_EXEC(d, err, "INSERT INTO t (n) VALUES ($1)", db_int(code));

    codes[1]++;
    if (r < 0 || code == 0)
        return r;
    return err_set(err, (enum err_code)code, "the body gives up");
}

static int64_t count_rows(struct db *d)
{
    struct db_rows *rows;
    int64_t n;

    OK(DB_ROWS(d, &rows, &err, "SELECT COUNT(*) FROM t"));
    n = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return n;
}

static int nested(struct db *d, void *arg, struct err *err)
{
    return db_transaction(d, insert_and_fail, arg, err);
}

static void transactions(void **state)
{
    struct db *d = db_of(state);
    int commits[2] = { 0, 0 }, denied[2] = { ERR_DENIED, 0 }, again[2] = { ERR_AGAIN, 0 };
    struct err why = ERR_INIT;

    OK(DB_EXEC(d, &err, "CREATE TABLE t (n BIGINT)"));
    OK(db_transaction(d, insert_and_fail, commits, &err));
    assert_int_equal(count_rows(d), 1);
    assert_int_equal(db_transaction(d, insert_and_fail, denied, &why), -ERR_DENIED);
    assert_int_equal(denied[1], 1);
    assert_int_equal(db_transaction(d, insert_and_fail, again, NULL), -ERR_AGAIN);
    assert_int_equal(again[1], 10);
    assert_int_equal(db_transaction(d, nested, commits, &why), -ERR_INTERNAL);
    assert_int_equal(count_rows(d), 1);
}

static int add_one(struct db *d, void *arg, struct err *err)
{
    struct db_rows *rows;
    int64_t n;
    int r = DB_ROWS(d, &rows, err, "SELECT n FROM t");

    (void)arg;
    if (r < 0)
        return r;
    n = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return DB_EXEC(d, err, "UPDATE t SET n = $1", db_int(n + 1));
}

enum { ADDERS = 4, ADDS = 5 };

static void *add_thread(void *arg)
{
    struct db *d = test_database_open(arg);
    struct err err = ERR_INIT;
    void *failed = NULL;

    if (!db_is_sqlite(d) &&
        DB_EXEC(d, &err, "SET default_transaction_isolation = 'serializable'") < 0)
        failed = arg;
    for (int i = 0; i < ADDS && failed == NULL; i++) {
        /* ten tries may be too few under this contention: that is then the caller's -ERR_AGAIN */
        int r = db_transaction(d, add_one, NULL, &err);

        while (r == -ERR_AGAIN)
            r = db_transaction(d, add_one, NULL, &err);
        if (r < 0) {
            fprintf(stderr, "add: %s\n", err.text);
            failed = arg;
        }
    }
    db_close(d);
    return failed;
}

static void concurrent_transactions(void **state)
{
    struct fixture *f = *state;
    struct db *d = db_of(state);
    pthread_t threads[ADDERS];
    struct db_rows *rows;

    OK(DB_EXEC(d, &err, "CREATE TABLE t (n BIGINT)"));
    OK(DB_EXEC(d, &err, "INSERT INTO t (n) VALUES (0)"));
    for (size_t i = 0; i < ADDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_thread, &f->database), 0);
    for (size_t i = 0; i < ADDERS; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    OK(DB_ROWS(d, &rows, &err, "SELECT n FROM t"));
    assert_int_equal(db_get_int(rows, 0, 0), ADDERS * ADDS);
    db_rows_free(rows);
}

/* More texts than the cache holds, and a text again with parameters of another kind. */
static void many_statements(void **state)
{
    struct db *d = db_of(state);
    struct db_rows *rows;

    for (int i = 0; i < DB_STATEMENTS_MAX + 20; i++) {
        AUTO_FREE char *sql = mem_printf("SELECT %d", i);

        OK(DB_ROWS(d, &rows, &err, sql));
        assert_int_equal(db_get_int(rows, 0, 0), i);
        db_rows_free(rows);
    }
    OK(DB_ROWS(d, &rows, &err, "SELECT $1", db_int(1)));
    db_rows_free(rows);
    OK(DB_ROWS(d, &rows, &err, "SELECT $1", db_text("x")));
    assert_string_equal(db_get_text(rows, 0, 0), "x");
    db_rows_free(rows);
}

static void waits_for_a_hint(void **state)
{
    struct fixture *f = *state;
    struct db *d = db_of(state);
    struct db *other = test_database_open(&f->database);

    OK(DB_EXEC(other, &err, "CREATE TABLE t (n BIGINT)"));
    (void)db_wait(d, "job", 0); /* listens from now on, forgets what was before */
    (void)db_wait(d, "job", 0);
    assert_false(db_wait(d, "job", 0));
    OK(DB_EXEC(other, &err, "INSERT INTO t (n) VALUES (1)"));
    db_notify(other, "job");
    assert_true(db_wait(d, "job", 10000));
    assert_false(db_wait(d, "job", 0));
    db_close(other);
}

/* The server ends our session: the call that meets it says so (or finds out before it sends), and
 * the one after works on a new connection. */
static int end_session(struct db *d, void *arg, struct err *err)
{
    struct db *other = arg;
    struct db_rows *rows;
    int64_t pid;
    int r = DB_ROWS(d, &rows, err, "SELECT pg_backend_pid()");

    if (r < 0)
        return r;
    pid = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    r = DB_EXEC(other, err, "SELECT pg_terminate_backend(CAST($1 AS INTEGER), 10000)", db_int(pid));
    if (r < 0)
        return r;
    r = DB_EXEC(d, err, "SELECT 1");
    assert_int_equal(r, -ERR_UNREACHABLE);
    r = DB_EXEC(d, err, "SELECT 1");
    assert_int_equal(r, -ERR_UNREACHABLE);
    return r;
}

static void connects_again(void **state)
{
    struct fixture *f = *state;
    struct db *d = db_of(state);
    struct db *other = test_database_open(&f->database);
    struct err why = ERR_INIT;

    assert_int_equal(db_transaction(d, end_session, other, &why), -ERR_UNREACHABLE);
    OK(DB_EXEC(d, &err, "SELECT 1"));
    db_close(other);
}

static void forgotten_statements(void **state)
{
    struct db *d = db_of(state);
    struct db_rows *rows;

    OK(DB_EXEC(d, &err, "SELECT 1 + $1", db_int(1)));
    OK(DB_EXEC(d, &err, "DEALLOCATE ALL"));
    OK(DB_ROWS(d, &rows, &err, "SELECT 1 + $1", db_int(1)));
    assert_int_equal(db_get_int(rows, 0, 0), 2);
    db_rows_free(rows);
}

struct url {
    const char *url;
    enum err_code code;
    const char *text; /* in the message */
};

static void refuses_urls(void **state)
{
    static const struct url urls[] = {
        { "", ERR_INVALID, "no database is named" },
        { "mysql", ERR_INVALID, "'mysql' names no database" },
        { "mysql://x", ERR_INVALID, "'mysql://x' names no database" },
        { "sqlite:", ERR_INVALID, "names no file" },
        { "sqlite:/nowhere/at/all.db", ERR_UNREACHABLE, "unable to open" },
        { "postgres://127.0.0.1:1/nobody", ERR_UNREACHABLE, "'nobody' on 127.0.0.1" },
        { "host=127.0.0.1 port=1 dbname=nobody", ERR_UNREACHABLE, "is the server running" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        struct err err = ERR_INIT;
        struct db *d;

        if (db_open(&d, urls[i].url, &err) != -(int)urls[i].code)
            fail_msg("%s: %s", urls[i].url, err.text);
        assert_null(d);
        if (strstr(err.text, urls[i].text) == NULL)
            fail_msg("%s: %s", urls[i].url, err.text);
    }
}

#define ON_SQLITE(test) cmocka_unit_test_setup_teardown(test, set_up_sqlite, tear_down)
#define ON_POSTGRES(test) cmocka_unit_test_setup_teardown(test, set_up_postgres, tear_down)
#define ON_BOTH(test) ON_SQLITE(test), ON_POSTGRES(test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(values_come_back),         ON_BOTH(changes_are_counted),
        ON_BOTH(parameters_by_number),     ON_BOTH(failures_have_codes),
        ON_BOTH(clock_of_the_database),    ON_BOTH(migrates_once),
        ON_BOTH(migrates_under_a_lock),    ON_BOTH(transactions),
        ON_BOTH(concurrent_transactions),  ON_BOTH(many_statements),
        ON_BOTH(waits_for_a_hint),         ON_POSTGRES(connects_again),
        ON_POSTGRES(forgotten_statements), cmocka_unit_test(expands_tokens),
        cmocka_unit_test(refuses_urls),
    };

    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
