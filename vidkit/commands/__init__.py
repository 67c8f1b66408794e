"""Bodies of the commands: `run(...)` does one thing, prints it, and returns the exit code."""
