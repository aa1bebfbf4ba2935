#include "policy/shape.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void check_init(struct check *c, const char *file, struct err *err)
{
    memset(c, 0, sizeof(*c));
    c->err = err;
    buf_printf(&c->path, "%s: ", file);
    c->root = c->path.len;
}

void check_release(struct check *c)
{
    buf_release(&c->path);
}

size_t check_enter(struct check *c, const char *name, size_t index)
{
    size_t mark = c->path.len;
    if (name == NULL)
        buf_printf(&c->path, "[%zu]", index);
    else
        buf_printf(&c->path, "%s%.64s", mark > c->root ? "." : "", name);
    return mark;
}

void check_leave(struct check *c, size_t mark)
{
    c->path.len = mark;
    c->path.data[mark] = 0;
}

int check_fail(struct check *c, const char *fmt, ...)
{
    char why[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    return err_set(c->err, ERR_POLICY, "%.190s%s%s", c->path.data,
                   c->path.len > c->root ? ": " : "", why);
}

static bool is_empty(const json_t *value)
{
    return json_object_size(value) == 0 && json_array_size(value) == 0;
}

static int64_t or_else(int64_t value, int64_t instead)
{
    return value != 0 ? value : instead;
}

/* One number and its unit at *text; moves behind it. Returns ms, or -1. Units must get smaller. */
static int64_t duration_part(const char **text, int *unit)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    char *end;
    if (**text < '0' || **text > '9')
        return -1;
    long long n = strtoll(*text, &end, 10);
    for (int i = 0; i < (int)COUNT_OF(units); i++) {
        size_t len = strlen(units[i].name);
        if (strncmp(end, units[i].name, len) != 0)
            continue;
        if (end[len] != 0 && (end[len] < '0' || end[len] > '9'))
            continue; /* "m" of "ms" */
        if (i >= *unit || n > 1000000000)
            return -1;
        *unit = i;
        *text = end + len;
        return n * units[i].ms;
    }
    return -1;
}

bool duration_ms(const json_t *value, int64_t *ms)
{
    if (json_is_integer(value)) {
        int64_t n = json_integer_value(value);
        if (n < 0 || n > 1000000000)
            return false;
        *ms = n * 1000;
        return true;
    }
    const char *text = json_string_value(value);
    if (text == NULL || *text == 0 || strlen(text) != json_string_length(value))
        return false;
    int unit = 5;
    for (*ms = 0; *text != 0;) {
        int64_t part = duration_part(&text, &unit);
        if (part < 0)
            return false;
        *ms += part;
    }
    return true;
}

static int check_duration(struct check *c, const struct shape *f, const json_t *value, json_t **ret)
{
    int64_t ms;
    if (!duration_ms(value, &ms))
        return check_fail(c, json_is_real(value)
                                 ? "must be whole seconds, or a text such as \"90s\" (this is a "
                                   "float; // divides without rest)"
                                 : "must be a duration such as \"90s\", \"2m\" or whole seconds");
    if (f->kind == SHAPE_MILLISECONDS) {
        if (ms < f->min || ms > f->max)
            return check_fail(c, "must be between %lld and %lld ms", (long long)f->min,
                              (long long)f->max);
        *ret = json_integer(ms);
        return 0;
    }
    if (ms % 1000 != 0)
        return check_fail(c, "must be whole seconds");
    int64_t max = or_else(f->max, SHAPE_SECONDS_MAX);
    if (ms / 1000 < f->min || ms / 1000 > max)
        return check_fail(c, "must be between %lld and %lld seconds", (long long)f->min,
                          (long long)max);
    *ret = json_integer(ms / 1000);
    return 0;
}

static int check_text(struct check *c, const struct shape *f, const json_t *value, json_t **ret)
{
    if (!json_is_string(value))
        return check_fail(c, "must be a text");
    size_t len = json_string_length(value);
    if (len < (size_t)f->min)
        return check_fail(c, "must not be empty");
    if (len > (size_t)or_else(f->max, SHAPE_TEXT_MAX))
        return check_fail(c, "must be at most %lld bytes",
                          (long long)or_else(f->max, SHAPE_TEXT_MAX));
    *ret = json_stringn(json_string_value(value), len);
    return 0;
}

int shape_list(struct check *c, const json_t *value, size_t min, size_t max)
{
    if (!json_is_array(value) && !(json_is_object(value) && is_empty(value)))
        return check_fail(c, "must be a list");
    size_t count = json_array_size(value);
    if (count < min)
        return check_fail(c, "must not be empty");
    if (count > max)
        return check_fail(c, "must have at most %zu elements", max);
    return 0;
}

static int check_texts(struct check *c, const struct shape *f, const json_t *value, json_t **ret)
{
    bool good = json_is_array(value) || (json_is_object(value) && is_empty(value));
    for (size_t i = 0; good && i < json_array_size(value); i++)
        good = json_is_string(json_array_get(value, i));
    if (!good)
        return check_fail(c, "must be a list of texts");
    int rc = shape_list(c, value, (size_t)f->min, (size_t)or_else(f->max, SHAPE_LIST_MAX));
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < json_array_size(value); i++)
        if (json_string_length(json_array_get(value, i)) > SHAPE_SCRIPT_MAX)
            return check_fail(c, "a text is longer than %d KiB", SHAPE_SCRIPT_MAX / 1024);
    *ret = json_is_array(value) ? json_deep_copy(value) : json_array();
    return 0;
}

