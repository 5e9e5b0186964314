-- Gives each key one spelling before authorization and the hash read it. services/shared/key.ts explains the rule and has it too.
-- Envoy creates this filter only for a path with a "%".
local literal = "[A-Za-z0-9%-._~!$&'()*+,;=:@]"
-- Envoy rejects these earlier. A later reader could take them for a separator or for the end of the key.
local refused = { ["2F"] = true, ["5C"] = true, ["00"] = true }

-- Envoy has resolved the dot segments, so decoding must not make another one.
local function makes_dot_segment(path)
  if not path:find("%%2[eE]") then return false end
  for segment in path:gmatch("[^/]+") do
    local decoded, escapes = segment:gsub("%%2[eE]", ".")
    if escapes > 0 and (decoded == "." or decoded == "..") then return true end
  end
  return false
end

-- The canonical spelling, or nil and the reason.
local function canonical(path)
  local refusal
  local _, percents = path:gsub("%%", "")
  local spelled, escapes = path:gsub("%%(%x%x)", function(digits)
    digits = digits:upper()
    if refused[digits] then refusal = "a key must not contain %" .. digits end
    local character = string.char(tonumber(digits, 16))
    return character:find(literal) and character or "%" .. digits
  end)
  if escapes ~= percents then return nil, "in a key, % must be followed by two hexadecimal digits" end
  if makes_dot_segment(path) then refusal = "a key must not contain a . or .. segment" end
  if refusal ~= nil then return nil, refusal end
  return spelled
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local target = headers:get(":path")
  local query = target:find("?", 1, true)
  local path = query and target:sub(1, query - 1) or target
  if not path:find("%", 1, true) then return end
  local spelled, refusal = canonical(path)
  if spelled == nil then
    handle:respond({ [":status"] = "400" }, refusal) -- local_reply_config makes a problem of it.
  elseif spelled ~= path then
    headers:replace(":path", query and spelled .. target:sub(query) or spelled)
  end
end
