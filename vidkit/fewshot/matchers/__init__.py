"""How alike two clips are, as sequences of vectors: step by step, in any order, or aligned. Nothing is trained."""
