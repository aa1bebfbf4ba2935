/* Events, decisions, audit, duties and tokens, on each database. */
#include "lib/check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "control/auth.h"
#include "control/duty.h"
#include "control/history.h"
#include "io/loop.h"
#include "lib/database.h"
#include "lib/tmpdir.h"

struct fixture {
    struct test_database t;
    struct db *d;
    struct err err;
};

static int set_up(void **state, enum test_backend backend)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    *state = f;
    if (!test_database_init(&f->t, backend))
        return 0;
    f->d = test_database_open(&f->t);
    assert_ok(db_migrate(f->d, &f->err), &f->err);
    return 0;
}

static int on_sqlite(void **state)
{
    return set_up(state, TEST_SQLITE);
}

static int on_postgres(void **state)
{
    return set_up(state, TEST_POSTGRES);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->d != NULL) {
        db_close(f->d);
        test_database_release(&f->t);
    }
    free(f);
    return 0;
}

static struct fixture *fixture_of(void **state)
{
    struct fixture *f = *state;

    if (f->d == NULL)
        skip();
    return f;
}

static int64_t count(struct fixture *f, const char *sql)
{
    struct db_rows *rows = NULL;
    int64_t n;

    assert_ok(db_query(f->d, sql, NULL, 0, &rows, NULL, &f->err), &f->err);
    n = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return n;
}

static int two_events_and_a_failure(struct db *d, void *arg, struct err *err)
{
    int r = event_add(d, "d-1", "state", "one", NULL, err);

    (void)arg;
    if (r == 0)
        r = event_add(d, "d-1", "state", "two", NULL, err);
    return r < 0 ? r : err_set(err, ERR_CANCELLED, "no");
}

static void events_have_no_holes(void **state)
{
    struct fixture *f = fixture_of(state);
    AUTO_JSON *data = json_pack("{s:i}", "n", 1);

    assert_ok(event_add(f->d, "d-1", "state", "building", data, &f->err), &f->err);
    assert_error(db_transaction(f->d, two_events_and_a_failure, NULL, &f->err), ERR_CANCELLED,
                 &f->err, "no");
    assert_ok(event_add(f->d, "d-2", "state", "rolling", NULL, &f->err), &f->err);
    assert_int_equal(count(f, "SELECT COUNT(*) FROM event"), 2);
    assert_int_equal(count(f, "SELECT MAX(seq) FROM event"), 2);
    assert_error(counter_next(f->d, "nothing", &(int64_t){ 0 }, &f->err), ERR_INTERNAL, &f->err,
                 "no counter nothing");
}

static void say(struct fixture *f, const char *deployment, const char *action, const char *reason)
{
    assert_ok(decision_add(f->d, deployment, "advance", action, reason, "b", "{}", "{}", &f->err),
              &f->err);
}

static void repeated_decisions_are_one_row(void **state)
{
    struct fixture *f = fixture_of(state);

    say(f, "d-1", "wait", "not yet");
    say(f, "d-1", "wait", "not yet");
    say(f, "d-2", "wait", "not yet");
    say(f, "d-1", "wait", "not yet");
    say(f, "d-1", "go", "");
    say(f, "d-1", "wait", "not yet");
    assert_int_equal(count(f, "SELECT COUNT(*) FROM decision WHERE deployment = 'd-1'"), 3);
    assert_int_equal(count(f, "SELECT MAX(times) FROM decision WHERE deployment = 'd-1'"), 3);
}

static void audit_shows_tampering(void **state)
{
    static const char *const tampers[] = {
        "UPDATE audit SET actor = 'eve' WHERE seq = 2",
        "UPDATE audit SET reason = reason || ' ' WHERE seq = 2",
        "UPDATE audit SET prev = '' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 3", /* the last one */
    };
    struct fixture *f = fixture_of(state);
    int64_t bad = -1;

    for (int i = 0; i < 3; i++)
        assert_ok(audit_add(f->d, "ann", "deploy", "d-1", "because", "done", &f->err), &f->err);
    assert_ok(audit_verify(f->d, &bad, &f->err), &f->err);
    assert_int_equal(bad, 0);
    for (size_t i = 0; i < COUNT_OF(tampers); i++) {
        assert_ok(db_query(f->d, "CREATE TABLE keep AS SELECT * FROM audit", NULL, 0, NULL, NULL,
                           &f->err),
                  &f->err);
        assert_ok(db_query(f->d, tampers[i], NULL, 0, NULL, NULL, &f->err), &f->err);
        assert_ok(audit_verify(f->d, &bad, &f->err), &f->err);
        assert_in_range(bad, 2, 3);
        assert_ok(db_query(f->d, "DELETE FROM audit", NULL, 0, NULL, NULL, &f->err), &f->err);
        assert_ok(
            db_query(f->d, "INSERT INTO audit SELECT * FROM keep", NULL, 0, NULL, NULL, &f->err),
            &f->err);
        assert_ok(db_query(f->d, "DROP TABLE keep", NULL, 0, NULL, NULL, &f->err), &f->err);
    }
}

