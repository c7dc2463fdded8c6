"""Provide the common parts of all HTTP requests: errors, retries, rate limits and sessions."""
