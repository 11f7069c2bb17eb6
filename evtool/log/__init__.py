"""The file log: topics as directories of JSONL segments. Knows no terminal and no environment."""
