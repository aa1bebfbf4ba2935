#include "lib/check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "db/db.h"
#include "lib/tmpdir.h"
#include "region/state.h"

static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

struct memory {
    struct machines *ms;
    struct leases *leases;
    struct hash wanted;
    int nwanted, ndocs;
    uint8_t kinds[8];
    struct buf docs;
};

static void wanted(void *ctx, const struct msg_artifact *artifact)
{
    struct memory *m = ctx;

    m->wanted = artifact->artifact;
    assert_int_equal(artifact->packs.count, 2);
    m->nwanted++;
}

static void on_doc(void *ctx, const struct msg_doc *doc)
{
    struct memory *m = ctx;

    m->kinds[m->ndocs++] = doc->kind;
    buf_append(&m->docs, doc->bytes.data, doc->bytes.len);
}

static void memory_init(struct memory *m)
{
    memset(m, 0, sizeof(*m));
    m->ms = machines_new("r1");
    m->leases = leases_new();
}

static void memory_release(struct memory *m)
{
    machines_free(m->ms);
    leases_free(m->leases);
    buf_release(&m->docs);
}

static struct state *open_and_load(const char *path, struct memory *m,
                                   const struct state_clock *clock)
{
    struct state *s = NULL;
    struct err err = ERR_INIT;

    memory_init(m);
    assert_ok(state_open(&s, path, &err), &err);
    assert_ok(state_load_docs(s, on_doc, m, &err), &err);
    assert_ok(state_load(s, m->ms, m->leases, clock, wanted, m, &err), &err);
    return s;
}

static void save(struct state *s, struct memory *m, const struct state_clock *clock)
{
    struct err err = ERR_INIT;
    struct state_batch *b = state_collect(s, m->ms, m->leases, clock);

    assert_non_null(b);
    assert_ok(state_write(s, b, &err), &err);
    state_batch_free(b);
    assert_null(state_collect(s, m->ms, m->leases, clock)); /* all is saved */
}

static struct machine *hello(struct machines *ms, const char *id)
{
    struct msg_label label = { text("rack"), text("a") };
    struct msg_machine msg = {
        .labels = { &label, 1 }, .boot = text("boot"), .host = text("h"), .port = 7
    };
    struct machine *m = NULL;
    struct err err = ERR_INIT;

    assert_ok(machines_hello(ms, id, &msg, 0, &m, &err), &err);
    return m;
}

static void report(struct machines *ms, struct machine *m, const struct hash *release)
{
    struct msg_report msg = { .service = text("web"),
                              .deployment = text("d-1"),
                              .release = *release,
                              .generation = 4,
                              .boot = text("boot"),
                              .phase = PHASE_HEALTHY,
                              .verdict = VERDICT_GOOD,
                              .reason = text("fine") };
    struct err err = ERR_INIT;

    assert_ok(machines_report(ms, m, &msg, &err), &err);
}

static void bytes_of(const char *s, struct bytes *ret)
{
    *ret = (struct bytes){ mem_dup(s, strlen(s)), strlen(s) };
}

static void check_all(struct memory *n, const struct hash *release, const struct hash *artifact)
{
    const struct machine_service *v;

    assert_int_equal(n->ms->count, 2);
    assert_true(machines_find(n->ms, "m1")->reachable); /* was here when the process ended */
    assert_false(machines_find(n->ms, "m1")->linked);
    assert_false(machines_find(n->ms, "m2")->reachable); /* away for a minute */
    assert_string_equal(machine_label(machines_find(n->ms, "m1"), "rack"), "a");
    v = machine_service(machines_find(n->ms, "m1"), "web");
    assert_non_null(v->report);
    assert_string_equal(v->report->reason, "fine");
    assert_int_equal(v->report->generation, 4);
    assert_string_equal(v->moved, "d-1");
    assert_true(hash_equal(&v->runs, release));
    assert_true(leases_holds(n->leases, "web", "m1"));
    assert_int_equal(leases_next_ms(n->leases), 50 + SLOT_LEASE_MS - 60000);
    assert_int_equal(n->nwanted, 1);
    assert_true(hash_equal(&n->wanted, artifact));
    assert_int_equal(n->ndocs, 3);
    assert_string_equal(buf_str(&n->docs), "TRG"); /* in the order that they can be checked in */
    assert_int_equal(n->kinds[2], DOC_GOAL);
}

