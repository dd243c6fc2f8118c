-- Scores with random run ids, as the page makes them.
local threads = 0
setup = function(thread)
  threads = threads + 1
  thread:set('number', threads)
end
init = function()
  math.randomseed(os.time() * 10 + number)
end
local n, random = 0, math.random
request = function()
  n = n + 1
  local id = string.format('%06x%02x-%04x-4%03x-%04x-%06x%06x', random(0, 16777215), random(0, 255), random(0, 65535),
    random(0, 4095), random(32768, 49151), random(0, 16777215), random(0, 16777215))
  local body = '{"player":"bench","score":' .. (n % 1000) .. ',"runId":"' .. id .. '"}'
  return wrk.format('POST', '/score', {['content-type'] = 'application/json'}, body)
end
