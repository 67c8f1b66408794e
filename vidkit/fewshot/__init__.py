"""Learners on few examples, evaluated on classes that none has seen: `evaluate.evaluate`."""
