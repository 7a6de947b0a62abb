-- Tells what an operator needs of a record.
--
-- KEYS[1]  the record
-- ARGV[1]  how many octets of its beginning are wanted
-- ARGV[2]  how many octets of its end
--
-- Returns {}                                         gone
--         {octets, milliseconds to live, head, tail} a foreign kind of value has no octets
local life = redis.call('PTTL', KEYS[1])
if life == -2 then
  return {}
end
local size = redis.pcall('STRLEN', KEYS[1])
if type(size) == 'table' then
  return {0, life, '', ''}
end
local head = redis.call('GETRANGE', KEYS[1], 0, ARGV[1] - 1)
return {size, life, head, redis.call('GETRANGE', KEYS[1], -ARGV[2], -1)}
