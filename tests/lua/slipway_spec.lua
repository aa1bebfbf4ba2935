-- The library that policies are written with, and the defaults, in plain Lua: they are the same there.
local s = require "slipway"
local defaults = require "slipway.defaults"
local testing = require "slipway.testing"
local json = require "slipway.json"

describe("steps", function()
    it("keep the command apart from the fields", function()
        assert.are.same({ run = { "make", "all" }, timeout = "5m" }, s.run { "make", "all", timeout = "5m" })
        assert.are.same({ sh = "make" }, s.sh "make")
        assert.are.same({ sh = "make", name = "x" }, s.sh { "make", name = "x" })
    end)

    it("say where they are written wrong", function()
        for _, wrong in ipairs { { s.run, "make" }, { s.run, {} }, { s.sh, {} }, { s.sh, 7 } } do
            assert.has_error(function()
                local step = wrong[1](wrong[2])
                return step
            end)
        end
    end)
end)

describe("predicates", function()
    it("are data", function()
        assert.are.same({}, s.everything())
        assert.are.same({ label = "role", is = "web" }, s.label("role").is("web"))
        assert.are.same({ label = "role", is = "web" }, s.label("role"):is("web"))
        assert.are.same({ label = "rack", ["in"] = { "a", "b" } }, s.label("rack").one_of { "a", "b" })
        assert.are.same({ label = "x", exists = true }, s.label("x").exists())
        assert.are.same({ label = "x", exists = false }, s.label("x"):absent())
        assert.are.same({ all = { {}, { any = { {} } }, { none = { {} } } } },
            s.all { {}, s.any { {} }, s.none { {} } })
        assert.are.same({ by_label = "arch", map = { a = "b" } }, s.by_label("arch", { a = "b" }))
    end)

    it("refuse what is no label", function()
        assert.has_error(function() return (s.label(7)) end)
        assert.has_error(function() return (s.label("x").is(7)) end)
        assert.has_error(function() return (s.all "x") end)
    end)
end)

describe("decisions", function()
    it("carry reason, time and memo", function()
        assert.are.same({ action = "go" }, s.go())
        assert.are.same({ action = "wait", reason = "x", after = "1m" }, s.wait("x", "1m"))
        assert.are.same({ action = "hold", reason = "x", memo = { n = 1 } },
            s.hold("x", { memo = { n = 1 } }))
        assert.are.same({ action = "rollback", reason = "x" }, s.rollback("x"))
        assert.are.same({ action = "fail", reason = "x" }, s.fail("x"))
        assert.has_error(function() return (s.hold()) end)
    end)
end)

describe("durations", function()
    it("are read and written", function()
        assert.are.equal(5400, s.seconds "1h30m")
        assert.are.equal(90, s.seconds(90))
        assert.are.equal("1h 30m", s.readable(5400))
        assert.are.equal("0s", s.readable(0))
        assert.are.equal("1d 1s", s.readable(86401))
        for _, wrong in ipairs { "", "s", "5", "5x", "1.5s", 1.5, true } do
            assert.has_error(function() return (s.seconds(wrong)) end)
        end
    end)
end)

