/* pairs() and the `table` table of the sandbox: bounded, and the same order everywhere. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sandbox.h"

/* A key as pairs() orders it: numbers, then texts by bytes, then booleans. */
struct key {
    enum { KEY_NUMBER = 1, KEY_TEXT, KEY_BOOLEAN } kind;
    lua_Integer place; /* in the list of keys */
    lua_Number number;
    const char *text;
    size_t len;
};

static int compare_keys(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->kind == KEY_TEXT) {
        size_t len = a->len < b->len ? a->len : b->len;
        int order = memcmp(a->text, b->text, len);
        if (order != 0)
            return order;
        return a->len < b->len ? -1 : a->len > b->len;
    }
    return a->number < b->number ? -1 : a->number > b->number;
}

static struct key key_of(lua_State *L, int index, lua_Integer place)
{
    struct key k = { .kind = KEY_NUMBER, .place = place };
    if (lua_type(L, index) == LUA_TSTRING) {
        k.kind = KEY_TEXT;
        k.text = lua_tolstring(L, index, &k.len);
    } else if (lua_type(L, index) == LUA_TNUMBER) {
        k.number = lua_tonumber(L, index);
    } else if (lua_type(L, index) == LUA_TBOOLEAN) {
        k.kind = KEY_BOOLEAN;
        k.number = lua_toboolean(L, index);
    } else {
        luaL_error(L, "pairs: a key is a %s, which has no order", luaL_typename(L, index));
    }
    return k;
}

static int pairs_next(lua_State *L)
{
    lua_Integer at = lua_tointeger(L, lua_upvalueindex(3));
    while (lua_rawgeti(L, lua_upvalueindex(2), ++at) != LUA_TNIL) {
        lua_pushvalue(L, -1);
        if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) {
            lua_pushinteger(L, at);
            lua_replace(L, lua_upvalueindex(3));
            return 2;
        }
        lua_pop(L, 2); /* removed since the loop began */
    }
    return 1;
}

int sandbox_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_newtable(L); /* 2: the keys as found, which keeps their texts alive */
    lua_Integer count = 0;
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_rawseti(L, 2, ++count);
    }
    sandbox_charge(L, (size_t)count * 4);
    struct key *keys = lua_newuserdatauv(L, (size_t)count * sizeof(*keys) + 1, 0);
    for (lua_Integer i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        keys[i] = key_of(L, -1, i + 1);
        lua_pop(L, 1);
    }
    qsort(keys, (size_t)count, sizeof(*keys), compare_keys);
    lua_pushvalue(L, 1);
    lua_createtable(L, (int)count, 0);
    for (lua_Integer i = 0; i < count; i++) {
        lua_rawgeti(L, 2, keys[i].place);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, pairs_next, 3);
    return 1;
}

/* The length of a list that a function is about to walk. A border can be anywhere in a table with
 * holes, so it is bounded before it is believed. */
static lua_Integer list_length(lua_State *L, const char *what)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Unsigned n = lua_rawlen(L, 1);
    if (n > SANDBOX_LIST_MAX)
        luaL_error(L, "table.%s: more than %d elements", what, SANDBOX_LIST_MAX);
    sandbox_charge(L, (size_t)n / 4);
    return (lua_Integer)n;
}

static int table_insert(lua_State *L)
{
    lua_Integer n = list_length(L, "insert"), at = n + 1;
    int top = lua_gettop(L);
    if (top != 2 && top != 3)
        return luaL_error(L, "table.insert: takes a list, perhaps a place, and a value");
    if (top == 3)
        at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, at >= 1 && at <= n + 1, 2, "the place is outside of the list");
    for (lua_Integer i = n; i >= at; i--) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, 1, i + 1);
    }
    lua_rawseti(L, 1, at);
    return 0;
}

static int table_remove(lua_State *L)
{
    lua_Integer n = list_length(L, "remove"), at = luaL_optinteger(L, 2, n);
    if (n == 0)
        return 0;
    luaL_argcheck(L, at >= 1 && at <= n, 2, "the place is outside of the list");
    lua_rawgeti(L, 1, at);
    for (lua_Integer i = at; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        lua_rawseti(L, 1, i);
    }
    lua_pushnil(L);
    lua_rawseti(L, 1, n);
    return 1;
}

