-- canary.lua: one machine first, watched for a while; then a tenth of the fleet; then the rest. With
-- gates of its own: where the default would go on, this policy asks for more.
--
--     engine run policies/canary.lua --set bake=2m
local s = require "slipway"
local defaults = require "slipway.defaults"

-- How many machines in a hundred may fail before everything goes back.
local ACCEPTED_PERCENT = 2

return {
    service = "greeter",

    build = function(ctx)
        return {
            steps = {
                s.sh { "make -C policies/quickstart OUT=tree VERSION=$VERSION", name = "compile",
                    env = { VERSION = ctx.commit } },
                -- A build that would not even start is not worth a canary.
                s.sh { [[
                    PORT=0 policies/quickstart/tree/bin/hello && exit 1
                    test -s policies/quickstart/tree/share/index.txt
                ]], name = "try" },
            },
            outputs = "policies/quickstart/tree",
            deadline = "5m",
        }
    end,

    -- Machines that a person has put aside keep what they run.
    select = s.none { s.label("pinned").exists() },

    activate = {
        start = { "bin/hello" },
        env = { PORT = "${PORT}", MACHINE = "${MACHINE}" },
    },

    health = {
        http = "http://127.0.0.1:${PORT}/health",
        interval = "250ms",
        passes = 4,
        within = "30s",
    },

    -- Do not wait for the last region: two thirds of them are enough to begin. The others are served
    -- as soon as they have the artifact.
    replicate = function(r)
        if r.verified * 3 >= r.total * 2 and r.failed == 0 then
            return s.go(("%d of %d regions verified"):format(r.verified, r.total))
        end
        return defaults.replicate(r)
    end,

    waves = function(fleet)
        local bake = fleet.params.bake or "30s"
        local accepted = fleet.total * ACCEPTED_PERCENT // 100
        local waves = { { name = "canary", count = 1, bake = bake } }
        if fleet.total >= 20 then
            table.insert(waves, { name = "tenth", percent = 10, bake = bake, max_failed = accepted })
        end
        if fleet.total > 1 then
            table.insert(waves, { name = "rest", percent = 100, max_failed = accepted, max_moving = "20%" })
        end
        return waves
    end,

    advance = function(snapshot)
        local w = snapshot.wave
        -- A wave that cannot be seen proves nothing: a network fault must not look like health.
        if w.reachable * 2 < w.total then
            return s.hold(("only %d of %d machines of wave %s are reachable"):format(
                w.reachable, w.total, w.name))
        end
        return defaults.advance(snapshot)
    end,

    deadline = "30m",
    hold_for = "4h",
}
