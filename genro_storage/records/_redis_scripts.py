"""The Lua scripts of the Redis store; each names all its keys, so that a cluster can place it."""

from __future__ import annotations

import hashlib

LAYOUT = 1
PUT, DELETE, CHECK = b"p", b"d", b"c"

# KEYS: the counter of versions, then for each change its record and its space.
# ARGV: the time, then for each change kind, expect ("" does not care), key, expires_at ("" never), data.
# Answers with the version that all records written got; of a conflict, the place and the version that is there: nothing
# was written then.
# What is expired is judged by `e` and the time that the caller gives; the server removes it a minute later by its own
# clock, because clocks differ, and what is gone too early would be lost.
COMMIT = """
local call = redis.call
local moment = tonumber(ARGV[1])
local count = (#KEYS - 1) / 2
local puts = false
for i = 1, count do
    puts = puts or ARGV[5 * i - 3] == 'p'
    local expect = ARGV[5 * i - 2]
    if expect ~= '' then
        local held = call('HMGET', KEYS[2 * i], 'v', 'e')
        local actual = '0'
        if held[1] and (not held[2] or tonumber(held[2]) > moment) then actual = held[1] end
        if expect ~= actual then return {i, tonumber(actual)} end
    end
end
local version = puts and call('INCR', KEYS[1]) or 0
for i = 1, count do
    local kind, key, expires, data = ARGV[5 * i - 3], ARGV[5 * i - 1], ARGV[5 * i], ARGV[5 * i + 1]
    local record, space = KEYS[2 * i], KEYS[2 * i + 1]
    if kind == 'p' then
        local new
        if expires == '' then
            new = call('HSET', record, 'v', version, 'd', data) == 2
            if not new and call('HDEL', record, 'e') == 1 then call('PERSIST', record) end
        else
            new = call('HSET', record, 'v', version, 'd', data, 'e', expires) == 3
            call('PEXPIREAT', record, math.floor(tonumber(expires) / 1000) + 60000)
        end
        -- What was there has its name.
        if new then call('ZADD', space, 0, key) end
    elseif kind == 'd' then
        call('DEL', record)
        call('ZREM', space, key)
    end
end
return version
"""

# KEYS: a space, then records that were not there; ARGV: their keys. Names of what is gone go too.
PURGE = """
for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('ZREM', KEYS[1], ARGV[i - 1]) end
end
return 0
"""


def digest(script: str) -> str:
    """By which the server knows a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
