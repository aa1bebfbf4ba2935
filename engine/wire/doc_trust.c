#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "wire/doc.h"

static int key_of(const json_t *json, struct public_key *ret, struct err *err)
{
    if (json_is_string(json) && json_string_length(json) == 2 * KEY_BYTES &&
        hex_decode(ret->b, KEY_BYTES, json_string_value(json)))
        return 0;
    return err_set(err, ERR_INVALID, "not a key of 64 hex digits");
}

static int parse_keys(struct public_key **keys, size_t *count, const json_t *json, const char *name,
                      struct err *err)
{
    const json_t *list = NULL;
    int r = json_get_array(json, name, KEYS_MAX, &list, err);

    if (r < 0)
        return r;
    *keys = mem_calloc(json_array_size(list), sizeof(**keys));
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (key_of(json_array_get(list, i), &(*keys)[i], err) < 0)
            return err_wrap(err, "%s[%zu]", name, i);
        ++*count;
    }
    return 0;
}

static int parse_deny(struct trust *t, const json_t *json, struct err *err)
{
    const json_t *list = NULL;
    int r = json_get_array(json, "deny", DENY_MAX, &list, err);

    if (r < 0)
        return r;
    t->deny = mem_calloc(json_array_size(list), sizeof(*t->deny));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);

        if (!json_is_string(id) || json_string_length(id) > NAME_MAX_BYTES)
            return err_set(err, ERR_INVALID, "deny[%zu]: not a name of at most %d bytes", i,
                           NAME_MAX_BYTES);
        t->deny[t->ndeny++] = mem_strdup(json_string_value(id));
    }
    return 0;
}

static int parse(struct trust *t, const json_t *json, struct err *err)
{
    static const char *const known[] = { "v",       "cluster", "version", "issued", "root",
                                         "release", "goal",    "deny",    NULL };
    const char *cluster = NULL;
    int64_t v = 0, version = 0, issued = 0;
    int r = json_only(json, known, err);

    if (r == 0)
        r = json_get_int(json, "v", 1, 1, &v, err);
    if (r == 0)
        r = json_get_int(json, "version", 1, INT64_MAX, &version, err);
    if (r == 0)
        r = json_get_int(json, "issued", 0, INT64_MAX, &issued, err);
    if (r == 0)
        r = json_get_text(json, "cluster", NAME_MAX_BYTES, &cluster, err);
    if (r == 0)
        r = doc_check_name("cluster", cluster, err);
    if (r < 0)
        return r;
    t->version = (uint64_t)version;
    t->cluster = mem_strdup(cluster);
    if (key_of(json_object_get(json, "root"), &t->root, err) < 0)
        return err_wrap(err, "root");
    r = parse_keys(&t->release_keys, &t->nrelease, json, "release", err);
    if (r == 0)
        r = parse_keys(&t->goal_keys, &t->ngoal, json, "goal", err);
    return r < 0 ? r : parse_deny(t, json, err);
}

int trust_parse(struct trust **ret, const struct bytes *body, struct err *err)
{
    AUTO_JSON *json = NULL;
    struct trust *t;

    if (json_parse(&json, (const char *)body->data, body->len, err) < 0)
        return err_wrap(err, "trust");
    t = mem_alloc(sizeof(*t));
    if (parse(t, json, err) < 0) {
        trust_free(t);
        return err_wrap(err, "trust");
    }
    *ret = t;
    return 0;
}

void trust_free(struct trust *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->ndeny; i++)
        free(t->deny[i]);
    free(t->deny);
    free(t->release_keys);
    free(t->goal_keys);
    free(t->cluster);
    free(t);
}
