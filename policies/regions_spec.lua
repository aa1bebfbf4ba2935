-- What regions.lua decides, asked in the same sandbox as in production.
local testing = require "slipway.testing"

describe("regions", function()
    local policy = testing.policy("regions.lua")

    it("builds one output for each kind of processor, independently", function()
        local build = policy:build { params = { arch = "x86_64,aarch64" } }
        assert.are.same({
            x86_64 = "policies/quickstart/out-x86_64",
            aarch64 = "policies/quickstart/out-aarch64",
        }, build.outputs)
        assert.are.equal("aarch64-linux-gnu-gcc", build.steps[2].env.CC)
        assert.are.equal(0, #build.steps[2].needs)
    end)

    it("names a processor that it does not know", function()
        local built, complaint = pcall(policy.build, policy, { params = { arch = "vax" } })
        assert.is_false(built)
        assert.are.equal("regions.lua:19: no compiler is known for arch vax", complaint)
    end)

    it("gives each machine the output that its label names", function()
        assert.are.same({ by_label = "arch" }, policy:data().variant)
    end)

    it("goes through the regions, the smallest first", function()
        local waves = policy:waves { regions = { eu = 8, us = 4, asia = 2 } }
        local order = {}
        for i, wave in ipairs(waves) do
            order[i] = wave.name .. ":" .. wave.where.is
        end
        assert.are.same({ "canary:asia", "asia:asia", "us:us", "eu:eu" }, order)
        assert.are.equal(1, waves[1].count)
        assert.are.equal(0, waves[#waves].bake)
    end)

    it("plans no empty wave for a region of one machine", function()
        local waves = policy:waves { regions = { eu = 8, lab = 1 } }
        assert.are.same({ "canary", "eu" }, { waves[1].name, waves[2].name })
        assert.are.equal(2, #waves)
    end)

    it("stops for a person when a region goes wrong", function()
        local decision = policy:advance { wave = { total = 4, healthy = 3, bad = 1, name = "eu" } }
        assert.are.equal("hold", decision.action)
        assert.are.equal("1 of 4 machines of wave eu failed (0 accepted)", decision.reason)
    end)
end)
