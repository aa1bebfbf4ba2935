-- luacheck: plain Lua 5.4, except for policies and what they may require, which run in the sandbox.
std = "lua54"
max_code_line_length = 110
max_comment_line_length = false -- a LuaCATS annotation is one line
stds.slipway = { read_globals = {
    "assert", "error", "ipairs", "pairs", "require", "select", "tonumber", "tostring", "type",
    math = { fields = { "abs", "ceil", "floor", "fmod", "huge", "max", "maxinteger", "min",
        "mininteger", "tointeger", "type", "ult" } },
    string = { fields = { "byte", "char", "contains", "ends_with", "format", "len", "lower",
        "rep", "split", "starts_with", "sub", "upper" } },
    table = { fields = { "concat", "insert", "remove", "sort", "unpack" } },
} }
files["policies/**/*.lua"] = { std = "slipway" }
files["policies/slipway/json.lua"] = { std = "lua54" }
files["policies/slipway/testing.lua"] = { std = "lua54" }
files["policies/**/*_spec.lua"] = { std = "lua54+busted" }
files["**/*_spec.lua"] = { std = "lua54+busted" }
