/* The origin store is read, and healed, by one control plane at a time; on SQLite and PostgreSQL. */
#include "control/scrubber.h"
#include "store/publish_delta.h"
#include "unit/control/cluster.h"
#include "unit/store/stocked.h"

struct scene {
    struct cluster *c;
    struct stock k; /* the origin; its store is the cluster's */
    struct wake *wake;
    struct err err;
};

static int start(void **state, enum test_backend backend)
{
    struct scene *s = mem_alloc(sizeof(*s));

    *state = s;
    s->c = cluster_new(backend);
    if (s->c == NULL)
        return 0;
    s->wake = wake_new();
    stock_init(&s->k);
    return 0;
}

static int on_sqlite(void **state)
{
    return start(state, TEST_SQLITE);
}

static int on_postgres(void **state)
{
    return start(state, TEST_POSTGRES);
}

static int tear_down(void **state)
{
    struct scene *s = *state;

    if (s->c != NULL) {
        stock_release(&s->k);
        wake_free(s->wake);
        cluster_free(s->c);
    }
    free(s);
    return 0;
}

static struct scene *scene_of(void **state)
{
    struct scene *s = *state;

    if (s->c == NULL)
        skip();
    return s;
}

/* The control plane knows it. */
static void know(struct scene *s, const struct published *p)
{
    char artifact[HASH_HEX], pack[HASH_HEX];

    cluster_sql(s->c,
                "INSERT INTO artifact (digest, pack, bytes, pack_bytes, files, service, "
                "created_at) VALUES ($1, $2, 1, 1, 1, 'web', 0)",
                hash_hex(&p->artifact, artifact), hash_hex(&p->pack, pack));
}

static struct scrubber *scrubber(struct scene *s, const char *holder, const char *from)
{
    struct scrubber_options o = { .db = s->c->t.url,
                                  .holder = holder,
                                  .store = s->k.s,
                                  .work = tmpdir_path("work"),
                                  .from = &from,
                                  .nfrom = from != NULL,
                                  .bytes_per_s = UINT64_C(1) << 40,
                                  .wake = s->wake };
    struct scrubber *x = NULL;

    assert_ok(scrubber_new(&x, &o, &s->err), &s->err);
    return x;
}

static bool pass(struct scene *s, struct scrubber *x)
{
    bool passed = false;

    assert_ok(scrubber_pass(x, &passed, &s->err), &s->err);
    return passed;
}

/* As if the last pass had ended long ago. */
static void due(struct scene *s)
{
    cluster_sql(s->c, "UPDATE scrub SET finished_at = 0 WHERE position <> $1 AND position <> $2",
                "x", "y");
}

static void row_is(struct scene *s, const char *what, const char *value)
{
    AUTO_FREE char *sql = mem_printf("SELECT %s FROM scrub WHERE position <> $1", what);
    AUTO_FREE char *text = cluster_get(s->c, sql, "x");

    assert_string_equal(text, value);
}

static char *last_event(struct scene *s)
{
    return cluster_get(s->c, "SELECT text FROM event WHERE kind = $1 ORDER BY seq DESC LIMIT 1",
                       "scrub");
}

static void a_good_store_is_left_alone(void **state)
{
    struct scene *s = scene_of(state);
    struct published p = stock_version(&s->k, 1), q = stock_version(&s->k, 2);
    struct scrubber *x = scrubber(s, "a", NULL);
    AUTO_FREE char *event = NULL;

    know(s, &p);
    know(s, &q);
    (void)stock_version(&s->k, 3); /* being built: nobody knows it yet */
    assert_true(pass(s, x));
    row_is(s, "good", "4"); /* a manifest and a pack each */
    row_is(s, "healed + rotten", "0");
    row_is(s, "passes", "1");
    row_is(s, "COALESCE(begun_at, -1)", "-1");
    event = last_event(s);
    assert_string_equal(event, "");
    assert_false(pass(s, x)); /* not due */
    due(s);
    assert_true(pass(s, x));
    row_is(s, "passes", "2");
    scrubber_free(x);
}

