"""What several benchmarks are made of: sources, opponents, servers."""
