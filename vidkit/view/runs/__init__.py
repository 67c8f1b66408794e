"""What the pages of runs show: predictions, curves, tables of results, and what a masked autoencoder sees."""
