#include "cli/trigger.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hex.h"
#include "base/mem.h"
#include "build/git.h"
#include "cli/client.h"
#include "io/files.h"
#include "io/loop.h"
#include "policy/policy.h"

static int take_params(json_t *params, const struct texts *list, struct err *err)
{
    for (int i = 0; i < list->count; i++) {
        const char *text = list->items[i], *equals = strchr(text, '=');
        AUTO_FREE char *key = NULL;

        if (equals == NULL || equals == text)
            return err_set(err, ERR_INVALID, "--set takes KEY=VALUE, not '%s'", text);
        key = mem_strndup(text, (size_t)(equals - text));
        if (json_object_set_new(params, key, json_string(equals + 1)) < 0)
            return err_set(err, ERR_INVALID, "--set %s: the value is not UTF-8", key);
    }
    return 0;
}

/* The policy's repository: what it says (a path is relative to the file), or the one it lies in. */
static int find_repo(struct buf *repo, const json_t *data, const char *policy, struct err *err)
{
    const char *said = json_string_value(json_object_get(data, "repo"));
    AUTO_BUF path = BUF_INIT;
    char *slash;
    int rv = path_real(&path, policy, err);

    if (rv < 0)
        return rv;
    slash = strrchr(path.data, '/');
    *slash = '\0';
    if (said == NULL)
        return git_repository_of(path.data, repo, err);
    if (*said == '/' || strstr(said, "://") != NULL || strchr(said, ':') != NULL)
        buf_str_append(repo, said);
    else
        buf_printf(repo, "%s/%s", path.data, said);
    return 0;
}

static json_t *random_key(void)
{
    unsigned char bytes[16];
    char hex[33];

    random_bytes(bytes, sizeof(bytes));
    hex_encode(hex, bytes, sizeof(bytes));
    return json_string(hex);
}

static int ask_policy(json_t **ret, const struct bundle *b, struct err *err)
{
    struct policy_host *h;
    int rv = policy_host_new(&h, "/proc/self/exe", err);

    if (rv < 0)
        return rv;
    rv = policy_data(h, b, ret, err);
    policy_host_free(h);
    if (rv == -ERR_TIMEOUT) { /* the policy's fault as any other */
        err->code = ERR_POLICY;
        rv = -ERR_POLICY;
    }
    return rv;
}

static json_t *body_of(const struct trigger_options *o, const struct bundle *b, const char *repo,
                       const char *sha, const char *ref, json_t *params)
{
    json_t *body = json_object();

    json_object_set_new(body, "bundle", bundle_to_json(b));
    json_object_set_new(body, "repo", json_string(repo));
    json_object_set_new(body, "commit", json_string(sha));
    json_object_set_new(body, "ref", json_string(ref));
    json_object_set(body, "params", params);
    json_object_set_new(body, "actor", json_string(client_actor()));
    json_object_set_new(body, "reason", json_string(o->reason == NULL ? "" : o->reason));
    json_object_set_new(body, "no_input", json_boolean(o->no_input));
    json_object_set_new(body, "key", random_key());
    return body;
}

static int request_of(json_t **ret, const struct trigger_options *o, const struct bundle *b,
                      struct buf *note, struct err *err)
{
    const char *ref = o->commit != NULL ? o->commit : o->ref != NULL ? o->ref : "HEAD";
    AUTO_JSON *data = NULL, *params = json_object();
    AUTO_BUF repo = BUF_INIT;
    char sha[41];
    int rv = ask_policy(&data, b, err);

    if (rv == 0)
        rv = take_params(params, &o->params, err);
    if (rv == 0)
        rv = find_repo(&repo, data, o->policy, err);
    if (rv == 0)
        rv = git_resolve(buf_str(&repo), ref, sha, err);
    if (rv == 0 && strcmp(ref, "HEAD") == 0 && git_has_changes(buf_str(&repo)))
        buf_printf(note, "note: %s has changes that are not committed: they are not deployed",
                   repo.data);
    if (rv == 0)
        *ret = body_of(o, b, buf_str(&repo), sha, ref, params);
    return rv;
}

int trigger_request(json_t **ret, const struct trigger_options *o, struct buf *note,
                    struct err *err)
{
    struct bundle *b;
    int rv;

    if (o->ref != NULL && o->commit != NULL)
        return err_set(err, ERR_INVALID, "--ref %s or --commit %s: only one of them", o->ref,
                       o->commit);
    rv = bundle_load(&b, o->policy, err);

    if (rv < 0)
        return rv;
    rv = request_of(ret, o, b, note, err);
    bundle_free(b);
    return rv;
}
