/* The sandbox against what is known to break sandboxes around Lua. */
#include "unit/policy/asking.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "policy/sandbox.h"

struct attack {
    const char *code, *error; /* error: how the text begins */
};

/* Each is the whole file, and each must end in this error. */
static const struct attack attacks[] = {
    /* Endless work. */
    { "while true do end", "web.lua:1: runs too long" },
    { "\nlocal function f() return f() end\nf()", "web.lua:2: runs too long" },
    { "for i = 1, 1e12 do local x = i end", "web.lua:1: runs too long" },
    { "while true do pcall(function() while true do end end) end",
      "web.lua:1: attempt to call a nil value (global 'pcall')" },
    { "local function f() while true do end end xpcall(f, f)",
      "web.lua:1: attempt to call a nil value (global 'xpcall')" },
    { "local t = {} for i = 1, 90000 do t[i] = i end while true do table.insert(t, 1, 0) "
      "table.remove(t, 1) end",
      "web.lua:1: runs too long" },
    { "local t = {} for i = 1, 50000 do t[i] = 50000 - i end while true do table.sort(t) end",
      "web.lua:1: runs too long" },
    { "local t = {} for i = 1, 500 do t['k' .. i] = i end while true do for _ in pairs(t) do "
      "break end end",
      "web.lua: data: uses more than 16 MiB of memory" },
    { "local s = ('x'):rep(60000) while true do s:contains('y') end", "web.lua:1: runs too long" },
    { "local function f() return f() + 1 end f()", "web.lua: data: uses more than 16 MiB" },
    /* C functions that a count hook never sees. */
    { "('a'):rep(3000):find(('.-'):rep(12) .. 'b')",
      "web.lua:1: attempt to call a nil value (method 'find')" },
    { "('a'):gsub('a', 'b')", "web.lua:1: attempt to call a nil value (method 'gsub')" },
    { "table.move({}, 1, math.maxinteger - 1, 2)",
      "web.lua:1: attempt to call a nil value (field 'move')" },
    { "local t = {} t[5] = 1 t[9] = 1 for i = 0, 61 do t[1 << i] = 1 end table.insert(t, 1, 1)",
      "web.lua:1: table.insert: more than 100000 elements" },
    { "local t = {} t[5] = 1 t[9] = 1 for i = 0, 61 do t[1 << i] = 1 end table.concat(t)",
      "web.lua:1: table.concat: more than 100000 elements" },
    { "table.concat({}, 'x', 1, 1 << 60)", "web.lua:1: bad argument #4 to 'concat'" },
    { "table.unpack({}, 1, 1e5)", "web.lua:1: table.unpack: more than 256 elements" },
    { "table.unpack({}, math.mininteger, math.maxinteger)",
      "web.lua:1: table.unpack: more than 256 elements" },
    /* Finalizers, metatables, coroutines. */
    { "setmetatable({}, { __gc = function() while true do end end })",
      "web.lua:1: attempt to call a nil value (global 'setmetatable')" },
    { "getmetatable('').__index = {}",
      "web.lua:1: attempt to call a nil value (global 'getmetatable')" },
    { "local function t(d) for i = 1, 40 do coroutine.wrap(t)(d - 1) end end t(12)",
      "web.lua:1: attempt to index a nil value (global 'coroutine')" },
    { "local x <close> = {}", "web.lua:1: variable 'x' got a non-closable value" },
    /* Memory. */
    { "string.rep('x', 1e9)", "web.lua:1: string.rep: the result is longer than 64 KiB" },
    { "('x'):rep(1 << 62, 'y')", "web.lua:1: string.rep: the result is longer than 64 KiB" },
    { "local a = ('a'):rep(65536) local t = {} for i = 1, 1e5 do t[i] = a .. i end",
      "web.lua: data: uses more than 16 MiB of memory" },
    { "local a = ('a'):rep(65536) for i = 1, 1e5 do local b = a .. i end",
      "web.lua: data: uses more than 16 MiB of memory" },
    { "local s = 'x' while true do s = s .. s end",
      "web.lua: data: uses more than 16 MiB of memory" },
    { "local t = {} for i = 1, 1e9 do t[i] = i end",
      "web.lua: data: uses more than 16 MiB of memory" },
    { "local t = {} while true do t = { t } end", "web.lua: data: uses more than 16 MiB" },
    /* Code from outside, and ways to it. */
    { "load('return 1')", "web.lua:1: attempt to call a nil value (global 'load')" },
    { "loadstring('return 1')", "web.lua:1: attempt to call a nil value (global 'loadstring')" },
    { "dofile('/etc/passwd')", "web.lua:1: attempt to call a nil value (global 'dofile')" },
    { "loadfile('/etc/passwd')", "web.lua:1: attempt to call a nil value (global 'loadfile')" },
    { "string.dump(print)", "web.lua:1: attempt to call a nil value (field 'dump')" },
    { "io.open('/etc/passwd')", "web.lua:1: attempt to index a nil value (global 'io')" },
    { "os.execute('id')", "web.lua:1: attempt to index a nil value (global 'os')" },
    { "debug.sethook()", "web.lua:1: attempt to index a nil value (global 'debug')" },
    { "package.loadlib('x', 'y')", "web.lua:1: attempt to index a nil value (global 'package')" },
    { "utf8.char(1)", "web.lua:1: attempt to index a nil value (global 'utf8')" },
    { "collectgarbage('stop')",
      "web.lua:1: attempt to call a nil value (global 'collectgarbage')" },
    { "print('x')", "web.lua:1: attempt to call a nil value (global 'print')" },
    { "_G.x = 1", "web.lua:1: attempt to index a nil value (global '_G')" },
    { "rawset({}, 1, 1)", "web.lua:1: attempt to call a nil value (global 'rawset')" },
    { "next({})", "web.lua:1: attempt to call a nil value (global 'next')" },
    { "math.random()", "web.lua:1: attempt to call a nil value (field 'random')" },
    { "require 'os'", "web.lua:1: require 'os': not in the bundle" },
    { "require '../../etc/passwd'", "web.lua:1: require '../../etc/passwd': not in the bundle" },
    { "require('slipway.' .. '../quickstart')", "web.lua:1: require 'slipway.../quickstart': not" },
    { "require 'web'", "web.lua:1: require 'web': the files require each other in a circle" },
    /* Addresses. */
    { "return tostring({})", "web.lua:1: a table has no text form" },
    { "return tostring(type)", "web.lua:1: a function has no text form" },
    { "return ('%s'):format({})", "web.lua:1: a table has no text form" },
    { "return ('%p'):format({})", "web.lua:1: string.format: %p is not offered here" },
    { "return ('%q'):format({})", "web.lua:1: string.format: %q takes a text" },
    { "return ('%999d'):format(1)", "web.lua:1: string.format: a width or precision has at most" },
    { "return ('%.100f'):format(1)", "web.lua:1: string.format: a width or precision has at most" },
    { "return ('%------d'):format(1)", "web.lua:1: string.format: a width or precision" },
    { "return ('%'):format(1)", "web.lua:1: string.format: % " },
    { "return ('%d'):format()", "web.lua:1: bad argument #1 to 'format' (no value)" },
    { "return ('%d'):format(1.5)", "web.lua:1: bad argument #1 to 'format'" },
    { "for _ in pairs({ [{}] = 1 }) do end", "web.lua:1: pairs: a key is a table" },
    /* Errors that hide where they come from. */
    { "error({})", "web.lua: data: error() was given a table, not a text" },
    { "error()", "web.lua: data: error() was given a nil, not a text" },
    { "error('x', 0)", "web.lua: data: x" },
    { "error('x')", "web.lua:1: x" },
    { "\n\nx +", "web.lua:3: " },
    { "return 1", "web.lua: must return a table, but returns number" },
    { "", "web.lua: must return a table, but returns nothing" },
    { "return { a = function() end }", "web.lua: a: a function has no place here" },
    { "return { a = { b = 0/0 } }", "web.lua: a.b: is not a number" },
    { "return { a = { math.huge } }", "web.lua: a[1]: is infinite" },
    { "return { a = { 1, x = 2 } }", "web.lua: a: mixes a list with named fields" },
    { "return { a = { 1, nil, 3 } }", "web.lua: a: is a list with holes" },
    { "return { a = { [1.5] = 1 } }", "web.lua: a: a key is neither" },
    { "return { a = '\\255' }", "web.lua: a: is not a text in UTF-8" },
    { "return { a = '\\0' }", "web.lua: a: is not a text in UTF-8" },
    { "return { 1 }", "web.lua: the policy's table has an entry without a name" },
    { "local t = {} t.t = t return t", "web.lua: t.t.t.t" },
};

