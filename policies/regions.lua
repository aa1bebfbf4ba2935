-- regions.lua: one region after the other, the smallest first, with one artifact for each kind of
-- processor. A region that goes wrong is the only one that does.
--
--     engine run policies/regions.lua
--     engine run policies/regions.lua --set arch=x86_64,aarch64 --set bake=1m
--
-- The second needs a cross compiler where the build runs (Debian: gcc-aarch64-linux-gnu).
local s = require "slipway"

-- The compiler for each variant; machines say by their label "arch" which one they need.
local compilers = { x86_64 = "gcc", aarch64 = "aarch64-linux-gnu-gcc" }

-- One step and one output for each processor. The steps need nothing of each other.
local function build(ctx)
    local steps, outputs = {}, {}
    for _, arch in ipairs((ctx.params.arch or "x86_64"):split(",")) do
        local compiler = compilers[arch]
        if not compiler then
            error("no compiler is known for arch " .. arch)
        end
        table.insert(steps, s.sh {
            [[
                command -v "$CC" || { echo "$CC is not installed here" >&2; exit 1; }
                make -C policies/quickstart OUT="out-$ARCH" CC="$CC" VERSION="$VERSION"
            ]],
            name = "compile-" .. arch,
            env = { ARCH = arch, CC = compiler, VERSION = ctx.commit },
            needs = {},
            timeout = "3m",
        })
        outputs[arch] = "policies/quickstart/out-" .. arch
    end
    return { steps = steps, outputs = outputs }
end

-- A canary in the smallest region, then each region in turn. The bake in between is the time in
-- which people of that region notice what no health check does.
local function waves(fleet)
    local bake = fleet.params.bake or "5s"
    local smallest = fleet.regions_by_size[1]
    local result = {
        { name = "canary", where = s.label("region").is(smallest.name), count = 1, bake = bake },
    }
    for i, region in ipairs(fleet.regions_by_size) do
        local left = i == 1 and region.total - 1 or region.total -- the canary is one of them
        if left > 0 then
            table.insert(result, {
                name = region.name,
                where = s.label("region").is(region.name),
                percent = 100,
                bake = i < #fleet.regions_by_size and bake or 0,
                max_moving = "50%",
            })
        end
    end
    return result
end

return {
    service = "regional",
    build = build,
    variant = s.by_label "arch",
    activate = {
        start = { "bin/hello" },
        env = { PORT = "${PORT}", MACHINE = "${MACHINE}" },
    },
    health = { http = "http://127.0.0.1:${PORT}/health", interval = "200ms", within = "20s" },
    waves = waves,
    -- Somebody should look before a region is given up: stop, and do not roll back by itself.
    on_failure = "hold",
    hold_for = "2h",
    on_hold_expired = "rollback",
}
