"""The scripts of the log in Redis: each round trip does all that belongs together, or nothing of it.

Keys of a shard, behind its common prefix: `log`, a stream; `epoch`, the name of this log's life; `keys:` + number, the
idempotency keys of a stretch of time; `probe`, a short stream of what
is not kept.
"""

from __future__ import annotations

from typing import Final

# A log begins a new life when it is not there, and also when it lacks an entry that this worker read, or was given a
# position for, though older ones are there or newer ones never were: a primary died before its replica had the entry,
# or Redis was restored from before it. Whoever got that entry and whoever did not must both be told.
_EPOCH: Final = """
local function less(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms < b_ms or (a_ms == b_ms and tonumber(a_seq) < tonumber(b_seq))
end

local function last_of(log)
  local info = redis.call('XINFO', 'STREAM', log)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return info[i + 1]
    end
  end
end

local function lacks(log, known)
  if known == '' or known == '0-0' or #redis.call('XRANGE', log, known, known) == 1 then
    return false
  end
  if redis.call('EXISTS', log) == 0 then
    return true
  end
  return #redis.call('XREVRANGE', log, '(' .. known, '-', 'COUNT', 1) == 1 or less(last_of(log), known)
end

local function epoch_of(log, key, fresh, known, known_epoch)
  local epoch = redis.call('GET', key)
  if not epoch or (epoch == known_epoch and lacks(log, known)) then
    epoch = fresh
    redis.call('SET', key, epoch)
  end
  return epoch
end
"""

# KEYS: log, epoch, the prefix of `keys:`, probe. ARGV: a fresh epoch, the position known and its epoch, entries kept,
# seconds kept, seconds of the idempotency window; then for each record topic, body, names of connections ("ephemeral"
# where it is that), key.
#
# A key seen within the window gives the position that it got the first time. The keys lie in two hashes by time, the
# current and the one before, so forgetting them costs nothing. A key seen again is written again: so whoever waits for
# this write to be on disk or on a replica waits for the first one too. The time is Redis's: workers' clocks do not
# matter. What is not kept, probes and ephemeral records, goes into a short stream of its own, beside the log, which
# every reader waits for in the same command.
APPEND: Final = (
    _EPOCH
    + """
local answer = {epoch_of(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])}
local time = redis.call('TIME')
local window = tonumber(ARGV[6])
local slot = math.floor(tonumber(time[1]) / window)
local current, previous = KEYS[3] .. slot, KEYS[3] .. (slot - 1)
local remembered = false
for i = 7, #ARGV, 4 do
  local key, position = ARGV[i + 3], false
  if key ~= '' then
    position = redis.call('HGET', current, key) or redis.call('HGET', previous, key)
  end
  if not position then
    if ARGV[i] == '$probe' or ARGV[i + 2] == 'ephemeral' then
      position = redis.call('XADD', KEYS[4], 'MAXLEN', '~', 500, '*', 't', ARGV[i], 'b', ARGV[i + 1])
    elseif ARGV[i + 2] == '' then
      position = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 't', ARGV[i], 'b', ARGV[i + 1])
    else
      position = redis.call(
        'XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 't', ARGV[i], 'b', ARGV[i + 1], 'c', ARGV[i + 2]
      )
    end
  end
  if key ~= '' then
    redis.call('HSET', current, key, position)
    remembered = true
  end
  answer[#answer + 1] = position
end
if remembered then
  redis.call('EXPIRE', current, 2 * window)
end
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', (tonumber(time[1]) - tonumber(ARGV[5])) * 1000))
return answer
"""
)

# KEYS: log, epoch. ARGV: a fresh epoch, the position known and its epoch.
EXTENT: Final = (
    _EPOCH
    + """
local epoch = epoch_of(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {epoch, '0-0', '', 0, 0}
end
local info, at = redis.call('XINFO', 'STREAM', KEYS[1]), {}
for i = 1, #info, 2 do
  at[info[i]] = info[i + 1]
end
local first = ''
if at['length'] > 0 then
  first = at['first-entry'][1]
end
return {epoch, at['last-generated-id'], first, at['entries-added'], at['entries-added'] - at['length']}
"""
)
