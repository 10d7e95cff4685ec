"""What is said to a user whose input cannot be used."""


class BadInput(ValueError):
    """A file or setting given by the user is wrong; says where (``file:line: field``), what, and the fix."""
