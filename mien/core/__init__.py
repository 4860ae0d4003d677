"""Shared by all packages: errors, label orders, data types, files, pictures and preprocessing."""