static void test_attacks(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < COUNT_OF(attacks); i++) {
        struct err err = ERR_INIT;
        const struct attack *a = &attacks[i];
        json_t *answer = ask(a->code, "data", NULL, &err);
        if (answer == NULL && err.code == ERR_POLICY &&
            strncmp(err.text, a->error, strlen(a->error)) == 0)
            continue;
        print_error("%s\n  gives    %s\n  expected %s\n", a->code, answer ? "an answer" : err.text,
                    a->error);
        json_decref(answer);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

/* What works, works as in Lua; each is an expression and its text. */
static const char *const expressions[][2] = {
    { "('%5.1f|%-4s|%3d|%x|%%'):format(2.25, 'a', 7, 255)", "  2.2|a   |  7|ff|%" },
    { "('%s %s %s'):format(nil, true, 12)", "nil true 12" },
    { "('%.2s|%q'):format('abc', 'a\"b')", "ab|\"a\\\"b\"" },
    { "('a,b,,c'):split(',')[4] .. #('a,b,,c'):split(',')", "c4" },
    { "#(''):split(',')", "1" },
    { "tostring(('release-7'):starts_with('release')) .. tostring(('x'):ends_with('xx'))",
      "truefalse" },
    { "tostring(('abc'):contains('bc')) .. tostring(('abc'):contains(''))", "truetrue" },
    { "('ab'):rep(3, '-')", "ab-ab-ab" },
    { "table.concat({ 1, 'x', 2.5 }, ' ')", "1 x 2.5" },
    { "table.concat({ 1, 2, 3, 4 }, ',', 2, 3)", "2,3" },
    { "select('#', table.unpack({ 1, 2, 3 }))", "3" },
    { "(function() local t = { 3, 1, 2 } table.sort(t) return table.concat(t, ' ') end)()",
      "1 2 3" },
    { "(function() local t = { 3, 1, 2 } table.sort(t, function(a, b) return a > b end) "
      "return table.concat(t, ' ') end)()",
      "3 2 1" },
    { "(function() local t = {} for i = 1, 300 do t[i] = { k = i % 3, i = i } end "
      "table.sort(t, function(a, b) return a.k < b.k end) "
      "for i = 2, 300 do if t[i].k == t[i - 1].k and t[i].i < t[i - 1].i then return 'bad' end end "
      "return 'stable' end)()",
      "stable" },
    { "(function() local t = { 1, 2 } table.insert(t, 1, 0) table.insert(t, 3) "
      "return table.remove(t, 2) .. table.concat(t) .. table.remove(t) .. #t end)()",
      "102332" },
    { "(function() local s = '' for k, v in pairs({ b = 1, a = 2, [2] = 3, [1] = 4, [true] = 5 }) "
      "do s = s .. tostring(k) .. v end return s end)()",
      "1423a2b1true5" },
    { "(function() local t, s = { a = 1, b = 2, c = 3 }, '' for k in pairs(t) do "
      "t.b = nil s = s .. k end return s end)()",
      "ac" },
    { "7 // 2 .. math.type(7 / 2) .. math.max(1, 2) .. math.tointeger(3.0)", "3float23" },
};

static void test_expressions(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(expressions); i++) {
        AUTO_FREE char *text = mem_printf("return { x = tostring(%s) }", expressions[i][0]);
        struct err err = ERR_INIT;
        json_t *answer = ask(text, "data", NULL, &err);
        if (answer == NULL)
            fail_msg("%s: %s", text, err.text);
        const json_t *x = json_object_get(json_object_get(answer, "data"), "x");
        assert_string_equal(json_string_value(x), expressions[i][1]);
        json_decref(answer);
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds the names below the table on top of the stack, with prefix; returns the new count. */
static size_t walk(lua_State *L, const char *prefix, char **names, size_t count)
{
    lua_checkstack(L, 8);
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        assert_int_equal(lua_type(L, -2), LUA_TSTRING);
        AUTO_FREE char *name = mem_printf("%s%s", prefix, lua_tostring(L, -2));
        if (lua_istable(L, -1)) {
            AUTO_FREE char *inner = mem_printf("%s.", name);
            count = walk(L, inner, names, count);
        } else {
            assert_true(count < 100);
            names[count++] = mem_strdup(name);
        }
        assert_false(lua_getmetatable(L, -1));
    }
    return count;
}

/* Nothing but the allow-list can be reached: neither from the globals nor through a metatable. */
static void test_globals_are_the_list(void **state)
{
    (void)state;
    struct sandbox s;
    sandbox_init(&s);
    char *names[100];
    lua_pushglobaltable(s.L);
    assert_false(lua_getmetatable(s.L, -1));
    size_t count = walk(s.L, "", names, 0);
    lua_settop(s.L, 0);
    qsort(names, count, sizeof(names[0]), compare_texts);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(sandbox_globals[i]);
        assert_string_equal(names[i], sandbox_globals[i]);
        free(names[i]);
    }
    assert_null(sandbox_globals[count]);

    assert_int_equal(lua_getfield(s.L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE), LUA_TNIL);
    lua_pushliteral(s.L, "");
    assert_true(lua_getmetatable(s.L, -1));
    int fields = 0;
    for (lua_pushnil(s.L); lua_next(s.L, -2) != 0; lua_pop(s.L, 1))
        fields++;
    assert_int_equal(fields, 2); /* __index and __metatable */
    static const int kinds[] = { LUA_TNIL, LUA_TBOOLEAN, LUA_TNUMBER, LUA_TFUNCTION };
    lua_settop(s.L, 0);
    lua_pushnil(s.L);
    lua_pushboolean(s.L, 1);
    lua_pushinteger(s.L, 1);
    lua_getglobal(s.L, "type");
    for (int i = 0; i < (int)COUNT_OF(kinds); i++) {
        assert_int_equal(lua_type(s.L, i + 1), kinds[i]);
        assert_false(lua_getmetatable(s.L, i + 1));
    }
    sandbox_release(&s);
}

