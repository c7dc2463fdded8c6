"""Unpack archives safely: regular files and folders only, below one folder, within bounds."""
