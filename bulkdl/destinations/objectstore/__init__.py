"""Destinations in object stores: S3 and compatible stores, Google Cloud Storage, Azure."""
