# fish completion for kiln(1): the program knows its words. See cmd/complete.h.

function __kiln_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -l current (commandline -ct)
    set -e words[1]
    for line in (command $program __complete $words "$current" 2>/dev/null)
        if not string match -q ':*' -- $line
            echo $line
            continue
        end
        set -l path (string replace -r '^--[^=]*=' '' -- $current)
        string match -q '*files*' -- $line; and __fish_complete_path $path
        string match -q '*dirs*' -- $line; and __fish_complete_directories $path
    end
end

complete -c kiln -f -a '(__kiln_complete)'
