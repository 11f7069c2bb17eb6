"""The command line: what was said (`argv`, or `app` by Typer), what it means and does (`commands`), how it is shown."""
