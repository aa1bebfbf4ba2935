-- json.lua: as much JSON as talking to the engine takes. For specs; a policy cannot require it.

local json = {}

---What null becomes, so that a field that is null can be told from one that is absent.
json.null = setmetatable({}, { __tostring = function() return "null" end })

---Marks a table as a list, which matters when it is empty.
function json.list(t)
    return setmetatable(t or {}, { is_list = true })
end

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function encode_text(text)
    return '"' .. text:gsub('[%c"\\]', function(c)
        return escapes[c] or ("\\u%04x"):format(c:byte())
    end) .. '"'
end

local function encode_table(t)
    local meta, parts = getmetatable(t), {}
    if #t > 0 or (meta and meta.is_list) then
        for i, item in ipairs(t) do
            parts[i] = json.encode(item)
        end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    local keys = {}
    for key in pairs(t) do
        keys[#keys + 1] = tostring(key)
    end
    table.sort(keys)
    for i, key in ipairs(keys) do
        parts[i] = encode_text(key) .. ":" .. json.encode(t[key])
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

---@return string
function json.encode(value)
    local kind = type(value)
    if value == json.null or value == nil then
        return "null"
    elseif kind == "table" then
        return encode_table(value)
    elseif kind == "string" then
        return encode_text(value)
    elseif kind == "boolean" or math.type(value) == "integer" then
        return tostring(value)
    elseif kind == "number" and value == value and value ~= math.huge and value ~= -math.huge then
        return ("%.17g"):format(value)
    end
    error("json: a " .. kind .. " cannot be encoded")
end

local decode_value

local function fail(at, what)
    error(("json: %s at byte %d"):format(what, at), 0)
end

local function skip(text, at)
    return text:find("[^ \t\r\n]", at) or #text + 1
end

local plain = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- A \u escape whose digits begin at `at`; returns the character and what follows.
local function decode_unicode(text, at)
    local code = tonumber(text:match("^%x%x%x%x", at) or fail(at, "bad escape"), 16)
    local low = code >= 0xD800 and code < 0xDC00 and text:match("^\\u(%x%x%x%x)", at + 4)
    if low then
        return utf8.char(0x10000 + ((code - 0xD800) << 10) + tonumber(low, 16) - 0xDC00), at + 10
    end
    return utf8.char(code), at + 4
end

local function decode_text(text, at)
    local parts = {}
    at = at + 1
    while true do
        local stop = text:find('["\\]', at) or fail(at, "text without end")
        parts[#parts + 1] = text:sub(at, stop - 1)
        if text:sub(stop, stop) == '"' then
            return table.concat(parts), stop + 1
        end
        local c = text:sub(stop + 1, stop + 1)
        if c == "u" then
            parts[#parts + 1], at = decode_unicode(text, stop + 2)
        else
            parts[#parts + 1], at = plain[c] or c, stop + 2
        end
    end
end

-- The elements between brackets; `take` reads one and puts it away.
local function decode_items(text, at, close, take)
    at = skip(text, at + 1)
    if text:sub(at, at) == close then
        return at + 1
    end
    while true do
        at = skip(text, take(at))
        local c = text:sub(at, at)
        if c == close then
            return at + 1
        elseif c ~= "," then
            fail(at, "',' or '" .. close .. "' expected")
        end
        at = skip(text, at + 1)
    end
end

local function decode_list(text, at)
    local list = json.list()
    return list, decode_items(text, at, "]", function(from)
        local value, after = decode_value(text, from)
        list[#list + 1] = value
        return after
    end)
end

local function decode_object(text, at)
    local object = {}
    return object, decode_items(text, at, "}", function(from)
        if text:sub(from, from) ~= '"' then
            fail(from, "a name expected")
        end
        local key, after = decode_text(text, from)
        after = skip(text, after)
        if text:sub(after, after) ~= ":" then
            fail(after, "':' expected")
        end
        object[key], after = decode_value(text, skip(text, after + 1))
        return after
    end)
end

local words = { { "true", true }, { "false", false }, { "null", json.null } }

function decode_value(text, at)
    local c = text:sub(at, at)
    if c == "{" then
        return decode_object(text, at)
    elseif c == "[" then
        return decode_list(text, at)
    elseif c == '"' then
        return decode_text(text, at)
    end
    for _, word in ipairs(words) do
        if text:sub(at, at + #word[1] - 1) == word[1] then
            return word[2], at + #word[1]
        end
    end
    local number = text:match("^-?%d+%.?%d*[eE]?[+-]?%d*", at) or fail(at, "a value expected")
    return math.tointeger(tonumber(number)) and not number:find("[.eE]") and math.tointeger(tonumber(number))
        or tonumber(number), at + #number
end

---@param text string
function json.decode(text)
    local value, at = decode_value(text, skip(text, 1))
    if skip(text, at) <= #text then
        fail(at, "more than one value")
    end
    return value
end

return json
