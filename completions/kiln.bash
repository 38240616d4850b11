# bash completion for kiln(1)

_kiln_images() {
    kiln images 2>/dev/null | awk 'NR > 1 { print ($2 != "" && $1 !~ /:/) ? $1 ":" $2 : $1 }'
}

_kiln_machines() {
    kiln ps 2>/dev/null | awk 'NR > 1 { print $1; if ($2 != "kvm" && $2 != "bt" && $2 != "interp") print $2 }'
}

_kiln_snapshots() {
    kiln snapshot ls 2>/dev/null | awk 'NR > 1 { print $1 }'
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
            --name -m --memory --cpus --read-only -v --volume --engine --code-cache --stats --trace-start --no-template --perf-map --kernel --timeout --rm -q --quiet --help"
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
        --cmdline | --name | --cpus | -m | --memory | --timeout | --code-cache) return ;;
    esac
    _kiln_words "--kernel --initrd --cmdline --disk --share --cpus -m --memory --engine --code-cache --console --vsock --name --timeout --stats --perf-map --lockstep --help"
}

_kiln_snapshot() {
    if ((cword == 2)); then
        _kiln_words "create ls inspect verify rm --help"
        return
    fi
    case $prev in
        --diff-of) _kiln_words "$(_kiln_snapshots)"; return ;;
        --format) _kiln_words "json"; return ;;
    esac
    case ${words[2]} in
        create) _kiln_words "--diff-of --compress --stop --quiet $(_kiln_machines)" ;;
        ls) _kiln_words "--format" ;;
        inspect | verify | rm) _kiln_words "$(_kiln_snapshots)" ;;
    esac
}

_kiln_restore() {
    case $prev in
        --engine) _kiln_words "auto kvm bt interp"; return ;;
        --console) _kiln_words "stdio none"; return ;;
        --vsock | --disk) _filedir; return ;;
        --name | --timeout) return ;;
    esac
    _kiln_words "--name -d --detach --engine --lazy --verify --disk --console --vsock --timeout --stats --help $(_kiln_snapshots)"
}

_kiln() {
    local cur prev words cword
    _init_completion -n : || return
    if ((cword == 1)); then
        _kiln_words "boot check fork images import prune ps pull restore rmi run snapshot stop template help --help --version"
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
        help) ((cword == 2)) && _kiln_words "boot check fork images import prune ps pull restore rmi run snapshot stop template" ;;
        snapshot) _kiln_snapshot ;;
        template)
            if ((cword == 2)); then
                _kiln_words "ls rm make --help"
            elif [[ ${words[2]} == rm ]]; then
                _kiln_words "$(kiln template ls 2>/dev/null | awk 'NR > 1 { print $1 }')"
            else
                _kiln_words "--memory --cpus --kernel --engine --volumes"
            fi
            ;;
        restore) _kiln_restore ;;
        fork) _kiln_words "-n --count --name-prefix --format --help $(_kiln_machines)" ;;
        stop) _kiln_words "--help $(_kiln_machines)" ;;
        ps) _kiln_words "-q --quiet --format --help" ;;
        *) _kiln_words "--help" ;;
    esac
}

complete -F _kiln kiln
