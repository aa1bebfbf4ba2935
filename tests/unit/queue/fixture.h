/* fixture.h - a migrated database of one backend, and short forms of what every queue test does. */
#ifndef TESTS_UNIT_QUEUE_FIXTURE_H
#define TESTS_UNIT_QUEUE_FIXTURE_H

#include "lib/check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "lib/database.h"
#include "queue/queue.h"

enum { DEADLINE_MS = 900000 };

struct fixture {
    struct test_database database;
    struct db *d;
    struct err err;
};

static inline int set_up(void **state, enum test_backend backend)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    if (test_database_init(&f->database, backend)) {
        f->d = test_database_open(&f->database);
        assert_ok(db_migrate(f->d, &f->err), &f->err);
    }
    *state = f;
    return 0;
}

static inline int set_up_sqlite(void **state)
{
    return set_up(state, TEST_SQLITE);
}

static inline int set_up_postgres(void **state)
{
    return set_up(state, TEST_POSTGRES);
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;

    db_close(f->d);
    if (f->database.url != NULL)
        test_database_release(&f->database);
    free(f);
    return 0;
}

static inline struct fixture *fixture_of(void **state)
{
    struct fixture *f = *state;

    if (f->d == NULL)
        skip();
    return f;
}

static inline int64_t enqueue(struct fixture *f, const char *name, const char *dedupe)
{
    int64_t id = 0;

    assert_ok(queue_enqueue(f->d, name, "abc", "{\"v\":1}", dedupe, DEADLINE_MS, &id, &f->err),
              &f->err);
    assert_true(id > 0);
    return id;
}

/* Claims, and gives the attempt; 0 if there was nothing to claim. */
static inline int64_t claim(struct fixture *f, const char *token, int64_t *ret_id)
{
    struct job *j;
    int64_t attempt;

    assert_ok(queue_claim(f->d, "w1", token, &j, &f->err), &f->err);
    if (j == NULL)
        return 0;
    assert_int_equal(j->status, JOB_RUNNING);
    if (ret_id != NULL)
        *ret_id = j->id;
    attempt = j->attempt;
    job_free(j);
    return attempt;
}

static inline int reap(struct fixture *f)
{
    int64_t requeued, failed;

    assert_ok(queue_reap(f->d, QUEUE_LOST_MS, &requeued, &failed, &f->err), &f->err);
    return (int)(requeued * 10 + failed);
}

/* The worker has been silent for as long. */
static inline void silence(struct fixture *f, int64_t id)
{
    assert_ok(DB_EXEC(f->d, &f->err, "UPDATE job SET last_h = last_h - $2 WHERE id = $1",
                      db_int(id), db_int(QUEUE_LOST_MS + 5000)),
              &f->err);
}

#define ON_BOTH(test)                                                \
    cmocka_unit_test_setup_teardown(test, set_up_sqlite, tear_down), \
        cmocka_unit_test_setup_teardown(test, set_up_postgres, tear_down)

#endif
