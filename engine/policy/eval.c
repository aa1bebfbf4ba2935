#include "policy/eval.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/embedded.h"
#include "base/mem.h"
#include "policy/bundle.h"
#include "policy/sandbox.h"
#include "policy/value.h"

static const char modules_key[] = "slipway.modules"; /* in the registry */

const char *const eval_functions[] = { "build", "replicate", "waves", "advance", NULL };

const char *eval_library(const char *module, const char **file, size_t *len)
{
    static const struct {
        const char *module, *path;
    } library[] = {
        { "slipway", "policies/slipway/init.lua" },
        { "slipway.defaults", "policies/slipway/defaults.lua" },
    };
    for (size_t i = 0; i < COUNT_OF(library); i++) {
        if (strcmp(module, library[i].module) != 0)
            continue;
        for (const struct embedded *e = embedded_files; e->path != NULL; e++) {
            if (strcmp(e->path, library[i].path) != 0)
                continue;
            *file = e->path + strlen("policies/");
            *len = e->len;
            return (const char *)e->data;
        }
    }
    return NULL;
}

/* Compiles a text under the name that errors show; leaves the function. Raises. */
static void load_text(lua_State *L, const char *file, const char *text, size_t len)
{
    if (len > 0 && text[0] == LUA_SIGNATURE[0])
        luaL_error(L, "%s: is compiled Lua; only text is accepted", file);
    lua_pushfstring(L, "=%s", file);
    if (luaL_loadbufferx(L, text, len, lua_tostring(L, -1), "t") != LUA_OK)
        lua_error(L);
    lua_remove(L, -2);
}

/* Runs a module once a state and leaves its value. Raises. */
static void require_module(lua_State *L, const struct bundle *b, const char *module)
{
    lua_getfield(L, LUA_REGISTRYINDEX, modules_key);
    int type = lua_getfield(L, -1, module);
    if (type == LUA_TLIGHTUSERDATA)
        luaL_error(L, "require '%s': the files require each other in a circle", module);
    if (type != LUA_TNIL)
        return;
    lua_pop(L, 1);
    const char *file;
    size_t len;
    const char *text = eval_library(module, &file, &len);
    char name[BUNDLE_NAME_MAX];
    if (text == NULL && bundle_module_file(module, name)) {
        file = name;
        text = bundle_file(b, name, &len);
    }
    if (text == NULL)
        luaL_error(L,
                   "require '%s': not in the bundle (a file beside the policy is found when "
                   "its name stands in quotes behind require)",
                   module);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, module);
    load_text(L, file, text, len);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, module);
}

static int policy_require(lua_State *L)
{
    const struct bundle *b = lua_touserdata(L, lua_upvalueindex(1));
    require_module(L, b, luaL_checkstring(L, 1));
    return 1;
}

static void add_require(lua_State *L, const struct bundle *b)
{
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, modules_key);
    union {
        const struct bundle *in;
        void *out;
    } pointer = { .in = b };
    lua_pushlightuserdata(L, pointer.out);
    lua_pushcclosure(L, policy_require, 1);
    lua_setglobal(L, "require");
}

/* Leaves the answer to the question; the policy's table is at index 2. Raises. */
static void answer(lua_State *L, const struct evaluation *e)
{
    int type = lua_getfield(L, 2, e->question);
    bool may_be_table = strcmp(e->question, "build") == 0 || strcmp(e->question, "waves") == 0;
    if (type == LUA_TTABLE && may_be_table)
        return;
    if (type == LUA_TNIL && strcmp(e->question, "build") == 0)
        luaL_error(L, "%s: build: missing", bundle_main(e->bundle));
    if (type == LUA_TNIL) {
        require_module(L, e->bundle, "slipway.defaults");
        lua_getfield(L, -1, e->question);
    } else if (type != LUA_TFUNCTION) {
        luaL_error(L, "%s: %s: must be a function%s", bundle_main(e->bundle), e->question,
                   may_be_table ? " or a table" : "");
    }
    value_push(L, e->input);
    lua_pushvalue(L, 2); /* the defaults read on_failure there */
    lua_call(L, 2, 1);
}

