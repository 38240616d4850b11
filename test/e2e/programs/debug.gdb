# Breakpoints, steps, watchpoints in hardware and software, a fault, a walk backwards: what is printed
# must be the same on every machine.
set pagination off
set confirm off
set width 0
set startup-with-shell off
break rec if n == 3
run
bt
delete
break work
continue
stepi
stepi 20
next
step
p i
p s
x/4i $pc
finish
delete
watch watched
continue
continue
delete
kill
break fp
run
p $xmm0.v2_double[0]
delete
watch arr[2]
continue
kill
delete
break rec
run
delete
hbreak work if n == 6
continue
p n
bt
kill
delete
set can-use-hw-watchpoints 0
break fp
run
watch arr[2]
continue
delete
kill
run x
bt
p $_siginfo.si_signo
p $_siginfo._sifields._sigfault.si_addr
kill
break work
run
delete
record
stepi 60
reverse-stepi 30
p $pc
reverse-stepi 30
p $pc
record stop
kill
quit
