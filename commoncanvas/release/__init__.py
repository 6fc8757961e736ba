"""What is handed to others: model, data set, their rights, results that are kept."""
