"""Bytes of a video become exact frames, and frames become bytes; knows no dataset."""
