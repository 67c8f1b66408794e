"""Measurements of training: what a step costs, ablations and their tables, the papers' studies, regressions."""