static void rot_is_healed_and_told(void **state)
{
    struct scene *s = scene_of(state);
    struct published p = stock_version(&s->k, 1), other;
    struct stock region;
    struct scrubber *x;
    AUTO_FREE char *event = NULL, *lost = NULL;

    know(s, &p);
    stock_init(&region);
    other = stock_version(&region, 1);
    assert_true(hash_equal(&other.pack, &p.pack));
    x = scrubber(s, "a", region.root);
    stock_spoil(&s->k, OBJECT_PACK, &p.pack);
    assert_true(pass(s, x));
    row_is(s, "healed", "1");
    event = last_event(s);
    assert_non_null(strstr(event, "rotted in the origin store"));
    assert_non_null(strstr(event, "was healed"));
    assert_true(stock_has(&s->k, OBJECT_PACK, &p.pack));

    /* Nothing has a copy any more. */
    stock_spoil(&s->k, OBJECT_PACK, &p.pack);
    stock_lose(&region, OBJECT_PACK, &p.pack);
    due(s);
    assert_true(pass(s, x));
    row_is(s, "rotten", "1");
    lost = last_event(s);
    assert_non_null(strstr(lost, "could not be healed"));
    scrubber_free(x);
    stock_release(&region);
}

/* A directory where a pack should be reads like a bad sector. */
static void what_cannot_be_read_does_not_end_the_pass(void **state)
{
    struct scene *s = scene_of(state);
    struct published p = stock_version(&s->k, 1), q = stock_version(&s->k, 2);
    struct scrubber *x = scrubber(s, "a", NULL);
    const struct published *first = hash_compare(&p.artifact, &q.artifact) < 0 ? &p : &q;
    AUTO_FREE char *path = NULL;

    know(s, &p);
    know(s, &q);
    path = stock_path(&s->k, OBJECT_PACK, &first->pack);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_true(pass(s, x));
    row_is(s, "rotten", "1");
    row_is(s, "passes", "1");
    scrubber_free(x);
}

static void a_needed_artifact_that_is_gone_comes_back(void **state)
{
    struct scene *s = scene_of(state);
    struct published p = stock_version(&s->k, 1);
    struct stock region;
    struct scrubber *x;
    char hex[HASH_HEX];

    know(s, &p);
    cluster_sql(s->c, "INSERT INTO delta (target, base, job, state) VALUES ($1, $2, 0, 'making')",
                hash_hex(&p.artifact, hex), "base"); /* somebody needs it */
    stock_init(&region);
    (void)stock_version(&region, 1);
    stock_lose(&s->k, OBJECT_MANIFEST, &p.artifact);
    stock_lose(&s->k, OBJECT_INDEX, &p.pack);
    stock_lose(&s->k, OBJECT_PACK, &p.pack);
    x = scrubber(s, "a", region.root);
    assert_true(pass(s, x));
    row_is(s, "healed", "2");
    assert_true(stock_has(&s->k, OBJECT_PACK, &p.pack));
    scrubber_free(x);
    stock_release(&region);
}

static void a_delta_that_is_lost_is_made_anew_when_wanted(void **state)
{
    struct scene *s = scene_of(state);
    struct published p = stock_version(&s->k, 1), q = stock_version(&s->k, 2);
    struct hash delta = stock_delta(&s->k, &p, &q);
    struct scrubber *x = scrubber(s, "a", NULL);
    AUTO_FREE char *state_now = NULL, *dedupe = NULL;
    char hex[HASH_HEX];
    int64_t job = 0;

    know(s, &q);
    assert_ok(queue_enqueue_late(s->c->d, "web", COMMIT_A, "{}", "delta", 1000, 1, &job, &s->err),
              &s->err);
    assert_ok(DB_EXEC(s->c->d, &s->err,
                      "INSERT INTO delta (target, base, job, state, pack) "
                      "VALUES ('t', 'b', $1, 'ready', $2)",
                      db_int(job), db_text(hash_hex(&delta, hex))),
              &s->err);
    stock_spoil(&s->k, OBJECT_PACK, &delta);
    assert_true(pass(s, x)); /* both full packs are there */
    row_is(s, "healed", "1");
    stock_spoil(&s->k, OBJECT_PACK, &delta);
    stock_lose(&s->k, OBJECT_PACK, &p.pack);
    due(s);
    assert_true(pass(s, x));
    row_is(s, "rotten", "1");
    state_now = cluster_get(s->c, "SELECT state FROM delta WHERE target = $1", "t");
    assert_string_equal(state_now, "none");
    dedupe = cluster_get(s->c, "SELECT COUNT(*) FROM job WHERE dedupe = $1", "delta");
    assert_string_equal(dedupe, "0");
    scrubber_free(x);
}

