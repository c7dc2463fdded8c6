"""The content checks of a kind, by its name."""

from bulkdl.source_spec import kind_spec


def check_magic_bytes(kind, head, content_type, *, has_digest):
    return kind_spec(kind).load_checks("").check_head(head, content_type, has_digest=has_digest)


def needs_validation(kind, *, has_digest):
    return kind_spec(kind).load_checks("").needs_validation(has_digest=has_digest)


def is_cheap_to_validate(kind, size_bytes):
    return kind_spec(kind).load_checks("").is_cheap(size_bytes)


def validate_content(kind, stream, size_bytes):
    kind_spec(kind).load_checks("").validate(stream, size_bytes)
