"""Commands that measure: ablate, report, bench loader, bench regress."""
