"""Commands that make and check datasets: build-dataset, verify, inspect, synth."""
