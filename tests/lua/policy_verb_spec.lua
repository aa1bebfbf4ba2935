-- engine policy new, check, test, eval, doc: exit codes and words, on the real binary.
local engine = os.getenv("ENGINE") or "build/engine"

local function quote(text)
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Runs `engine policy …` in dir; returns exit code, stdout and stderr together.
local function run(dir, command, input)
    local pipe = assert(io.popen(("cd %s && printf %%s %s | %s policy %s 2>&1; echo \"exit $?\""):format(
        quote(dir), quote(input or ""), quote(engine), command)))
    local text = pipe:read("a")
    pipe:close()
    local said, code = text:match("^(.*)exit (%d+)\n$")
    return tonumber(code), said
end

local function write(path, text)
    local file <close> = assert(io.open(path, "w"))
    file:write(text)
end

describe("engine policy", function()
    local dir

    setup(function()
        if engine:sub(1, 1) ~= "/" then
            local pipe = io.popen("pwd")
            engine = pipe:read("l") .. "/" .. engine
            pipe:close()
        end
    end)

    before_each(function()
        dir = os.tmpname()
        os.remove(dir)
        assert(os.execute("mkdir " .. quote(dir)))
    end)

    after_each(function()
        os.execute("rm -rf " .. quote(dir))
    end)

    it("writes a new policy that is sound, and a spec that passes", function()
        assert.are.equal(0, (run(dir, "new shop")))
        assert.are.equal(0, (run(dir, "check shop.lua")))
        local code, said = run(dir, "test shop.lua")
        assert.are.equal(0, code)
        assert.is_truthy(said:find("4 successes / 0 failures / 0 errors", 1, true))
    end)

    it("never writes over what is there", function()
        write(dir .. "/shop.lua", "return 1")
        local code, said = run(dir, "new shop")
        assert.are.equal(2, code)
        assert.are.equal("engine: shop.lua is there already\n", said)
        assert.are.equal(2, (run(dir, "new a/b")))
        assert.are.equal(2, (run(dir, "new")))
    end)

    it("gives exit code 3 and the place to a policy that is wrong", function()
        local cases = {
            { "return {", "engine: web.lua:1: unexpected symbol near <eof>\n" },
            { "\nwhile true do end", "engine: web.lua:2: runs too long (more than 5 million steps)\n" },
            { "\nrequire 'x'", "engine: web.lua:2: require 'x': no file x.lua beside the policy\n" },
            { "return { service = 'a', build = function() end, activate = { start = 'x' } }",
                "engine: web.lua: activate.start: must be a list of texts\n" },
            { "return { service = 'a', build = function() end, activate = { start = { 'x' } } }",
                "engine: web.lua: build: must be a table with named fields\n" },
            { "return { service = 'a', build = { steps = { { sh = 'x' } }, outputs = 'o' },\n" ..
                "activate = { start = { 'x' } }, advance = function(s) return s.x.y end }",
                "engine: web.lua:2: attempt to index a nil value (field 'x')\n" },
        }
        for _, case in ipairs(cases) do
            write(dir .. "/web.lua", case[1])
            local code, said = run(dir, "check -o text web.lua")
            assert.are.equal(3, code)
            assert.are.equal(case[2], said:match("engine: [^\n]*\n"))
        end
    end)

    it("tells a file that is missing from one that is wrong", function()
        assert.are.equal(2, (run(dir, "check none.lua")))
    end)

    it("answers one question as JSON", function()
        write(dir .. "/web.lua", "return { service = 'a', activate = { start = { 'x' } },\n" ..
            "build = { steps = { { sh = 'x' } }, outputs = 'o' },\n" ..
            "advance = function(s) return { action = 'wait', reason = s.wave.name, after = '1m' } end }")
        local code, said = run(dir, "eval web.lua advance", '{"wave":{"name":"one"}}')
        assert.are.equal(0, code)
        assert.are.equal('{"action":"wait","after":60,"memo":{},"reason":"one"}\n', said)
        assert.are.equal(0, (run(dir, "eval web.lua data")))
        assert.are.equal(2, (run(dir, "eval web.lua advance", "{")))
        assert.are.equal(2, (run(dir, "eval web.lua nothing")))
        assert.are.equal(3, (run(dir, "eval web.lua advance", "{}")))
    end)

    it("prints the reference", function()
        local code, said = run(dir, "doc Wave")
        assert.are.equal(0, code)
        assert.is_truthy(said:find("max_moving", 1, true))
        assert.is_falsy(said:find("Snapshot", 1, true))
        assert.is_truthy(select(2, run(dir, "doc")):find("Snapshot", 1, true))
        assert.are.equal(2, (run(dir, "doc Nothing")))
    end)

    it("lists its verbs", function()
        assert.are.equal(2, (run(dir, "")))
        assert.are.equal(2, (run(dir, "nonsense")))
        assert.are.equal(0, (run(dir, "--help")))
    end)
end)