static void it_goes_on_where_it_was(void **state)
{
    struct scene *s = scene_of(state);
    struct published p = stock_version(&s->k, 1), q = stock_version(&s->k, 2);
    bool first = memcmp(p.artifact.b, q.artifact.b, HASH_BYTES) < 0;
    struct scrubber *x = scrubber(s, "a", NULL);
    char hex[HASH_HEX];

    know(s, &p);
    know(s, &q);
    /* Somebody was killed after the first of the two. */
    cluster_sql(s->c, "UPDATE scrub SET begun_at = 1, position = $1 WHERE position <> $2",
                hash_hex(first ? &p.artifact : &q.artifact, hex), "x");
    assert_true(pass(s, x));
    row_is(s, "good", "2");
    row_is(s, "passes", "1");
    row_is(s, "position", "");
    scrubber_free(x);
}

static void one_at_a_time(void **state)
{
    struct scene *s = scene_of(state);
    struct scrubber *a = scrubber(s, "a", NULL), *b = scrubber(s, "b", NULL);
    struct published p = stock_version(&s->k, 1);
    bool passed = false;

    know(s, &p);
    assert_true(pass(s, a));
    due(s);
    assert_false(pass(s, b)); /* the duty is another's */
    /* It goes to b, of which a learns before it writes anything. */
    cluster_sql(s->c, "UPDATE duty SET expires = 0 WHERE name = $1 AND name <> $2", "scrub", "");
    assert_true(pass(s, b));
    due(s);
    assert_error(scrubber_pass(a, &passed, &s->err), ERR_FENCED, &s->err, "duty");
    row_is(s, "passes", "2");
    assert_true(pass(s, b));
    scrubber_free(a);
    scrubber_free(b);
}

static void it_stops_with_the_process(void **state)
{
    struct scene *s = scene_of(state);
    struct published p = stock_version(&s->k, 1);
    struct scrubber *x = scrubber(s, "a", NULL);
    bool passed = false;

    know(s, &p);
    wake_stop(s->wake);
    assert_error(scrubber_pass(x, &passed, &s->err), ERR_CANCELLED, &s->err, "scrub");
    row_is(s, "passes", "0");
    scrubber_free(x);
}

static void too_many_to_heal_from(void **state)
{
    const char *from[SCRUBBER_FROM_MAX + 1] = { NULL };
    struct scene *s = scene_of(state);
    struct scrubber_options o = { .from = from, .nfrom = COUNT_OF(from) };
    struct scrubber *x = NULL;

    assert_error(scrubber_new(&x, &o, &s->err), ERR_LIMIT, &s->err, "stores to heal from");
}

#define BOTH(test)                                               \
    cmocka_unit_test_setup_teardown(test, on_sqlite, tear_down), \
        cmocka_unit_test_setup_teardown(test, on_postgres, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        BOTH(a_good_store_is_left_alone),
        BOTH(rot_is_healed_and_told),
        BOTH(what_cannot_be_read_does_not_end_the_pass),
        BOTH(a_needed_artifact_that_is_gone_comes_back),
        BOTH(a_delta_that_is_lost_is_made_anew_when_wanted),
        BOTH(it_goes_on_where_it_was),
        BOTH(one_at_a_time),
        BOTH(it_stops_with_the_process),
        BOTH(too_many_to_heal_from),
    };

    cluster_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
