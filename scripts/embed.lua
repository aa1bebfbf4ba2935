-- embed.lua FILE...: prints the C source of embedded_files[] (engine/base/embedded.h) with their bytes.
local paths = { table.unpack(arg) }
table.sort(paths)

print('#include "base/embedded.h"\n')
for i, path in ipairs(paths) do
    local file = assert(io.open(path, "rb"))
    local bytes = file:read("a")
    file:close()
    io.write(("static const unsigned char file_%d[] = {"):format(i))
    for at = 1, #bytes do
        io.write(at % 20 == 1 and "\n    " or "", bytes:byte(at), ",")
    end
    io.write(#bytes == 0 and " 0 };\n" or "\n};\n")
end
print("\nconst struct embedded embedded_files[] = {")
for i, path in ipairs(paths) do
    local size = assert(io.open(path, "rb")):seek("end")
    print(("    { %q, file_%d, %d },"):format(path, i, size))
end
print("    { NULL, NULL, 0 },\n};")
