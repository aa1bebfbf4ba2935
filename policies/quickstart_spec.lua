-- What quickstart.lua decides, asked in the same sandbox as in production.
local testing = require "slipway.testing"

describe("quickstart", function()
    local policy = testing.policy("quickstart.lua")
    local commit = ("ab"):rep(20)

    it("builds the commit that it is given, without a network", function()
        local build = policy:build { commit = commit }
        assert.are.equal(1, #build.steps)
        assert.are.same({ "make", "-C", "policies/quickstart", "VERSION=" .. commit }, build.steps[1].run)
        assert.is_false(build.steps[1].network)
        assert.are.same({ default = "policies/quickstart/out" }, build.outputs)
    end)

    it("bakes one second in all", function()
        local bake = 0
        for _, wave in ipairs(policy:waves { total = 12 }) do
            bake = bake + wave.bake
        end
        assert.are.equal(1, bake)
    end)

    it("ends with every machine", function()
        local waves = policy:waves { total = 12 }
        assert.are.equal(1, waves[1].count)
        assert.are.equal(100, waves[#waves].percent)
    end)

    it("goes on when a wave is healthy and has baked", function()
        local decision = policy:advance { wave = { total = 1, healthy = 1, bake = 1, baked = 1 } }
        assert.are.equal("go", decision.action)
    end)

    it("says how long it still bakes, and asks again then", function()
        local decision = policy:advance { wave = { total = 1, healthy = 1, bake = 3, baked = 1 } }
        assert.are.equal("wait", decision.action)
        assert.are.equal("baking: 2s left", decision.reason)
        assert.are.equal(2, decision.after)
    end)

    it("rolls back on the first machine that is bad", function()
        local decision = policy:advance { wave = { total = 6, healthy = 5, bad = 1 } }
        assert.are.equal("rollback", decision.action)
    end)

    it("never takes silence for health", function()
        local decision = policy:advance { wave = { total = 3, reachable = 0 } }
        assert.are.equal("wait", decision.action)
    end)

    it("waits for all regions", function()
        local decision = policy:replicate { region = { eu = true, us = "fetching" } }
        assert.are.equal("wait", decision.action)
        assert.are.equal("1 of 2 regions verified; waiting for us", decision.reason)
    end)
end)