static void all_of_it_comes_back(void **state)
{
    const char *path = tmpdir_path("all.db");
    struct state_clock clock = { 1000, 1000000 };
    struct state_clock later = { 50,
                                 1000000 + 60000 }; /* another boot: the steady clock is lower */
    struct msg_plan plan = { .deployment = text("d-1"),
                             .service = text("web"),
                             .select = text("{}"),
                             .variant = text("{}"),
                             .waves = 1 };
    struct msg_pack packs[2];
    struct msg_artifact artifact = { .variant = text("default"), .packs = { packs, 2 } };
    struct memory m, n;
    struct state *s;
    struct machine *away;
    struct bytes doc;
    struct err err = ERR_INIT;

    (void)state;
    memset(packs, 1, sizeof(packs));
    memset(&plan.release, 2, sizeof(plan.release));
    memset(&artifact.artifact, 3, sizeof(artifact.artifact));
    s = open_and_load(path, &m, &clock);
    assert_ok(machines_plan(m.ms, &plan, &err), &err);
    report(m.ms, hello(m.ms, "m1"), &plan.release);
    away = hello(m.ms, "m2");
    machines_lost(m.ms, away, 900);
    leases_goal(m.leases, "web", 1, 5, false);
    leases_ask(m.leases, "web", "m1", 1, 1000);
    state_leases(s);
    state_want(s, &artifact.artifact, &artifact);
    bytes_of("T", &doc);
    state_doc(s, mem_strdup("trust.doc"), &doc);
    bytes_of("G", &doc);
    state_doc(s, mem_strdup("goals/web.doc"), &doc);
    bytes_of("R", &doc);
    state_doc(s, mem_strdup("releases/0.doc"), &doc);
    save(s, &m, &clock);
    state_close(s);
    memory_release(&m);

    s = open_and_load(path, &n, &later);
    check_all(&n, &plan.release, &artifact.artifact);

    /* What is taken back is gone. */
    state_want(s, &artifact.artifact, NULL);
    doc = (struct bytes){ NULL, 0 };
    state_doc(s, mem_strdup("releases/0.doc"), &doc);
    leases_give(n.leases, "web", "m1");
    state_leases(s);
    save(s, &n, &later);
    state_close(s);
    memory_release(&n);
    s = open_and_load(path, &n, &later);
    assert_int_equal(n.nwanted, 0);
    assert_int_equal(n.ndocs, 2);
    assert_int_equal(leases_used(n.leases, "web"), 0);
    state_close(s);
    memory_release(&n);
}

static int64_t ms_of(const struct machine_service *v, const char *deployment)
{
    const struct msg_progress *p = machine_progress(v, deployment);

    return p == NULL ? -1 : (int64_t)((const struct msg_fetch *)p->fetch.items)->ms;
}

static void on_sent(void *ctx, const struct msg_counts *sent)
{
    const struct msg_swarm *swarm = sent->swarm.items;
    const struct msg_pack_sent *packs = swarm->packs.items;

    assert_string_equal(sent->deployment, "d-1");
    assert_int_equal(swarm->packs.count, 1);
    *(uint64_t *)ctx += packs->sent_bytes;
}

