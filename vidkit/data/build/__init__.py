"""A plan becomes shards, journals, a ledger and a card; `build.build` is the way in."""
