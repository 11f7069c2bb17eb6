# bash completion for evtool(1). Generated from the declaration of the command line by `make generate`: do not edit.

# Offer those of the words given that begin with what was typed. Bash splits at ':' and '=': what stands before is cut.
_evtool_reply() {
    local word cut=''
    [[ $typed == *[:=]* ]] && cut=${typed%"${typed##*[:=]}"}
    for word; do
        [[ $word == "$typed"* ]] && COMPREPLY+=("${word#"$cut"}")
    done
    # Something has to follow upon these.
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=] ]] && compopt -o nospace 2>/dev/null
}

# Offer what there is of a kind. The words before tell which topics it is about.
_evtool_ask() {
    local offered
    mapfile -t offered < <(evtool __complete "$1" '' "${said[@]}" 2>/dev/null)
    _evtool_reply "${offered[@]}"
}

_evtool() {
    local current=${COMP_WORDS[COMP_CWORD]} before typed command='' options='' rest='' kind at
    local -a words places=() said=()
    COMPREPLY=()
    # The words as the program will see them, not as bash splits them.
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=('')
    typed=${words[-1]}
    before=${words[-2]:-}
    if (( ${#words[@]} == 2 )); then
        _evtool_reply append tail replay subscribe fanout mirror topics groups commit seek dead redrive rm create set trim verify repair compact state diff doctor --help --version
        return
    fi
    command=${words[1]}
    case $command in
        append) options='--text --key -k --key-from --type -t --source --id --id-from --attr --cloudevents --offsets --sync --expect-offset --atomic --rejects --timeout --null -0 --verbose -v --quiet -q --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        tail) options='--count -n --follow -f --timeout --key -k --type -t --where -w --jq --output -o --data -d --null -0 --color --quiet -q --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        replay) options='--from --until --count -n --follow -f --timeout --speed --max-gap --key -k --type -t --where -w --jq --output -o --data -d --null -0 --color --quiet -q --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        subscribe) options='--group -g --from --count -n --timeout --drain --key -k --type -t --where -w --jq --output -o --data -d --null -0 --color --jobs -j --batch --linger --worker --timeout-each --retries --backoff --share --lease --manual --verbose -v --quiet -q --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        fanout) options='--to --config --check --name --from --drain --key -k --type -t --where -w --jq --content --jobs -j --batch --linger --timeout-each --retries --backoff --verbose -v --quiet -q --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        mirror) options='--follow -f --from --name --json --color --verbose -v --quiet -q --store --creds --allow-nfs -h --help'; places=('' ''); rest=topics ;;
        topics) options='--json --color --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        groups) options='--json --color --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        commit) options='--group -g --verbose -v --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        seek) options='--group -g --to --dry-run --force --json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        dead) options='--group -g --all --json --color --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        redrive) options='--offset --all --group -g --dry-run --quiet -q --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        rm) options='--group -g --yes -y --dry-run --force --quiet -q --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        create) options='--json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(''); rest=settings ;;
        set) options='--json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(topics); rest=settings ;;
        trim) options='--before --yes -y --dry-run --json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        verify) options='--since-seal --json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        repair) options='--yes -y --dry-run --json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        compact) options='--before --grace --yes -y --dry-run --json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(); rest=topics ;;
        state) options='--at --key -k --output -o --data -d --null -0 --color --store --creds --allow-nfs -h --help'; places=(topics); rest='' ;;
        diff) options='--key -k --json --color --store --creds --allow-nfs -h --help'; places=(topics where where); rest='' ;;
        doctor) options='--json --color --quiet -q --store --creds --allow-nfs -h --help'; places=(); rest='' ;;
        *) return ;;
    esac
    for (( at = 2; at < ${#words[@]} - 1; at++ )); do
        if [[ ${words[at]} == -- && $command == subscribe ]]; then
            if (( at == ${#words[@]} - 2 )); then
                mapfile -t COMPREPLY < <(compgen -c -- "$current")
            else
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
            fi
            return
        fi
    done
    if [[ $typed == --*=* ]]; then
        before=${typed%%=*}
        typed=${typed#*=}
    fi
    for (( at = 2; at < ${#words[@]} - 1; at++ )); do
        [[ ${words[at]} == -* ]] || said+=("${words[at]}")
    done
    case "$command $before" in
        *' --attr'|*' --backoff'|*' --batch'|*' --count'|*' --expect-offset'|*' --grace'|*' --id'|*' --id-from'|*' --jobs'|*' --jq'|*' --key'|*' --key-from'|*' --lease'|*' --linger'|*' --max-gap'|*' --offset'|*' --retries'|*' --since-seal'|*' --source'|*' --speed'|*' --store'|*' --timeout'|*' --timeout-each'|*' --type'|*' --where'|*' -j'|*' -k'|*' -n'|*' -t'|*' -w') return ;;
        *' --sync') _evtool_reply always never; return ;;
        *' --config'|*' --creds'|*' --rejects') COMPREPLY=($(compgen -f -- "$current")); return ;;
        *' --output'|*' -o') _evtool_reply auto line data text pretty cloudevents; return ;;
        *' --color') _evtool_reply auto always never; return ;;
        *' --at'|*' --before'|*' --from'|*' --until'|seek' --to') _evtool_ask where; return ;;
        *' --group'|*' --name'|*' -g') _evtool_ask groups; return ;;
        fanout' --to') _evtool_ask sinks; return ;;
        *' --content') _evtool_reply json cloudevents; return ;;
    esac
    if [[ $typed == -* ]]; then
        # shellcheck disable=SC2086
        _evtool_reply $options
        return
    fi
    kind=$rest
    (( ${#said[@]} < ${#places[@]} )) && kind=${places[${#said[@]}]}
    [[ -n $kind ]] && _evtool_ask "$kind"
}

complete -F _evtool evtool