/* What a fetch came to, and what was sent. What is still being fetched is told again by who fetches. */
static void figures_come_back(void **state)
{
    const char *path = tmpdir_path("figures.db");
    struct state_clock clock = { 1000, 1000000 };
    struct msg_fetch f = { .done = 1, .ms = 77 };
    struct msg_progress p = { .service = text("web"),
                              .deployment = text("d-1"),
                              .staged_bytes = 9,
                              .wanted_bytes = 9,
                              .seed_bytes = 9,
                              .fetch = { &f, 1 } };
    struct msg_pack_sent packs = { .bytes = 100, .sent_bytes = 210 };
    struct msg_swarm swarm = { .packs = { &packs, 1 } };
    struct msg_counts sent = { .deployment = text("d-1"), .swarm = { &swarm, 1 } };
    const struct machine_service *v;
    struct memory m, n;
    struct state *s;
    uint64_t total = 0;
    struct err err = ERR_INIT;

    (void)state;
    s = open_and_load(path, &m, &clock);
    for (int i = 0; i < 4; i++) { /* the last two are kept, each as it was told last */
        static const char *const deployments[] = { "d-0", "d-1", "d-2", "d-1" };
        static const uint64_t ms[] = { 75, 76, 78, 77 };

        p.deployment = text(deployments[i]);
        f.ms = ms[i];
        assert_ok(machines_progress(m.ms, hello(m.ms, "m1"), &p, 0, &err), &err);
        save(s, &m, &clock);
    }
    f.done = 0;
    assert_ok(machines_progress(m.ms, hello(m.ms, "m2"), &p, 0, &err), &err);
    state_sent(s, &sent, clock.wall_ms);
    packs.sent_bytes = 220;
    state_sent(s, &sent, clock.wall_ms); /* replaces it */
    save(s, &m, &clock);
    state_close(s);
    memory_release(&m);

    s = open_and_load(path, &n, &clock);
    v = machine_service(machines_find(n.ms, "m1"), "web");
    assert_int_equal(ms_of(v, "d-1"), 77);
    assert_int_equal(ms_of(v, "d-2"), 78);
    assert_null(machine_progress(v, "d-0"));
    assert_null(machine_service(machines_find(n.ms, "m2"), "web"));
    assert_ok(state_load_sent(s, clock.wall_ms, on_sent, &total, &err), &err);
    assert_int_equal(total, 220);
    assert_ok(state_load_sent(s, clock.wall_ms + STATE_FORGET_MS + 1, on_sent, &total, &err), &err);
    assert_int_equal(total, 220); /* it is too old */
    state_close(s);
    memory_release(&n);
}

static void who_is_away_for_a_month_is_forgotten(void **state)
{
    const char *path = tmpdir_path("month.db");
    struct state_clock clock = { 1000, 1000000 };
    struct state_clock soon = { 0, 1000000 + STATE_FORGET_MS - 1 };
    struct state_clock late = { 0, 1000000 + STATE_FORGET_MS + 1000 };
    struct hash release = { { 1 } };
    struct machine *away;
    struct memory m;
    struct state *s;

    (void)state;
    s = open_and_load(path, &m, &clock);
    away = hello(m.ms, "m1");
    report(m.ms, away, &release);
    machines_lost(m.ms, away, 1000);
    save(s, &m, &clock);
    state_close(s);
    memory_release(&m);
    s = open_and_load(path, &m, &soon);
    assert_int_equal(m.ms->count, 1);
    state_close(s);
    memory_release(&m);
    s = open_and_load(path, &m, &late);
    assert_int_equal(m.ms->count, 0);
    state_close(s);
    memory_release(&m);
}

/* A batch that could not be written is written later: the caller keeps it. */
static void a_failed_write_loses_nothing(void **state)
{
    const char *path = tmpdir_path("busy.db");
    struct state_clock clock = { 1000, 1000000 };
    AUTO_BUF url = BUF_INIT;
    struct state_batch *b;
    struct memory m;
    struct state *s;
    struct db *other = NULL;
    struct err err = ERR_INIT;

    (void)state;
    s = open_and_load(path, &m, &clock);
    hello(m.ms, "m1");
    b = state_collect(s, m.ms, m.leases, &clock);
    buf_printf(&url, "sqlite:%s", path);
    assert_ok(db_open(&other, url.data, &err), &err);
    assert_ok(DB_EXEC(other, &err, "DROP TABLE machine"), &err);
    assert_true(state_write(s, b, &err) < 0);
    assert_non_null(strstr(err.text, "save the region's state"));
    state_close(s);
    memory_release(&m);
    s = open_and_load(path, &m, &clock); /* makes what is missing */
    assert_ok(state_write(s, b, &err), &err);
    state_batch_free(b);
    state_close(s);
    memory_release(&m);
    s = open_and_load(path, &m, &clock);
    assert_int_equal(m.ms->count, 1);
    state_close(s);
    memory_release(&m);
    db_close(other);
}

static void errors_name_the_file(void **state)
{
    struct state *s = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_true(state_open(&s, "/nonexistent/region.db", &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent/region.db"));
    tmpdir_write(tmpdir_path("garbage.db"), "this is no database, it is a text", 33);
    assert_true(state_open(&s, tmpdir_path("garbage.db"), &err) < 0);
    state_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_comes_back),
        cmocka_unit_test(figures_come_back),
        cmocka_unit_test(who_is_away_for_a_month_is_forgotten),
        cmocka_unit_test(a_failed_write_loses_nothing),
        cmocka_unit_test(errors_name_the_file),
    };

    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
