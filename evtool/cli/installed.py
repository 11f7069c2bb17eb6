"""Whether the user's shell finds our completions, and `man` our pages; nothing is started to find out."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from evtool.stores.finding import ADVICE, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CLONE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # if it is one
_COMMON = "/usr/local/share:/usr/share"
_INSTALL = "pip install --user evtool"


class Shell:
    """Where a shell looks, and how it is told to look elsewhere.

    script: our completions in a clone; place: the same in a directory of shared files. is_personal: whether such a
    directory of the user's own is looked into. start_files: where the user may have told it, below the home directory;
    in the first of them, `line` tells it.
    """

    def __init__(self, script: str, place: str, *, is_personal: bool, start_files: tuple[str, ...], line: str) -> None:
        self.script = script
        self.place = place
        self.is_personal = is_personal
        self.start_files = start_files
        self.line = line


_SHELLS = {
    "bash": Shell(
        "completions/evtool.bash",
        "bash-completion/completions/evtool",
        is_personal=True,
        start_files=(".bashrc", ".bash_profile", ".bash_completion"),
        line=". {path}",
    ),
    "zsh": Shell(
        "completions/_evtool",
        "zsh/site-functions/_evtool",
        is_personal=False,
        start_files=(".zshrc", ".zshenv"),
        line="fpath+=({directory}); autoload -Uz compinit && compinit  # evtool",
    ),
    "fish": Shell(
        "completions/evtool.fish",
        "fish/vendor_completions.d/evtool.fish",
        is_personal=True,
        start_files=(".config/fish/config.fish", ".config/fish/completions/evtool.fish"),
        line="source {path}",
    ),
}


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What is not found by whoever has this environment; nothing if not even evtool is."""
    if shutil.which("evtool", path=environ.get("PATH")) is None:  # `python -m evtool`, from a clone
        return
    name = os.path.basename(environ.get("SHELL", ""))
    if name in _SHELLS and not _is_completed(_SHELLS[name], environ):
        yield Finding(ADVICE, f"completions for {name}", "are not where it looks for them", _loading(_SHELLS[name]))
    if shutil.which("man", path=environ.get("PATH")) is not None and not _has_pages(environ):
        page = _ours("man/man1/evtool.1", "man/evtool.1")
        yield Finding(ADVICE, "man pages", "are not where man looks for them", f"man {page}" if page else _INSTALL)


def _is_completed(shell: Shell, environ: Mapping[str, str]) -> bool:
    """Whether there are completions where the shell looks, or a start file of the user's speaks of evtool."""
    shares = (environ.get("XDG_DATA_DIRS") or _COMMON).split(":") + _COMMON.split(":")
    home = environ.get("HOME", "")
    if shell.is_personal:
        shares.append(environ.get("XDG_DATA_HOME") or f"{home}/.local/share")
    there = any(os.path.exists(f"{share}/{shell.place}") for share in shares)
    return there or any(_speaks_of_us(f"{home}/{name}") for name in shell.start_files)


def _speaks_of_us(path: str) -> bool:
    try:
        with open(path, errors="replace") as file:
            return "evtool" in file.read()
    except OSError:
        return False


def _has_pages(environ: Mapping[str, str]) -> bool:
    """Whether `man` finds our pages: where it is told to look or, by default, beside the directories of programs."""
    places = environ.get("MANPATH", "").split(":")
    if "" in places:  # the default ones too
        above = [os.path.dirname(one.rstrip("/")) for one in environ.get("PATH", "").split(":") if one]
        places += [f"{one}/{man}" for one in (*above, "/usr", "/usr/local") for man in ("share/man", "man")]
    return any(os.path.exists(f"{place}/man1/evtool.1{suffix}") for place in places for suffix in ("", ".gz"))


def _loading(shell: Shell) -> str:
    """The command that tells the shell where our completions are, from its next start on."""
    path = _ours(shell.place, shell.script)
    if not path:
        return _INSTALL
    line = shell.line.format(path=path, directory=os.path.dirname(path))
    return f"echo {shlex.quote(line)} >> ~/{shell.start_files[0]}"


def _ours(place: str, in_clone: str) -> str:
    """The path, for a shell, of a file that was installed with this program or is in the clone; empty if none."""
    for path in (f"{sys.prefix}/share/{place}", f"{_CLONE}/{in_clone}"):
        if os.path.exists(path):
            return shlex.quote(path)
    return ""
