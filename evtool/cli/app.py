"""The declaration of the command line, in Typer. It answers help and everything unusual.

The table that `argv` reads, the completions and the OPTIONS of the man pages are generated from it (`make generate`).
A command's body says only that it runs: `border.run` does that, for both ways in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from evtool.cli import border
from evtool.cli import options as o
from evtool.cli._table import COMMANDS
from evtool.cli.argv import Args
from evtool.stores.naming import nearest

app = typer.Typer(
    name="evtool",
    help="Events for the shell: an append-only log of JSON lines, with consumers, and no server.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: list[str], handler: list[str] | None) -> int:
    """Answer a command line and return the exit code. `handler` is what stood behind `--`, if the command runs that."""
    try:
        code = app(args=argv, prog_name="evtool", standalone_mode=False, obj=handler)
    except typer.TyperException as error:
        return _explain(error, argv)
    except typer.Abort:
        return 1
    except SystemExit:  # all that Typer still ends by itself: nobody reads the help
        return 128 + border.SIGPIPE
    except OSError as error:  # of the help, too: a command's own errors end in `border.run`
        return border.output_failed(error)
    return code if isinstance(code, int) else 0


def _explain(error: typer.TyperException, argv: list[str]) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".").replace("\n", " ").replace("Value error, ", "")
    if not argv:
        border.say(f"{context.get_help() if context else message}\n")
    elif argv[0] in COMMANDS:
        is_place = message[-2:-1] == "-" and message[-1:].isdigit()  # -5, for five before the end, looks like an option
        hint = f"say -- before it, or see evtool {argv[0]} --help" if is_place else f"see evtool {argv[0]} --help"
        border.complain(argv[0], message[:1].lower() + message[1:], hint)
    elif argv[0].startswith("-"):
        is_ours = argv[0].partition("=")[0] in ("--store", "--creds")
        hint = "it stands behind the command: evtool COMMAND --store STORE" if is_ours else "see evtool --help"
        border.complain("usage", message[:1].lower() + message[1:], hint)
    else:
        border.complain(argv[0], "no such command", nearest(argv[0], list(COMMANDS)) or "see evtool --help")
    return error.exit_code


def _run(context: typer.Context) -> int:
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in context.params.items()}
    return border.run(Args(context.info_name or "", values, context.obj))


def _print_version(asked: bool) -> None:
    if asked:
        from evtool import __version__

        typer.echo(f"evtool {__version__}")
        raise typer.Exit


@app.callback()
def evtool(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Events for the shell: an append-only log of JSON lines, with consumers, and no server."""


@app.command()
def append(
    context: typer.Context,
    topic: o.Topic,
    events: Annotated[
        list[str] | None,
        typer.Argument(metavar="EVENT", help="Events as JSON; none, or -, reads them from standard input, one a line."),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Events are lines of text, not JSON.")] = False,
    key: Annotated[str | None, typer.Option("--key", "-k", metavar="KEY", help="What the events are about.")] = None,
    key_from: Annotated[
        str | None, typer.Option("--key-from", metavar="PATH", help="Take the key from each event, as in .user.id.")
    ] = None,
    type: Annotated[str | None, typer.Option("--type", "-t", metavar="TYPE", help="The type of the events.")] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Who produces the events.")] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Store the event once: not if its id is already there.")
    ] = None,
    id_from: Annotated[
        str | None, typer.Option("--id-from", metavar="PATH", help="Take the id from each event, as in .order.id.")
    ] = None,
    attr: Annotated[
        list[str] | None, typer.Option("--attr", metavar="NAME=TEXT", help="Another attribute; may be repeated.")
    ] = None,
    cloudevents: Annotated[
        bool, typer.Option("--cloudevents", help="Events are CloudEvents 1.0; take attributes and data from them.")
    ] = False,
    offsets: Annotated[bool, typer.Option("--offsets", help="Print the offset of each event once it is safe.")] = False,
    sync: Annotated[
        Literal["always", "never"],
        typer.Option(
            "--sync", metavar="WHEN", help="always: on disk before it is acknowledged; never: when the system likes."
        ),
    ] = "always",
    expect_offset: Annotated[
        int | None,
        typer.Option("--expect-offset", metavar="N", help="Store only if N is the next offset, else exit with 4."),
    ] = None,
    atomic: Annotated[bool, typer.Option("--atomic", help="Store all events of a finite input, or none.")] = False,
    rejects: Annotated[
        str | None, typer.Option("--rejects", metavar="FILE", help="Append the lines that are refused to this file.")
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="DURATION", help="Wait at most so long for the topic's lock, then exit with 75."
        ),
    ] = None,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Events in the input end with NUL, not a newline.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say how many events were stored, and where.")
    ] = False,
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Append events to a topic.

    The topic is created if it is missing. Silent when all went well.
    """
    return _run(context)


@app.command()
def tail(
    context: typer.Context,
    topics: o.Topics,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", help="How many events.")] = 10,
    follow: o.Follow = False,
    timeout: o.Timeout = None,
    key: o.Key = None,
    type: o.Type = None,
    where: o.Matching = None,
    jq: o.Jq = None,
    output: o.Output = "auto",
    data: o.Data = False,
    null: o.Null = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Show the last events, then those that come."""
    return _run(context)


