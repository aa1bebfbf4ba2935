-- slipway: what a policy is written with. Each function returns plain data, as types.lua describes
-- it; the engine checks every field of what a policy returns.
--
--     local s = require "slipway"

local slipway = {}

local function complain(condition, message)
    if not condition then
        error(message, 3)
    end
end

-- Steps ------------------------------------------------------------------------------------------

---A step that runs a program, without a shell: run { "make", "-j2", timeout = "5m" }.
---@param step table  the words of the command as a list; the fields of a Step beside them
---@return Step
function slipway.run(step)
    complain(type(step) == "table" and type(step[1]) == "string",
        'run: takes a command such as { "make", "all" }')
    local result = { run = {} }
    for key, value in pairs(step) do
        if type(key) == "number" then
            result.run[key] = value
        else
            result[key] = value
        end
    end
    return result
end

---A step that runs a script by /bin/sh -eu: sh "make && strip bin/web", or sh { "…", name = "web" }.
---@param step string|table
---@return Step
function slipway.sh(step)
    if type(step) == "string" then
        return { sh = step }
    end
    complain(type(step) == "table" and type(step[1]) == "string",
        'sh: takes a script, or { "script", name = "…" }')
    local result = { sh = step[1] }
    for key, value in pairs(step) do
        if key ~= 1 then
            complain(type(key) == "string", "sh: takes one script")
            result[key] = value
        end
    end
    return result
end

-- Machines ---------------------------------------------------------------------------------------

---Every machine.
---@return Predicate
function slipway.everything()
    return {}
end

---A test of one label: label("role").is "web", label("rack").one_of { "a1", "a2" },
---label("hold").exists(). The labels "region" and "machine" are always there.
---@param name string
function slipway.label(name)
    complain(type(name) == "string", "label: takes the label's name")
    local test = {}
    -- label("role"):is "web" means the same as label("role").is "web".
    local function argument(self, value)
        if self == test then
            return value
        end
        return self
    end
    ---@return Predicate
    function test.is(self, value)
        value = argument(self, value)
        complain(type(value) == "string", "label: is takes a text")
        return { label = name, is = value }
    end
    ---@return Predicate
    function test.one_of(self, values)
        values = argument(self, values)
        complain(type(values) == "table", "label: one_of takes a list of texts")
        return { label = name, ["in"] = values }
    end
    ---@return Predicate
    function test.exists()
        return { label = name, exists = true }
    end
    ---@return Predicate
    function test.absent()
        return { label = name, exists = false }
    end
    return test
end

---Machines for which all of these hold.
---@param predicates Predicate[]
---@return Predicate
function slipway.all(predicates)
    complain(type(predicates) == "table", "all: takes a list of predicates")
    return { all = predicates }
end

---Machines for which at least one of these holds.
---@param predicates Predicate[]
---@return Predicate
function slipway.any(predicates)
    complain(type(predicates) == "table", "any: takes a list of predicates")
    return { any = predicates }
end

---Machines for which none of these holds.
---@param predicates Predicate[]
---@return Predicate
function slipway.none(predicates)
    complain(type(predicates) == "table", "none: takes a list of predicates")
    return { none = predicates }
end

---The output that a machine receives is the one that its label names:
---by_label "arch", or by_label("arch", { arm64 = "aarch64" }) where the names differ.
---@param name string
---@param map table<string, string>?
---@return VariantRule
function slipway.by_label(name, map)
    complain(type(name) == "string", "by_label: takes the label's name")
    return { by_label = name, map = map }
end

-- Decisions --------------------------------------------------------------------------------------

local function decision(action, reason, options)
    options = options or {}
    if type(options) ~= "table" then
        options = { after = options }
    end
    return { action = action, reason = reason, after = options.after, memo = options.memo }
end

---Done: open the next wave, or succeed after the last.
---@param reason string?
---@param options table?  { memo = … }
---@return Decision
function slipway.go(reason, options)
    return decision("go", reason, options)
end

---Not yet; ask again on a change, or after `options` (a Duration or { after = …, memo = … }).
---@param reason string
---@return Decision
function slipway.wait(reason, options)
    complain(type(reason) == "string", "wait: takes a reason")
    return decision("wait", reason, options)
end

---Stop here until a person decides.
---@param reason string
---@return Decision
function slipway.hold(reason, options)
    complain(type(reason) == "string", "hold: takes a reason")
    return decision("hold", reason, options)
end

---Bring every machine that moved back to the release before.
---@param reason string
---@return Decision
function slipway.rollback(reason, options)
    complain(type(reason) == "string", "rollback: takes a reason")
    return decision("rollback", reason, options)
end

---End the deployment and leave the machines where they are.
---@param reason string
---@return Decision
function slipway.fail(reason, options)
    complain(type(reason) == "string", "fail: takes a reason")
    return decision("fail", reason, options)
end

-- Durations --------------------------------------------------------------------------------------

local unit_seconds = { s = 1, m = 60, h = 3600, d = 86400 }

---A Duration as whole seconds: seconds "1h30m" is 5400, seconds(90) is 90.
---@param duration Duration
---@return integer
function slipway.seconds(duration)
    if math.type(duration) == "integer" then
        return duration
    end
    complain(type(duration) == "string", 'seconds: takes a duration such as "90s"')
    local total, number = 0, ""
    for i = 1, #duration do
        local c = duration:sub(i, i)
        if c >= "0" and c <= "9" then
            number = number .. c
        else
            complain(unit_seconds[c] and number ~= "",
                'seconds: takes a duration such as "90s", not "' .. duration .. '"')
            total = total + tonumber(number) * unit_seconds[c]
            number = ""
        end
    end
    complain(number == "" and #duration > 0,
        'seconds: takes a duration such as "90s", not "' .. duration .. '"')
    return total
end

---A Duration for people: 5400 is "1h 30m".
---@param duration Duration
---@return string
function slipway.readable(duration)
    local left, parts = slipway.seconds(duration), {}
    for _, unit in ipairs { "d", "h", "m", "s" } do
        local n = left // unit_seconds[unit]
        if n > 0 or (unit == "s" and #parts == 0) then
            table.insert(parts, n .. unit)
        end
        left = left % unit_seconds[unit]
    end
    return table.concat(parts, " ")
end

return slipway
