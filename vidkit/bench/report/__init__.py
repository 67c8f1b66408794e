"""Rows become tables, plots, pages and comparisons; nothing here trains."""