@app.command()
def replay(
    context: typer.Context,
    topics: o.Topics,
    from_: o.From = "earliest",
    until: o.Until = None,
    count: o.Count = None,
    follow: o.Follow = False,
    timeout: o.Timeout = None,
    speed: Annotated[
        str | None,
        typer.Option("--speed", metavar="FACTOR", help="At the pace the events came in, times this: 1x, 10x, 0.5x."),
    ] = None,
    max_gap: Annotated[
        str | None, typer.Option("--max-gap", metavar="DURATION", help="With --speed: never wait longer than this.")
    ] = None,
    key: o.Key = None,
    type: o.Type = None,
    where: o.Matching = None,
    jq: o.Jq = None,
    output: o.Output = "auto",
    data: o.Data = False,
    null: o.Null = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Give out a topic's events again, from any point on."""
    return _run(context)


@app.command(
    options_metavar="[OPTIONS]",
    epilog="After --: a command that is run for each event, which it gets on standard input.",
)
def subscribe(
    context: typer.Context,
    topics: o.Topics,
    group: Annotated[
        str | None,
        typer.Option("--group", "-g", metavar="GROUP", help="Consume as this group: go on where it left off."),
    ] = None,
    from_: o.NewFrom = None,
    count: o.Count = None,
    timeout: o.Timeout = None,
    drain: o.Drain = False,
    key: o.Key = None,
    type: o.Type = None,
    where: o.Matching = None,
    jq: o.Jq = None,
    output: o.Output = "auto",
    data: o.Data = False,
    null: o.Null = False,
    color: o.Color = "auto",
    jobs: o.Jobs = 1,
    batch: o.Batch = 1,
    linger: o.Linger = None,
    worker: Annotated[
        bool,
        typer.Option("--worker", help="Start the command once: it gets events a line each, and answers with offsets."),
    ] = False,
    timeout_each: o.TimeoutEach = None,
    retries: o.Retries = 5,
    backoff: o.Backoff = "1s..1m",
    share: Annotated[
        bool, typer.Option("--share", help="Share the group's events with other processes that say so too.")
    ] = False,
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease", metavar="DURATION", help="With --share: how long events stay ours without a sign (30s)."
        ),
    ] = None,
    manual: Annotated[
        bool, typer.Option("--manual", help="Commit nothing: evtool commit does, at the far end of the pipe.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say at the end how far the group got.")] = False,
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Give out what comes from now on.

    As a group: what the group has not had yet, and then what comes. With -- CMD: run CMD for each event.
    """
    return _run(context)


@app.command()
def fanout(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="The topic; a file of rules may say it.", show_default=False)
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="SINK",
            help="topic:NAME, file:PATH, exec:CMD, worker:CMD, http(s)://… or nats://…; may be repeated.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Take sinks and their rules from a TOML file.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Say whether the rules are in order, and end.")] = False,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="GROUP", help="The group under which the sink remembers where it is."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="WHERE", help="Where a sink begins that is new; see WHERE.")
    ] = "latest",
    drain: o.Drain = False,
    key: o.Key = None,
    type: o.Type = None,
    where: o.Matching = None,
    jq: o.Jq = None,
    content: Annotated[
        Literal["json", "cloudevents"],
        typer.Option("--content", metavar="FORMAT", help="What http gets: json (the stored line) or cloudevents."),
    ] = "json",
    jobs: o.Jobs = 1,
    batch: o.Batch = 1,
    linger: o.Linger = None,
    timeout_each: o.TimeoutEach = None,
    retries: o.Retries = 5,
    backoff: o.Backoff = "1s..1m",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say at the end how far each sink got.")] = False,
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Give every event of a topic to every sink.

    Each sink goes at its own pace and remembers where it is.
    """
    return _run(context)


