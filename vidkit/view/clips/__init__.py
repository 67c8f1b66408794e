"""What the pages of a dataset show, from its records and shards alone; brings no torch and no web server along."""
