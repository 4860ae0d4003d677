"""What every room shares: the error tree, label orders, the data types and the preprocessing of a face crop."""
