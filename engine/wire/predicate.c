#include "wire/predicate.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/msg.h"

enum { DEPTH_MAX = 8, NODES_MAX = 256, VALUES_MAX = 1024, TEXT_MAX = 64 * 1024, MAP_MAX = 1024 };

enum kind { EVERY = 1, IN, EXISTS, ALL, ANY, NONE };

struct predicate {
    enum kind kind;
    char *key;     /* IN, EXISTS */
    char **values; /* IN */
    size_t nvalues;
    bool exists; /* EXISTS: what is asked for */
    struct predicate **children;
    size_t nchildren;
};

static int parse(struct predicate **ret, const json_t *json, int depth, size_t *nodes,
                 struct err *err);

static int value_of(const json_t *json, char **ret, struct err *err)
{
    if (!json_is_string(json))
        return err_set(err, ERR_INVALID, "a label's value must be a text");
    if (json_string_length(json) > LABEL_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "a label's value is longer than %d bytes", LABEL_MAX_BYTES);
    *ret = mem_strdup(json_string_value(json));
    return 0;
}

static int parse_in(struct predicate *p, const json_t *json, struct err *err)
{
    const json_t *list = NULL;
    int r = json_get_array(json, "in", VALUES_MAX, &list, err);

    if (r < 0)
        return r;
    p->values = mem_calloc(json_array_size(list) + 1, sizeof(*p->values));
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        r = value_of(json_array_get(list, i), &p->values[i], err);
        p->nvalues += r == 0;
    }
    return r;
}

static int parse_label(struct predicate *p, const json_t *json, struct err *err)
{
    static const char *const known[] = { "label", "is", "in", "exists", NULL };
    const char *key = NULL;
    int r = json_only(json, known, err);

    if (r == 0)
        r = json_get_text(json, "label", NAME_MAX_BYTES, &key, err);
    if (r < 0)
        return r;
    if (key[0] == '\0')
        return err_set(err, ERR_INVALID, "label: empty");
    if (json_object_size(json) != 2)
        return err_set(err, ERR_INVALID, "label %s: needs exactly one of is, in, exists", key);
    p->key = mem_strdup(key);
    p->kind = IN;
    if (json_object_get(json, "in") != NULL)
        return parse_in(p, json, err);
    if (json_object_get(json, "is") != NULL) {
        p->values = mem_calloc(1, sizeof(*p->values));
        r = value_of(json_object_get(json, "is"), &p->values[0], err);
        p->nvalues = r == 0;
        return r;
    }
    p->kind = EXISTS;
    if (!json_is_boolean(json_object_get(json, "exists")))
        return err_set(err, ERR_INVALID, "label %s: exists: not true or false", key);
    p->exists = json_is_true(json_object_get(json, "exists"));
    return 0;
}

static int parse_children(struct predicate *p, const json_t *list, const char *key, int depth,
                          size_t *nodes, struct err *err)
{
    if (!json_is_array(list))
        return err_set(err, ERR_INVALID, "%s: not an array", key);
    if (json_array_size(list) > NODES_MAX)
        return err_set(err, ERR_LIMIT, "%s: more than %d elements", key, NODES_MAX);
    p->children = mem_calloc(json_array_size(list) + 1, sizeof(struct predicate *));
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (parse(&p->children[i], json_array_get(list, i), depth + 1, nodes, err) < 0)
            return err_wrap(err, "%s[%zu]", key, i + 1);
        p->nchildren++;
    }
    return 0;
}

static int parse_group(struct predicate *p, const json_t *json, int depth, size_t *nodes,
                       struct err *err)
{
    static const struct {
        const char *key;
        enum kind kind;
    } groups[] = { { "all", ALL }, { "any", ANY }, { "none", NONE } };
    static const char *const known[] = { "all", "any", "none", "label", NULL };
    int r = json_only(json, known, err);

    if (r < 0)
        return r;
    if (json_object_size(json) != 1)
        return err_set(err, ERR_INVALID, "needs exactly one of all, any, none");
    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        const json_t *list = json_object_get(json, groups[i].key);

        if (list == NULL)
            continue;
        p->kind = groups[i].kind;
        return parse_children(p, list, groups[i].key, depth, nodes, err);
    }
    return err_set(err, ERR_INVALID, "needs exactly one of all, any, none");
}

static int parse(struct predicate **ret, const json_t *json, int depth, size_t *nodes,
                 struct err *err)
{
    struct predicate *p;
    int r = 0;

