-- Tells what an operator needs of a record.
--
-- KEYS[1]  the record
-- ARGV[1]  how many octets of its beginning are wanted
-- ARGV[2]  how many octets of its end
--
-- Returns {}                                              gone
--         {octets, milliseconds to live, now, head, tail} now in the server's milliseconds;
--                                                         a foreign kind of value has no octets
local life = redis.call('PTTL', KEYS[1])
if life == -2 then
  return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size = redis.pcall('STRLEN', KEYS[1])
if type(size) == 'table' then
  return {0, life, now, '', ''}
end
local head = redis.call('GETRANGE', KEYS[1], 0, ARGV[1] - 1)
return {size, life, now, head, redis.call('GETRANGE', KEYS[1], -ARGV[2], -1)}