static int check_text_map(struct check *c, const struct shape *f, const json_t *value, json_t **ret)
{
    if (!json_is_object(value) && !(json_is_array(value) && is_empty(value)))
        return check_fail(c, "must be a table of texts by name");
    if (json_object_size(value) > (size_t)or_else(f->max, SHAPE_LIST_MAX))
        return check_fail(c, "must have at most %lld entries",
                          (long long)or_else(f->max, SHAPE_LIST_MAX));
    *ret = json_object();
    json_t *copy = json_is_object(value) ? json_deep_copy(value) : json_object(), *item;
    const char *key;
    int rc = 0;
    json_object_foreach(copy, key, item)
    {
        size_t mark = check_enter(c, key, 0);
        if (*key == 0 || strlen(key) > 256)
            rc = check_fail(c, "the name must be 1 to 256 bytes");
        else if (!json_is_string(item))
            rc = check_fail(c, "must be a text");
        else if (json_string_length(item) > SHAPE_TEXT_MAX)
            rc = check_fail(c, "must be at most %d bytes", SHAPE_TEXT_MAX);
        check_leave(c, mark);
        if (rc < 0)
            break;
        json_object_set(*ret, key, item);
    }
    json_decref(copy);
    return rc;
}

static int check_integer(struct check *c, const struct shape *f, const json_t *value, json_t **ret)
{
    if (!json_is_integer(value))
        return check_fail(c, json_is_real(value)
                                 ? "must be a whole number (this is a float; // divides without "
                                   "rest)"
                                 : "must be a whole number");
    json_int_t n = json_integer_value(value);
    if (n < f->min || n > f->max)
        return check_fail(c, "must be between %lld and %lld", (long long)f->min, (long long)f->max);
    *ret = json_integer(n);
    return 0;
}

static int check_choice(struct check *c, const struct shape *f, const json_t *value, json_t **ret)
{
    AUTO_BUF all = BUF_INIT;
    for (size_t i = 0; f->choices[i] != NULL; i++) {
        const char *text = json_string_value(value);
        if (text != NULL && strcmp(text, f->choices[i]) == 0) {
            *ret = json_string(text);
            return 0;
        }
        bool last = f->choices[i + 1] == NULL;
        buf_printf(&all, "%s\"%s\"", i == 0 ? "" : last ? " or " : ", ", f->choices[i]);
    }
    return check_fail(c, "must be %s", buf_str(&all));
}

static int check_value(struct check *c, const struct shape *f, const json_t *value, json_t **ret)
{
    switch (f->kind) {
    case SHAPE_TEXT:
        return check_text(c, f, value, ret);
    case SHAPE_TEXTS:
        return check_texts(c, f, value, ret);
    case SHAPE_TEXT_MAP:
        return check_text_map(c, f, value, ret);
    case SHAPE_INTEGER:
        return check_integer(c, f, value, ret);
    case SHAPE_BOOLEAN:
        if (!json_is_boolean(value))
            return check_fail(c, "must be true or false");
        *ret = json_boolean(json_is_true(value));
        return 0;
    case SHAPE_SECONDS:
    case SHAPE_MILLISECONDS:
        return check_duration(c, f, value, ret);
    case SHAPE_CHOICE:
        return check_choice(c, f, value, ret);
    case SHAPE_NONE:
    case SHAPE_RAW:
    default:
        *ret = json_deep_copy(value);
        return 0;
    }
}

static int check_names(struct check *c, const json_t *value, const struct shape *fields)
{
    const char *known[32];
    size_t n = 0;
    for (; fields[n].name != NULL && n + 1 < COUNT_OF(known); n++)
        known[n] = fields[n].name;
    known[n] = NULL;
    struct err why = ERR_INIT;
    if (json_is_object(value) && json_only(value, known, &why) < 0)
        return check_fail(c, "%s", why.text);
    return 0;
}

int shape_check(struct check *c, const json_t *value, const struct shape *fields, json_t **ret)
{
    *ret = NULL;
    if (!json_is_object(value) && !(json_is_array(value) && is_empty(value)))
        return check_fail(c, "must be a table with named fields");
    int rc = check_names(c, value, fields);
    json_t *result = json_object();
    for (const struct shape *f = fields; rc == 0 && f->name != NULL; f++) {
        const json_t *field = json_object_get(value, f->name);
        const char *as = f->as ? f->as : f->name;
        json_t *checked = NULL;
        size_t mark = check_enter(c, f->name, 0);
        if (field != NULL && !json_is_null(field)) {
            rc = check_value(c, f, field, &checked);
        } else if (f->required) {
            rc = check_fail(c, "missing");
        } else if (f->def != NULL) {
            checked = json_loads(f->def, JSON_DECODE_ANY, NULL);
        }
        check_leave(c, mark);
        if (rc == 0 && checked != NULL)
            json_object_set_new(result, as, checked);
        else
            json_decref(checked);
    }
    if (rc == 0)
        *ret = result;
    else
        json_decref(result);
    return rc;
}
