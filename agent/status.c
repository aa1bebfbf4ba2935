#include "status.h"

#include <string.h>

#include "base/mem.h"
#include "goals.h"
#include "io/files.h"
#include "io/loop.h"
#include "journal.h"
#include "releases.h"
#include "run.h"

enum { SHORT = 12 };

struct listing {
    const char *root;
    const struct goals *goals;
    json_t *services;
};

static json_t *text_or_null(const char *text)
{
    return text == NULL || text[0] == '\0' ? json_null() : json_string(text);
}

static json_t *hash_or_null(const struct hash *h)
{
    return hash_is_zero(h) ? json_null() : json_hash(h);
}

/* The commit that a release on disk is of; its signature was checked when it was staged. */
static json_t *commit_of(const struct listing *l, const char *dir, const struct hash *release)
{
    AUTO_BUF doc = BUF_INIT;
    struct release *r = NULL;
    json_t *commit;

    if (hash_is_zero(release) || goals_trust(l->goals) == NULL ||
        releases_read_doc(dir, release, &doc, NULL) < 0 ||
        release_open(&r, goals_trust(l->goals), doc.data, doc.len, NULL) < 0)
        return json_null();
    commit = json_string(r->commit);
    release_free(r);
    return commit;
}

static json_t *goal_json(const struct listing *l, const char *service)
{
    static const char *const actions[] = { "none", "run", "stop", "absent" };
    const struct goal *g = goals_of(l->goals, service);
    json_t *json;

    if (g == NULL)
        return json_null();
    json = json_object();
    json_object_set_new(json, "generation", json_integer((json_int_t)g->generation));
    json_object_set_new(json, "deployment", json_string(g->deployment));
    json_object_set_new(json, "release", hash_or_null(&g->release));
    json_object_set_new(json, "action", json_string(actions[g->action]));
    json_object_set_new(json, "expires", json_integer(g->expires_ms));
    json_object_set_new(json, "live", json_boolean(goals_is_live(l->goals, g, wall_ms())));
    return json;
}

static const char *verdict_of(const struct journal *j, const char *bad)
{
    if (bad != NULL)
        return "bad";
    return j->phase == JOURNAL_COMMITTED ? "good" : j->phase == JOURNAL_TRIAL ? "unknown" : "none";
}

static int add_service(void *ctx, const char *name, struct err *err)
{
    struct listing *l = ctx;
    AUTO_FREE char *dir = mem_printf("%s/services/%s", l->root, name);
    AUTO_FREE char *state = mem_printf("%s/state.json", dir);
    AUTO_FREE char *run_path = mem_printf("%s/run", dir);
    struct journal j;
    struct run run;
    bool found = false, up;
    const char *bad;
    json_t *json;

    if (doc_check_name("service", name, NULL) < 0)
        return 0;
    if (journal_load(&j, state, err) < 0)
        return -(int)err->code;
    up = run_load(&run, run_path, &found, NULL) == 0 && found && run_is_of_this_boot(&run) &&
         (run.id.pid == 0 || proc_is_alive(&run.id));
    bad = journal_bad_reason(&j, &j.release, j.deployment);
    json = json_object();
    json_object_set_new(json, "service", json_string(name));
    json_object_set_new(json, "release", hash_or_null(&j.release));
    json_object_set_new(json, "commit", commit_of(l, dir, &j.release));
    json_object_set_new(json, "phase", json_string(journal_phase_name(j.phase)));
    json_object_set_new(json, "verdict", json_string(verdict_of(&j, bad)));
    json_object_set_new(json, "reason", text_or_null(bad));
    json_object_set_new(json, "deployment", text_or_null(j.deployment));
    json_object_set_new(json, "activation", json_integer((json_int_t)j.activation));
    json_object_set_new(json, "running", json_boolean(up));
    json_object_set_new(json, "pid", up && run.id.pid > 0 ? json_integer(run.id.pid) : json_null());
    json_object_set_new(json, "port", j.port > 0 ? json_integer(j.port) : json_null());
    json_object_set_new(json, "floor", json_integer((json_int_t)goals_floor(l->goals, name)));
    json_object_set_new(json, "goal", goal_json(l, name));
    json_array_append_new(l->services, json);
    return 0;
}

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text == NULL ? "-" : text;
}

static void print_table(struct buf *out, const json_t *services)
{
    size_t i;
    json_t *s;

    buf_printf(out, "%-20s %-12s %-12s %-10s %-8s %-8s %-6s %s\n", "SERVICE", "COMMIT", "RELEASE",
               "PHASE", "VERDICT", "PID", "PORT", "GOAL");
    json_array_foreach(services, i, s)
    {
        const json_t *goal = json_object_get(s, "goal");

        buf_printf(out, "%-20s %-12.*s %-12.*s %-10s %-8s ", text_of(s, "service"), SHORT,
                   text_of(s, "commit"), SHORT, text_of(s, "release"), text_of(s, "phase"),
                   text_of(s, "verdict"));
        buf_printf(out, "%-8lld %-6lld ", (long long)json_integer_value(json_object_get(s, "pid")),
                   (long long)json_integer_value(json_object_get(s, "port")));
        if (json_is_object(goal))
            buf_printf(out, "%s %s generation %lld%s\n", text_of(goal, "action"),
                       text_of(goal, "deployment"),
                       (long long)json_integer_value(json_object_get(goal, "generation")),
                       json_is_true(json_object_get(goal, "live")) ? "" : " (expired)");
        else
            buf_str_append(out, "-\n");
        if (json_is_string(json_object_get(s, "reason")))
            buf_printf(out, "  %s\n", text_of(s, "reason"));
    }
}

static int list_services(struct listing *l, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/services", l->root);

    return path_is_dir(path) ? dir_each(path, add_service, l, err) : 0;
}

int status_print(struct buf *out, const char *root, bool json, struct err *err)
{
    AUTO_FREE char *lock = mem_printf("%s/lock", root);
    AUTO_JSON *all = json_object();
    AUTO_FREE char *text = NULL;
    struct public_key no_pin = { { 0 } };
    struct goals_options o = { .root = root, .pin = &no_pin, .machine = "" };
    struct goals *goals = NULL;
    struct listing l = { .root = root, .services = json_array() };
    int r;

    json_object_set_new(all, "v", json_integer(1));
    json_object_set_new(all, "services", l.services);
    if (!path_exists(lock))
        return err_set(err, ERR_NOT_FOUND, "status: %s is not the root of an agent", root);
    r = goals_open(&goals, &o, err);
    l.goals = goals;
    if (r == 0)
        r = list_services(&l, err);
    goals_free(goals);
    if (r < 0)
        return err_wrap(err, "status");
    if (json) {
        text = json_text(all);
        buf_printf(out, "%s\n", text);
    } else {
        print_table(out, l.services);
    }
    return 0;
}
