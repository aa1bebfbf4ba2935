#include "policy/build_types.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "policy/policy.h"
#include "policy/types.h"

enum { STEP_NAME_MAX = 64 };

static const struct shape build_fields[] = {
    { .name = "steps", .kind = SHAPE_RAW, .required = true },
    { .name = "outputs", .kind = SHAPE_RAW, .required = true },
    { .name = "deadline", .kind = SHAPE_SECONDS, .min = 1, .max = 86400, .def = "900" },
    { .name = NULL },
};

static const struct shape step_fields[] = {
    { .name = "name", .kind = SHAPE_TEXT, .min = 1, .max = STEP_NAME_MAX },
    { .name = "run", .kind = SHAPE_TEXTS, .min = 1 },
    { .name = "sh", .kind = SHAPE_TEXT, .min = 1, .max = SHAPE_SCRIPT_MAX },
    { .name = "dir", .kind = SHAPE_TEXT, .min = 1, .def = "\".\"" },
    { .name = "env", .kind = SHAPE_TEXT_MAP, .def = "{}" },
    { .name = "needs", .kind = SHAPE_TEXTS, .max = POLICY_STEPS_MAX },
    { .name = "timeout", .kind = SHAPE_SECONDS, .min = 1, .max = 86400, .def = "600" },
    { .name = "silence", .kind = SHAPE_SECONDS, .min = 1, .max = 86400, .def = "300" },
    { .name = "network", .kind = SHAPE_BOOLEAN, .def = "false" },
    { .name = "max_log_bytes", .kind = SHAPE_INTEGER, .min = 1, .max = 1 << 30, .def = "16777216" },
    { .name = NULL },
};

/* A way below the checkout: relative and without "..". */
static bool is_below(const char *path)
{
    if (*path == 0 || *path == '/')
        return false;
    for (const char *part = path; part != NULL;) {
        size_t len = strcspn(part, "/");
        if (len == 2 && strncmp(part, "..", 2) == 0)
            return false;
        part = part[len] == '/' ? part + len + 1 : NULL;
    }
    return true;
}

static const char *name_of(const json_t *step)
{
    return json_string_value(json_object_get(step, "name"));
}

static bool has_step(const json_t *steps, const char *name)
{
    for (size_t i = 0; i < json_array_size(steps); i++)
        if (strcmp(name_of(json_array_get(steps, i)), name) == 0)
            return true;
    return false;
}

/* The command's first word, without its directory; "-2" and so on when that is taken. */
static void choose_name(const json_t *steps, json_t *step)
{
    const char *word = json_string_value(json_object_get(step, "sh"));
    if (word == NULL)
        word = json_string_value(json_array_get(json_object_get(step, "run"), 0));
    word += strspn(word, " \t\n");
    size_t len = strcspn(word, " \t\n;");
    for (size_t i = 0; i < len; i++) {
        if (word[i] == '/' && i + 1 < len) {
            word += i + 1;
            len -= i + 1;
            i = 0;
        }
    }
    if (len == 0 || len > 40) {
        word = "step";
        len = 4;
    }
    char name[STEP_NAME_MAX];
    snprintf(name, sizeof(name), "%.*s", (int)len, word);
    for (int i = 2; has_step(steps, name); i++)
        snprintf(name, sizeof(name), "%.*s-%d", (int)len, word, i);
    json_t *text = json_string(name);
    json_object_set_new(step, "name", text ? text : json_string("step"));
}

static int fill_needs(struct check *c, const json_t *steps, json_t *step)
{
    const json_t *needs = json_object_get(step, "needs");
    size_t count = json_array_size(steps);
    if (needs == NULL) {
        json_t *above = json_array();
        if (count > 0)
            json_array_append(above, json_object_get(json_array_get(steps, count - 1), "name"));
        json_object_set_new(step, "needs", above);
        return 0;
    }
    for (size_t i = 0; i < json_array_size(needs); i++) {
        const char *name = json_string_value(json_array_get(needs, i));
        if (!has_step(steps, name))
            return check_fail(c, "needs: no step above it is named \"%.64s\"", name);
    }
    return 0;
}

/* steps: those above this one. */
static int finish_step(struct check *c, const json_t *steps, json_t *step)
{
    const char *sh = json_string_value(json_object_get(step, "sh"));
    const json_t *run = json_object_get(step, "run");
    if ((sh == NULL) == (run == NULL))
        return check_fail(c, "needs exactly one of run and sh");
    if (run != NULL && json_string_length(json_array_get(run, 0)) == 0)
        return check_fail(c, "run[1]: must not be empty");
    if (!is_below(json_string_value(json_object_get(step, "dir"))))
        return check_fail(c, "dir: must lie below the checkout");
    if (name_of(step) == NULL)
        choose_name(steps, step);
    else if (has_step(steps, name_of(step)))
        return check_fail(c, "name: \"%s\" is already the name of another step", name_of(step));
    if (sh != NULL) {
        json_object_set_new(step, "run", json_pack("[s,s,s,s]", "/bin/sh", "-eu", "-c", sh));
        json_object_del(step, "sh");
    }
    return fill_needs(c, steps, step);
}

static int check_steps(struct check *c, const json_t *raw, json_t *build)
{
    size_t mark = check_enter(c, "steps", 0);
    int rc = shape_list(c, raw, 1, POLICY_STEPS_MAX);
    json_t *steps = json_array();
    for (size_t i = 0; rc == 0 && i < json_array_size(raw); i++) {
        size_t inner = check_enter(c, NULL, i + 1);
        json_t *step;
        rc = shape_check(c, json_array_get(raw, i), step_fields, &step);
        if (rc == 0)
            rc = finish_step(c, steps, step);
        if (rc == 0)
            json_array_append(steps, step);
        json_decref(step);
        if (rc == 0)
            check_leave(c, inner);
    }
    json_object_set_new(build, "steps", steps);
    if (rc == 0)
        check_leave(c, mark);
    return rc;
}

static int check_outputs(struct check *c, const json_t *raw, json_t *build)
{
    size_t mark = check_enter(c, "outputs", 0);
    json_t *outputs = json_is_string(raw) ? json_object() : json_deep_copy(raw), *path;
    if (json_is_string(raw))
        json_object_set_new(outputs, "default", json_deep_copy(raw));
    json_object_set_new(build, "outputs", outputs);
    if (!json_is_object(outputs) || json_object_size(outputs) == 0)
        return check_fail(c, "must be a path, or a table of paths by variant");
    if (json_object_size(outputs) > POLICY_VARIANTS_MAX)
        return check_fail(c, "must have at most %d variants", POLICY_VARIANTS_MAX);
    const char *variant;
    json_object_foreach(outputs, variant, path)
    {
        size_t inner = check_enter(c, variant, 0);
        if (*variant == 0 || strlen(variant) > 64)
            return check_fail(c, "the variant's name must be 1 to 64 bytes");
        if (!json_is_string(path) || !is_below(json_string_value(path)))
            return check_fail(c, "must be a path below the checkout");
        check_leave(c, inner);
    }
    check_leave(c, mark);
    return 0;
}

int build_types_check(struct check *c, const json_t *raw, json_t **ret)
{
    int rc = shape_check(c, raw, build_fields, ret);
    if (rc == 0)
        rc = check_steps(c, json_object_get(raw, "steps"), *ret);
    return rc < 0 ? rc : check_outputs(c, json_object_get(raw, "outputs"), *ret);
}
