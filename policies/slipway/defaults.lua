-- defaults.lua: what is asked of a policy that does not answer itself. A policy may build on these:
--
--     local defaults = require "slipway.defaults"
--     advance = function(snapshot) … return defaults.advance(snapshot) end

local s = require "slipway"

local defaults = {}

local NO_PROGRESS = 600 -- seconds

---Go when all regions are verified. A region that has failed needs a person.
---@param r Replication
---@return Decision
function defaults.replicate(r)
    local missing, failed = {}, {}
    for name, region in pairs(r.region or {}) do
        if region.state == "failed" then
            table.insert(failed, name)
        elseif not region.verified then
            table.insert(missing, name)
        end
    end
    table.sort(missing)
    table.sort(failed)
    if r.total == 0 then
        return s.hold("no region has a selected machine")
    elseif r.failed > 0 then
        return s.hold(("replication failed in %d of %d regions: %s"):format(r.failed, r.total,
            table.concat(failed, ", ")))
    elseif r.verified < r.total then
        local reason = ("%d of %d regions verified"):format(r.verified, r.total)
        if #missing > 0 then
            reason = reason .. "; waiting for " .. table.concat(missing, ", ")
        end
        return s.wait(reason, 5)
    end
    return s.go(("all %d regions verified"):format(r.total))
end

---One machine, 10 %, 50 %, 100 %; a step that would add no machine to a small fleet is left out.
---@param fleet Fleet
---@return Wave[]
function defaults.waves(fleet)
    local waves, before = { { name = "one", count = 1 } }, 1
    for _, percent in ipairs { 10, 50, 100 } do
        local count = fleet.total * percent // 100
        if count > before then
            table.insert(waves, { name = percent .. "%", percent = percent })
            before = count
        end
    end
    return waves
end

local function failed(snapshot, on_failure)
    local w = snapshot.wave
    local reason = ("%d of %d machines of wave %s failed (%d accepted)"):format(
        w.bad, w.total, w.name, w.max_failed)
    if on_failure == "hold" then
        return s.hold(reason)
    elseif on_failure == "fail" then
        return s.fail(reason)
    end
    return s.rollback(reason)
end

-- What the machines that are not healthy yet are doing, in words.
local function unfinished(w)
    local starting = w.activated - w.healthy - w.bad
    local parts = { ("%d of %d healthy"):format(w.healthy, w.reachable) }
    local function add(count, what)
        if count > 0 then
            table.insert(parts, count .. " " .. what)
        end
    end
    add(starting, "starting")
    add(w.staged - w.activated, "staged")
    add(w.reachable - math.max(w.staged, w.activated), "fetching")
    add(w.bad, "bad")
    add(w.offline, "offline")
    local reason = parts[1]
    if #parts > 1 then
        reason = reason .. "; " .. table.concat(parts, ", ", 2)
    end
    return reason
end

---Go when every reachable machine of the wave is healthy (as many bad ones as max_failed are
---accepted) and has baked. A machine that says nothing is never healthy.
---@param snapshot Snapshot
---@param policy Policy?
---@return Decision
function defaults.advance(snapshot, policy)
    local w = snapshot.wave
    if w.bad > w.max_failed then
        return failed(snapshot, policy and policy.on_failure)
    end
    local done = w.healthy > 0 and w.healthy + w.bad >= w.reachable
    if not done then
        if snapshot.since_progress > NO_PROGRESS then
            return s.hold("no progress for " .. s.readable(snapshot.since_progress) .. ": " .. unfinished(w))
        elseif w.reachable == 0 then
            return s.wait(("none of the %d machines of wave %s is reachable"):format(w.total, w.name), 5)
        end
        return s.wait(unfinished(w), 5)
    end
    if w.baked < w.bake then
        return s.wait("baking: " .. s.readable(w.bake - w.baked) .. " left", w.bake - w.baked)
    end
    return s.go(("%d of %d healthy"):format(w.healthy, w.reachable))
end

return defaults
