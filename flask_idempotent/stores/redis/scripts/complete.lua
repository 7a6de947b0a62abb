-- Stores the response of a run.
--
-- KEYS[1]  the record
-- ARGV[1]  the completed record
-- ARGV[2]  time to live in milliseconds
-- ARGV[3]  what follows the key's name in its channel's
--
-- The empty message tells waiters to read the record: others of the server may hear and send
-- messages who may not touch the key. One that may not be sent makes waiters slower, never a stored
-- response a failure: pcall.
--
-- Tells whoever watches, on the channel's name with a '!': completed and how many processes were
-- woken, or offered; with the ends of the response's record, which hold its status and time.
--
-- Returns {watchers, 1} stored, now or before
--         {watchers, 2} another run is in progress; the response waits in its record (a late
--                       owner's offer)
--         {watchers, 3} something else stands: another's response, another request, an unreadable
--                       record
--
-- Watchers are those who heard; where nothing is told, one is taken for granted.
local function tell(what)
  local ends = string.sub(ARGV[1], 1, 34) .. string.rep('\0', 16)
      .. string.sub(ARGV[1], 51, 58) .. string.sub(ARGV[1], -9)
  return tonumber(redis.pcall('PUBLISH', KEYS[1] .. ARGV[3] .. '!', what .. ' ' .. ends)) or 0
end

local old = redis.call('GET', KEYS[1])
if old then
  if #old < 54 or string.byte(old, 1) ~= 1 then
    return {1, 3}
  end
  local ours = string.sub(old, 19, 34) == string.sub(ARGV[1], 19, 34)
  local state = string.sub(old, 2, 2)
  if state ~= 'p' and state ~= 'r' then
    return {1, state == 'c' and ours and 1 or 3}
  end
  -- Big-endian numbers compare as text does.
  if not ours and (string.sub(old, 35, 50) ~= string.sub(ARGV[1], 35, 50)
      or string.sub(ARGV[1], 11, 14) < string.sub(old, 51, 54)) then
    return {1, 3}
  end
  if not ours and state == 'p' then
    if struct.unpack('>I4', string.sub(old, 15, 18)) == 0 then
      redis.call('APPEND', KEYS[1], ARGV[1])
      redis.call('SETRANGE', KEYS[1], 14, struct.pack('>I4', #old))
      return {tell('offered 0'), 2}
    end
    return {1, 2}
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local woken = redis.pcall('PUBLISH', KEYS[1] .. ARGV[3], '')
return {tell('completed ' .. (tonumber(woken) or 0)), 1}
