#include "build/recipe.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "wire/doc.h"
#include "wire/manifest.h"
#include "wire/msg.h"

enum {
    REPO_MAX_BYTES = 4096,
    STEP_ARG_MAX_BYTES = 128 * 1024, /* what the kernel takes as one argument */
    STEP_ENV_MAX = 256,
    OUTPUTS_MAX = 64,
    SECONDS_MAX = 7 * 24 * 3600,
    TIMEOUT_S = 600,
    SILENCE_S = 300,
    DEADLINE_S = 900,
    LOG_BYTES = 16 << 20,
    LOG_BYTES_MAX = 1 << 30,
};

#define OUTPUT_BYTES (16LL << 30)

static int get_seconds(const json_t *obj, const char *key, int64_t def, int64_t *ret_ms,
                       struct err *err)
{
    int64_t seconds;
    int r = json_get_int_or(obj, key, 1, SECONDS_MAX, def, &seconds, err);

    if (r == 0)
        *ret_ms = seconds * 1000;
    return r;
}

/* A path below the checkout. "." is the checkout itself. */
static int get_path(const json_t *value, const char *key, char **ret, struct err *err)
{
    const char *path = json_string_value(value);
    AUTO_FREE char *trimmed = NULL;
    size_t len;

    if (path == NULL)
        return err_set(err, ERR_INVALID, "%s: not a text", key);
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    len = strlen(path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    trimmed = mem_strndup(path, len);
    if (strcmp(trimmed, ".") == 0 || (len == 0 && path != json_string_value(value))) {
        *ret = mem_strdup(".");
        return 0;
    }
    if (path[0] == '/')
        return err_set(err, ERR_INVALID, "%s: '%s' is not below the checkout", key, path);
    if (manifest_check_path(trimmed, err) < 0)
        return err_wrap(err, "%s", key);
    *ret = mem_strdup(trimmed);
    return 0;
}

static int get_argv(struct step *s, const json_t *obj, struct err *err)
{
    const json_t *run, *arg;
    size_t i;
    int r = json_get_array(obj, "run", STEP_ARGS_MAX, &run, err);

    if (r < 0)
        return r;
    if (json_array_size(run) == 0)
        return err_set(err, ERR_INVALID, "run: empty");
    s->argv = mem_calloc(json_array_size(run) + 1, sizeof(*s->argv));
    json_array_foreach(run, i, arg)
    {
        if (!json_is_string(arg))
            return err_set(err, ERR_INVALID, "run: argument %zu is not a text", i + 1);
        if (json_string_length(arg) >= STEP_ARG_MAX_BYTES)
            return err_set(err, ERR_LIMIT, "run: argument %zu is longer than %d bytes", i + 1,
                           STEP_ARG_MAX_BYTES - 1);
        s->argv[i] = mem_strdup(json_string_value(arg));
    }
    if (s->argv[0][0] == '\0')
        return err_set(err, ERR_INVALID, "run: the program has no name");
    return 0;
}

static int get_env(struct step *s, const json_t *obj, struct err *err)
{
    json_t *env = json_object_get(obj, "env"), *value;
    const char *key;
    size_t n = 0;

    /* An empty table of Lua may come as an empty list. */
    if (env != NULL && !json_is_null(env) && !json_is_object(env) &&
        !(json_is_array(env) && json_array_size(env) == 0))
        return err_set(err, ERR_INVALID, "env: not an object");
    if (json_object_size(env) > STEP_ENV_MAX)
        return err_set(err, ERR_LIMIT, "env: more than %d variables", STEP_ENV_MAX);
    s->env = mem_calloc(json_object_size(env) + 1, sizeof(*s->env));
    json_object_foreach(env, key, value)
    {
        if (key[0] == '\0' || strchr(key, '=') != NULL)
            return err_set(err, ERR_INVALID, "env: '%s' is no name of a variable", key);
        if (!json_is_string(value))
            return err_set(err, ERR_INVALID, "env: %s: not a text", key);
        if (strlen(key) + json_string_length(value) + 2 > STEP_ARG_MAX_BYTES)
            return err_set(err, ERR_LIMIT, "env: %.100s: longer than %d bytes", key,
                           STEP_ARG_MAX_BYTES);
        s->env[n++] = mem_printf("%s=%s", key, json_string_value(value));
    }
    return 0;
}

static int find_step(const struct recipe *r, size_t before, const char *name, size_t *ret)
{
    for (size_t i = 0; i < before; i++) {
        if (strcmp(r->steps[i].name, name) == 0) {
            *ret = i;
            return 0;
        }
    }
    return -1;
}

/* Without `needs`, a step needs the one above it. */
static int get_needs(struct recipe *r, size_t index, const json_t *obj, struct err *err)
{
    struct step *s = &r->steps[index];
    json_t *needs = json_object_get(obj, "needs"), *need;
    size_t i;

    s->needs = mem_calloc(STEPS_MAX, sizeof(*s->needs));
    if (needs == NULL || json_is_null(needs)) {
        if (index > 0)
            s->needs[s->nneeds++] = index - 1;
        return 0;
    }
    if (!json_is_array(needs) && !(json_is_object(needs) && json_object_size(needs) == 0))
        return err_set(err, ERR_INVALID, "needs: not a list");
    if (json_array_size(needs) > STEPS_MAX)
        return err_set(err, ERR_LIMIT, "needs: more than %d steps", STEPS_MAX);
    json_array_foreach(needs, i, need)
    {
        if (!json_is_string(need))
            return err_set(err, ERR_INVALID, "needs: not a text");
        if (find_step(r, index, json_string_value(need), &s->needs[s->nneeds++]) < 0)
            return err_set(err, ERR_INVALID, "needs: no step '%.100s' above this one",
                           json_string_value(need));
    }
    return 0;
}

static int parse_step(struct recipe *r, size_t index, const json_t *obj, struct err *err)
{
    static const char *const known[] = { "name",    "run",     "dir",     "env",           "needs",
                                         "timeout", "silence", "network", "max_log_bytes", NULL };
    struct step *s = &r->steps[index];
    const char *name;
    json_t *dir = json_object_get(obj, "dir");
    int64_t log_bytes;
    size_t other;

    if (json_only(obj, known, err) < 0 ||
        json_get_text(obj, "name", NAME_MAX_BYTES, &name, err) < 0)
        return err_wrap(err, "step %zu", index + 1);
    if (name[0] == '\0' || find_step(r, index, name, &other) == 0)
        return err_set(err, ERR_INVALID, "step %zu: name: '%s' %s", index + 1, name,
                       name[0] == '\0' ? "is empty" : "is taken by another step");
    s->name = mem_strdup(name);
    if (get_argv(s, obj, err) < 0 || get_env(s, obj, err) < 0 ||
        get_needs(r, index, obj, err) < 0 ||
        get_seconds(obj, "timeout", TIMEOUT_S, &s->timeout_ms, err) < 0 ||
        get_seconds(obj, "silence", SILENCE_S, &s->silence_ms, err) < 0 ||
        json_get_bool_or(obj, "network", false, &s->network, err) < 0 ||
        json_get_int_or(obj, "max_log_bytes", 1, LOG_BYTES_MAX, LOG_BYTES, &log_bytes, err) < 0 ||
        (!json_is_null(dir) && dir != NULL && get_path(dir, "dir", &s->dir, err) < 0))
        return err_wrap(err, "step '%s'", name);
    if (s->dir == NULL)
        s->dir = mem_strdup(".");
    s->max_log_bytes = (uint64_t)log_bytes;
    return 0;
}

static int parse_outputs(struct recipe *r, const json_t *obj, struct err *err)
{
    json_t *outputs = json_object_get(obj, "outputs"), *path;
    const char *variant;

    if (json_object_size(outputs) == 0)
        return err_set(err, ERR_INVALID, "outputs: none: nothing would be deployed");
    if (json_object_size(outputs) > OUTPUTS_MAX)
        return err_set(err, ERR_LIMIT, "outputs: more than %d", OUTPUTS_MAX);
    r->outputs = mem_calloc(json_object_size(outputs), sizeof(*r->outputs));
    json_object_foreach(outputs, variant, path)
    {
        struct output *o = &r->outputs[r->noutputs++];
        int failed;

        o->variant = mem_strdup(variant);
        failed = doc_check_name("variant", variant, err);
        if (failed == 0)
            failed = get_path(path, variant, &o->path, err);
        if (failed < 0)
            return err_wrap(err, "outputs");
    }
    return 0;
}

static bool is_sha(const char *text)
{
    return strlen(text) == 40 && strspn(text, "0123456789abcdef") == 40;
}

static int parse_head(struct recipe *r, const json_t *obj, struct err *err)
{
    static const char *const known[] = { "v",     "service", "repo",     "sha",
                                         "steps", "outputs", "deadline", "max_output_bytes",
                                         NULL };
    const char *service, *repo, *sha;
    int64_t version, max;

    if (json_only(obj, known, err) < 0 || json_get_int(obj, "v", 1, 1, &version, err) < 0 ||
        json_get_text(obj, "service", NAME_MAX_BYTES, &service, err) < 0 ||
        json_get_text(obj, "repo", REPO_MAX_BYTES, &repo, err) < 0 ||
        json_get_text(obj, "sha", 40, &sha, err) < 0 ||
        get_seconds(obj, "deadline", DEADLINE_S, &r->deadline_ms, err) < 0 ||
        json_get_int_or(obj, "max_output_bytes", 1, INT64_MAX, OUTPUT_BYTES, &max, err) < 0 ||
        doc_check_name("service", service, err) < 0)
        return -(int)ERR_INVALID;
    if (!is_sha(sha))
        return err_set(err, ERR_INVALID, "sha: '%s' is not a commit of 40 hex digits", sha);
    if (repo[0] == '\0')
        return err_set(err, ERR_INVALID, "repo: empty");
    r->service = mem_strdup(service);
    r->repo = mem_strdup(repo);
    r->sha = mem_strdup(sha);
    r->max_output_bytes = (uint64_t)max;
    return 0;
}

static int parse(struct recipe *r, const json_t *obj, struct err *err)
{
    const json_t *steps;
    int failed =
        json_is_object(obj) ? parse_head(r, obj, err) : err_set(err, ERR_INVALID, "not an object");

    if (failed == 0)
        failed = json_get_array(obj, "steps", STEPS_MAX, &steps, err);
    if (failed < 0)
        return failed;
    r->steps = mem_calloc(json_array_size(steps), sizeof(*r->steps));
    for (size_t i = 0; i < json_array_size(steps); i++) {
        r->nsteps++;
        failed = parse_step(r, i, json_array_get(steps, i), err);
        if (failed < 0)
            return failed;
    }
    return parse_outputs(r, obj, err);
}

int recipe_parse(struct recipe **ret, const char *json, struct err *err)
{
    AUTO_JSON *obj = NULL;
    struct recipe *r;

    *ret = NULL;
    if (json_parse(&obj, json, strlen(json), err) < 0)
        return err_wrap(err, "recipe");
    r = mem_alloc(sizeof(*r));
    if (parse(r, obj, err) < 0) {
        recipe_free(r);
        return err_wrap(err, "recipe");
    }
    *ret = r;
    return 0;
}

static void free_list(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

void recipe_free(struct recipe *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->nsteps; i++) {
        struct step *s = &r->steps[i];

        free(s->name);
        free(s->dir);
        free(s->needs);
        free_list(s->argv);
        free_list(s->env);
    }
    for (size_t i = 0; i < r->noutputs; i++) {
        free(r->outputs[i].variant);
        free(r->outputs[i].path);
    }
    free(r->steps);
    free(r->outputs);
    free(r->service);
    free(r->repo);
    free(r->sha);
    free(r);
}
