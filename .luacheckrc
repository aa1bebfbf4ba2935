std = "lua54"
max_code_line_length = 110
max_comment_line_length = false -- a LuaCATS annotation is one line
files["**/*_spec.lua"] = { std = "lua54+busted" }
