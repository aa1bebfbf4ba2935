-- The checks of the source, fed with trees that break each rule.

local MAKEFILE = "\nSHARED := base wire io store\nHOUSE := $(SHARED) db policy cli\n"

-- Writes the files { path = text } to a new folder, runs the check there; gives its output lines and
-- whether it was content.
local function check(script, files)
    local dir = io.popen("mktemp -d"):read("l")
    files.Makefile = MAKEFILE
    for path, text in pairs(files) do
        os.execute(("mkdir -p '%s/%s'"):format(dir, path:match("^(.*)/") or "."))
        local file <close> = assert(io.open(dir .. "/" .. path, "w"))
        file:write(text)
    end
    local pipe = io.popen(("lua5.4 scripts/%s '%s' 2>&1"):format(script, dir))
    local lines = {}
    for line in pipe:lines() do
        lines[#lines + 1] = line
    end
    local ok = pipe:close()
    os.execute(("rm -rf '%s'"):format(dir))
    return table.concat(lines, "\n"), ok == true
end

local function function_of(lines)
    return "static int work(int x)\n{\n" .. ("    x++;\n"):rep(lines) .. "}\n"
end

describe("check-layers", function()
    local cases = {
        { "a later folder", "engine/wire/a.c", '#include "io/loop.h"',
            "engine/wire/a.c:1: engine/wire/ must not include io/loop.h (io stands after wire)" },
        { "what agents do not share", "agent/a.c", 'int x;\n#include "db/db.h"',
            "agent/a.c:2: agent/ must not include db/db.h (it is not shared)" },
        { "lua.h outside policy/", "engine/cli/a.c", "#include <lua.h>",
            "engine/cli/a.c:1: lua.h is for engine/policy/ only" },
        { "sqlite3.h outside db/", "agent/a.c", "#  include <sqlite3.h>",
            "agent/a.c:1: sqlite3.h is for engine/db/ only" },
        { "ev.h outside io/", "engine/store/a.h", "#include <ev.h>",
            "engine/store/a.h:1: ev.h is for engine/io/ only" },
        { "a socket outside io/", "engine/cli/a.c", "int f(void) { return socket(1, 2, 3); }",
            "engine/cli/a.c:1: socket(): sockets and clocks are for engine/io/ only" },
        { "a clock outside io/", "agent/a.c", "\n\nx = time(NULL);",
            "agent/a.c:3: time(): sockets and clocks are for engine/io/ only" },
        { "a file outside io/ and store/", "engine/db/a.c", "int fd = open(path, O_RDONLY);",
            "engine/db/a.c:1: open(): files are for engine/io/ and engine/store/ only" },
        { "time.h in a pure folder", "engine/wire/a.c", "#include <time.h>",
            "engine/wire/a.c:1: time.h: engine/wire/ is pure (time, randomness and bytes are arguments)" },
        { "chance in a pure folder", "engine/base/a.c", "int f(void)\n{\n    return rand();\n}\n",
            "engine/base/a.c:3: rand(): engine/base/ is pure" },
        { "an unknown folder", "engine/misc/a.c", "int x;",
            "engine/misc/a.c:1: engine/misc/ is no folder of the house (see HOUSE in the Makefile)" },
    }
    for _, case in ipairs(cases) do
        local what, path, text, expected = table.unpack(case)
        it("reports " .. what, function()
            local output, ok = check("check-layers.lua", { [path] = text })
            assert.equal(expected, output)
            assert.is_false(ok)
        end)
    end

    it("is content with what the order allows", function()
        local output, ok = check("check-layers.lua", {
            ["engine/wire/a.c"] = '#include "base/buf.h"\n#include "wire/b.h"\n/* open( time( */\n',
            ["engine/io/a.c"] = "#include <ev.h>\n#include <time.h>\nint f(void) { return socket(1, 2, 3); }",
            ["engine/store/a.c"] = 'int x = s->open(s) + s.time(s) + db_open(s); char *t = "open(";',
            ["engine/store/b.c"] = "int fd = openat(dir, path, O_RDONLY);",
            ["engine/db/a.c"] = "\nstatic int bind(int x)\n{\n    return x;\n}\nint a = bind(1);\n",
            ["engine/cli/a.c"] = '#include "db/db.h"\n#include "policy/policy.h"\n',
            ["engine/main.c"] = '#include "cli/cli.h"\n',
            ["agent/a.c"] = '#include "store/store.h"\n#include "health.h"\n',
        })
        assert.equal("", output)
        assert.is_true(ok)
    end)
end)

describe("check-limits", function()
    local cases = {
        { "a banned call", { ["engine/a.c"] = "int x;\nint y = sprintf(a, b);" },
            "engine/a.c:2: sprintf() is not used here; take snprintf or buf_printf" },
        { "a long function", { ["agent/a.c"] = "int a(int b);\n\n" .. function_of(61) },
            "agent/a.c:4: work has 61 lines, more than 60" },
        { "a long file", { ["tests/a.lua"] = ("x = 1\n"):rep(601) },
            "tests/a.lua:1: the file has 601 lines, more than 600" },
        { "what is left undone", { ["engine/a.h"] = "/* TO" .. "DO: later */" },
            "engine/a.h:1: TO" .. "DO: do it, or leave it out" },
        { "an exception that has grown", { ["engine/a.c"] = function_of(80),
            ["scripts/oversize.txt"] = "70 engine/a.c:work\n" },
            "engine/a.c:2: work has 80 lines, more than 70" },
        { "an exception that can shrink", { ["engine/a.c"] = function_of(70),
            ["scripts/oversize.txt"] = "80 engine/a.c:work\n" },
            "scripts/oversize.txt:1: engine/a.c:work needs only 70" },
        { "an exception that nobody needs", { ["engine/a.c"] = function_of(60),
            ["scripts/oversize.txt"] = "80 engine/a.c:work\n80 engine/b.c:gone\n" },
            "scripts/oversize.txt:1: engine/a.c:work is no longer needed; remove it",
            "scripts/oversize.txt:2: engine/b.c:gone is no longer needed; remove it" },
    }
    for _, case in ipairs(cases) do
        it("reports " .. case[1], function()
            local output, ok = check("check-limits.lua", case[2])
            for i = 3, #case do
                assert.truthy(output:find(case[i], 1, true), output)
            end
            assert.equal(#case - 2, select(2, (output .. "\n"):gsub("\n", "\n")))
            assert.is_false(ok)
        end)
    end

    it("is content with small functions and exceptions that fit", function()
        local output, ok = check("check-limits.lua", {
            ["engine/a.c"] = function_of(60) .. '/* strcpy( */ char *s = "strcpy(";\n',
            ["engine/b.c"] = function_of(70),
            ["scripts/oversize.txt"] = "# the reason\n70 engine/b.c:work\n",
        })
        assert.equal("", output)
        assert.is_true(ok)
    end)
end)
