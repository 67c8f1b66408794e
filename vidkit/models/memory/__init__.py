"""The memory-augmented network (Santoro et al. 2016) and the learners it is compared with."""
