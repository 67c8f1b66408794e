"""Tokenizers, masks, AdaMAE, classifiers and memory networks; plain torch modules that know no dataset."""
