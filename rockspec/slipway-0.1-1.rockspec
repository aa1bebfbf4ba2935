rockspec_format = "3.0"
package = "slipway"
version = "0.1-1"
-- For `luarocks make` in a checkout: what is packed is what lies there.
source = {
   url = "git+file://.",
}
description = {
   summary = "Write and test deployment policies for Slipway",
   detailed = [[
The Lua library that Slipway policies are written with, and a helper for specs that asks policies in
the engine's own sandbox. Editors find the types of everything that a policy sees and returns in
slipway/types.lua (LuaCATS).
]],
   license = "Apache-2.0",
   labels = { "deployment", "policy" },
}
dependencies = {
   "lua >= 5.4, < 5.5",
}
build = {
   type = "builtin",
   modules = {
      ["slipway"] = "policies/slipway/init.lua",
      ["slipway.defaults"] = "policies/slipway/defaults.lua",
      ["slipway.json"] = "policies/slipway/json.lua",
      ["slipway.testing"] = "policies/slipway/testing.lua",
      ["slipway.types"] = "policies/slipway/types.lua",
   },
   copy_directories = {},
}
