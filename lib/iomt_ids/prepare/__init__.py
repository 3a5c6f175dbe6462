"""Bronze to vectors: clean, label, split, order, and what is fitted on the train split."""
