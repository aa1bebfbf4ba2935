#include "wire/json.h"

#include <stdlib.h>
#include <string.h>

void json_release_pointer(json_t **json)
{
    json_decref(*json);
}

int json_parse(json_t **ret, const char *text, size_t len, struct err *err)
{
    json_error_t why;
    json_t *json;

    json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (json == NULL)
        return err_set(err, ERR_INVALID, "not JSON: line %d column %d: %s", why.line, why.column,
                       why.text);
    *ret = json;
    return 0;
}

char *json_text(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

    /* Only memory or a value that we built wrongly can be the reason. */
    if (text == NULL)
        abort();
    return text;
}

/* The field, or NULL if it is missing or null. */
static const json_t *field(const json_t *obj, const char *key)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_null(value) ? NULL : value;
}

static int missing(const char *key, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: missing", key);
}

static int text_of(const json_t *value, const char *key, size_t max, const char **ret,
                   struct err *err)
{
    if (!json_is_string(value))
        return err_set(err, ERR_INVALID, "%s: not a text", key);
    if (json_string_length(value) > max)
        return err_set(err, ERR_LIMIT, "%s: longer than %zu bytes", key, max);
    *ret = json_string_value(value);
    return 0;
}

int json_get_text(const json_t *obj, const char *key, size_t max, const char **ret, struct err *err)
{
    const json_t *value = field(obj, key);

    return value == NULL ? missing(key, err) : text_of(value, key, max, ret, err);
}

int json_get_text_or(const json_t *obj, const char *key, size_t max, const char *def,
                     const char **ret, struct err *err)
{
    const json_t *value = field(obj, key);

    if (value == NULL) {
        *ret = def;
        return 0;
    }
    return text_of(value, key, max, ret, err);
}

static int int_of(const json_t *value, const char *key, int64_t min, int64_t max, int64_t *ret,
                  struct err *err)
{
    int64_t number;

    if (!json_is_integer(value))
        return err_set(err, ERR_INVALID, "%s: not an integer", key);
    number = (int64_t)json_integer_value(value);
    if (number < min || number > max)
        return err_set(err, ERR_INVALID, "%s: %lld is not in %lld..%lld", key, (long long)number,
                       (long long)min, (long long)max);
    *ret = number;
    return 0;
}

int json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *ret,
                 struct err *err)
{
    const json_t *value = field(obj, key);

    return value == NULL ? missing(key, err) : int_of(value, key, min, max, ret, err);
}

int json_get_int_or(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t def,
                    int64_t *ret, struct err *err)
{
    const json_t *value = field(obj, key);

    if (value == NULL) {
        *ret = def;
        return 0;
    }
    return int_of(value, key, min, max, ret, err);
}

int json_get_bool_or(const json_t *obj, const char *key, bool def, bool *ret, struct err *err)
{
    const json_t *value = field(obj, key);

    if (value != NULL && !json_is_boolean(value))
        return err_set(err, ERR_INVALID, "%s: not true or false", key);
    *ret = value == NULL ? def : json_is_true(value);
    return 0;
}

static int hash_of(const json_t *value, const char *key, struct hash *ret, struct err *err)
{
    struct hash h;

    if (!json_is_string(value) || json_string_length(value) != HASH_HEX - 1 ||
        !hash_parse(&h, json_string_value(value)))
        return err_set(err, ERR_INVALID, "%s: not a digest of 64 hex digits", key);
    *ret = h;
    return 0;
}

int json_get_hash(const json_t *obj, const char *key, struct hash *ret, struct err *err)
{
    const json_t *value = field(obj, key);

    return value == NULL ? missing(key, err) : hash_of(value, key, ret, err);
}

int json_get_hash_or_zero(const json_t *obj, const char *key, struct hash *ret, struct err *err)
{
    const json_t *value = field(obj, key);

    if (value == NULL) {
        *ret = (struct hash){ { 0 } };
        return 0;
    }
    return hash_of(value, key, ret, err);
}

int json_get_object(const json_t *obj, const char *key, const json_t **ret, struct err *err)
{
    const json_t *value = field(obj, key);

    if (value == NULL)
        return missing(key, err);
    if (!json_is_object(value))
        return err_set(err, ERR_INVALID, "%s: not an object", key);
    *ret = value;
    return 0;
}

int json_get_array(const json_t *obj, const char *key, size_t max, const json_t **ret,
                   struct err *err)
{
    const json_t *value = field(obj, key);

    if (value == NULL)
        return missing(key, err);
    if (!json_is_array(value))
        return err_set(err, ERR_INVALID, "%s: not an array", key);
    if (json_array_size(value) > max)
        return err_set(err, ERR_LIMIT, "%s: more than %zu elements", key, max);
    *ret = value;
    return 0;
}

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

/* Levenshtein distance, for names of up to 31 bytes; longer ones are never similar. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32];
    size_t na = strlen(a), nb = strlen(b);

    if (na > 31 || nb > 31)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t above = row[j];

            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[nb];
}

static int unknown(const char *key, const char *const known[], struct err *err)
{
    const char *similar = NULL;
    size_t best = 3;

    for (size_t i = 0; known[i] != NULL; i++) {
        size_t d = distance(key, known[i]);

        if (d < best) {
            best = d;
            similar = known[i];
        }
    }
    if (similar == NULL)
        return err_set(err, ERR_INVALID, "unknown field '%.64s'", key);
    return err_set(err, ERR_INVALID, "unknown field '%.64s' (did you mean '%s'?)", key, similar);
}

int json_only(const json_t *obj, const char *const known[], struct err *err)
{
    /* jansson's iterators take a non-const object but do not change it. */
    json_t *o = json_incref((json_t *)(uintptr_t)obj);
    int r = 0;

    if (!json_is_object(o))
        r = err_set(err, ERR_INVALID, "not an object");
    for (void *it = json_object_iter(o); r == 0 && it != NULL; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);
        size_t i = 0;

        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            r = unknown(key, known, err);
    }
    json_decref(o);
    return r;
}

json_t *json_hash(const struct hash *h)
{
    char hex[HASH_HEX];

    return json_string(hash_hex(h, hex));
}