    if (!json_is_object(json))
        return err_set(err, ERR_INVALID, "not an object");
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_LIMIT, "nested deeper than %d", DEPTH_MAX);
    if (++*nodes > NODES_MAX)
        return err_set(err, ERR_LIMIT, "more than %d predicates", NODES_MAX);
    p = mem_alloc(sizeof(*p));
    p->kind = EVERY;
    if (json_object_get(json, "label") != NULL)
        r = parse_label(p, json, err);
    else if (json_object_size(json) > 0)
        r = parse_group(p, json, depth, nodes, err);
    if (r < 0) {
        predicate_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

int predicate_from_json(struct predicate **ret, const json_t *json, struct err *err)
{
    size_t nodes = 0;

    if (parse(ret, json, 1, &nodes, err) < 0)
        return err_wrap(err, "predicate");
    return 0;
}

int predicate_parse(struct predicate **ret, const char *json, struct err *err)
{
    AUTO_JSON *value = NULL;
    size_t len = strlen(json);

    if (len > TEXT_MAX)
        return err_set(err, ERR_LIMIT, "predicate: longer than %d bytes", TEXT_MAX);
    if (json_parse(&value, json, len, err) < 0)
        return err_wrap(err, "predicate");
    return predicate_from_json(ret, value, err);
}

void predicate_free(struct predicate *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->nvalues; i++)
        free(p->values[i]);
    for (size_t i = 0; i < p->nchildren; i++)
        predicate_free(p->children[i]);
    free(p->values);
    free(p->children);
    free(p->key);
    free(p);
}

static const char *label_value(const char *key, const struct label *labels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(labels[i].key, key) == 0)
            return labels[i].value;
    }
    return NULL;
}

static bool match_in(const struct predicate *p, const char *value)
{
    for (size_t i = 0; value != NULL && i < p->nvalues; i++) {
        if (strcmp(p->values[i], value) == 0)
            return true;
    }
    return false;
}

/* Does any child match (want) or fail to match (!want)? */
static bool some(const struct predicate *p, bool want, const struct label *labels, size_t count)
{
    for (size_t i = 0; i < p->nchildren; i++) {
        if (predicate_match(p->children[i], labels, count) == want)
            return true;
    }
    return false;
}

bool predicate_match(const struct predicate *p, const struct label *labels, size_t count)
{
    switch (p->kind) {
    case EVERY:
        return true;
    case IN:
        return match_in(p, label_value(p->key, labels, count));
    case EXISTS:
        return (label_value(p->key, labels, count) != NULL) == p->exists;
    case ALL:
        return !some(p, false, labels, count);
    case ANY:
        return some(p, true, labels, count);
    case NONE:
        return !some(p, true, labels, count);
    }
    return false;
}

int variant_check(const json_t *rule, struct err *err)
{
    static const char *const known[] = { "by_label", "map", NULL };
    const char *label = NULL;
    const json_t *map = json_object_get(rule, "map");
    int r = json_only(rule, known, err);

    if (r == 0 && json_object_size(rule) == 0)
        return 0;
    if (r == 0)
        r = json_get_text(rule, "by_label", NAME_MAX_BYTES, &label, err);
    if (r == 0 && map != NULL)
        r = json_get_object(rule, "map", &map, err);
    if (r < 0)
        return err_wrap(err, "variant");
    if (json_object_size(map) > MAP_MAX)
        return err_set(err, ERR_LIMIT, "variant: map: more than %d entries", MAP_MAX);
    for (void *it = json_object_iter((json_t *)(uintptr_t)map); it != NULL;
         it = json_object_iter_next((json_t *)(uintptr_t)map, it)) {
        const json_t *name = json_object_iter_value(it);

        if (!json_is_string(name) || json_string_length(name) == 0 ||
            json_string_length(name) > NAME_MAX_BYTES)
            return err_set(err, ERR_INVALID, "variant: map: %.64s: not a variant's name",
                           json_object_iter_key(it));
    }
    return 0;
}

const char *variant_of(const json_t *rule, const struct label *labels, size_t count)
{
    const char *key = json_string_value(json_object_get(rule, "by_label"));
    const json_t *map = json_object_get(rule, "map");
    const char *value;

    if (json_is_object(rule) && json_object_size(rule) == 0)
        return "default";
    if (key == NULL)
        return NULL;
    value = label_value(key, labels, count);
    if (value == NULL || map == NULL)
        return value;
    return json_string_value(json_object_get(map, value));
}
