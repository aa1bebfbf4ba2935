-- skeleton.lua: how skeleton is built, and how it reaches its machines.
--
--     engine policy check skeleton.lua        is it sound?
--     engine policy test skeleton_spec.lua    does it decide as it should?
--     engine policy doc                       everything that may stand here
--     engine run skeleton.lua                 try it on this machine
local s = require "slipway"

return {
    service = "skeleton",

    -- Runs in a checkout of the commit, in a sandbox. `outputs` is the file or the directory that
    -- machines receive.
    build = function(ctx)
        return {
            steps = {
                s.run { "make", "VERSION=" .. ctx.commit },
            },
            outputs = "out",
        }
    end,

    -- Paths are those of the output. ${PORT}, ${MACHINE}, ${COMMIT} and ${RELEASE} are replaced.
    activate = {
        start = { "bin/skeleton" },
        env = { PORT = "${PORT}" },
    },

    health = {
        http = "http://127.0.0.1:${PORT}/health",
        within = "30s",
    },

    -- Counts and percentages are cumulative. `bake` is how long a wave must stay healthy.
    waves = {
        { name = "canary", count = 1, bake = "1m" },
        { name = "half", percent = 50, bake = "1m" },
        { name = "rest", percent = 100 },
    },

    -- What happens when more machines of a wave are bad than its max_failed (0).
    on_failure = "rollback",
}
