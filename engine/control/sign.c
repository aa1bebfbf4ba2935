#include "control/sign.h"

#include <string.h>

#include "base/mem.h"

struct hash recipe_hash(const json_t *spec, const json_t *data)
{
    static const char *const parts[] = { "activate", "health", "select", "variant" };
    AUTO_JSON *all = json_object();
    AUTO_FREE char *text = NULL;

    json_object_set_new(all, "spec", json_deep_copy(spec));
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        const json_t *part = json_object_get(data, parts[i]);

        json_object_set_new(all, parts[i], part == NULL ? json_null() : json_deep_copy(part));
    }
    text = json_text(all);
    return sha256_of(text, strlen(text));
}

static json_t *copy_or_null(const json_t *value)
{
    return value == NULL ? json_null() : json_deep_copy(value);
}

/* The policy has milliseconds where the release has seconds with a fraction. */
static json_t *health_json(const json_t *health)
{
    static const char *const seconds[][2] = { { "interval_ms", "interval" },
                                              { "timeout_ms", "timeout" } };
    json_t *out;

    if (!json_is_object(health))
        return json_null();
    out = json_deep_copy(health);
    for (size_t i = 0; i < COUNT_OF(seconds); i++) {
        const json_t *ms = json_object_get(out, seconds[i][0]);

        json_object_set_new(out, seconds[i][1], json_real(json_number_value(ms) / 1000));
        json_object_del(out, seconds[i][0]);
    }
    return out;
}

static json_t *artifacts_json(const struct deploy *d)
{
    json_t *out = json_array(), *a;
    size_t i;

    json_array_foreach(d->artifacts, i, a)
    {
        json_array_append_new(
            out, json_pack("{s:O,s:O,s:O,s:O}", "variant", json_object_get(a, "variant"),
                           "artifact", json_object_get(a, "artifact"), "bytes",
                           json_object_get(a, "bytes"), "files", json_object_get(a, "files")));
    }
    return out;
}

int sign_release(const struct keys *k, const struct deploy *d, int64_t now_ms, struct buf *out,
                 struct hash *ret_id, struct err *err)
{
    const json_t *variant = json_object_get(d->data, "variant");
    AUTO_JSON *body =
        json_pack("{s:i,s:s,s:s,s:s,s:I,s:o,s:o,s:o,s:o}", "v", 1, "cluster", k->cluster, "service",
                  d->service, "commit", d->commit, "created", (json_int_t)now_ms, "variant",
                  json_is_object(variant) ? json_deep_copy(variant) : json_object(), "artifacts",
                  artifacts_json(d), "activate", copy_or_null(json_object_get(d->data, "activate")),
                  "health", health_json(json_object_get(d->data, "health")));
    AUTO_FREE char *text = json_text(body);
    struct release *check = NULL;
    size_t before = out->len;
    int r;

    doc_sign(out, DOC_RELEASE, text, strlen(text), &k->release);
    r = release_open(&check, k->trust, out->data + before, out->len - before, err);
    release_free(check);
    if (r < 0)
        return err_wrap(err, "sign the release");
    *ret_id = sha256_of(out->data + before, out->len - before);
    return 0;
}

int sign_goal(const struct keys *k, const json_t *body, struct buf *out, struct err *err)
{
    AUTO_FREE char *text = json_text(body);
    struct goal *check = NULL;
    size_t before = out->len;
    int r;

    doc_sign(out, DOC_GOAL, text, strlen(text), &k->goal);
    r = goal_open(&check, k->trust, out->data + before, out->len - before, err);
    goal_free(check);
    return r < 0 ? err_wrap(err, "sign the goal") : 0;
}
