-- wrk's script: moves of the built-in machine over the short interface. Each thread asks for
-- second, third, first, ... in turn. With one connection every move is legal; with more they mix,
-- and what has become illegal is refused. A refusal is decided by the replicated state machine too:
-- it costs the same log entry, the same fsyncs and the same round trip as a move.
local states = { "second", "third", "first" }
local turn = 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  moved, refused, failed = 0, 0, 0
end

function request()
  turn = turn % #states + 1
  return wrk.format("GET", "/?next=" .. states[turn])
end

function response(status)
  if status == 200 then
    moved = moved + 1
  elseif status == 400 then
    refused = refused + 1
  else
    failed = failed + 1
  end
end

function done(summary, latency)
  local sum = { moved = 0, refused = 0, failed = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(sum) do
      sum[name] = sum[name] + thread:get(name)
    end
  end
  local errors = summary.errors
  -- One line for bench/writes: microseconds and counts.
  io.write(string.format(
    "result %.0f %d %d %d %d %d %d\n",
    (sum.moved + sum.refused) / (summary.duration / 1e6),
    latency:percentile(50), latency:percentile(99), latency.max,
    sum.moved, sum.refused,
    sum.failed + errors.connect + errors.read + errors.write + errors.timeout))
end
