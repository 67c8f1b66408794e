"""Contrasts of an ablation: named before the run, paired by seed, corrected for their number, each judged."""
