-- quickstart.lua: builds a small web service from policies/quickstart/ of the repository that this
-- file lies in, and deploys it to every machine. Try it:
--
--     engine run policies/quickstart.lua
--
-- A policy is a file that returns one table: data, and functions that decide. There is no clock, no
-- network and no file in here. The engine does the work and asks; what is left out has a default.
local s = require "slipway"

return {
    -- What is deployed. Machines keep it under this name.
    service = "hello",

    -- How a commit becomes something to deploy. The engine checks the commit out and runs the steps
    -- there, in a sandbox: no network, and nothing of your machine but compilers and tools.
    build = function(ctx)
        return {
            steps = {
                s.run { "make", "-C", "policies/quickstart", "VERSION=" .. ctx.commit, timeout = "2m" },
            },
            -- The whole directory is the artifact: bin/hello and share/index.txt.
            outputs = "policies/quickstart/out",
        }
    end,

    -- How a machine runs it. Paths are those of the artifact; each machine has a PORT of its own.
    activate = {
        start = { "bin/hello" },
        env = { PORT = "${PORT}", MACHINE = "${MACHINE}" },
    },

    -- When a machine is healthy: two good answers in a row, the first ones within 20 seconds. A
    -- machine that says nothing is never healthy.
    health = {
        http = "http://127.0.0.1:${PORT}/health",
        interval = "100ms",
        timeout = "1s",
        passes = 2,
        within = "20s",
    },

    -- Who goes first. A wave opens when the one before is healthy and has baked. The numbers count
    -- up: "half" is the canary and as many more as make half of the machines.
    waves = {
        { name = "canary", count = 1, bake = "1s" },
        { name = "half", percent = 50 },
        { name = "rest", percent = 100 },
    },

    -- One machine that fails its health check, and everything goes back to the release before.
    on_failure = "rollback",

    -- Left out, so the defaults answer: `select` (every machine), `replicate` (wait until all
    -- regions have the artifact) and `advance` (go, wait, hold or roll back after each change).
    -- policies/canary.lua and policies/regions.lua show them.
}
