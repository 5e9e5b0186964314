-- Gives each key one spelling, and takes two decisions without a call to authz. A request whose Authorization cannot be a token gets 401. A request that a grant covers passes.
-- authz sends a grant with an allow (services/authz/README.md): by verb, prefixes of keys that an identity may and may not use, for some
-- seconds. All other requests go to authz. A denial of authz is never kept. A grant belongs to the whole value of Authorization, and a
-- token has one spelling, so two tokens never share a grant and one token has one grant.
--
-- Each worker thread of Envoy has its own tables. Two generations bound them in number and in time: the young generation ends when it is
-- full or after the longest lifetime of a grant. It then replaces the old generation, which is forgotten.
local max_grants = 5000 -- in each generation
local generation_ms = 60000 -- the longest lifetime of a grant (KURA_AUTHZ_GRANT)
local max_asked = 1000 -- checks whose response is still due; the grant of an older check is not kept
local max_authorization_bytes = 4096 -- tokens of Kubernetes have about 1 KB
local max_path_bytes = 1032 -- /direct/, the shortest route, and a key of 1,024 bytes; authz decides on longer paths
-- Strict base64url, as authz requires it (services/authz/identity/jwt.ts).
local token_form = "^Bearer [%w_-]+%.[%w_-]+%.[%w_-]+$"
local own_metadata = "kura.grant"
local authz_metadata = "envoy.filters.http.ext_authz"

-- services/shared/key.ts explains the rule of spellings and has it too.
local literal = "[A-Za-z0-9%-._~!$&'()*+,;=:@]"
-- Envoy rejects these earlier. A later reader could take them for a separator or for the end of the key.
local refused = { ["2F"] = true, ["5C"] = true, ["00"] = true }

local young, old, young_count, young_end = {}, {}, 0, 0
-- What the response needs of its request, by a number that no other request of this thread has. The metadata of a stream, which logs can
-- show, holds the number alone.
local asked, last_asked = {}, 0

local function rotate(now)
  -- Without traffic, the young generation can be as old as the old one.
  old = math.abs(now - young_end) < generation_ms and young or {}
  young, young_count, young_end = {}, 0, now + generation_ms
  for number, question in pairs(asked) do
    if math.abs(now - question.at) >= generation_ms then asked[number] = nil end
  end
  -- LuaJIT alone would collect the old generation only when its memory has doubled.
  collectgarbage()
end

-- Also ends a generation that began before the clock was put back.
local function rotate_in_time(now)
  if now >= young_end or now < young_end - generation_ms then rotate(now) end
end

local function remember(authorization, grant, now)
  if young[authorization] == nil then
    if young_count >= max_grants then rotate(now) end
    young_count = young_count + 1
  end
  young[authorization] = grant
end

-- A clock that goes back also ends a grant.
local function recall(authorization, now)
  local grant = young[authorization] or old[authorization]
  if grant == nil or now < grant.from or now >= grant.to then return nil end
  if young[authorization] == nil then remember(authorization, grant, now) end
  return grant
end

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

-- Gives the path up to the first "?" its canonical spelling, before the grant, authz and the hash read it. Returns nil after a refusal.
local function respell(handle, headers, target)
  local query = target:find("?", 1, true)
  local path = query and target:sub(1, query - 1) or target
  local spelled, refusal = canonical(path)
  if spelled == nil then return handle:respond({ [":status"] = "400" }, refusal) end -- local_reply_config makes a problem of it.
  if spelled == path then return target end
  if query then spelled = spelled .. target:sub(query) end
  headers:replace(":path", spelled)
  handle:clearRouteCache() -- The first characters of the path select the route.
  return spelled
end

-- Why the value cannot be a token. Envoy joins several lines with a comma, which no token has.
local function refusal_of(authorization)
  if authorization == nil or authorization == "" then
    return "the request must have exactly one Authorization header with a bearer token"
  end
  if #authorization > max_authorization_bytes then
    return "the Authorization header is longer than " .. max_authorization_bytes .. " bytes"
  end
  if not authorization:find(token_form) then
    return 'the Authorization header must be "Bearer", one space and one token of three parts in base64url'
  end
  return nil
end

-- The connection ends with the response: a caller without a token keeps no connection. local_reply_config makes a problem of the reason.
local function refuse(handle, reason)
  handle:streamInfo():drainConnectionUponCompletion()
  handle:respond({ [":status"] = "401", ["www-authenticate"] = 'Bearer realm="kura", error="invalid_token"' }, reason)
