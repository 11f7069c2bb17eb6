"""Completion scripts for bash, zsh and fish, made of the declared commands. Values come from `evtool __complete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evtool.cli.generate import Command, Parameter

_HEADER = "Generated from the declaration of the command line by `make generate`: do not edit."
_DYNAMIC = {
    "topic": "topics", "topics": "topics", "group": "groups", "to": "sinks", "values": "settings",
    "from_": "where", "until": "where", "at": "where", "before": "where", "after": "where",
}  # fmt: skip
_FILES = frozenset(("rejects",))
_HELP = "Show what the command does and takes."


def scripts(commands: list[Command]) -> dict[str, str]:
    """The text of each script by its file name."""
    return {"evtool.bash": bash(commands), "_evtool": zsh(commands), "evtool.fish": fish(commands)}


def _choices(option: Parameter) -> tuple[str, ...]:
    return option.kind if isinstance(option.kind, tuple) else ()


def _takes_value(option: Parameter) -> bool:
    return option.kind != "flag"


def _summary(text: str) -> str:
    """The first sentence of a help text."""
    return text.partition("\n\n")[0].replace("\n", " ").rstrip(".")


# bash


def bash(commands: list[Command]) -> str:
    """The script for bash 4.2 and later; needs nothing of the bash-completion package."""
    names = " ".join(command.name for command in commands)
    options = "\n".join(
        f"        {command.name}) options='{' '.join(flag for one in command.options for flag in one.flags)}"
        f" -h --help'; topics={_topic_places(command)}; then={_then(command)} ;;"
        for command in commands
    )
    values = "\n".join(
        f"        {'|'.join(sorted(flags))}) {action} ;;" for action, flags in _bash_values(commands).items()
    )
    return _BASH.format(header=_HEADER, names=names, options=options, values=values)


def _topic_places(command: Command) -> int:
    """How many of the words of a command are topics; 99 for any number."""
    if not command.arguments:
        return 0
    return 99 if command.arguments[0].many else 1


def _then(command: Command) -> str:
    """What the words behind the topic are; nothing if there are none."""
    return next((_DYNAMIC[one.name] for one in command.arguments[1:] if one.name in _DYNAMIC), "''")


def _bash_values(commands: list[Command]) -> dict[str, set[str]]:
    """What completes the value of an option, and the flags of the options that it does so for."""
    actions: dict[str, set[str]] = {}
    for command in commands:
        for option in filter(_takes_value, command.options):
            actions.setdefault(_bash_action(option), set()).update(option.flags)
    taken = {flag for action, flags in actions.items() if action != "return" for flag in flags}
    actions["return"] = actions.get("return", set()) - taken
    return actions


def _bash_action(option: Parameter) -> str:
    if choices := _choices(option):
        return f"_evtool_reply {' '.join(choices)}; return"
    if option.name in _DYNAMIC:
        return f"_evtool_ask {_DYNAMIC[option.name]}; return"
    return 'COMPREPLY=($(compgen -f -- "$current")); return' if option.name in _FILES else "return"


_BASH = """\
# bash completion for evtool(1). {header}

# Offer those of the words given that begin with what was typed. Bash splits at ':' and '=': what stands before is cut.
_evtool_reply() {{
    local word cut=''
    [[ $typed == *[:=]* ]] && cut=${{typed%"${{typed##*[:=]}}"}}
    for word; do
        [[ $word == "$typed"* ]] && COMPREPLY+=("${{word#"$cut"}}")
    done
}}

_evtool_ask() {{
    local words
    mapfile -t words < <(evtool __complete "$1" 2>/dev/null)
    _evtool_reply "${{words[@]}}"
}}

_evtool() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before typed command='' options='' topics=0 then='' places=0 at
    local -a words
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
    case $before in
{values}
    esac
    if [[ $typed == -* ]]; then
        # shellcheck disable=SC2086
        _evtool_reply $options
        return
    fi
    for (( at = 2; at < ${{#words[@]}} - 1; at++ )); do
        [[ ${{words[at]}} == -* ]] || (( places++ ))
    done
    if (( places < topics )); then
        _evtool_ask topics
    elif [[ -n $then ]]; then
        _evtool_ask "$then"
    fi
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
    rows += [_zsh_argument(at, argument) for at, argument in enumerate(command.arguments, 1)]
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


def _zsh_argument(at: int, argument: Parameter) -> str:
    place = "*" if argument.many else str(at)
    action = f"_evtool_ask {_DYNAMIC[argument.name]}" if argument.name in _DYNAMIC else ""
    return f"'{place}:{argument.name}:{action}'"


def _zsh_action(option: Parameter) -> str:
    if choices := _choices(option):
        return f"({' '.join(choices)})"
    if option.name in _DYNAMIC:
        return f"_evtool_ask {_DYNAMIC[option.name]}"
    return "_files" if option.name in _FILES else ""


def _zsh_text(text: str) -> str:
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


_ZSH = """\
#compdef evtool
# zsh completion for evtool(1). {header}

# The last argument says what to ask for; before it stand options for compadd, which _arguments puts there.
_evtool_ask() {{
    local -a offered
    offered=(${{(f)"$(evtool __complete ${{@[-1]}} 2>/dev/null)"}})
    compadd "${{@[1,-2]}}" -a offered
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


def fish(commands: list[Command]) -> str:
    """The script for fish 3.1 and later."""
    rows = [f"# fish completion for evtool(1). {_HEADER}", "", "complete -c evtool -f"]
    first = "complete -c evtool -n __fish_use_subcommand"
    rows.append(f"{first} -s V -l version -d 'Show the version and exit'")
    rows += [f"{first} -a {command.name} -d {_fish_text(_summary(command.help))}" for command in commands]
    rows.append(f"complete -c evtool -s h -l help -d {_fish_text(_HELP.rstrip('.'))}")
    for command in commands:
        here = f"complete -c evtool -n '__fish_seen_subcommand_from {command.name}'"
        rows.append("")
        rows += [f"{here} {_fish_option(option)}" for option in command.options]
        rows += [
            f"{here} -a '(evtool __complete {_DYNAMIC[argument.name]} 2>/dev/null)'"
            for argument in command.arguments
            if argument.name in _DYNAMIC
        ]
    return "\n".join([*rows, ""])


def _fish_option(option: Parameter) -> str:
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    value: list[str] = []
    if choices := _choices(option):
        value = [f"-xa '{' '.join(choices)}'"]
    elif option.name in _DYNAMIC:
        value = [f"-xa '(evtool __complete {_DYNAMIC[option.name]} 2>/dev/null)'"]
    elif option.name in _FILES:
        value = ["-rF"]
    elif _takes_value(option):
        value = ["-x"]
    return " ".join([*flags, *value, "-d", _fish_text(_summary(option.help))])


def _fish_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
