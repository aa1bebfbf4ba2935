-- What skeleton.lua decides, asked in the same sandbox as in production.
local testing = require "slipway.testing"

describe("skeleton", function()
    local policy = testing.policy("skeleton.lua")

    it("builds the commit that it is given", function()
        local build = policy:build { commit = ("a"):rep(40) }
        assert.are.same({ "make", "VERSION=" .. ("a"):rep(40) }, build.steps[1].run)
    end)

    it("begins with one machine", function()
        assert.are.equal(1, policy:waves({ total = 100 })[1].count)
    end)

    it("waits for machines that have not answered", function()
        local decision = policy:advance { wave = { total = 10, healthy = 9 } }
        assert.are.equal("wait", decision.action)
    end)

    it("rolls back when a machine is bad", function()
        local decision = policy:advance { wave = { total = 10, healthy = 9, bad = 1 } }
        assert.are.equal("rollback", decision.action)
    end)
end)
