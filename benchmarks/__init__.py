"""What is timed beside others: the licence split, training, and a whole GPU."""
