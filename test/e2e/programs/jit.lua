-- Loops for the trace compiler, tables, strings, FFI, coroutines; prints the same on every machine.
local bit = require("bit")
local ffi = require("ffi")

local function fib(n)
    if n < 2 then return n end
    return fib(n - 1) + fib(n - 2)
end
print(fib(27))

local function sieve(n)
    local a, c = {}, 0
    for i = 2, n do
        if not a[i] then
            c = c + 1
            for j = i * 2, n, i do a[j] = true end
        end
    end
    return c
end
print(sieve(300000))

local s = 0
for i = 1, 5000000 do s = bit.bxor(s * 31 % 65536, i) end
print(s)

local t = {}
for i = 1, 100000 do t[i] = tostring((i * 7919) % 100003) end
table.sort(t)
print(t[1], t[50000], t[100000])

local parts = {}
for i = 1, 50000 do parts[#parts + 1] = string.format("%d:%g", i, math.sin(i)) end
local str, n = table.concat(parts, ","), 0
print(#str)
for w in str:gmatch("%d+:") do n = n + 1 end
print(n)

ffi.cdef[[ typedef struct { double x, y; int n; } pt; int abs(int); ]]
local p = ffi.new("pt[1000]")
for r = 1, 200 do
    for i = 0, 999 do
        p[i].x = p[i].x + i * 0.5
        p[i].y = p[i].y - p[i].x
        p[i].n = p[i].n + ffi.C.abs(-i)
    end
end
print(p[999].x, p[999].y, p[999].n)

local function mandel(w)
    local t = 0
    for y = 0, w - 1 do
        for x = 0, w - 1 do
            local cr, ci, zr, zi, i = 2 * x / w - 1.5, 2 * y / w - 1, 0, 0, 0
            while i < 50 and zr * zr + zi * zi < 4 do
                zr, zi, i = zr * zr - zi * zi + cr, 2 * zr * zi + ci, i + 1
            end
            t = t + i
        end
    end
    return t
end
print(mandel(200))

local co = coroutine.wrap(function() for i = 1, 200000 do coroutine.yield(i) end end)
local cs = 0
for i = 1, 200000 do cs = cs + co() end
print(cs)

local e = 0
for i = 1, 20000 do
    local ok = pcall(function() if i % 3 == 0 then error("x") end end)
    if not ok then e = e + 1 end
end
print(e)

local g = 0
for r = 1, 50 do
    local q = {}
    for i = 1, 5000 do q[i] = {i, {i}} end
    g = g + q[5000][2][1]
end
print(g)
print(jit.status() and "jit" or "no jit")
