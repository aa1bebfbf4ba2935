-- testing.lua: asks policies from specs, in the sandbox that production uses. For busted:
--
--     local testing = require "slipway.testing"
--     local policy = testing.policy("web.lua")             -- beside the spec
--     local decision = policy:advance { wave = { total = 4, healthy = 3 } }
--     assert.are.equal("wait", decision.action)
--
-- Say what matters for the case; the rest is filled in with what would be usual then. The engine is
-- $ENGINE, build/engine, or the one in PATH. A policy cannot require this file.

local json = require "slipway.json"

local testing = {}

local function exists(path)
    local file = io.open(path, "rb")
    return file ~= nil and file:close()
end

local function engine()
    local path = os.getenv("ENGINE")
    return path or (exists("build/engine") and "build/engine") or "engine"
end

local function quote(text)
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function read_file(path)
    local file <close> = assert(io.open(path, "rb"))
    return file:read("a")
end

-- Values of `given` over those of `usual`, table by table.
local function over(usual, given)
    for key, value in pairs(given or {}) do
        if type(value) == "table" and type(usual[key]) == "table" and #value == 0 then
            over(usual[key], value)
        else
            usual[key] = value
        end
    end
    return usual
end

local COMMIT = ("0123456789"):rep(4)

local function deployment()
    return {
        id = "d-test", service = "test", commit = COMMIT, previous = ("f"):rep(40),
        actor = "spec", reason = "a test",
    }
end

-- Counts that fit together: whatever is healthy or bad is activated, whatever is activated is staged.
local function counts(given, total)
    given = given or {}
    local c = {
        total = given.total or total,
        healthy = given.healthy or 0,
        bad = given.bad or 0,
        unknown = given.unknown or 0,
        offline = given.offline or 0,
    }
    c.reachable = given.reachable or c.total - c.offline
    c.offline = c.total - c.reachable
    c.activated = given.activated or c.healthy + c.bad + c.unknown
    c.staged = given.staged or math.max(c.reachable, c.activated)
    return c
end

---A Snapshot, as advance receives it. `given.wave` and `given.fleet` may leave out what follows from
---the rest: { wave = { total = 4, healthy = 4 } } has four reachable machines that run the release.
function testing.snapshot(given)
    given = given or {}
    local wave = counts(given.wave, 1)
    over(wave, { index = 1, name = "canary", bake = 0, baked = 0, max_failed = 0, moved = wave.activated })
    local fleet = counts(given.fleet, math.max(12, wave.total))
    return over({
        wave = wave, fleet = fleet, waves = 3, elapsed = 60, deadline_left = 1740, since_progress = 0,
        emergency = false, deployment = deployment(), params = {}, memo = {}, now = 1800000000,
    }, given)
end

---A Replication. `given.region` names the regions: { eu = true, us = "fetching" } (true: verified).
function testing.replication(given)
    given = over({}, given)
    local regions, total, verified, failed = {}, 0, 0, 0
    for name, state in pairs(given.region or { eu = true, us = true, asia = true }) do
        state = state == true and "verified" or state
        if type(state) == "string" then
            local done = state == "verified"
            state = { verified = done, state = state, bytes = done and 1000 or 0, total = 1000, machines = 4 }
        end
        regions[name] = state
        total = total + 1
        verified = verified + (state.verified and 1 or 0)
        failed = failed + (state.state == "failed" and 1 or 0)
    end
    given.region = regions
    return over({
        total = total, verified = verified, failed = failed, elapsed = 10,
        deployment = deployment(), params = {}, memo = {}, now = 1800000000,
    }, given)
end

---A Fleet. `given.regions` says how many machines each has: { eu = 4, us = 8 }; or give only `total`.
function testing.fleet(given)
    given = over({}, given)
    local sizes, regions, total = given.regions, {}, 0
    if not sizes then
        local n = given.total or 12
        sizes = { asia = n // 3, eu = n // 3, us = n - 2 * (n // 3) }
    end
    for name, size in pairs(sizes) do
        if size > 0 then
            regions[#regions + 1] = { name = name, total = size, reachable = size }
        end
        total = total + size
    end
    table.sort(regions, function(a, b) return a.name < b.name end)
    local by_size = table.move(regions, 1, #regions, 1, {})
    table.sort(by_size, function(a, b)
        return a.total < b.total or (a.total == b.total and a.name < b.name)
    end)
    given.regions = json.list(regions)
    return over({
        total = total, reachable = total, regions_by_size = json.list(by_size),
        deployment = deployment(), params = {},
    }, given)
end

---A BuildContext.
function testing.context(given)
    return over({ service = "test", commit = COMMIT, ref = "HEAD", params = {} }, given)
end

---@class TestedPolicy
local policy_methods = {}
policy_methods.__index = policy_methods

local function ask(self, question, input)
    local sent, errors = os.tmpname(), os.tmpname()
    local file = assert(io.open(sent, "wb"))
    file:write(json.encode(input))
    file:close()
    local pipe = assert(io.popen(("%s policy eval %s %s < %s 2> %s"):format(
        quote(engine()), quote(self.path), question, quote(sent), quote(errors))))
    local answer = pipe:read("a")
    local good = pipe:close()
    local complaint = read_file(errors)
    os.remove(sent)
    os.remove(errors)
    if not good then
        error(complaint:gsub("^engine: ", ""):gsub("%s+$", ""), 0)
    end
    return json.decode(answer)
end

---The policy's data, with defaults filled in.
function policy_methods:data()
    return ask(self, "data", {})
end

---@param context table?
---@return Build
function policy_methods:build(context)
    return ask(self, "build", testing.context(context))
end

---@param replication table?
---@return Decision
function policy_methods:replicate(replication)
    return ask(self, "replicate", testing.replication(replication))
end

---@param fleet table?
---@return Wave[]
function policy_methods:waves(fleet)
    return ask(self, "waves", testing.fleet(fleet))
end

---@param snapshot table?
---@return Decision
function policy_methods:advance(snapshot)
    return ask(self, "advance", testing.snapshot(snapshot))
end

---A policy to ask. A relative path is looked for beside the file that calls this.
---An error of the policy is raised as its text, such as "web.lua:12: attempt to …".
---@param path string
---@return TestedPolicy
function testing.policy(path)
    local caller = debug.getinfo(2, "S").source:match("^@(.*/)") or ""
    if path:sub(1, 1) ~= "/" then
        path = caller .. path
    end
    return setmetatable({ path = path }, policy_methods)
end

return testing
