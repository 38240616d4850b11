# fish completion for kiln(1)

function __kiln_images
    kiln images 2>/dev/null | awk 'NR > 1 { print ($2 != "" && $1 !~ /:/) ? $1 ":" $2 : $1 }'
end

set -l verbs boot check images import prune pull rmi run help
complete -c kiln -f
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a boot -d 'boot any kernel'
complete -c kiln -n "not __fish_seen_subcommand_from $verbs" -a check -d 'tell what this host can do'
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

complete -c kiln -n '__fish_seen_subcommand_from check' -l format -x -a 'table json' -d 'output format'
complete -c kiln -n '__fish_seen_subcommand_from import' -F
complete -c kiln -n '__fish_seen_subcommand_from rmi' -a '(__kiln_images)'
complete -c kiln -n '__fish_seen_subcommand_from pull' -a 'docker:// oci: docker-archive:'
