-- Restores an error response of Envoy or authz. Envoy turns it into 200, grpc-status and grpc-message if the request has a gRPC content type.
-- Envoy creates this filter only for a response with grpc-status.
local status_header = "x-kura-status" -- bootstrap.yaml sets it to the status of the refusal.

function envoy_on_response(handle)
  local headers = handle:headers()
  headers:replace(":status", headers:get(status_header))
  headers:replace("content-type", "application/problem+json")
  headers:remove(status_header)
  headers:remove("grpc-status")
  -- Holds the body, percent-encoded. It is missing in a response to HEAD.
  local message = headers:get("grpc-message")
  if message == nil then return end
  headers:remove("grpc-message")
  local body = message:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end)
  handle:body(true):setBytes(body)
  headers:replace("content-length", tostring(#body))
end
