-- Claims a key, or tells what is known of it.
--
-- KEYS[1]  the record
-- ARGV[1]  a new record in progress
-- ARGV[2]  time to live in milliseconds
-- ARGV[3]  '1' when a claim whose lease has lapsed may be taken over
-- ARGV[4]  what follows the key's name in its channel's
-- ARGV[5]  owner token of a completed record whose place is taken, because its request is corrected
--
-- Returns {watchers, 1, attempt, first attempt}    the key is ours; after a take-over the dead
--                                                  owner's record comes as well
--         {watchers, 2, record}                    completed, or not readable by this script
--         {watchers, 3, milliseconds left, record} in progress, less what a late owner has left in
--                                                  it; none left: its lease has lapsed
--         {watchers, 4, beginning}                 completed for another request
--         an error              when the server refuses to write and nothing is completed
--
-- Tells whoever watches, on the waiters' channel's name with a '!': claimed, busy, unknown, reused
-- or unreadable, with the record of the request that asks; completed or replayed, with the ends of
-- the response's record. Anybody on the server may hear it: no fingerprint is told, and of a
-- response its status and time alone. A message that may not be sent fails nothing: pcall. Watchers
-- are those who heard it; a command that was sent twice tells nothing new, and takes one for granted.
--
-- Offsets are those of records.py, counted from 1.
local function tell(what, octets)
  local told = string.sub(octets, 1, 34) .. string.rep('\0', 16) .. string.sub(octets, 51)
  return tonumber(redis.pcall('PUBLISH', KEYS[1] .. ARGV[4] .. '!', what .. ' ' .. told)) or 0
end
local function ends(record)
  return string.sub(record, 1, 58) .. string.sub(record, -9)
end

local old = redis.call('GET', KEYS[1])
local same = old and string.sub(old, 35, 50) == string.sub(ARGV[1], 35, 50)
local kind = old and #old >= 54 and string.sub(old, 1, 2)
local corrected = kind == '\1c' and string.sub(old, 19, 34) == ARGV[5]
if kind == '\1c' and not corrected then
  if not same then
    return {tell('reused 0', ARGV[1]), 4, string.sub(old, 1, 128)}
  end
  return {tell('replayed 0', ends(old)), 2, old}
end
local grace, attempt, offer
if kind == '\1p' or kind == '\1r' or corrected then
  grace, attempt, offer = struct.unpack('>I8I4I4', string.sub(old, 3, 18))
end
local answered = offer and offer > 0 and string.sub(old, offer + 1)
-- What no owner writes is not taken over. Lua counts exactly up to the last of these numbers.
local sound = attempt and attempt > 0 and attempt < 4294967295 and grace < 9007199254740992
    and (not answered or #answered > 54 and string.sub(answered, 1, 2) == '\1c')
if old and not sound then
  return {tell('unreadable 0', ARGV[1]), 2, old}
end

-- One that is there is tried as well: where nothing can be written, it cannot be completed.
-- NX without GET, which Redis before 7.0 takes alone.
local written = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if type(written) == 'table' and written.err then
  return written
end
if not old then
  return {tell('claimed 0', ARGV[1]), 1, 1, 1}
end
local first = struct.unpack('>I4', string.sub(old, 51, 54))
local function follow(dead)
  -- What runs before the first attempt answer is refused from now on.
  attempt = attempt + 1
  first = same and not corrected and first or attempt
  local taken = string.sub(ARGV[1], 1, 10) .. struct.pack('>I4', attempt)
      .. string.sub(ARGV[1], 15, 50) .. struct.pack('>I4', first) .. string.sub(ARGV[1], 55)
  redis.call('SET', KEYS[1], taken, 'PX', ARGV[2])
  return {tell('claimed 0', taken), 1, attempt, first, dead}
end
if kind == '\1r' or corrected then
  return follow()
end
if string.sub(old, 19, 34) == string.sub(ARGV[1], 19, 34) then
  -- The reply to our first sending was lost.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, 1, attempt, first}
end
local life = redis.call('PTTL', KEYS[1])
if life < 0 then
  -- Somebody has made the record stay for ever; it ends, and its lease begins anew.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  life = tonumber(ARGV[2])
end
local left = life - grace
if left > 0 or ARGV[3] ~= '1' or not same then
  local what = not same and 'reused 0' or left > 0 and 'busy 0' or 'unknown 0'
  return {tell(what, ARGV[1]), 3, left, string.sub(old, 1, offer > 0 and offer or -1)}
end
if answered then
  -- An earlier owner came late with its response; nobody needs to run again.
  redis.call('SET', KEYS[1], answered, 'PX', ARGV[2])
  local woken = redis.pcall('PUBLISH', KEYS[1] .. ARGV[4], '')
  tell('completed ' .. (tonumber(woken) or 0), ends(answered))
  return {tell('replayed 0', ends(answered)), 2, answered}
end
return follow(old)
