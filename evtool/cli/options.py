"""The options that several commands share, each declared once: same letter, same meaning, same words everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.", show_default=False)]
Topics = Annotated[
    list[str],
    typer.Argument(
        metavar="TOPIC", help="Topics, or a glob such as 'orders.*'; several are merged by time.", show_default=False
    ),
]
SomeTopics = Annotated[
    list[str] | None,
    typer.Argument(metavar="TOPIC", help="Topics, or a glob; all if none is named.", show_default=False),
]
Key = Annotated[str | None, typer.Option("--key", "-k", metavar="KEY", help="Only events with this key.")]
Type = Annotated[str | None, typer.Option("--type", "-t", metavar="TYPE", help="Only events of this type.")]
Matching = Annotated[
    str | None,
    typer.Option("--where", "-w", metavar="EXPR", help="Only events for which this holds; see evtool-where(7)."),
]
Jq = Annotated[
    str | None,
    typer.Option("--jq", metavar="PROGRAM", help="Only events for which this jq program gives something true."),
]
Retries = Annotated[
    int, typer.Option("--retries", metavar="N", help="Try an event again so often before it is set aside.")
]
Backoff = Annotated[
    str,
    typer.Option(
        "--backoff",
        metavar="MIN..MAX",
        help="Wait at random before trying again: up to MIN, then up to twice as long each time, at most MAX.",
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", metavar="N", help="Handle N events at a time; those with the same key in order.")
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Give N events to one run of the command.")]
Linger = Annotated[
    str | None, typer.Option("--linger", metavar="DURATION", help="With --batch: wait so long for it to become full.")
]
TimeoutEach = Annotated[
    str | None,
    typer.Option("--timeout-each", metavar="DURATION", help="End a run, or a worker, that takes longer for an event."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Even while a process consumes for the group.")]
Group = Annotated[str | None, typer.Option("--group", "-g", metavar="GROUP", help="Only what is this group's.")]
Values = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME=VALUE", help="Settings, such as max-age=7d; NAME= brings the default back."),
]
Count = Annotated[int | None, typer.Option("--count", "-n", metavar="N", help="End after N events.")]
From = Annotated[str, typer.Option("--from", metavar="WHERE", help="Where to begin; see WHERE.")]
NewFrom = Annotated[
    str | None,
    typer.Option("--from", metavar="WHERE", help="Where a new group begins (latest if not said); see WHERE."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="WHERE", help="Where to end; the event there is not given out.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="At the end, wait for more.")]
Drain = Annotated[bool, typer.Option("--drain", help="End when everything there is has been handled.")]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="DURATION", help="End with exit code 124 when no event comes for so long."),
]
Output = Annotated[
    Literal["auto", "line", "data", "text", "pretty", "cloudevents"],
    typer.Option(
        "--output",
        "-o",
        metavar="FORMAT",
        help="line: as stored; data: the payload; text: the same, strings without quotes; pretty: for people; "
        "cloudevents: CloudEvents 1.0; auto: pretty on a terminal, else line.",
    ),
]
Data = Annotated[bool, typer.Option("--data", "-d", help="The same as --output data.")]
Null = Annotated[bool, typer.Option("--null", "-0", help="End each event with NUL instead of a newline.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on standard error but errors.")]
Color = Annotated[
    Literal["auto", "always", "never"],
    typer.Option("--color", metavar="WHEN", help="Colours: auto (on a terminal), always or never."),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="STORE", help="Where the topics are: a directory or nats://HOST; see evtool-nats(7)."
    ),
]
Creds = Annotated[
    str | None,
    typer.Option("--creds", metavar="FILE", help="Who we are for the NATS server: a credentials file."),
]
AllowNfs = Annotated[
    bool, typer.Option("--allow-nfs", help="Use a home on a network file system that one machine alone uses.")
]
