-- The same requests by wrk. GUILDER_LOAD names a file: requests separated by NUL, {n} where the number goes;
-- GUILDER_LOAD_CONTAINS is what every good body holds. Prints one line of JSON at the end.
local parts = {}
local sent, wrong, first_wrong = 0, 0, ""
local contains = os.getenv("GUILDER_LOAD_CONTAINS")

function init(args)
  local file = assert(io.open(os.getenv("GUILDER_LOAD"), "rb"))
  for request in file:read("*a"):gmatch("[^%z]+") do
    parts[#parts + 1] = request
  end
  file:close()
end

function request()
  local number = string.format("%012d", sent)
  local text = parts[sent % #parts + 1]:gsub("{n}", number)
  sent = sent + 1
  return text
end

function response(status, headers, body)
  if status ~= 200 or not body:find(contains, 1, true) then
    wrong = wrong + 1
    if first_wrong == "" then first_wrong = status .. " " .. body:sub(1, 500) end
  end
end

-- Only the one thread of wrk has these; `done` runs outside it, so they are handed over.
local threads = {}
function setup(thread) threads[#threads + 1] = thread end

function done(summary, latency, requests)
  local wrong_all, word = 0, ""
  for _, thread in ipairs(threads) do
    wrong_all = wrong_all + thread:get("wrong_count")
    word = thread:get("wrong_word")
  end
  io.write(string.format(
    '\n{"good": %d, "wrong": %d, "first_wrong": %q, "seconds": %.3f, "p50_ms": %.3f, "p90_ms": %.3f, "p99_ms": %.3f, "p999_ms": %.3f, "max_ms": %.3f}\n',
    summary.requests - wrong_all, wrong_all + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    word, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, latency.max / 1e3))
end
