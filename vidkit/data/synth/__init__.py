"""Generated clips in the real layouts of datasets, with their real annotation files."""
