"""The built-in metrics and statistics, each an ordinary plugin."""
