-- Reuses an earlier decision of authz. authz sends a grant with an allow (services/authz/README.md). For each verb, the grant lists prefixes
-- of keys that its identity may and may not use, for some seconds. A request that the grant does not clearly allow goes to authz. This filter
-- rejects no request and stores no denial. Grants are stored by the whole Authorization value, so two tokens never share a grant.
--
-- Each worker thread of Envoy has its own tables. Two generations limit them: when the young one is full, it replaces the old one.
local most_tokens = 10000 -- in each generation
local most_asked = 1000 -- checks in progress; the grant of an older check is not stored
local longest_authorization = 8192
local longest_key = 1024
local own_metadata = "kura.grant"
local authz_metadata = "envoy.filters.http.ext_authz"
local grant_header = "x-kura-grant"

local young, old, young_count = {}, {}, 0
-- The data of a request for its response, by a number that is unique in this thread. Logs can show the metadata of a stream, so the metadata
-- contains only the number.
local asked, last_asked = {}, 0

local function remember(authorization, grant)
  if young[authorization] == nil then
    if young_count >= most_tokens then
      young, old, young_count = {}, young, 0
    end
    young_count = young_count + 1
  end
  young[authorization] = grant
end

-- A clock that goes back also ends a grant.
local function recall(authorization, now)
  local grant = young[authorization]
  if grant == nil then
    grant = old[authorization]
    if grant == nil then return nil end
    remember(authorization, grant)
  end
  if now < grant.from or now >= grant.to then return nil end
  return grant
end

local function is_under(key, prefixes)
  if prefixes == nil then return false end
  for index = 1, #prefixes do
    local prefix = prefixes[index]
    if key:sub(1, #prefix) == prefix then return true end
  end
  return false
end

-- Returns nil for an invalid key (services/shared/key.ts), which authz rejects.
local function key_of(path)
  local from = path:sub(1, 9) == "/objects/" and 10 or path:sub(1, 8) == "/direct/" and 9
  if not from then return nil end
  local key = path:sub(from)
  if #key == 0 or #key > longest_key or key:find("[^!-~]") then return nil end
  -- Few keys have a segment that begins with a dot, and the plain search is cheap.
  if path:find("/.", from - 1, true) and (path:find("/%.%.?/", from - 1) or path:find("/%.%.?$", from - 1)) then return nil end
  return key
end

local function allows(grant, headers)
  local method, key = headers:get(":method"), key_of(headers:get(":path"))
  if key == nil or is_under(key, grant.denied[method]) or not is_under(key, grant.allowed[method]) then return false end
  if method ~= "PUT" then return true end
  local length = headers:get("content-length")
  return length == nil or (tonumber(length) or math.huge) <= grant.max_object_bytes
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local authorization = headers:get("authorization")
  if authorization == nil then return end
  local now = handle:timestamp()
  local grant = recall(authorization, now)
  if grant == nil or not allows(grant, headers) then
    -- Envoy joins repeated headers with a comma, which no token contains. Such a value is never stored.
    if #authorization == 0 or #authorization > longest_authorization or authorization:find(",", 1, true) then return end
    last_asked = last_asked + 1
    asked[last_asked] = { authorization = authorization, at = now }
    asked[last_asked - most_asked] = nil
    handle:streamInfo():dynamicMetadata():set(own_metadata, "asked", last_asked)
    return
  end
  -- The same headers as in a response of authz.
  headers:remove("authorization")
  headers:replace("x-kura-caller", grant.caller)
  headers:replace("x-kura-terms", grant.terms)
  -- Comes last, because Envoy skips ext_authz if this is set.
  handle:streamInfo():dynamicMetadata():set(own_metadata, "hit", "1")
end

-- authz announces a grant in a header too, because a header costs less to read than the metadata of a stream. Most responses have no grant.
function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(grant_header) == nil then return end
  headers:remove(grant_header)
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
  grant.max_object_bytes = tonumber(grant.terms:match("max%-object%-bytes=(%d+)")) or 0
  if handle:timestamp() < grant.to then remember(question.authorization, grant) end
end
