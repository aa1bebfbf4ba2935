#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/doc.h"

enum { COMMIT_MAX_BYTES = 64, URL_MAX_BYTES = 2048, PASSES_MAX = 1000, SECONDS_MAX = 24 * 3600 };

static void free_argv(char **argv)
{
    for (size_t i = 0; argv != NULL && argv[i] != NULL; i++)
        free(argv[i]);
    free(argv);
}

/* A list of at least one argument, NULL-ended; *ret is set even on failure. */
static int parse_argv(char ***ret, const json_t *json, const char *key, struct err *err)
{
    const json_t *list = NULL;
    int r = json_get_array(json, key, ARGS_MAX, &list, err);

    if (r < 0)
        return r;
    if (json_array_size(list) == 0)
        return err_set(err, ERR_INVALID, "%s: empty", key);
    *ret = mem_calloc(json_array_size(list) + 1, sizeof(char *));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *arg = json_array_get(list, i);

        if (!json_is_string(arg))
            return err_set(err, ERR_INVALID, "%s[%zu]: not a text", key, i);
        if (json_string_length(arg) > ARG_MAX_BYTES)
            return err_set(err, ERR_LIMIT, "%s[%zu]: longer than %d bytes", key, i, ARG_MAX_BYTES);
        (*ret)[i] = mem_strdup(json_string_value(arg));
    }
    if ((*ret)[0][0] == '\0')
        return err_set(err, ERR_INVALID, "%s: the program's name is empty", key);
    return 0;
}

static bool is_env_name(const char *name)
{
    for (size_t i = 0; name[i] != '\0'; i++) {
        unsigned char c = (unsigned char)name[i];

        if (c >= 0x80 || !(isalpha(c) || c == '_' || (i > 0 && isdigit(c))))
            return false;
    }
    return name[0] != '\0';
}

static int parse_env(struct release *r, const json_t *activate, struct err *err)
{
    const json_t *given = json_object_get(activate, "env");

    r->env = given == NULL || json_is_null(given) ? json_object() : json_deep_copy(given);
    if (!json_is_object(r->env))
        return err_set(err, ERR_INVALID, "env: not an object");
    if (json_object_size(r->env) > ENV_MAX)
        return err_set(err, ERR_LIMIT, "env: more than %d variables", ENV_MAX);
    for (void *it = json_object_iter(r->env); it != NULL; it = json_object_iter_next(r->env, it)) {
        const char *name = json_object_iter_key(it);
        const json_t *value = json_object_iter_value(it);

        if (!is_env_name(name))
            return err_set(err, ERR_INVALID, "env: '%.64s' is not a variable's name", name);
        if (!json_is_string(value) || json_string_length(value) > ARG_MAX_BYTES)
            return err_set(err, ERR_INVALID, "env: %.64s: not a text of at most %d bytes", name,
                           ARG_MAX_BYTES);
    }
    return 0;
}

static int parse_activate(struct release *release, const json_t *json, struct err *err)
{
    static const char *const known[] = { "mode", "start", "stop", "env", NULL };
    const json_t *activate = NULL;
    const char *mode = NULL;
    int r = json_get_object(json, "activate", &activate, err);

    if (r < 0)
        return r;
    if (json_only(activate, known, err) < 0 ||
        json_get_text(activate, "mode", NAME_MAX_BYTES, &mode, err) < 0 ||
        parse_argv(&release->start, activate, "start", err) < 0)
        return err_wrap(err, "activate");
    if (strcmp(mode, "process") == 0)
        release->mode = ACTIVATE_PROCESS;
    else if (strcmp(mode, "command") == 0)
        release->mode = ACTIVATE_COMMAND;
    else
        return err_set(err, ERR_INVALID, "activate: mode: '%s' is not process or command", mode);
    if (json_object_get(activate, "stop") != NULL &&
        !json_is_null(json_object_get(activate, "stop")) &&
        parse_argv(&release->stop, activate, "stop", err) < 0)
        return err_wrap(err, "activate");
    return parse_env(release, activate, err) < 0 ? err_wrap(err, "activate") : 0;
}

static int parse_seconds(const json_t *json, const char *key, int64_t *ret_ms, struct err *err)
{
    const json_t *value = json_object_get(json, key);
    double ms = json_number_value(value) * 1000;

    if (!json_is_number(value))
        return err_set(err, ERR_INVALID, "%s: not a number of seconds", key);
    if (!(ms >= 1 && ms <= SECONDS_MAX * 1000.0))
        return err_set(err, ERR_INVALID, "%s: not within 0.001..%d s", key, SECONDS_MAX);
    *ret_ms = (int64_t)(ms + 0.5);
    return 0;
}

static int parse_probe(struct health_check *h, const json_t *json, struct err *err)
{
    const char *url = NULL;
    int r = json_get_text_or(json, "http", URL_MAX_BYTES, NULL, &url, err);

    if (r < 0)
        return r;
    if (url != NULL) {
        if (strncmp(url, "http://", 7) != 0)
            return err_set(err, ERR_INVALID, "http: does not begin with http://");
        h->http = mem_strdup(url);
    }
    if (json_object_get(json, "exec") == NULL || json_is_null(json_object_get(json, "exec")))
        return 0;
    if (h->http != NULL)
        return err_set(err, ERR_INVALID, "http and exec: only one may be given");
    return parse_argv(&h->exec, json, "exec", err);
}

