"""Learners of episodes behind one interface (`training.FewshotLearner`), by name in `table.LEARNERS`."""
