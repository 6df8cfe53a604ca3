-- The same requests by wrk, one thread. GUILDER_LOAD names a file of whole requests separated by NUL, {n} where the number
-- goes; GUILDER_LOAD_CONTAINS is what every good body holds. The last line of the output is the report as JSON.
local requests, threads = {}, {}
local contains = os.getenv("GUILDER_LOAD_CONTAINS")

-- Globals of the thread: `done` runs in another state and asks for them by name.
sent, wrong, first_wrong = 0, 0, 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(arguments)
  local file = assert(io.open(os.getenv("GUILDER_LOAD"), "rb"))
  for request in (file:read("*a") .. "\0"):gmatch("(.-)%z") do
    requests[#requests + 1] = request
  end
  file:close()
end

function request()
  local number = string.format("%012d", sent)
  local text = requests[sent % #requests + 1]:gsub("{n}", number)
  sent = sent + 1
  return text
end

function response(status, headers, body)
  if status ~= 200 or not body:find(contains, 1, true) then
    wrong = wrong + 1
    if first_wrong == 0 then first_wrong = status end
  end
end

function done(summary, latency, _)
  local refused, status = 0, 0
  for _, thread in ipairs(threads) do
    refused = refused + thread:get("wrong")
    status = thread:get("first_wrong")
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '\n{"sent": %d, "good": %d, "wrong": %d, "first_wrong": "%s", "seconds": %.3f, "per_second": %.1f, ' ..
    '"p50_ms": %.3f, "p90_ms": %.3f, "p99_ms": %.3f, "p999_ms": %.3f, "max_ms": %.3f}\n',
    summary.requests, summary.requests - refused, refused + broken, (status > 0) and ("status " .. status) or "",
    summary.duration / 1e6, (summary.requests - refused) / (summary.duration / 1e6),
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
    latency.max / 1e3))
end