end

local routes = { "/objects/", "/direct/", "/through/" }
local is_route = { ["/objects/"] = true, ["/direct/"] = true, ["/through/"] = true }

-- The prefixes of paths that belong to prefixes of keys, by verb. It saves each request from cutting its key out of its path.
local function paths_of(keys_by_verb)
  local paths_by_verb = {}
  for verb, keys in pairs(keys_by_verb) do
    local paths = {}
    for index = 1, #keys do
      for route = 1, #routes do paths[#paths + 1] = routes[route] .. keys[index] end
    end
    paths_by_verb[verb] = paths
  end
  return paths_by_verb
end

local function is_under(path, prefixes)
  if prefixes == nil then return false end
  for index = 1, #prefixes do
    local prefix = prefixes[index]
    if path:sub(1, #prefix) == prefix then return true end
  end
  return false
end

-- Whether the path has a valid key (services/shared/key.ts). authz rejects the others.
local function has_key(path)
  if #path > max_path_bytes or is_route[path] or path:find("[^!-~]") then return false end
  -- Few keys have a segment that begins with a dot, and the plain search is cheap.
  return not (path:find("/.", 1, true) and (path:find("/%.%.?/") or path:find("/%.%.?$")))
end

local function allows(grant, headers, method, path)
  if method == "FILL" then return false end -- A verb of the grant, and no method.
  if not is_under(path, grant.allowed[method]) or is_under(path, grant.denied[method]) or not has_key(path) then return false end
  if method ~= "PUT" then return true end
  local length = headers:get("content-length")
  return length == nil or (tonumber(length) or math.huge) <= grant.max_object_bytes
end

-- The terms of an origin for a key that the caller may read from there. With the plain terms, a miss stays a miss.
local function terms_of(grant, method, path)
  if grant.through == nil or (method ~= "GET" and method ~= "HEAD") then return grant.terms end
  if not is_under(path, grant.allowed.FILL) or is_under(path, grant.denied.FILL) then return grant.terms end
  for index = 1, #grant.through do
    local origin = grant.through[index]
    if path:sub(1, #origin.path) == origin.path then return origin.terms end
  end
  return grant.terms
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path:find("%", 1, true) then
    path = respell(handle, headers, path)
    if path == nil then return end
  end
  local authorization = headers:get("authorization")
  local now = handle:timestamp()
  rotate_in_time(now)
  local grant = authorization and recall(authorization, now)
  local method = grant and headers:get(":method")
  if not grant or not allows(grant, headers, method, path) then
    -- A value with a grant has the right form, so a request with a grant does not pay for this check.
    local refusal = not grant and refusal_of(authorization)
    if refusal then return refuse(handle, refusal) end
    last_asked = last_asked + 1
    asked[last_asked] = { authorization = authorization, at = now }
    asked[last_asked - max_asked] = nil
    handle:streamInfo():dynamicMetadata():set(own_metadata, "asked", last_asked)
    return
  end
  -- The same headers as in a response of authz. Envoy asks authz only for a request without a caller.
  headers:remove("authorization")
  headers:replace("x-kura-caller", grant.caller)
  headers:replace("x-kura-terms", terms_of(grant, method, path))
end

-- authz announces a grant in the header x-kura-grant too. Envoy calls this function only for a response with it, and the route removes it.
function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local own, answer = metadata:get(own_metadata), metadata:get(authz_metadata)
  local question = own ~= nil and asked[own.asked] or nil
  if question == nil or answer == nil or answer.grant == nil then return end
  asked[own.asked] = nil
  local grant = answer.grant
  -- The grant starts at the time of the check, because an upload may have taken minutes since.
  grant.from = question.at
  grant.to = question.at + grant.seconds * 1000
  -- The terms are signed for the shard. Here the limit only selects the uploads that authz has to reject.
  grant.allowed, grant.denied = paths_of(grant.allowed), paths_of(grant.denied)
  for _, origin in ipairs(grant.through or {}) do origin.path = "/through/" .. origin.prefix end
  grant.max_object_bytes = tonumber(grant.terms:match("max%-object%-bytes=(%d+)")) or 0
  local now = handle:timestamp()
  if now < grant.to then remember(question.authorization, grant, now) end
end
