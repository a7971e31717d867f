# Ends everything that one session started and removes its folder, once the program that owns the session is gone.
#
# $1: the folder of the session. Standard input: a pipe whose other end only the owner holds; it ends when the owner
# ends, however that happens. POSIX sh, because it must outlive the program that started it; builtins where possible.
#
# `processes` in the folder has one line for each start, fields parted by tabs:
#   process  <pid, which is its process group too>  <start time>  <signal that ends it>  <name>
#   strays   <program>  <folder>        its children leave the process group: known by program and working folder
set -u
trap '' HUP INT TERM PIPE
dir=$1
tab=$(printf '\t')

# Sets `start` to the start time of a live process; fails when it is gone or only waits to be collected.
look() {
    start=
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${line##*) }
    [ "$1" != Z ] || return 1
    start=${20}
}

has_members() {
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        set -- "$1" ${line##*) }
        [ "$2" = Z ] || [ "$4" != "$1" ] || return 0
    done
    return 1
}

# Calls `$1 <group> <signal>` for each recorded group that still has live members.
each_group() {
    [ -r "$dir/processes" ] || return 0
    while IFS=$tab read -r kind pid born signal _; do
        [ "$kind" = process ] || continue
        kill -s 0 -- "-$pid" 2>/dev/null || continue
        if look "$pid"; then
            # The id belongs to another process now: ours is long gone.
            [ "$start" = "$born" ] || continue
        else
            has_members "$pid" || continue
        fi
        "$1" "$pid" "$signal"
    done <"$dir/processes"
}

# What is stopped takes no other signal than KILL, so it is continued as well.
end() {
    kill -s "$2" -- "-$1" 2>/dev/null
    kill -s CONT -- "-$1" 2>/dev/null
}
force() { kill -s KILL -- "-$1" 2>/dev/null; }
note() { left=yes; }

# Fails when there was none left.
end_strays() {
    left=
    [ -r "$dir/processes" ] || return 1
    while IFS=$tab read -r kind program folder _; do
        [ "$kind" = strays ] || continue
        for process in /proc/[0-9]*; do
            [ "$process/cwd" -ef "$folder" ] && [ "$process/exe" -ef "$program" ] || continue
            kill -s KILL "${process#/proc/}" 2>/dev/null && left=yes
        done
    done <"$dir/processes"
    [ -n "$left" ]
}

# Repeats a command until it fails, for two seconds.
while_true() {
    looks=100
    while "$@"; do
        looks=$((looks - 1))
        [ "$looks" -gt 0 ] || return 1
        sleep 0.02
    done
}

groups_left() {
    left=
    each_group note
    [ -n "$left" ]
}

while read -r _; do :; done

each_group end
while_true groups_left || {
    each_group force
    while_true groups_left
}
while_true end_strays

if [ -e "$dir/keep" ]; then
    : >"$dir/ended"
    exit 0
fi
# A process that has just been killed may still be writing: again, until nothing is left.
tries=0
while [ -d "$dir" ] && [ "$tries" -lt 50 ]; do
    rm -rf -- "$dir" 2>/dev/null
    [ -d "$dir" ] || break
    tries=$((tries + 1))
    sleep 0.05
done
[ ! -d "$dir" ]
