"""Looking into networks: what in a face decides, and what filters answer to. Needs torch."""
