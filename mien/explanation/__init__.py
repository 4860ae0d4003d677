"""Explain networks: attribution maps of faces, and visualizations of filters. Needs torch."""
