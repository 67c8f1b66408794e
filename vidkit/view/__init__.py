"""Look at it: local pages over built datasets and runs. They change nothing."""
