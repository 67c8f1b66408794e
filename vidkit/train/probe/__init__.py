"""Probes of frozen encoders: what simple classifiers find in each layer and read-out (`run.probe`)."""
