#include "policy/types.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/build_types.h"
#include "policy/shape.h"
#include "wire/predicate.h"

static const char *const modes[] = { "process", "command", NULL };
static const char *const failures[] = { "rollback", "hold", "fail", NULL };
static const char *const expiries[] = { "rollback", "fail", NULL };
static const char *const actions[] = { "go", "wait", "hold", "rollback", "fail", NULL };

static const struct shape policy_fields[] = {
    { .name = "service", .kind = SHAPE_TEXT, .required = true, .min = 1, .max = 64 },
    { .name = "repo", .kind = SHAPE_TEXT, .min = 1, .def = "null" },
    { .name = "build", .kind = SHAPE_RAW },
    { .name = "select", .kind = SHAPE_RAW, .def = "{}" },
    { .name = "variant", .kind = SHAPE_RAW, .def = "{}" },
    { .name = "activate", .kind = SHAPE_RAW, .required = true },
    { .name = "health", .kind = SHAPE_RAW, .def = "null" },
    { .name = "replicate", .kind = SHAPE_RAW },
    { .name = "waves", .kind = SHAPE_RAW },
    { .name = "advance", .kind = SHAPE_RAW },
    { .name = "deadline", .kind = SHAPE_SECONDS, .min = 1, .def = "1800" },
    { .name = "hold_for", .kind = SHAPE_SECONDS, .def = "86400" },
    { .name = "on_hold_expired", .kind = SHAPE_CHOICE, .choices = expiries, .def = "\"rollback\"" },
    { .name = "on_failure", .kind = SHAPE_CHOICE, .choices = failures, .def = "\"rollback\"" },
    { .name = NULL },
};

static const struct shape activate_fields[] = {
    { .name = "mode", .kind = SHAPE_CHOICE, .choices = modes, .def = "\"process\"" },
    { .name = "start", .kind = SHAPE_TEXTS, .required = true, .min = 1 },
    { .name = "stop", .kind = SHAPE_TEXTS, .min = 1, .def = "null" },
    { .name = "env", .kind = SHAPE_TEXT_MAP, .def = "{}" },
    { .name = NULL },
};

static const struct shape health_fields[] = {
    { .name = "http", .kind = SHAPE_TEXT, .min = 1 },
    { .name = "exec", .kind = SHAPE_TEXTS, .min = 1 },
    { .name = "interval",
      .kind = SHAPE_MILLISECONDS,
      .min = 20,
      .max = 3600000,
      .def = "1000",
      .as = "interval_ms" },
    { .name = "timeout",
      .kind = SHAPE_MILLISECONDS,
      .min = 20,
      .max = 3600000,
      .def = "2000",
      .as = "timeout_ms" },
    { .name = "passes", .kind = SHAPE_INTEGER, .min = 1, .max = 1000, .def = "2" },
    { .name = "within", .kind = SHAPE_SECONDS, .min = 1, .max = 86400, .def = "60" },
    { .name = NULL },
};

static const struct shape variant_fields[] = {
    { .name = "by_label", .kind = SHAPE_TEXT, .min = 1, .max = 64 },
    { .name = "map", .kind = SHAPE_TEXT_MAP, .max = POLICY_VARIANTS_MAX },
    { .name = NULL },
};

static const struct shape wave_fields[] = {
    { .name = "name", .kind = SHAPE_TEXT, .required = true, .min = 1, .max = 64 },
    { .name = "where", .kind = SHAPE_RAW, .def = "{}" },
    { .name = "count", .kind = SHAPE_INTEGER, .min = 1, .max = 10000000 },
    { .name = "percent", .kind = SHAPE_RAW },
    { .name = "bake", .kind = SHAPE_SECONDS, .def = "0" },
    { .name = "max_failed", .kind = SHAPE_INTEGER, .min = 0, .max = 10000000, .def = "0" },
    { .name = "max_moving", .kind = SHAPE_RAW, .def = "\"25%\"" },
    { .name = NULL },
};

static const struct shape decision_fields[] = {
    { .name = "action", .kind = SHAPE_CHOICE, .required = true, .choices = actions },
    { .name = "reason", .kind = SHAPE_TEXT, .max = POLICY_REASON_MAX, .def = "\"\"" },
    { .name = "after", .kind = SHAPE_SECONDS, .max = 86400, .def = "5" },
    { .name = "memo", .kind = SHAPE_RAW, .def = "{}" },
    { .name = NULL },
};

