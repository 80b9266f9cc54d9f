"""The scripts of presence in Redis: each change and what it tells the topic happen at once, or not at all.

Keys of a shard, behind its common prefix: `topic:` + topic, a hash of user and worker to since; `users:` + topic, a
hash of user to the number of workers that have the user there; `places:` + worker, a set of its users and topics;
`alive:` + worker, since when it lives without a gap, which expires; `workers`, a set. Names of users and workers hold
no line break. What a dead worker leaves behind is taken away by whoever beats next and has lived long enough.
"""

from __future__ import annotations

from typing import Final

# In every script: KEYS[1] the log, ARGV[1] the prefix, ARGV[2] the worker, ARGV[3] milliseconds that it lives, ARGV[4]
# entries that the log keeps. Each answers since when the worker lives without a gap.
_COMMON: Final = """
local prefix = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function tell(kind, topic, user)
  local body = cjson.encode({type = kind, topic = topic, user = user, at = now})
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 't', topic, 'b', body)
end

local function enter(worker, topic, user)
  if redis.call('HSETNX', prefix .. 'topic:' .. topic, user .. '\\n' .. worker, now) == 0 then
    return
  end
  redis.call('SADD', prefix .. 'places:' .. worker, user .. '\\n' .. topic)
  if redis.call('HINCRBY', prefix .. 'users:' .. topic, user, 1) == 1 then
    tell('joined', topic, user)
  end
end

local function leave(worker, topic, user)
  redis.call('SREM', prefix .. 'places:' .. worker, user .. '\\n' .. topic)
  if redis.call('HDEL', prefix .. 'topic:' .. topic, user .. '\\n' .. worker) == 0 then
    return
  end
  if redis.call('HINCRBY', prefix .. 'users:' .. topic, user, -1) <= 0 then
    redis.call('HDEL', prefix .. 'users:' .. topic, user)
    tell('left', topic, user)
  end
end

local function beat()
  local alive = prefix .. 'alive:' .. ARGV[2]
  local since = tonumber(redis.call('GET', alive)) or now
  redis.call('SET', alive, since, 'PX', ARGV[3])
  redis.call('SADD', prefix .. 'workers', ARGV[2])
  return since
end
"""

# ARGV[5]: how many places are entered; then topic and user of each, the entered ones first.
CHANGE: Final = (
    _COMMON
    + """
local since = beat()
local entered = tonumber(ARGV[5])
for i = 6, #ARGV, 2 do
  if (i - 6) / 2 < entered then
    enter(ARGV[2], ARGV[i], ARGV[i + 1])
  else
    leave(ARGV[2], ARGV[i], ARGV[i + 1])
  end
end
return since
"""
)

# Who has itself lived for less than a heartbeat lasts cannot know whether another is dead: after an outage for all, the
# others may be about to come back. At most 500 places are cleared in one go, so that Redis is not kept from the others;
# the rest waits for the next beat.
BEAT: Final = (
    _COMMON
    + """
local since = beat()
if now - since < tonumber(ARGV[3]) then
  return since
end
for _, worker in ipairs(redis.call('SMEMBERS', prefix .. 'workers')) do
  if redis.call('EXISTS', prefix .. 'alive:' .. worker) == 0 then
    local places = redis.call('SRANDMEMBER', prefix .. 'places:' .. worker, 500)
    for _, place in ipairs(places) do
      local cut = string.find(place, '\\n', 1, true)
      leave(worker, string.sub(place, cut + 1), string.sub(place, 1, cut - 1))
    end
    if #places < 500 then
      redis.call('SREM', prefix .. 'workers', worker)
    end
  end
end
return since
"""
)
