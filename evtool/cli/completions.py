"""Completion scripts for bash, zsh and fish, made of the declared commands. Values come from `evtool __complete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evtool.cli.generate import Command, Parameter

_HEADER = "Generated from the declaration of the command line by `make generate`: do not edit."
# What `evtool __complete` is asked for where the help calls a value so.
_ASKED = {"TOPIC": "topics", "GROUP": "groups", "WHERE": "where", "SINK": "sinks", "NAME=VALUE": "settings"}
_FILE = "FILE"
_MAKE_TOPICS = ("create",)  # a topic that is there already is none for these
_HELP = "Show what the command does and takes."


def scripts(commands: list[Command]) -> dict[str, str]:
    """The text of each script by its file name."""
    return {"evtool.bash": bash(commands), "_evtool": zsh(commands), "evtool.fish": fish(commands)}


def _choices(option: Parameter) -> tuple[str, ...]:
    return option.kind if isinstance(option.kind, tuple) else ()


def _takes_value(option: Parameter) -> bool:
    return option.kind != "flag"


def _places(command: Command) -> list[str]:
    """What is asked for at the place of each argument; empty where only the user knows."""
    asked = [_ASKED.get(one.metavar, "") for one in command.arguments]
    return ["" if one == "topics" and command.name in _MAKE_TOPICS else one for one in asked]


def _summary(text: str) -> str:
    """The first sentence of a help text."""
    return text.partition("\n\n")[0].replace("\n", " ").rstrip(".")


# bash


def bash(commands: list[Command]) -> str:
    """The script for bash 4.2 and later; needs nothing of the bash-completion package."""
    names = " ".join(command.name for command in commands)
    options = "\n".join(
        f"        {command.name}) options='{' '.join(flag for one in command.options for flag in one.flags)}"
        f" -h --help'; {_bash_places(command)} ;;"
        for command in commands
    )
    values = "\n".join(
        f"        {'|'.join(sorted(places))}) {action} ;;" for action, places in _bash_values(commands).items()
    )
    return _BASH.format(header=_HEADER, names=names, options=options, values=values)


def _bash_places(command: Command) -> str:
    """What is asked for at each place for a word that is no option, and at all places behind those."""
    places = _places(command)
    rest = places.pop() if command.arguments and command.arguments[-1].many else ""
    nothing = "''"
    return f"places=({' '.join(one or nothing for one in places)}); rest={rest or nothing}"


def _bash_values(commands: list[Command]) -> dict[str, list[str]]:
    """What completes the value of an option, and the patterns of command and flag for which it does so."""
    actions: dict[str, dict[str, list[str]]] = {}
    for command in commands:
        for option in filter(_takes_value, command.options):
            for flag in option.flags:
                actions.setdefault(flag, {}).setdefault(_bash_action(option), []).append(command.name)
    patterns: dict[str, list[str]] = {}
    for flag, by_action in actions.items():
        for action, names in by_action.items():
            whose = ["*"] if len(by_action) == 1 else names
            patterns.setdefault(action, []).extend(f"{name}' {flag}'" for name in whose)
    return patterns


def _bash_action(option: Parameter) -> str:
    if choices := _choices(option):
        return f"_evtool_reply {' '.join(choices)}; return"
    if option.metavar in _ASKED:
        return f"_evtool_ask {_ASKED[option.metavar]}; return"
    return 'COMPREPLY=($(compgen -f -- "$current")); return' if option.metavar == _FILE else "return"


_BASH = """\
# bash completion for evtool(1). {header}

# Offer those of the words given that begin with what was typed. Bash splits at ':' and '=': what stands before is cut.
_evtool_reply() {{
    local word cut=''
    [[ $typed == *[:=]* ]] && cut=${{typed%"${{typed##*[:=]}}"}}
    for word; do
        [[ $word == "$typed"* ]] && COMPREPLY+=("${{word#"$cut"}}")
    done
    # Something has to follow upon these.
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *[:=] ]] && compopt -o nospace 2>/dev/null
}}

# Offer what there is of a kind. The words before tell which topics it is about.
_evtool_ask() {{
    local offered
    mapfile -t offered < <(evtool __complete "$1" '' "${{said[@]}}" 2>/dev/null)
    _evtool_reply "${{offered[@]}}"
}}