/* A name that becomes a directory on every machine. */
static int check_service(struct check *c, const json_t *policy)
{
    const char *name = json_string_value(json_object_get(policy, "service"));
    const char *ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (strspn(name, ok) == strlen(name) && *name != '.' && *name != '-')
        return 0;
    check_enter(c, "service", 0);
    return check_fail(c, "must be letters, digits, \"-\", \"_\" and \".\", and begin with a letter "
                         "or digit");
}

/* An empty list is the empty table: {}. */
static void empty_list_is_object(json_t *parent, const char *name)
{
    const json_t *value = json_object_get(parent, name);
    if (json_is_array(value) && json_array_size(value) == 0)
        json_object_set_new(parent, name, json_object());
}

static int check_predicate(struct check *c, json_t *parent, const char *name)
{
    size_t mark = check_enter(c, name, 0);
    empty_list_is_object(parent, name);
    struct predicate *p = NULL;
    struct err why = ERR_INIT;
    int rc = 0;
    if (predicate_from_json(&p, json_object_get(parent, name), &why) < 0)
        rc = check_fail(c, "%s", why.text);
    predicate_free(p);
    if (rc == 0)
        check_leave(c, mark);
    return rc;
}

static int check_variant(struct check *c, json_t *policy)
{
    size_t mark = check_enter(c, "variant", 0);
    json_t *rule;
    int rc = shape_check(c, json_object_get(policy, "variant"), variant_fields, &rule);
    if (rc < 0)
        return rc;
    json_object_set_new(policy, "variant", rule);
    if (json_object_get(rule, "map") != NULL && json_object_get(rule, "by_label") == NULL)
        return check_fail(c, "map: needs by_label");
    check_leave(c, mark);
    return 0;
}

static int check_activate(struct check *c, json_t *policy)
{
    size_t mark = check_enter(c, "activate", 0);
    json_t *activate;
    int rc = shape_check(c, json_object_get(policy, "activate"), activate_fields, &activate);
    if (rc < 0)
        return rc;
    json_object_set_new(policy, "activate", activate);
    if (json_string_length(json_array_get(json_object_get(activate, "start"), 0)) == 0)
        return check_fail(c, "start[1]: must not be empty");
    check_leave(c, mark);
    return 0;
}

static int check_health(struct check *c, json_t *policy)
{
    if (json_is_null(json_object_get(policy, "health")))
        return 0;
    size_t mark = check_enter(c, "health", 0);
    json_t *health;
    int rc = shape_check(c, json_object_get(policy, "health"), health_fields, &health);
    if (rc < 0)
        return rc;
    json_object_set_new(policy, "health", health);
    const char *url = json_string_value(json_object_get(health, "http"));
    if ((url == NULL) == (json_object_get(health, "exec") == NULL))
        return check_fail(c, "needs exactly one of http and exec");
    if (url != NULL && strncmp(url, "http://", 7) != 0)
        return check_fail(c, "http: must begin with http://");
    check_leave(c, mark);
    return 0;
}

/* "25%" or a count. */
static int check_max_moving(struct check *c, const json_t *wave)
{
    const json_t *value = json_object_get(wave, "max_moving");
    const char *text = json_string_value(value);
    int64_t n = json_integer_value(value);
    if (text != NULL) {
        char *end;
        n = strtol(text, &end, 10);
        if (*text >= '0' && *text <= '9' && n >= 1 && n <= 100 && strcmp(end, "%") == 0)
            return 0;
    } else if (json_is_integer(value) && n >= 1 && n <= 10000000) {
        return 0;
    }
    return check_fail(c, "max_moving: must be a count of at least 1, or \"1%%\" to \"100%%\"");
}

static int check_wave(struct check *c, json_t *wave)
{
    const json_t *percent = json_object_get(wave, "percent");
    if ((percent == NULL) == (json_object_get(wave, "count") == NULL))
        return check_fail(c, "needs exactly one of count and percent");
    double p = json_number_value(percent);
    if (percent != NULL && (!json_is_number(percent) || !(p > 0 && p <= 100)))
        return check_fail(c, "percent: must be a number above 0 and at most 100");
    int rc = check_max_moving(c, wave);
    return rc < 0 ? rc : check_predicate(c, wave, "where");
}

static bool has_wave(const json_t *waves, const char *name)
{
    for (size_t i = 0; i < json_array_size(waves); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(waves, i), "name")), name) == 0)
            return true;
    return false;
}

