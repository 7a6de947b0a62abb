-- The steps of a record, a hash: 'f' has the fingerprint of their request, 's' and a name a step that
-- began and is not known to have ended, which is an open one, 'e' and a name one that ended. A step
-- is the owner token of its run, then its payload.

local function has_open_step(steps_key, fingerprint)
  if redis.call('HGET', steps_key, 'f') == fingerprint then
    for _, field in ipairs(redis.call('HKEYS', steps_key)) do
      if string.sub(field, 1, 1) == 's' then
        return true
      end
    end
  end
  return false
end

-- Returns how many were deleted.
local function delete_open_steps(steps_key)
  local deleted = 0
  for _, field in ipairs(redis.call('HKEYS', steps_key)) do
    if string.sub(field, 1, 1) == 's' then
      deleted = deleted + redis.call('HDEL', steps_key, field)
    end
  end
  return deleted
end

-- Makes the steps live as long as their record, if they would be gone sooner.
local function extend_steps(steps_key, ttl_ms)
  if steps_key and redis.call('PTTL', steps_key) < tonumber(ttl_ms) then
    redis.call('PEXPIRE', steps_key, ttl_ms)
  end
end