_evtool() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before typed command='' options='' rest='' kind at
    local -a words places=() said=()
    COMPREPLY=()
    # The words as the program will see them, not as bash splits them.
    read -ra words <<< "${{COMP_LINE:0:COMP_POINT}}"
    [[ ${{COMP_LINE:0:COMP_POINT}} == *[[:space:]] ]] && words+=('')
    typed=${{words[-1]}}
    before=${{words[-2]:-}}
    if (( ${{#words[@]}} == 2 )); then
        _evtool_reply {names} --help --version
        return
    fi
    command=${{words[1]}}
    case $command in
{options}
        *) return ;;
    esac
    for (( at = 2; at < ${{#words[@]}} - 1; at++ )); do
        if [[ ${{words[at]}} == -- && $command == subscribe ]]; then
            if (( at == ${{#words[@]}} - 2 )); then
                mapfile -t COMPREPLY < <(compgen -c -- "$current")
            else
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
            fi
            return
        fi
    done
    if [[ $typed == --*=* ]]; then
        before=${{typed%%=*}}
        typed=${{typed#*=}}
    fi
    for (( at = 2; at < ${{#words[@]}} - 1; at++ )); do
        [[ ${{words[at]}} == -* ]] || said+=("${{words[at]}}")
    done
    case "$command $before" in
{values}
    esac
    if [[ $typed == -* ]]; then
        # shellcheck disable=SC2086
        _evtool_reply $options
        return
    fi
    kind=$rest
    (( ${{#said[@]}} < ${{#places[@]}} )) && kind=${{places[${{#said[@]}}]}}
    [[ -n $kind ]] && _evtool_ask "$kind"
}}

complete -F _evtool evtool
"""


# zsh


def zsh(commands: list[Command]) -> str:
    """The script for zsh."""
    described = "\n".join(f"    '{command.name}:{_zsh_text(_summary(command.help))}'" for command in commands)
    cases = "\n".join(_zsh_case(command) for command in commands)
    return _ZSH.format(header=_HEADER, described=described, cases=cases)


def _zsh_case(command: Command) -> str:
    rows = [_zsh_option(option) for option in command.options]
    rows.append(f"'(-h --help)'{{-h,--help}}'[{_zsh_text(_HELP)}]'")
    places = zip(command.arguments, _places(command), strict=True)
    rows += [_zsh_argument(at, argument, asked) for at, (argument, asked) in enumerate(places, 1)]
    if command.runs_handler:
        rows.append("'*:::command:_normal'" if not command.arguments[0].many else "'(-)--:*:::command:_normal'")
    body = " \\\n            ".join(rows)
    return f"        {command.name})\n            _arguments -s -S \\\n            {body}\n            ;;"


def _zsh_option(option: Parameter) -> str:
    value = ""
    if _takes_value(option):
        value = f":{_zsh_text(option.metavar or option.name)}:{_zsh_action(option)}"
    help_text = f"[{_zsh_text(_summary(option.help))}]"
    again = "*" if option.many else ""
    if len(option.flags) == 1:
        equals = "=" if value else ""
        return f"'{again}{option.flags[0]}{equals}{help_text}{value}'"
    exclusive = "" if option.many else f"({' '.join(option.flags)})"
    return f"'{exclusive}{again}'{{{','.join(option.flags)}}}'{help_text}{value}'"


def _zsh_argument(at: int, argument: Parameter, asked: str) -> str:
    place = "*" if argument.many else str(at)
    return f"'{place}:{argument.name}:{f'_evtool_ask {asked}' if asked else ''}'"


def _zsh_action(option: Parameter) -> str:
    if choices := _choices(option):
        return f"({' '.join(choices)})"
    if option.metavar in _ASKED:
        return f"_evtool_ask {_ASKED[option.metavar]}"
    return "_files" if option.metavar == _FILE else ""


def _zsh_text(text: str) -> str:
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


_ZSH = """\
#compdef evtool
# zsh completion for evtool(1). {header}

# The last argument says what to ask for; before it stand options for compadd, which _arguments puts there.
# The words before tell which topics it is about. Something has to follow upon those that end with ':' or '='.
_evtool_ask() {{
    local -a said offered begun
    local added=1
    said=(${{(Q)words[2,CURRENT-1]}})
    offered=(${{(f)"$(evtool __complete ${{@[-1]}} '' ${{said:#-*}} 2>/dev/null)"}})
    begun=(${{(M)offered:#*[:=]}})
    offered=(${{offered:#*[:=]}})
    compadd "${{@[1,-2]}}" -a offered && added=0
    compadd "${{@[1,-2]}}" -S '' -a begun && added=0
    return added
}}

_evtool() {{
    local -a commands
    commands=(
{described}
    )
    if (( CURRENT == 2 )); then
        _describe -t commands 'command' commands
        _arguments '(-h --help)'{{-h,--help}}'[{help}]' '(-V --version)'{{-V,--version}}'[Show the version and exit]'
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}

_evtool "$@"
""".replace("{help}", _HELP.rstrip("."))


# fish

_FISH_ASK = (
    "# Offer what there is of a kind. The words before tell which topics it is about.",
    "function _evtool_ask",
    "    set -l said (commandline -opc)",
    "    set -e said[1..2]",
    "    evtool __complete $argv (string match -v -- '-*' '' $said) 2>/dev/null",
    "end",
)


def fish(commands: list[Command]) -> str:
    """The script for fish 3.1 and later."""
    rows = [f"# fish completion for evtool(1). {_HEADER}", "", *_FISH_ASK, "", "complete -c evtool -f"]
    first = "complete -c evtool -n __fish_use_subcommand"
    rows.append(f"{first} -s V -l version -d 'Show the version and exit'")
    rows += [f"{first} -a {command.name} -d {_fish_text(_summary(command.help))}" for command in commands]
    rows.append(f"complete -c evtool -s h -l help -d {_fish_text(_HELP.rstrip('.'))}")
    for command in commands:
        here = f"complete -c evtool -n '__fish_seen_subcommand_from {command.name}'"
        rows.append("")
        rows += [f"{here} {_fish_option(option)}" for option in command.options]
        rows += [f"{here} -a {_fish_asked(kind)}" for kind in dict.fromkeys(filter(None, _places(command)))]
    return "\n".join([*rows, ""])


def _fish_option(option: Parameter) -> str:
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    value: list[str] = []
    if choices := _choices(option):
        value = [f"-xa '{' '.join(choices)}'"]
    elif option.metavar in _ASKED:
        value = [f"-xa {_fish_asked(_ASKED[option.metavar])}"]
    elif option.metavar == _FILE:
        value = ["-rF"]
    elif _takes_value(option):
        value = ["-x"]
    return " ".join([*flags, *value, "-d", _fish_text(_summary(option.help))])


def _fish_asked(kind: str) -> str:
    return f"'(_evtool_ask {kind})'"


def _fish_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
