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
AllowNfs = Annotated[
    bool, typer.Option("--allow-nfs", help="Use a home on a network file system that one machine alone uses.")
]
