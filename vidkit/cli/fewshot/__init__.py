"""Commands on few examples: episodes, fewshot."""