@app.command()
def mirror(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="The store to copy from: a directory or nats://HOST.", show_default=False),
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="The store to copy to, likewise.", show_default=False)
    ],
    topics: o.SomeTopics = None,
    follow: o.Follow = False,
    from_: Annotated[
        str, typer.Option("--from", metavar="WHERE", help="Where a mirror begins that is new; see WHERE.")
    ] = "earliest",
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="GROUP", help="The group as which the mirror reads, and knows where it is."),
    ] = None,
    json: o.Json = False,
    color: o.Color = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say where each topic begins.")] = False,
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Copy topics to another store, each event once and in order.

    Begins where the destination ends, whatever ended it before. With --follow: goes on with what comes.
    """
    return _run(context)


@app.command()
def topics(
    context: typer.Context,
    topics: o.SomeTopics = None,
    json: o.Json = False,
    color: o.Color = "auto",
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """List topics, how full and how fresh they are.

    Shown are events, first and next offset, bytes, age of the newest event, and groups with their lag.
    """
    return _run(context)


@app.command()
def groups(
    context: typer.Context,
    topics: o.SomeTopics = None,
    json: o.Json = False,
    color: o.Color = "auto",
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """List consumer groups and how far behind they are."""
    return _run(context)


@app.command()
def commit(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="The topic, if maybe no event comes.", show_default=False)
    ] = None,
    group: o.Group = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say at the end how far the groups got.")] = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Commit what comes out of a pipe that subscribe --manual feeds.

    Reads the events that subscribe gave out; those dropped on the way count as handled once a later one comes.
    """
    return _run(context)


