#include "policy/sandbox.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOOK_STEPS = 100, BYTES_PER_STEP = 64 };

const char *const sandbox_globals[] = {
    "assert",
    "error",
    "ipairs",
    "math.abs",
    "math.ceil",
    "math.floor",
    "math.fmod",
    "math.huge",
    "math.max",
    "math.maxinteger",
    "math.min",
    "math.mininteger",
    "math.tointeger",
    "math.type",
    "math.ult",
    "pairs",
    "select",
    "string.byte",
    "string.char",
    "string.contains",
    "string.ends_with",
    "string.format",
    "string.len",
    "string.lower",
    "string.rep",
    "string.split",
    "string.starts_with",
    "string.sub",
    "string.upper",
    "table.concat",
    "table.insert",
    "table.remove",
    "table.sort",
    "table.unpack",
    "tonumber",
    "tostring",
    "type",
    NULL,
};

static void *sandbox_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct sandbox *s = ud;
    if (ptr == NULL)
        osize = 0; /* for a new block Lua passes the kind of object there */
    if (nsize == 0) {
        free(ptr);
        s->used -= osize;
        return NULL;
    }
    if (nsize > osize && nsize - osize > SANDBOX_MEMORY_BYTES - s->used) {
        s->dead = SANDBOX_OUT_OF_MEMORY;
        return NULL;
    }
    void *data = realloc(ptr, nsize);
    if (data == NULL) {
        if (nsize <= osize)
            return ptr; /* Lua relies on shrinking */
        s->dead = SANDBOX_OUT_OF_MEMORY;
        return NULL;
    }
    if (nsize > osize)
        s->uncharged += nsize - osize;
    s->used = s->used - osize + nsize;
    return data;
}

struct sandbox *sandbox_of(lua_State *L)
{
    return *(struct sandbox **)lua_getextraspace(L);
}

static void burn(lua_State *L, size_t steps, int level);

static void on_count(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    burn(L, HOOK_STEPS, 0);
}

/* level: whose line the error names; 0 is the running function. */
static void burn(lua_State *L, size_t steps, int level)
{
    struct sandbox *s = sandbox_of(L);
    s->fuel -= (int64_t)(steps + s->uncharged / BYTES_PER_STEP);
    s->uncharged = 0;
    if (s->fuel > 0 && s->dead == SANDBOX_ALIVE)
        return;
    if (s->dead == SANDBOX_ALIVE)
        s->dead = SANDBOX_OUT_OF_FUEL;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    luaL_where(L, level);
    lua_pushliteral(L, "runs too long (more than 5 million steps)");
    lua_concat(L, 2);
    lua_error(L);
}

void sandbox_charge(lua_State *L, size_t steps)
{
    burn(L, steps, 1);
}

const char *sandbox_tostring(lua_State *L, int index, size_t *len)
{
    index = lua_absindex(L, index);
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        lua_pushvalue(L, index); /* so that the conversion does not change the original */
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        break;
    default:
        luaL_error(L, "a %s has no text form", luaL_typename(L, index));
    }
    return lua_tolstring(L, -1, len);
}

static int safe_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    sandbox_tostring(L, 1, NULL);
    return 1;
}

/* Moves the stock functions that are harmless as they are. */
static void copy_fields(lua_State *L, int from, int to, const char *const names[])
{
    for (size_t i = 0; names[i] != NULL; i++) {
        lua_getfield(L, from, names[i]);
        lua_setfield(L, to, names[i]);
    }
}

static void add_math(lua_State *L, int target)
{
    static const char *const names[] = { "abs",        "ceil",       "floor", "max", "min",
                                         "fmod",       "tointeger",  "type",  "ult", "huge",
                                         "maxinteger", "mininteger", NULL };
    luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 0);
    int stock = lua_gettop(L);
    lua_createtable(L, 0, (int)(sizeof(names) / sizeof(names[0])));
    copy_fields(L, stock, lua_gettop(L), names);
    lua_setfield(L, target, LUA_MATHLIBNAME);
    lua_pop(L, 1);
}

static int open_globals(lua_State *L)
{
    static const char *const names[] = { "assert",   "error", "ipairs", "select",
                                         "tonumber", "type",  NULL };
    lua_createtable(L, 0, 16);
    int target = lua_gettop(L);
    luaL_requiref(L, LUA_GNAME, luaopen_base, 0);
    copy_fields(L, lua_gettop(L), target, names);
    lua_pop(L, 1);
    lua_pushcfunction(L, sandbox_pairs);
    lua_setfield(L, target, "pairs");
    lua_pushcfunction(L, safe_tostring);
    lua_setfield(L, target, "tostring");
    add_math(L, target);
    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 0);
    sandbox_add_text(L, lua_gettop(L), target);
    lua_pop(L, 1);
    sandbox_add_tables(L, target);
    /* What the stock libraries left behind is out of reach from here on. */
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    return 0;
}

static int on_panic(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "policy: Lua panic: %s\n", text ? text : "?");
    abort();
}

void sandbox_init(struct sandbox *s)
{
    memset(s, 0, sizeof(*s));
    s->fuel = SANDBOX_FUEL;
    s->L = lua_newstate(sandbox_alloc, s);
    if (s->L == NULL)
        abort();
    *(struct sandbox **)lua_getextraspace(s->L) = s;
    lua_atpanic(s->L, on_panic);
    lua_gc(s->L, LUA_GCSTOP);
    lua_pushcfunction(s->L, open_globals);
    lua_call(s->L, 0, 0);
    lua_sethook(s->L, on_count, LUA_MASKCOUNT, HOOK_STEPS);
}

void sandbox_release(struct sandbox *s)
{
    if (s->L != NULL)
        lua_close(s->L);
    s->L = NULL;
}
