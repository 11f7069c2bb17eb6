"""The commands, a verb a file. Each has a `run` that takes what was said and returns the exit code."""
