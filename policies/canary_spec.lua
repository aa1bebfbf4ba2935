-- What canary.lua decides, asked in the same sandbox as in production.
local testing = require "slipway.testing"

describe("canary", function()
    local policy = testing.policy("canary.lua")

    local function names(waves)
        local result = {}
        for i, wave in ipairs(waves) do
            result[i] = wave.name
        end
        return table.concat(result, " ")
    end

    it("tries what it built before anything else", function()
        local build = policy:build()
        assert.are.same({ "compile", "try" }, { build.steps[1].name, build.steps[2].name })
        assert.are.same({ "compile" }, build.steps[2].needs)
    end)

    it("leaves pinned machines alone", function()
        assert.are.same({ { label = "pinned", exists = true } }, policy:data().select.none)
    end)

    it("leaves out waves that would add no machine", function()
        assert.are.equal("canary", names(policy:waves { total = 1 }))
        assert.are.equal("canary rest", names(policy:waves { total = 12 }))
        assert.are.equal("canary tenth rest", names(policy:waves { total = 1000 }))
    end)

    it("bakes as long as --set bake says", function()
        assert.are.equal(30, policy:waves({ total = 12 })[1].bake)
        assert.are.equal(120, policy:waves({ total = 12, params = { bake = "2m" } })[1].bake)
    end)

    it("accepts two bad machines in a hundred, but none in the canary", function()
        local waves = policy:waves { total = 1000 }
        assert.are.equal(0, waves[1].max_failed)
        assert.are.equal(20, waves[2].max_failed)
        local wave = { total = 100, healthy = 80, bad = 20, max_failed = 20 }
        assert.are.equal("go", policy:advance({ wave = wave }).action)
        wave.bad = 21
        assert.are.equal("rollback", policy:advance({ wave = wave }).action)
    end)

    it("holds when most machines of a wave are out of reach", function()
        local decision = policy:advance { wave = { total = 10, reachable = 4, healthy = 4 } }
        assert.are.equal("hold", decision.action)
        assert.are.equal("only 4 of 10 machines of wave canary are reachable", decision.reason)
    end)

    it("begins when two thirds of the regions have the artifact", function()
        local function action(a, b, c)
            return policy:replicate({ region = { a = a, b = b, c = c } }).action
        end
        assert.are.equal("go", action(true, true, "fetching"))
        assert.are.equal("wait", action(true, "waiting", "fetching"))
        assert.are.equal("hold", action(true, true, "failed"))
    end)
end)
