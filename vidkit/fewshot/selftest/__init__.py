"""Does the MANN learn at all: generated characters, and the test on them (`run.run`)."""
