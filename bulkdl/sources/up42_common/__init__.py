"""Shared parts of the UP42 sources: tokens, request policy, error responses, JSON documents, sessions."""