describe("the default advance", function()
    local cases = {
        { "go", "4 of 4 healthy", { total = 4, healthy = 4 } },
        { "go", "3 of 3 healthy", { total = 4, reachable = 3, healthy = 3 } },
        { "go", "3 of 4 healthy", { total = 4, healthy = 3, bad = 1, max_failed = 1 } },
        { "wait", "3 of 4 healthy; 1 starting", { total = 4, healthy = 3, unknown = 1 } },
        { "wait", "0 of 4 healthy; 1 staged, 3 fetching", { total = 4, staged = 1 } },
        { "wait", "2 of 3 healthy; 1 staged, 1 offline", { total = 4, offline = 1, healthy = 2 } },
        { "wait", "baking: 1m 5s left", { total = 4, healthy = 4, bake = 70, baked = 5 } },
        { "wait", "none of the 4 machines of wave canary is reachable", { total = 4, reachable = 0 } },
        { "rollback", "1 of 4 machines of wave canary failed (0 accepted)",
            { total = 4, healthy = 3, bad = 1 } },
    }
    for _, case in ipairs(cases) do
        it("answers " .. case[1] .. ": " .. case[2], function()
            local decision = defaults.advance(testing.snapshot { wave = case[3] })
            assert.are.equal(case[1], decision.action)
            assert.are.equal(case[2], decision.reason)
        end)
    end

    it("holds after ten minutes without progress, but not while it bakes", function()
        local stuck = { since_progress = 601, wave = { total = 2, healthy = 1 } }
        assert.are.equal("hold", defaults.advance(testing.snapshot(stuck)).action)
        stuck.wave = { total = 2, reachable = 0 }
        assert.are.equal("hold", defaults.advance(testing.snapshot(stuck)).action)
        stuck.wave = { total = 2, healthy = 2, bake = 3600, baked = 1 }
        assert.are.equal("wait", defaults.advance(testing.snapshot(stuck)).action)
    end)

    it("does with a bad wave what on_failure says", function()
        local bad = testing.snapshot { wave = { total = 2, bad = 1 } }
        for _, action in ipairs { "rollback", "hold", "fail" } do
            assert.are.equal(action, defaults.advance(bad, { on_failure = action }).action)
        end
    end)
end)

describe("the default replicate", function()
    it("waits for every region, and says for which", function()
        local r = testing.replication { region = { a = true, b = "fetching", c = "waiting" } }
        assert.are.equal("1 of 3 regions verified; waiting for b, c", defaults.replicate(r).reason)
        assert.are.equal("go", defaults.replicate(testing.replication()).action)
        assert.are.equal("hold", defaults.replicate(testing.replication { region = { a = "failed" } }).action)
        assert.are.equal("hold", defaults.replicate(testing.replication { region = {} }).action)
    end)
end)

describe("the default waves", function()
    it("leave out steps that add no machine", function()
        local function plan(total)
            local names = {}
            for i, wave in ipairs(defaults.waves { total = total }) do
                names[i] = wave.name
            end
            return table.concat(names, " ")
        end
        assert.are.equal("one", plan(1))
        assert.are.equal("one 100%", plan(3))
        assert.are.equal("one 50% 100%", plan(12))
        assert.are.equal("one 10% 50% 100%", plan(20))
        assert.are.equal("one 10% 50% 100%", plan(100000))
    end)
end)

describe("json", function()
    it("goes there and back", function()
        for _, text in ipairs { "{}", "[]", "-7", '"é😀"', "[1,2.5,\"x\",true,false,null]",
            '{"a":{"b":[{}]},"c":"\\n\\"\\u0001"}' } do
            assert.are.equal(text, json.encode(json.decode(text)))
        end
        assert.are.equal("😀é", json.decode '"\\ud83d\\ude00\\u00e9"')
    end)

    it("refuses what is none", function()
        for _, text in ipairs { "", "{", "[1", '"x', "[1,]", "{1:2}", '{"a" 1}', "1 2", "nope", '"\\u12"' } do
            assert.has_error(function() json.decode(text) end)
        end
        assert.has_error(function() json.encode(0 / 0) end)
        assert.has_error(function() json.encode(print) end)
    end)
end)

describe("a policy under test", function()
    it("raises its errors as text, with file and line", function()
        local path = os.tmpname()
        os.rename(path, path .. ".lua")
        local file = assert(io.open(path .. ".lua", "w"))
        file:write('return { service = "x", build = 7,\n activate = { start = { "x" } },\n',
            "advance = function(x) return x.nothing.here end }")
        file:close()
        local policy, name = testing.policy(path .. ".lua"), path:match("[^/]*$") .. ".lua"
        local _, data_error = pcall(policy.data, policy)
        local _, advance_error = pcall(policy.advance, policy)
        os.remove(path .. ".lua")
        assert.are.equal(name .. ": build: must be a function or a table", data_error)
        assert.are.equal(name .. ":3: attempt to index a nil value (field 'nothing')", advance_error)
    end)
end)
