# bash completion for kiln(1)

_kiln_images() {
    kiln images 2>/dev/null | awk 'NR > 1 { print ($2 != "" && $1 !~ /:/) ? $1 ":" $2 : $1 }'
}

_kiln_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_kiln_run() {
    case $prev in
        --engine) _kiln_words "auto kvm bt interp"; return ;;
        --kernel | --env-file | --trace-start) _filedir; return ;;
        -v | --volume) _filedir -d; return ;;
        -u | --user) mapfile -t COMPREPLY < <(compgen -u -- "$cur"); return ;;
        -e | --env) mapfile -t COMPREPLY < <(compgen -e -- "$cur"); return ;;
        -w | --workdir | --entrypoint | -h | --hostname | --name | -m | --memory | --cpus | --timeout | --code-cache) return ;;
    esac
    if [[ $cur == -* ]]; then
        _kiln_words "-i --interactive -t --tty -e --env --env-file -w --workdir -u --user --entrypoint -h --hostname
            --name -m --memory --cpus --read-only -v --volume --engine --code-cache --stats --trace-start --perf-map --kernel --timeout --rm -q --quiet --help"
    else
        _kiln_words "$(_kiln_images)"
        __ltrim_colon_completions "$cur" 2>/dev/null
    fi
}

_kiln_boot() {
    case $prev in
        --engine) _kiln_words "auto kvm bt interp"; return ;;
        --console) _kiln_words "stdio none"; return ;;
        --kernel | --initrd | --disk | --vsock) _filedir; return ;;
        --cmdline | --cpus | -m | --memory | --timeout | --code-cache) return ;;
    esac
    _kiln_words "--kernel --initrd --cmdline --disk --share --cpus -m --memory --engine --code-cache --console --vsock --timeout --stats --perf-map --lockstep --help"
}

_kiln() {
    local cur prev words cword
    _init_completion -n : || return
    if ((cword == 1)); then
        _kiln_words "boot check images import prune pull rmi run help --help --version"
        return
    fi
    case ${words[1]} in
        run) _kiln_run ;;
        boot) _kiln_boot ;;
        check)
            [[ $prev == --format ]] && _kiln_words "table json" || _kiln_words "--format --help"
            ;;
        import) if [[ $cur == -* ]]; then _kiln_words "--help"; else _filedir; fi ;;
        rmi)
            _kiln_words "--help $(_kiln_images)"
            __ltrim_colon_completions "$cur" 2>/dev/null
            ;;
        pull) _kiln_words "docker:// oci: docker-archive: --help" ;;
        help) ((cword == 2)) && _kiln_words "boot check images import prune pull rmi run" ;;
        *) _kiln_words "--help" ;;
    esac
}

complete -F _kiln kiln