/* A dead sandbox stays dead: what ran out cannot be caught and continued. */
static void test_death_is_sticky(void **state)
{
    (void)state;
    struct sandbox s;
    sandbox_init(&s);
    assert_int_equal(luaL_loadstring(s.L, "while true do end"), LUA_OK);
    assert_int_not_equal(lua_pcall(s.L, 0, 0, 0), LUA_OK);
    assert_int_equal(s.dead, SANDBOX_OUT_OF_FUEL);
    assert_int_equal(luaL_loadstring(s.L, "local x = 1 x = x + 1 return x"), LUA_OK);
    assert_int_not_equal(lua_pcall(s.L, 0, 1, 0), LUA_OK);
    sandbox_release(&s);
    assert_int_equal(s.used, 0);
}

static void test_a_state_starts_empty(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    json_decref(ask("x = 1 string.upper = nil return {}", "data", NULL, &err));
    json_t *answer = ask("return { x = x, up = ('a'):upper() }", "data", NULL, &err);
    json_t *data = json_object_get(answer, "data");
    assert_null(json_object_get(data, "x"));
    assert_string_equal(json_string_value(json_object_get(data, "up")), "A");
    json_decref(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_globals_are_the_list),
        cmocka_unit_test(test_death_is_sticky),
        cmocka_unit_test(test_a_state_starts_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
