# bash completion for kiln(1): the program knows its words. See cmd/complete.h.

_kiln() {
    local cur prev words cword line rest= head=
    _init_completion -n =: || return
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :* ]]; then
            rest=$line
        else
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done < <("${words[0]}" __complete "${words[@]:1:cword}" 2>/dev/null)
    # What stands in front of the last = or : is not replaced, if bash takes them for breaks.
    if [[ $cur == *[=:]* && $COMP_WORDBREAKS == *[=:]* ]]; then
        head=${cur%"${cur##*[=:]}"}
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
    [[ $rest == *nospace* ]] && compopt -o nospace
    [[ $cur == --*=* ]] && cur=${cur#*=}
    [[ $rest == *files* ]] && _filedir
    [[ $rest == *dirs* ]] && _filedir -d
    return 0
}

complete -F _kiln kiln
