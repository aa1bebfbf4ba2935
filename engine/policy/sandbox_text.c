/* The `string` table of the sandbox: no patterns (a single string.find can run for minutes without
 * a step), linear searches in their place, and a format() that shows no address. */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "policy/sandbox.h"

static int text_rep(lua_State *L)
{
    size_t len, sep_len;
    const char *s = luaL_checklstring(L, 1, &len);
    lua_Integer n = luaL_checkinteger(L, 2);
    const char *sep = luaL_optlstring(L, 3, "", &sep_len);
    if (n <= 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (n > SANDBOX_TEXT_BYTES || len + sep_len > SANDBOX_TEXT_BYTES / (size_t)n)
        return luaL_error(L, "string.rep: the result is longer than 64 KiB");
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (lua_Integer i = 0; i < n; i++) {
        luaL_addlstring(&b, s, len);
        if (i < n - 1)
            luaL_addlstring(&b, sep, sep_len);
    }
    luaL_pushresult(&b);
    return 1;
}

static int text_starts_with(lua_State *L)
{
    size_t len, part_len;
    const char *s = luaL_checklstring(L, 1, &len), *part = luaL_checklstring(L, 2, &part_len);
    lua_pushboolean(L, part_len <= len && memcmp(s, part, part_len) == 0);
    return 1;
}

static int text_ends_with(lua_State *L)
{
    size_t len, part_len;
    const char *s = luaL_checklstring(L, 1, &len), *part = luaL_checklstring(L, 2, &part_len);
    lua_pushboolean(L, part_len <= len && memcmp(s + len - part_len, part, part_len) == 0);
    return 1;
}

static int text_contains(lua_State *L)
{
    size_t len, part_len;
    const char *s = luaL_checklstring(L, 1, &len), *part = luaL_checklstring(L, 2, &part_len);
    sandbox_charge(L, len / 64);
    lua_pushboolean(L, memmem(s, len, part, part_len) != NULL);
    return 1;
}

static int text_split(lua_State *L)
{
    size_t len, sep_len;
    const char *s = luaL_checklstring(L, 1, &len), *sep = luaL_checklstring(L, 2, &sep_len);
    luaL_argcheck(L, sep_len > 0, 2, "the separator is empty");
    sandbox_charge(L, len / 64);
    lua_newtable(L);
    lua_Integer n = 0;
    for (const char *end = s + len, *at; (at = memmem(s, (size_t)(end - s), sep, sep_len)) != NULL;
         len = (size_t)(end - s)) {
        lua_pushlstring(L, s, (size_t)(at - s));
        lua_rawseti(L, -2, ++n);
        s = at + sep_len;
        sandbox_charge(L, 1);
    }
    lua_pushlstring(L, s, len);
    lua_rawseti(L, -2, ++n);
    return 1;
}

static size_t digits(const char *s)
{
    size_t n = 0;
    while (s[n] >= '0' && s[n] <= '9')
        n++;
    return n;
}

struct spec {
    char text[16];        /* "%-5.2f", for the stock format */
    size_t width, places; /* places: (size_t)-1 when there is none */
    bool left;
};

/* Reads what stands between '%' and the conversion; returns the conversion. Raises. */
static const char *spec_read(lua_State *L, struct spec *out, const char *at)
{
    const char *start = at;
    size_t n = strspn(at, "-+ #0");
    out->left = memchr(at, '-', n) != NULL;
    at += n;
    size_t w = digits(at);
    out->width = 0;
    for (size_t i = 0; i < w && w <= 2; i++)
        out->width = out->width * 10 + (size_t)(at[i] - '0');
    at += w;
    out->places = (size_t)-1;
    size_t p = 0;
    if (*at == '.') {
        p = digits(++at);
        out->places = 0;
        for (size_t i = 0; i < p && p <= 2; i++)
            out->places = out->places * 10 + (size_t)(at[i] - '0');
        at += p;
    }
    if (n > 5 || w > 2 || p > 2)
        luaL_error(L, "string.format: a width or precision has at most two digits");
    size_t len = (size_t)(at - start);
    out->text[0] = '%';
    memcpy(out->text + 1, start, len);
    out->text[len + 1] = *at;
    out->text[len + 2] = 0;
    return at;
}

static void pad(luaL_Buffer *b, size_t count)
{
    for (; count > 0; count--)
        luaL_addchar(b, ' ');
}

static void add_text(lua_State *L, luaL_Buffer *b, const struct spec *spec, int arg)
{
    size_t len;
    const char *s = sandbox_tostring(L, arg, &len);
    lua_replace(L, arg); /* keeps it alive, and leaves the top to the buffer */
    len = len > spec->places ? spec->places : len;
    size_t fill = spec->width > len ? spec->width - len : 0;
    pad(b, spec->left ? 0 : fill);
    luaL_addlstring(b, s, len);
    pad(b, spec->left ? fill : 0);
}

/* The stock format, which is upvalue 1, with one checked conversion. */
static void add_stock(lua_State *L, luaL_Buffer *b, const struct spec *spec, int arg)
{
    const char kind = spec->text[strlen(spec->text) - 1];
    if (strchr("dixXoc", kind) != NULL)
        luaL_checkinteger(L, arg);
    else if (kind != 'q')
        luaL_checknumber(L, arg);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushstring(L, spec->text);
    lua_pushvalue(L, arg);
    lua_call(L, 2, 1);
    luaL_addvalue(b);
}

static int text_format(lua_State *L)
{
    int top = lua_gettop(L), arg = 1;
    size_t len;
    const char *at = luaL_checklstring(L, 1, &len), *end = at + len;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (; at < end; at++) {
        if (*at != '%') {
            luaL_addchar(&b, *at);
            continue;
        }
        if (*++at == '%') {
            luaL_addchar(&b, '%');
            continue;
        }
        struct spec spec;
        at = spec_read(L, &spec, at);
        if (*at == 0 || strchr("dixXoceEfgGsq", *at) == NULL)
            return luaL_error(L, "string.format: %%%c is not offered here", *at ? *at : ' ');
        if (++arg > top)
            return luaL_argerror(L, arg, "no value");
        if (*at == 'q' && lua_type(L, arg) != LUA_TSTRING)
            return luaL_error(L, "string.format: %%q takes a text");
        if (*at == 's')
            add_text(L, &b, &spec, arg);
        else
            add_stock(L, &b, &spec, arg);
    }
    luaL_pushresult(&b);
    return 1;
}

void sandbox_add_text(lua_State *L, int stock, int target)
{
    static const char *const kept[] = { "byte", "char", "len", "lower", "upper", "sub", NULL };
    static const luaL_Reg own[] = {
        { "rep", text_rep },
        { "starts_with", text_starts_with },
        { "ends_with", text_ends_with },
        { "contains", text_contains },
        { "split", text_split },
        { NULL, NULL },
    };
    lua_createtable(L, 0, 12);
    for (size_t i = 0; kept[i] != NULL; i++) {
        lua_getfield(L, stock, kept[i]);
        lua_setfield(L, -2, kept[i]);
    }
    luaL_setfuncs(L, own, 0);
    lua_getfield(L, stock, "format");
    lua_pushcclosure(L, text_format, 1);
    lua_setfield(L, -2, "format");
    /* ("x"):upper() works through a metatable of our own, which nobody can see or change. */
    lua_pushliteral(L, "");
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    lua_setfield(L, target, LUA_STRLIBNAME);
}
