# fish completion for kiln(1)

function __kiln_images
    kiln images 2>/dev/null | awk 'NR > 1 { print ($2 != "" && $1 !~ /:/) ? $1 ":" $2 : $1 }'
end

function __kiln_machines
    kiln ps 2>/dev/null | awk 'NR > 1 { print $1; if ($2 != "kvm" && $2 != "bt" && $2 != "interp") print $2 }'
end

function __kiln_snapshots
    kiln snapshot ls 2>/dev/null | awk 'NR > 1 { print $1 }'
end

set -l verbs boot check fork images import prune ps pull restore rmi run snapshot stop template help
complete -c kiln -f
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a boot -d 'boot any kernel'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a check -d 'tell what this host can do'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a fork -d 'copy a running machine'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a ps -d 'list the machines that run'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a restore -d 'go on with a saved machine'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a snapshot -d 'save a running machine'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a template -d 'booted machines that run starts from'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a stop -d 'end machines'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a images -d 'list images'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a import -d 'bring an image in from a file or a folder'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a prune -d 'remove what no name refers to'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a pull -d 'fetch an image'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a rmi -d 'remove images'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a run -d 'run a command of a container image'

complete -c kiln -n '__fish_seen_subcommand_from run boot' -l engine -x -a 'auto kvm bt interp' -d 'how instructions run'
complete -c kiln -n '__fish_seen_subcommand_from run boot' -l code-cache -x -d 'translated code that is kept'
complete -c kiln -n '__fish_seen_subcommand_from run boot' -l stats -d 'what the engine counted, at the end'
complete -c kiln -n '__fish_seen_subcommand_from run boot' -l perf-map -d 'names of guest code for perf'
complete -c kiln -n '__fish_seen_subcommand_from run boot' -l kernel -r -F -d 'guest kernel'
complete -c kiln -n '__fish_seen_subcommand_from run boot' -s m -l memory -x -d 'memory, such as 512m'
complete -c kiln -n '__fish_seen_subcommand_from run boot' -l cpus -x -d 'virtual CPUs'
complete -c kiln -n '__fish_seen_subcommand_from run boot' -l timeout -x -d 'stop after this long'

complete -c kiln -n '__fish_seen_subcommand_from run' -a '(__kiln_images)'
complete -c kiln -n '__fish_seen_subcommand_from run' -s i -l interactive -d 'pass standard input'
complete -c kiln -n '__fish_seen_subcommand_from run' -s t -l tty -d 'a terminal'
complete -c kiln -n '__fish_seen_subcommand_from run' -s e -l env -x -d 'set a variable'
complete -c kiln -n '__fish_seen_subcommand_from run' -l env-file -r -F -d 'variables from a file'
complete -c kiln -n '__fish_seen_subcommand_from run' -s w -l workdir -x -d 'working directory'
complete -c kiln -n '__fish_seen_subcommand_from run' -s u -l user -x -d 'user and group'
complete -c kiln -n '__fish_seen_subcommand_from run' -l entrypoint -x -d 'instead of the entrypoint'
complete -c kiln -n '__fish_seen_subcommand_from run' -s h -l hostname -x -d 'host name'
complete -c kiln -n '__fish_seen_subcommand_from run' -l name -x -d 'name of the machine'
complete -c kiln -n '__fish_seen_subcommand_from run' -l read-only -d 'no writable layer'
complete -c kiln -n '__fish_seen_subcommand_from run' -l no-template -d 'boot'
complete -c kiln -n '__fish_seen_subcommand_from template' -a 'ls rm make'
complete -c kiln -n '__fish_seen_subcommand_from run' -l trace-start -r -F -d 'the same as a picture'
complete -c kiln -n '__fish_seen_subcommand_from run' -s v -l volume -x -a '(__fish_complete_directories)' -d 'share a folder'
complete -c kiln -n '__fish_seen_subcommand_from run' -l rm -d 'remove it at the end'
complete -c kiln -n '__fish_seen_subcommand_from run' -s q -l quiet -d 'no progress'

complete -c kiln -n '__fish_seen_subcommand_from boot' -l initrd -r -F -d 'initial RAM disk'
complete -c kiln -n '__fish_seen_subcommand_from boot' -l cmdline -x -d 'kernel command line'
complete -c kiln -n '__fish_seen_subcommand_from boot' -l disk -r -F -d 'disk image'
complete -c kiln -n '__fish_seen_subcommand_from boot' -l share -x -d 'a folder for the guest'
complete -c kiln -n '__fish_seen_subcommand_from boot' -l console -x -a 'stdio none' -d 'console'
complete -c kiln -n '__fish_seen_subcommand_from boot' -l lockstep -d 'compare bt with interp'
complete -c kiln -n '__fish_seen_subcommand_from boot' -l vsock -r -F -d 'socket of virtio-vsock'

complete -c kiln -n '__fish_seen_subcommand_from boot restore' -l name -x -d 'name of the machine'

complete -c kiln -n '__fish_seen_subcommand_from fork stop' -a '(__kiln_machines)'
complete -c kiln -n '__fish_seen_subcommand_from fork' -s n -l count -x -d 'how many'
complete -c kiln -n '__fish_seen_subcommand_from fork' -l name-prefix -x -d 'their names'
complete -c kiln -n '__fish_seen_subcommand_from fork ps snapshot' -l format -x -a json -d 'output format'
complete -c kiln -n '__fish_seen_subcommand_from ps' -s q -l quiet -d 'ids only'
complete -c kiln -n '__fish_seen_subcommand_from snapshot' -a 'create ls inspect verify rm'
complete -c kiln -n '__fish_seen_subcommand_from create' -a '(__kiln_machines)'
complete -c kiln -n '__fish_seen_subcommand_from inspect verify rm restore' -a '(__kiln_snapshots)'
complete -c kiln -n '__fish_seen_subcommand_from create' -l diff-of -x -a '(__kiln_snapshots)' -d 'only what changed since'
complete -c kiln -n '__fish_seen_subcommand_from create' -l compress -d 'memory as zstd'
complete -c kiln -n '__fish_seen_subcommand_from create' -l stop -d 'end the machine once it is saved'
complete -c kiln -n '__fish_seen_subcommand_from restore' -s d -l detach -d 'leave it in the background'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l engine -x -a 'auto kvm bt interp' -d 'how instructions run'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l verify -d 'check all of it first'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l lazy -d 'read memory as it is touched'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l disk -x -d 'N=FILE'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l console -x -a 'stdio none' -d 'console'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l vsock -r -F -d 'socket of virtio-vsock'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l timeout -x -d 'stop after this long'
complete -c kiln -n '__fish_seen_subcommand_from restore' -l stats -d 'what the engine counted, at the end'

complete -c kiln -n '__fish_seen_subcommand_from check' -l format -x -a 'table json' -d 'output format'
complete -c kiln -n '__fish_seen_subcommand_from import' -F
complete -c kiln -n '__fish_seen_subcommand_from rmi' -a '(__kiln_images)'
complete -c kiln -n '__fish_seen_subcommand_from pull' -a 'docker:// oci: docker-archive:'
