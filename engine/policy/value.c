#include "policy/value.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"

struct walk {
    lua_State *L;
    struct buf path;
    size_t items, bytes; /* so far */
    int depth;
    struct err *err;
};

static int refuse(struct walk *w, const char *why)
{
    if (w->path.len == 0)
        return err_set(w->err, ERR_POLICY, "%s", why);
    return err_set(w->err, ERR_POLICY, "%s: %s", w->path.data, why);
}

static void cut(struct walk *w, size_t len)
{
    w->path.len = len;
    if (w->path.data != NULL)
        w->path.data[len] = 0;
}

static int convert(struct walk *w, json_t **ret, int index);

static int convert_text(struct walk *w, json_t **ret, int index)
{
    size_t len;
    const char *s = lua_tolstring(w->L, index, &len);
    w->bytes += len;
    if (w->bytes > VALUE_BYTES_MAX)
        return refuse(w, "the texts of this answer are longer than 1 MiB");
    *ret = memchr(s, 0, len) ? NULL : json_stringn(s, len);
    return *ret != NULL ? 0 : refuse(w, "is not a text in UTF-8");
}

static int convert_number(struct walk *w, json_t **ret, int index)
{
    if (lua_isinteger(w->L, index)) {
        *ret = json_integer(lua_tointeger(w->L, index));
        return 0;
    }
    double n = lua_tonumber(w->L, index);
    if (!isfinite(n))
        return refuse(w, isnan(n) ? "is not a number (0/0)" : "is infinite");
    *ret = json_real(n);
    return 0;
}

static int convert_list(struct walk *w, json_t *list, int index, lua_Integer count)
{
    for (lua_Integer i = 1; i <= count; i++) {
        size_t mark = w->path.len;
        buf_printf(&w->path, "[%lld]", (long long)i);
        json_t *item = NULL;
        lua_rawgeti(w->L, index, i);
        int rc = convert(w, &item, lua_gettop(w->L));
        lua_pop(w->L, 1);
        if (rc < 0)
            return rc;
        json_array_append_new(list, item);
        cut(w, mark);
    }
    return 0;
}

static int convert_fields(struct walk *w, json_t *object, int index)
{
    for (lua_pushnil(w->L); lua_next(w->L, index) != 0; lua_pop(w->L, 1)) {
        size_t len;
        const char *key = lua_tolstring(w->L, -2, &len);
        size_t mark = w->path.len;
        buf_printf(&w->path, "%s%.64s", mark ? "." : "", key);
        json_t *item = NULL;
        w->bytes += len;
        int rc = strlen(key) == len ? convert(w, &item, lua_gettop(w->L))
                                    : refuse(w, "a name holds a NUL");
        if (rc == 0 && json_object_set_new(object, key, item) < 0)
            rc = refuse(w, "the name is not UTF-8");
        if (rc < 0) {
            lua_pop(w->L, 2);
            return rc;
        }
        cut(w, mark);
    }
    return 0;
}

/* Counts the kinds of keys: a table is a list or an object, never both. */
static int convert_table(struct walk *w, json_t **ret, int index)
{
    lua_Integer numbers = 0, highest = 0, texts = 0;
    for (lua_pushnil(w->L); lua_next(w->L, index) != 0; lua_pop(w->L, 1)) {
        if (lua_isinteger(w->L, -2)) {
            lua_Integer key = lua_tointeger(w->L, -2);
            highest = key < 1 ? LUA_MAXINTEGER : key > highest ? key : highest;
            numbers++;
        } else if (lua_type(w->L, -2) == LUA_TSTRING) {
            texts++;
        } else {
            lua_pop(w->L, 2);
            return refuse(w, "a key is neither a text nor a whole number");
        }
    }
    if (numbers > 0 && texts > 0)
        return refuse(w, "mixes a list with named fields");
    if (numbers != highest)
        return refuse(w, "is a list with holes");
    *ret = numbers > 0 ? json_array() : json_object();
    int rc = numbers > 0 ? convert_list(w, *ret, index, numbers) : convert_fields(w, *ret, index);
    if (rc < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return rc;
}

static int convert(struct walk *w, json_t **ret, int index)
{
    if (++w->items > VALUE_ITEMS_MAX)
        return refuse(w, "the answer has more than 20,000 values");
    switch (lua_type(w->L, index)) {
    case LUA_TNIL:
        *ret = json_null();
        return 0;
    case LUA_TBOOLEAN:
        *ret = json_boolean(lua_toboolean(w->L, index));
        return 0;
    case LUA_TNUMBER:
        return convert_number(w, ret, index);
    case LUA_TSTRING:
        return convert_text(w, ret, index);
    case LUA_TTABLE:
        break;
    default:
        return refuse(w, "a function has no place here");
    }
    if (w->depth >= VALUE_DEPTH_MAX || !lua_checkstack(w->L, 8))
        return refuse(w, "is nested deeper than 16 tables");
    w->depth++;
    int rc = convert_table(w, ret, index);
    w->depth--;
    return rc;
}

int value_to_json(json_t **ret, lua_State *L, int index, const char *path, struct err *err)
{
    struct walk w = { .L = L, .err = err };
    buf_str_append(&w.path, path);
    *ret = NULL;
    int rc = convert(&w, ret, lua_absindex(L, index));
    buf_release(&w.path);
    return rc;
}

static void push_array(lua_State *L, const json_t *json)
{
    size_t count = json_array_size(json);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        value_push(L, json_array_get(json, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_object(lua_State *L, const json_t *json)
{
    lua_createtable(L, 0, (int)json_object_size(json));
    const char *key;
    json_t *item;
    /* jansson's iteration takes a pointer that is not const, but changes nothing. */
    union {
        const json_t *in;
        json_t *out;
    } object = { .in = json };
    json_object_foreach(object.out, key, item)
    {
        lua_pushstring(L, key);
        value_push(L, item);
        lua_rawset(L, -3);
    }
}

void value_push(lua_State *L, const json_t *json)
{
    luaL_checkstack(L, 8, "nested too deeply");
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        push_object(L, json);
        return;
    case JSON_ARRAY:
        push_array(L, json);
        return;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(json), json_string_length(json));
        return;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(json));
        return;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(json));
        return;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(json));
        return;
    case JSON_NULL:
    default:
        lua_pushnil(L);
    }
}