static int table_concat(lua_State *L)
{
    lua_Integer n = list_length(L, "concat");
    size_t sep_len;
    const char *sep = luaL_optlstring(L, 2, "", &sep_len);
    lua_Integer from = luaL_optinteger(L, 3, 1), to = luaL_optinteger(L, 4, n);
    luaL_argcheck(L, from >= 1 && to <= n, from >= 1 ? 4 : 3, "the place is outside of the list");
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (lua_Integer i = from; i <= to; i++) {
        int type = lua_rawgeti(L, 1, i);
        if (type != LUA_TSTRING && type != LUA_TNUMBER)
            return luaL_error(L, "table.concat: element %d is a %s", (int)i, lua_typename(L, type));
        luaL_addvalue(&b);
        if (i < to)
            luaL_addlstring(&b, sep, sep_len);
    }
    luaL_pushresult(&b);
    return 1;
}

static int table_unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer from = luaL_optinteger(L, 2, 1);
    lua_Integer to =
        lua_isnoneornil(L, 3) ? (lua_Integer)lua_rawlen(L, 1) : luaL_checkinteger(L, 3);
    if (from > to)
        return 0;
    if ((lua_Unsigned)to - (lua_Unsigned)from >= SANDBOX_UNPACK_MAX)
        return luaL_error(L, "table.unpack: more than %d elements", SANDBOX_UNPACK_MAX);
    luaL_checkstack(L, SANDBOX_UNPACK_MAX, "table.unpack");
    int count = (int)(to - from) + 1;
    for (int i = 0; i < count; i++)
        lua_rawgeti(L, 1, from + i);
    return count;
}

/* Whether the element on top comes before the one below it. */
static bool comes_first(lua_State *L)
{
    if (lua_isnoneornil(L, 2)) {
        int a = lua_type(L, -1), b = lua_type(L, -2);
        if (a != b || (a != LUA_TNUMBER && a != LUA_TSTRING))
            luaL_error(L, "table.sort: cannot compare %s with %s", lua_typename(L, a),
                       lua_typename(L, b));
        return lua_compare(L, -1, -2, LUA_OPLT);
    }
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -4);
    lua_call(L, 2, 1);
    bool result = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return result;
}

/* Merges from[low..mid) and from[mid..high) into to. Takes from the right only if it is smaller, so
 * equal elements keep their order. */
static void merge(lua_State *L, int from, int to, lua_Integer low, lua_Integer mid,
                  lua_Integer high)
{
    lua_Integer left = low, right = mid;
    for (lua_Integer at = low; at < high; at++) {
        bool take_right = left >= mid;
        if (!take_right && right < high) {
            lua_rawgeti(L, from, left);
            lua_rawgeti(L, from, right);
            take_right = comes_first(L);
            lua_pop(L, 2);
        }
        lua_rawgeti(L, from, take_right ? right++ : left++);
        lua_rawseti(L, to, at);
    }
}

/* A stable merge sort from the bottom up. The stock one picks pivots by the clock, so that equal
 * elements would come out differently from run to run. */
static int table_sort(lua_State *L)
{
    lua_Integer n = list_length(L, "sort");
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_createtable(L, (int)n, 0);
    int from = 1, to = 3;
    for (lua_Integer width = 1; width < n; width *= 2) {
        sandbox_charge(L, (size_t)n);
        for (lua_Integer low = 1; low <= n; low += 2 * width) {
            lua_Integer mid = low + width <= n ? low + width : n + 1;
            lua_Integer high = low + 2 * width <= n ? low + 2 * width : n + 1;
            merge(L, from, to, low, mid, high);
        }
        int swap = from;
        from = to;
        to = swap;
    }
    for (lua_Integer i = 1; from != 1 && i <= n; i++) {
        lua_rawgeti(L, from, i);
        lua_rawseti(L, 1, i);
    }
    return 0;
}

void sandbox_add_tables(lua_State *L, int target)
{
    static const luaL_Reg own[] = {
        { "concat", table_concat }, { "insert", table_insert }, { "remove", table_remove },
        { "sort", table_sort },     { "unpack", table_unpack }, { NULL, NULL },
    };
    luaL_newlib(L, own);
    lua_setfield(L, target, LUA_TABLIBNAME);
}
