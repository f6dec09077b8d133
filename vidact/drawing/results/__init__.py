"""Draw how good a network is: accuracies, confusion matrix, training curves."""
