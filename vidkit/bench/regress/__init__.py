"""Has anything got worse: exact values and ratios of speed against those that the repository keeps."""
