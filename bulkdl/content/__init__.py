"""Validate downloaded content: the first bytes, and the structure of archives, images and GeoJSON."""
