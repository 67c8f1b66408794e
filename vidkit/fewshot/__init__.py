"""Learners on few examples: episodes, encoders and pixels, MANN, MAML, prototypes, and their evaluation."""
