"""Rows of results: what is planned, what came of it, and the two files that hold it. No torch is needed to read."""