static void one_holder_a_duty(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t a = 0, b = 0, again = 0;

    assert_ok(duty_claim(f->d, "conductor", "a", &a, &f->err), &f->err);
    assert_true(a > 0);
    assert_ok(duty_claim(f->d, "conductor", "b", &b, &f->err), &f->err);
    assert_int_equal(b, 0);
    assert_ok(duty_check(f->d, "conductor", a, &f->err), &f->err);
    /* Restarted under its name: the fence of its former life is worth nothing. */
    assert_ok(duty_claim(f->d, "conductor", "a", &again, &f->err), &f->err);
    assert_true(again > a);
    assert_error(duty_check(f->d, "conductor", a, &f->err), ERR_FENCED, &f->err, "somebody else");
    /* Silent for too long, or gone: the other one gets it. */
    duty_leave(f->d, "conductor", again);
    assert_ok(duty_claim(f->d, "conductor", "b", &b, &f->err), &f->err);
    assert_true(b > again);
    assert_error(duty_check(f->d, "conductor", again, &f->err), ERR_FENCED, &f->err, "conductor");
    /* Duties do not know of each other. */
    assert_ok(duty_claim(f->d, "monitor", "a", &a, &f->err), &f->err);
    assert_true(a > 0);
}

static void tokens(void **state)
{
    struct fixture *f = fixture_of(state);
    AUTO_BUF token = BUF_INIT, old = BUF_INIT, name = BUF_INIT;
    enum role role = ROLE_NOBODY;

    assert_ok(token_make(f->d, "ci", ROLE_RELEASER, 0, &token, &f->err), &f->err);
    assert_memory_equal(token.data, "dk_", 3);
    assert_int_equal(token.len, 3 + 64);
    assert_ok(token_check(f->d, buf_str(&token), &role, &name, &f->err), &f->err);
    assert_int_equal(role, ROLE_RELEASER);
    assert_string_equal(buf_str(&name), "ci");
    assert_error(token_check(f->d, "dk_0", &role, &name, &f->err), ERR_DENIED, &f->err, "no such");
    assert_ok(token_make(f->d, "old", ROLE_ADMIN, wall_ms() - 1000, &old, &f->err), &f->err);
    assert_error(token_check(f->d, buf_str(&old), &role, &name, &f->err), ERR_DENIED, &f->err,
                 "expired");
    assert_error(token_make(f->d, "", ROLE_ADMIN, 0, &old, &f->err), ERR_INVALID, &f->err, "name");
    /* The token itself is nowhere in the database. */
    assert_int_equal(count(f, "SELECT COUNT(*) FROM token WHERE hash LIKE 'dk_%'"), 0);
}

static void the_admins_token_stays(void **state)
{
    struct fixture *f = fixture_of(state);
    const char *path = tmpdir_path("admin-%p.token", (void *)f);
    AUTO_BUF a = BUF_INIT, b = BUF_INIT, name = BUF_INIT;
    enum role role = ROLE_NOBODY;

    assert_ok(token_admin_file(f->d, path, &a, &f->err), &f->err);
    /* A new database, the same file. */
    assert_ok(db_query(f->d, "DELETE FROM token", NULL, 0, NULL, NULL, &f->err), &f->err);
    assert_ok(token_admin_file(f->d, path, &b, &f->err), &f->err);
    assert_string_equal(buf_str(&a), buf_str(&b));
    assert_ok(token_check(f->d, buf_str(&a), &role, &name, &f->err), &f->err);
    assert_int_equal(role, ROLE_ADMIN);
}

#define ON_BOTH(test)                                           \
    { #test, test, on_sqlite, tear_down, NULL },                \
    {                                                           \
#test " (postgres)", test, on_postgres, tear_down, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(events_have_no_holes),
        ON_BOTH(repeated_decisions_are_one_row),
        ON_BOTH(audit_shows_tampering),
        ON_BOTH(one_holder_a_duty),
        ON_BOTH(tokens),
        ON_BOTH(the_admins_token_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