static int run(lua_State *L)
{
    const struct evaluation *e = lua_touserdata(L, 1);
    const char *file = bundle_main(e->bundle);
    size_t len;
    const char *text = bundle_file(e->bundle, file, &len);
    add_require(L, e->bundle);
    load_text(L, file, text, len);
    lua_call(L, 0, 1);
    if (!lua_istable(L, 2))
        return luaL_error(L, "%s: must return a table, but returns %s", file,
                          lua_isnil(L, 2) ? "nothing" : luaL_typename(L, 2));
    if (strcmp(e->question, "data") != 0)
        answer(L, e);
    return 1;
}

/* Whether text already says where: "web.lua:12: …" or "web.lua: …", for a file of this bundle. */
static bool says_where(const struct bundle *b, const char *text)
{
    const char *colon = strstr(text, ".lua:");
    if (colon == NULL)
        return false;
    char name[BUNDLE_NAME_MAX + 16];
    size_t len = (size_t)(colon - text) + 4;
    if (len >= sizeof(name))
        return false;
    memcpy(name, text, len);
    name[len] = 0;
    return bundle_file(b, name, NULL) != NULL || strncmp(name, "slipway/", 8) == 0;
}

static int fail(const struct evaluation *e, const struct sandbox *s, struct err *err)
{
    const char *file = bundle_main(e->bundle);
    if (s->dead == SANDBOX_OUT_OF_MEMORY)
        return err_set(err, ERR_POLICY, "%s: %s: uses more than 16 MiB of memory", file,
                       e->question);
    const char *text = lua_type(s->L, -1) == LUA_TSTRING ? lua_tostring(s->L, -1) : NULL;
    if (text == NULL)
        return err_set(err, ERR_POLICY, "%s: %s: error() was given a %s, not a text", file,
                       e->question, luaL_typename(s->L, -1));
    if (says_where(e->bundle, text))
        return err_set(err, ERR_POLICY, "%s", text);
    return err_set(err, ERR_POLICY, "%s: %s: %s", file, e->question, text);
}

static bool is_function_field(const char *name)
{
    for (size_t i = 0; eval_functions[i] != NULL; i++)
        if (strcmp(name, eval_functions[i]) == 0)
            return true;
    return false;
}

/* The policy's table, which is on top, without its functions. */
static int convert_policy(json_t **ret, lua_State *L, struct err *err)
{
    json_t *data = json_object(), *functions = json_object();
    *ret = json_pack("{s:o,s:o}", "data", data, "functions", functions);
    int table = lua_gettop(L), rc = 0;
    for (size_t i = 0; eval_functions[i] != NULL; i++) {
        lua_getfield(L, table, eval_functions[i]);
        json_object_set_new(functions, eval_functions[i], json_boolean(lua_isfunction(L, -1)));
        lua_pop(L, 1);
    }
    for (lua_pushnil(L); rc == 0 && lua_next(L, table) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            rc = err_set(err, ERR_POLICY, "the policy's table has an entry without a name");
            break;
        }
        const char *name = lua_tostring(L, -2);
        if (lua_isfunction(L, -1) && is_function_field(name))
            continue;
        json_t *value = NULL;
        rc = value_to_json(&value, L, -1, name, err);
        if (rc == 0 && json_object_set_new(data, name, value) < 0)
            rc = err_set(err, ERR_POLICY, "a name is not UTF-8");
    }
    if (rc < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return rc;
}

int eval_ask(json_t **ret, const struct evaluation *e, struct err *err)
{
    struct sandbox s;
    sandbox_init(&s);
    lua_pushcfunction(s.L, run);
    union {
        const struct evaluation *in;
        void *out;
    } pointer = { .in = e };
    lua_pushlightuserdata(s.L, pointer.out);
    int rc = lua_pcall(s.L, 1, 1, 0);
    *ret = NULL;
    bool alive = rc == LUA_OK && s.dead == SANDBOX_ALIVE;
    if (!alive)
        rc = fail(e, &s, err);
    else if (strcmp(e->question, "data") == 0)
        rc = convert_policy(ret, s.L, err);
    else
        rc = value_to_json(ret, s.L, -1, e->question, err);
    if (rc < 0 && alive)
        err_wrap(err, "%s", bundle_main(e->bundle));
    sandbox_release(&s);
    return rc;
}
