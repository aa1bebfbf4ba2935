-- check-layers.lua [ROOT]: holds the order of the house; prints "file:line: rule" and exits with 1.
--
-- 1. A folder of engine/ includes itself and the folders before it, in the order that the Makefile
--    gives (SHARED, then HOUSE). agent/ includes itself and SHARED.
-- 2. A library has one home: only that folder sees its header.
-- 3. Sockets and clocks belong to io/, files to io/ and store/. The pure folders do not even include
--    their headers.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local csource = require "csource"

local root = arg[1] or "."

-- Header -> the only folder that may include it.
local HOMES = {
    ["lua.h"] = "policy", ["lauxlib.h"] = "policy", ["lualib.h"] = "policy",
    ["libpq-fe.h"] = "db", ["sqlite3.h"] = "db",
    ["curl/curl.h"] = "io", ["ev.h"] = "io",
    ["sys/socket.h"] = "io", ["netinet/in.h"] = "io", ["netinet/tcp.h"] = "io",
    ["arpa/inet.h"] = "io", ["netdb.h"] = "io",
    ["microhttpd.h"] = "control",
}

-- Folders that take time, randomness and bytes as arguments, and what they must not include.
local PURE = { base = true, wire = true, delta = true, swarm = true, rollout = true }
local IMPURE_HEADERS = {
    ["time.h"] = true, ["sys/time.h"] = true, ["sys/random.h"] = true, ["openssl/rand.h"] = true,
    ["fcntl.h"] = true, ["dirent.h"] = true, ["poll.h"] = true, ["sys/epoll.h"] = true,
    ["pthread.h"] = true, ["signal.h"] = true, ["sys/wait.h"] = true,
}

local function set(names)
    local out = {}
    for name in names:gmatch("%S+") do
        out[name] = true
    end
    return out
end
local IO_CALLS = set [[
    socket connect accept accept4 bind listen clock_gettime gettimeofday time ]]
local FILE_CALLS = set "open openat creat fopen opendir"
local IMPURE_CALLS = set [[
    rand srand random srandom drand48 getrandom getentropy RAND_bytes fork execv execve execvp ]]

local EXEMPT = {
    ["engine/base/log.c"] = set "time.h clock_gettime", -- the sink stamps its lines
    -- Talks with its own child alone, and counts the child's processor time.
    ["engine/policy/host.c"] = set "sys/socket.h clock_gettime",
}

local problems = 0
local function problem(path, line, ...)
    problems = problems + 1
    print(("%s:%d: %s"):format(path, line, string.format(...)))
end

-- folder -> its place; how many of them agent/ shares.
local function order_of_the_house()
    local makefile = csource.read(root .. "/Makefile")
    local shared = assert(makefile:match("\nSHARED := ([^\n]*)"), "Makefile: no SHARED")
    local rest = assert(makefile:match("\nHOUSE := %$%(SHARED%)([^\n]*)"), "Makefile: no HOUSE")
    local place, count, shared_count = {}, 0, 0
    for name in (shared .. rest):gmatch("%S+") do
        count = count + 1
        place[name] = count
    end
    for _ in shared:gmatch("%S+") do
        shared_count = shared_count + 1
    end
    return place, shared_count
end

local place, shared_count = order_of_the_house()

local function check_include(path, number, folder, header)
    local home, to = HOMES[header], header:match("^([^/]+)/")
    if home and home ~= folder then
        problem(path, number, "%s is for engine/%s/ only", header, home)
    end
    if PURE[folder] and IMPURE_HEADERS[header] then
        problem(path, number, "%s: engine/%s/ is pure (time, randomness and bytes are arguments)",
            header, folder)
    end
    if not to or not place[to] or folder == "main" then
        return
    end
    if folder == "agent" then
        if place[to] > shared_count then
            problem(path, number, "agent/ must not include %s (it is not shared)", header)
        end
    elseif place[to] > place[folder] then
        problem(path, number, "engine/%s/ must not include %s (%s stands after %s)", folder,
            header, to, folder)
    end
end

local function check_file(path)
    local folder = path:match("^agent/") and "agent" or path:match("^engine/([^/]+)/") or "main"
    if folder ~= "agent" and folder ~= "main" and not place[folder] then
        problem(path, 1, "engine/%s/ is no folder of the house (see HOUSE in the Makefile)", folder)
        return
    end
    local exempt = EXEMPT[path] or {}
    local text = csource.read(root .. "/" .. path)
    for number, line in csource.lines(text) do
        local header = line:match('^%s*#%s*include%s*[<"]([^>"]+)[>"]')
        if header and not exempt[header] then
            check_include(path, number, folder, header)
        end
    end
    local code = csource.code(text)
    local function forbid(names, why)
        for number, name in csource.calls(code, names) do
            -- not a function of that name of the file's own
            if not exempt[name] and not code:match("\nstatic [^\n;=]*%f[%w_]" .. name .. "%(") then
                problem(path, number, "%s(): %s", name, why)
            end
        end
    end
    if folder ~= "io" then
        forbid(IO_CALLS, "sockets and clocks are for engine/io/ only")
    end
    if folder ~= "io" and folder ~= "store" then
        forbid(FILE_CALLS, "files are for engine/io/ and engine/store/ only")
    end
    if PURE[folder] then
        forbid(IMPURE_CALLS, ("engine/%s/ is pure"):format(folder))
    end
end

for _, path in ipairs(csource.files(root, { "engine", "agent" })) do
    check_file(path)
end
os.exit(problems == 0)