@app.command()
def seek(
    context: typer.Context,
    topic: o.Topic,
    group: Annotated[str, typer.Option("--group", "-g", metavar="GROUP", help="The group.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="WHERE", help="Where to; see WHERE. Or a file from groups --json.", show_default=False
        ),
    ],
    dry_run: o.DryRun = False,
    force: o.Force = False,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Let a group go on somewhere else, back or ahead."""
    return _run(context)


@app.command()
def dead(
    context: typer.Context,
    topic: o.Topic,
    group: o.Group = None,
    all: Annotated[bool, typer.Option("--all", help="Also those that were sent through again.")] = False,
    json: o.Json = False,
    color: o.Color = "auto",
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """List the events of a topic that could not be handled, and why."""
    return _run(context)


@app.command()
def redrive(
    context: typer.Context,
    topic: o.Topic,
    offset: Annotated[
        int | None, typer.Option("--offset", metavar="N", help="The event with this offset in the topic.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    group: o.Group = None,
    dry_run: o.DryRun = False,
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Send events that could not be handled to their groups again, once."""
    return _run(context)


@app.command()
def rm(
    context: typer.Context,
    topic: o.Topic,
    group: Annotated[
        str | None, typer.Option("--group", "-g", metavar="GROUP", help="Remove this group of it, and no event.")
    ] = None,
    yes: o.Yes = False,
    dry_run: o.DryRun = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Remove a topic with all its events, or a group."""
    return _run(context)


@app.command()
def create(
    context: typer.Context,
    topic: o.Topic,
    values: o.Values = None,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Make a topic, with settings of its own."""
    return _run(context)


@app.command(name="set")
def set_(
    context: typer.Context,
    topic: o.Topic,
    values: o.Values = None,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Show the settings of a topic, or change some."""
    return _run(context)


@app.command()
def trim(
    context: typer.Context,
    topics: o.SomeTopics = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="WHERE", help="All before here, not what the topic's limits say; see WHERE."),
    ] = None,
    yes: o.Yes = False,
    dry_run: o.DryRun = False,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Remove the oldest events of topics.

    Whole segments go whose events are all too old or too many by the topic's settings, or before a place.
    """
    return _run(context)


@app.command()
def verify(
    context: typer.Context,
    topics: o.SomeTopics = None,
    since_seal: Annotated[
        str | None,
        typer.Option("--since-seal", metavar="HASH", help="Show that nothing sealed up to this seal was altered."),
    ] = None,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Check that topics are as they were written.

    Every line, checksum and seal is looked at. Exits with 65 if anything is wrong, after saying what and where.
    """
    return _run(context)


@app.command()
def repair(
    context: typer.Context,
    topic: o.Topic,
    yes: o.Yes = False,
    dry_run: o.DryRun = False,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Mend a damaged topic.

    Keeps every good line and every byte that it takes out, and says which offsets are gone.
    """
    return _run(context)


@app.command()
def compact(
    context: typer.Context,
    topics: o.Topics,
    before: Annotated[
        str, typer.Option("--before", metavar="WHERE", help="Only what was superseded before here; see WHERE.")
    ] = "latest",
    grace: Annotated[
        str,
        typer.Option("--grace", metavar="DURATION", help="Keep a null that deletes a key for so long."),
    ] = "24h",
    yes: o.Yes = False,
    dry_run: o.DryRun = False,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Keep only the newest event of each key.

    An event whose data are null deletes its key. Events without a key stay, and so does the active segment.
    """
    return _run(context)


@app.command()
def state(
    context: typer.Context,
    topic: o.Topic,
    at: Annotated[
        str, typer.Option("--at", metavar="WHERE", help="As it was before this place or moment; see WHERE.")
    ] = "latest",
    key: o.Key = None,
    output: o.Output = "auto",
    data: o.Data = False,
    null: o.Null = False,
    color: o.Color = "auto",
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Show the newest event of each key, now or as of a time.

    A key whose newest event has null as its data is deleted, and not shown.
    """
    return _run(context)


@app.command()
def diff(
    context: typer.Context,
    topic: o.Topic,
    before: Annotated[
        str, typer.Argument(metavar="WHERE", help="The place or moment to compare with; see WHERE.", show_default=False)
    ],
    after: Annotated[str, typer.Argument(metavar="WHERE", help="The later one.")] = "latest",
    key: o.Key = None,
    json: o.Json = False,
    color: o.Color = "auto",
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Show which keys came, changed and went between two times."""
    return _run(context)


@app.command()
def doctor(
    context: typer.Context,
    json: o.Json = False,
    color: o.Color = "auto",
    quiet: o.Quiet = False,
    store: o.Store = None,
    creds: o.Creds = None,
    allow_nfs: o.AllowNfs = False,
) -> int:
    """Look at the whole home for what is wrong or soon will be.

    Each finding comes with the command that mends it. Exits with 1 if anything is wrong.
    """
    return _run(context)


@app.command(name="__complete", hidden=True)
def complete(
    context: typer.Context,
    kind: Annotated[str, typer.Argument()],
    word: Annotated[str, typer.Argument()] = "",
    said: Annotated[list[str] | None, typer.Argument()] = None,
) -> int:
    """Print what may stand for an argument: topics, groups, where, sinks or settings."""
    return _run(context)


def declaration() -> Any:
    """The app as Typer's tree of commands and parameters, for the generator."""
    return typer.main.get_command(app)