static int parse_health(struct release *r, const json_t *json, struct err *err)
{
    static const char *const known[] = { "http",   "exec",   "interval", "timeout",
                                         "passes", "within", NULL };
    const json_t *health = json_object_get(json, "health");
    struct health_check *h = &r->health;

    if (health == NULL || json_is_null(health))
        return 0;
    if (json_only(health, known, err) < 0 || parse_probe(h, health, err) < 0 ||
        parse_seconds(health, "interval", &h->interval_ms, err) < 0 ||
        parse_seconds(health, "timeout", &h->timeout_ms, err) < 0 ||
        parse_seconds(health, "within", &h->within_ms, err) < 0 ||
        json_get_int(health, "passes", 1, PASSES_MAX, &h->passes, err) < 0)
        return err_wrap(err, "health");
    r->has_health = true;
    return 0;
}

static int parse_artifact(struct release_artifact *a, const json_t *json, struct err *err)
{
    static const char *const known[] = { "variant", "artifact", "bytes", "files", NULL };
    const char *variant = NULL;
    int64_t bytes = 0, files = 0;
    int r = json_only(json, known, err);

    if (r == 0)
        r = json_get_text(json, "variant", NAME_MAX_BYTES, &variant, err);
    if (r == 0 && variant[0] == '\0')
        r = err_set(err, ERR_INVALID, "variant: empty");
    if (r == 0)
        r = json_get_hash(json, "artifact", &a->artifact, err);
    if (r == 0)
        r = json_get_int(json, "bytes", 0, INT64_MAX, &bytes, err);
    if (r == 0)
        r = json_get_int(json, "files", 0, INT64_MAX, &files, err);
    if (r < 0)
        return r;
    a->variant = mem_strdup(variant);
    a->bytes = (uint64_t)bytes;
    a->files = (uint64_t)files;
    return 0;
}

static int parse_artifacts(struct release *r, const json_t *json, struct err *err)
{
    const json_t *list = NULL;
    int status = json_get_array(json, "artifacts", ARTIFACTS_MAX, &list, err);

    if (status < 0)
        return status;
    if (json_array_size(list) == 0)
        return err_set(err, ERR_INVALID, "artifacts: empty");
    r->artifacts = mem_calloc(json_array_size(list), sizeof(*r->artifacts));
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (parse_artifact(&r->artifacts[i], json_array_get(list, i), err) < 0)
            return err_wrap(err, "artifacts[%zu]", i);
        r->nartifacts++;
        for (size_t k = 0; k < i; k++) {
            if (strcmp(r->artifacts[k].variant, r->artifacts[i].variant) == 0)
                return err_set(err, ERR_INVALID, "artifacts: variant %s stands twice",
                               r->artifacts[i].variant);
        }
    }
    return 0;
}

static int parse_name(char **ret, const json_t *json, const char *key, struct err *err)
{
    const char *text = NULL;
    int r = json_get_text(json, key, NAME_MAX_BYTES, &text, err);

    if (r == 0)
        r = doc_check_name(key, text, err);
    if (r == 0)
        *ret = mem_strdup(text);
    return r;
}

static int parse(struct release *release, const json_t *json, struct err *err)
{
    static const char *const known[] = { "v",       "cluster",   "service",  "commit", "created",
                                         "variant", "artifacts", "activate", "health", NULL };
    const json_t *variant = NULL;
    const char *commit = NULL;
    int64_t v = 0;
    int r = json_only(json, known, err);

    if (r == 0)
        r = json_get_int(json, "v", 1, 1, &v, err);
    if (r == 0)
        r = parse_name(&release->cluster, json, "cluster", err);
    if (r == 0)
        r = parse_name(&release->service, json, "service", err);
    if (r == 0)
        r = json_get_text(json, "commit", COMMIT_MAX_BYTES, &commit, err);
    if (r == 0)
        release->commit = mem_strdup(commit);
    if (r == 0)
        r = json_get_int(json, "created", 0, INT64_MAX, &release->created_ms, err);
    if (r == 0)
        r = json_get_object(json, "variant", &variant, err);
    if (r == 0)
        r = variant_check(variant, err);
    if (r == 0)
        release->variant = json_deep_copy(variant);
    if (r == 0)
        r = parse_artifacts(release, json, err);
    if (r == 0)
        r = parse_activate(release, json, err);
    return r < 0 ? r : parse_health(release, json, err);
}

int release_parse(struct release **ret, const struct hash *id, const struct bytes *body,
                  struct err *err)
{
    AUTO_JSON *json = NULL;
    struct release *release;

    if (json_parse(&json, (const char *)body->data, body->len, err) < 0)
        return err_wrap(err, "release");
    release = mem_alloc(sizeof(*release));
    release->id = *id;
    if (parse(release, json, err) < 0) {
        release_free(release);
        return err_wrap(err, "release");
    }
    *ret = release;
    return 0;
}

void release_free(struct release *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->nartifacts; i++)
        free(r->artifacts[i].variant);
    free(r->artifacts);
    free_argv(r->start);
    free_argv(r->stop);
    free_argv(r->health.exec);
    free(r->health.http);
    json_decref(r->variant);
    json_decref(r->env);
    free(r->cluster);
    free(r->service);
    free(r->commit);
    free(r);
}