/* The path stands on "waves". */
static int check_waves(struct check *c, const json_t *raw, json_t **ret)
{
    int rc = shape_list(c, raw, 1, POLICY_WAVES_MAX);
    if (rc < 0)
        return rc;
    *ret = json_array();
    for (size_t i = 0; rc == 0 && i < json_array_size(raw); i++) {
        size_t mark = check_enter(c, NULL, i + 1);
        json_t *wave;
        rc = shape_check(c, json_array_get(raw, i), wave_fields, &wave);
        if (rc == 0)
            rc = check_wave(c, wave);
        if (rc == 0 && has_wave(*ret, json_string_value(json_object_get(wave, "name"))))
            rc = check_fail(c, "name: is already the name of another wave");
        if (rc == 0)
            json_array_append(*ret, wave);
        json_decref(wave);
        if (rc == 0)
            check_leave(c, mark);
    }
    return rc;
}

/* The path stands on the function's name. */
static int check_decision(struct check *c, const json_t *raw, json_t **ret)
{
    if (!json_is_object(raw) || json_object_size(raw) == 0)
        return check_fail(c, "must return a decision: go(), wait(reason), hold(reason), "
                             "rollback(reason) or fail(reason)");
    int rc = shape_check(c, raw, decision_fields, ret);
    if (rc < 0)
        return rc;
    bool go = strcmp(json_string_value(json_object_get(*ret, "action")), "go") == 0;
    if (!go && json_string_length(json_object_get(*ret, "reason")) == 0)
        return check_fail(c, "reason: missing (a sentence for the people who wait)");
    if (json_integer_value(json_object_get(*ret, "after")) < 1)
        json_object_set_new(*ret, "after", json_integer(1));
    empty_list_is_object(*ret, "memo");
    const json_t *memo = json_object_get(*ret, "memo");
    if (!json_is_object(memo) && !json_is_array(memo))
        return check_fail(c, "memo: must be a table");
    AUTO_FREE char *text = json_text(memo);
    if (strlen(text) > POLICY_MEMO_MAX_BYTES)
        return check_fail(c, "memo: longer than %d KiB as JSON", POLICY_MEMO_MAX_BYTES / 1024);
    return 0;
}

/* Tables in the place of functions are checked at once; a function has been left out by now. */
static int check_functions(struct check *c, const json_t *data, json_t *policy)
{
    static const struct {
        const char *name;
        bool may_be_table;
    } fields[] = {
        { "build", true }, { "replicate", false }, { "waves", true }, { "advance", false }
    };
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        const json_t *value = json_object_get(data, fields[i].name);
        json_object_del(policy, fields[i].name);
        if (value == NULL || json_is_null(value))
            continue;
        size_t mark = check_enter(c, fields[i].name, 0);
        if (!fields[i].may_be_table)
            return check_fail(c, "must be a function");
        if (!json_is_object(value) && !json_is_array(value))
            return check_fail(c, "must be a function or a table");
        json_t *checked = NULL;
        int rc = i == 0 ? build_types_check(c, value, &checked) : check_waves(c, value, &checked);
        json_decref(checked);
        if (rc < 0)
            return rc;
        check_leave(c, mark);
    }
    return 0;
}

int types_policy(json_t **ret, const char *file, const json_t *raw, struct err *err)
{
    const json_t *data = json_object_get(raw, "data");
    json_t *functions = json_object_get(raw, "functions");
    struct check c;
    check_init(&c, file, err);
    int rc = shape_check(&c, data, policy_fields, ret);
    if (rc == 0)
        rc = check_service(&c, *ret);
    if (rc == 0)
        rc = check_activate(&c, *ret);
    if (rc == 0)
        rc = check_health(&c, *ret);
    if (rc == 0)
        rc = check_predicate(&c, *ret, "select");
    if (rc == 0)
        rc = check_variant(&c, *ret);
    if (rc == 0)
        rc = check_functions(&c, data, *ret);
    bool has_build =
        json_is_true(json_object_get(functions, "build")) || json_object_get(data, "build") != NULL;
    if (rc == 0 && !has_build)
        rc = check_fail(&c, "build: missing");
    check_release(&c);
    if (rc == 0) {
        json_object_set(*ret, "functions", functions);
        return 0;
    }
    json_decref(*ret);
    *ret = NULL;
    return rc;
}

int types_answer(json_t **ret, const char *file, enum policy_question q, const json_t *raw,
                 struct err *err)
{
    static const char *const names[] = { "", "build", "replicate", "waves", "advance" };
    struct check c;
    check_init(&c, file, err);
    check_enter(&c, names[q], 0);
    *ret = NULL;
    int rc = q == POLICY_BUILD   ? build_types_check(&c, raw, ret)
             : q == POLICY_WAVES ? check_waves(&c, raw, ret)
                                 : check_decision(&c, raw, ret);
    check_release(&c);
    if (rc < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return rc;
}
