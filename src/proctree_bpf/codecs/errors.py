"""The one error that leaves a codec."""


class DecodeError(ValueError):
    """Bytes that do not have the shape their format asks for.

    Every codec raises this and nothing else for malformed input.
    """
