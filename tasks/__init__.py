"""The built-in tasks, each an ordinary plugin."""
