-- csource.lua: C files as the checks of this folder read them.
local csource = {}

-- The .c and .h files below the given folders, sorted; folders that do not exist are left out.
function csource.files(root, folders)
    local files = {}
    for _, folder in ipairs(folders) do
        local pipe <close> = assert(io.popen(("cd '%s' && find %s -type f -name '*.[ch]' 2>/dev/null | sort")
            :format(root, folder)))
        for path in pipe:lines() do
            files[#files + 1] = path
        end
    end
    return files
end

function csource.read(path)
    local file <close> = assert(io.open(path, "rb"))
    return file:read("a")
end

local function blank(text)
    return (text:gsub("[^\n]", " "))
end

-- The text with comments, strings and character constants blanked out; every newline stays, so that
-- line numbers do.
function csource.code(text)
    local out, at = {}, 1
    while true do
        local from = text:find("[/\"']", at)
        if not from then
            break
        end
        local two = text:sub(from, from + 1)
        local to
        if two == "/*" then
            to = select(2, text:find("*/", from + 2, true)) or #text
        elseif two == "//" then
            to = (text:find("\n", from, true) or #text + 1) - 1
        elseif two:sub(1, 1) ~= "/" then
            local quote = text:sub(from, from)
            to = from + 1
            while to < #text and text:sub(to, to) ~= quote do
                to = to + (text:sub(to, to) == "\\" and 2 or 1)
            end
        end
        out[#out + 1] = text:sub(at, from - 1)
        out[#out + 1] = to and blank(text:sub(from, to)) or "/"
        at = (to or from) + 1
    end
    out[#out + 1] = text:sub(at)
    return table.concat(out)
end

-- Iterates over (line number, line).
function csource.lines(text)
    local number, next_line = 0, (text .. "\n"):gmatch("(.-)\n")
    return function()
        local line = next_line()
        if line then
            number = number + 1
            return number, line
        end
    end
end

-- Iterates over (line number, name) of every call, by its plain name, of a function whose name is a
-- key of `names`. Members (x.open, x->open) and longer names (db_open) are not meant.
function csource.calls(code, names)
    local found = {}
    for number, line in csource.lines(code) do
        for at, name in line:gmatch("()%f[%w_]([%a_][%w_]*)%s*%(") do
            local before = line:sub(1, at - 1)
            if names[name] and not before:match("%.%s*$") and not before:match("%->%s*$") then
                found[#found + 1] = { number, name }
            end
        end
    end
    local i = 0
    return function()
        i = i + 1
        if found[i] then
            return found[i][1], found[i][2]
        end
    end
end

return csource
