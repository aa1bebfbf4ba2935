-- check-limits.lua [ROOT]: calls that are not used here, things left undone, and the size of files and
-- functions. Prints "file:line: rule" and exits with 1.
--
-- scripts/oversize.txt lists what may be larger, with its own limit, one "SIZE PATH" or
-- "SIZE PATH:FUNCTION" a line. It may only shrink: an entry that is no longer needed, or is larger
-- than it needs to be, is reported too.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local csource = require "csource"

local root = arg[1] or "."
local FILE_LINES, FUNCTION_LINES = 600, 60

local BANNED = {
    strcpy = "memcpy or buf_*", strcat = "buf_*",
    sprintf = "snprintf or buf_printf", vsprintf = "vsnprintf", gets = "a bounded read",
    strtok = "strcspn", system = "io/process", popen = "io/process", alloca = "mem_alloc",
    tmpnam = "mkstemp", mktemp = "mkstemp",
}

local problems = 0
local function problem(path, line, ...)
    problems = problems + 1
    print(("%s:%d: %s"):format(path, line, string.format(...)))
end

local function read_oversize()
    local limits, file = {}, io.open(root .. "/scripts/oversize.txt")
    if not file then
        return limits
    end
    local number = 0
    for line in file:lines() do
        number = number + 1
        local size, what = line:match("^(%d+)%s+(%S+)")
        if size then
            limits[what] = { size = tonumber(size), line = number }
        end
    end
    file:close()
    return limits
end

local oversize = read_oversize()

local function check_size(path, line, what, size, limit)
    local entry = oversize[what]
    if entry then
        entry.used = size
    end
    if size > (entry and entry.size or limit) then
        problem(path, line, "%s has %d lines, more than %d", what:match(":(.*)") or "the file", size,
            entry and entry.size or limit)
    end
end

-- K&R with function braces on a line of their own: a body is what stands between "{" and "}" in the
-- first column; its name stands in the nearest line above that has "(".
local function check_functions(path, code)
    local opened, name, head = nil, nil, ""
    for number, line in csource.lines(code) do
        if line == "{" then
            opened, name = number, head:match("([%a_][%w_]*)%s*%(") or "?"
        elseif line:match("^}") and opened then
            check_size(path, opened, path .. ":" .. name, number - opened - 1, FUNCTION_LINES)
            opened, head = nil, ""
        elseif not opened and line:match("^[%a_].*%(") then
            head = line
        end
    end
end

local function check_c(path, text)
    local code = csource.code(text)
    for number, name in csource.calls(code, BANNED) do
        problem(path, number, "%s() is not used here; take %s", name, BANNED[name])
    end
    check_functions(path, code)
end

local function count_lines(text)
    return select(2, text:gsub("\n", "\n"))
end

local function all_files()
    local files = {}
    local pipe <close> = assert(io.popen(("cd '%s' && find engine agent tests policies scripts rockspec " ..
        "-type f \\( -name '*.[ch]' -o -name '*.lua' -o -name '*.sh' -o -path 'scripts/*' \\) " ..
        "-not -path '*/node_modules/*' 2>/dev/null | sort"):format(root)))
    for path in pipe:lines() do
        files[#files + 1] = path
    end
    return files
end

for _, path in ipairs(all_files()) do
    local text = csource.read(root .. "/" .. path)
    check_size(path, 1, path, count_lines(text), FILE_LINES)
    if path:match("%.[ch]$") then
        check_c(path, text)
    end
    if not path:match("check%-limits") then
        for number, line in csource.lines(text) do
            local word = line:match("%f[%w_](TODO)%f[^%w_]") or line:match("%f[%w_](FIXME)%f[^%w_]")
            if word then
                problem(path, number, "%s: do it, or leave it out", word)
            end
        end
    end
end
for what, entry in pairs(oversize) do
    local limit = what:match(":") and FUNCTION_LINES or FILE_LINES
    if not entry.used or entry.used <= limit then
        problem("scripts/oversize.txt", entry.line, "%s is no longer needed; remove it", what)
    elseif entry.used < entry.size then
        problem("scripts/oversize.txt", entry.line, "%s needs only %d", what, entry.used)
    end
end
os.exit(problems == 0)
