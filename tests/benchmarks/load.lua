-- wrk: sends orders. The first argument is "none" for requests without a key, "fresh" for a new key
-- with each, or the key of all of them. The second makes fresh keys differ from another run's.
local headers = { ["Content-Type"] = "application/json" }
local payload = '{"item": "a small good house", "amount": 1200}'
local mode, salt, number
local threads = 0

function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

function init(arguments)
  mode, salt, number = arguments[1], arguments[2], 0
end

function request()
  if mode == "fresh" then
    number = number + 1
    headers["Idempotency-Key"] = salt .. "-" .. thread_number .. "-" .. number
  elseif mode ~= "none" then
    headers["Idempotency-Key"] = mode
  end
  return wrk.format("POST", "/orders", headers, payload)
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format("result %d %d %d", summary.requests, summary.duration, failed))
end
