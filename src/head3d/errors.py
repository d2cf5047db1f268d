"""The one kind of error that a user sees: what is wrong, where, what was allowed, how to mend it.

Everything that a user can get wrong (a missing file, a broken video, a bad parameter, no network) raises
:class:`UserError`; the command line prints it as one line and exits with code 2. Anything else is a bug and keeps its
traceback.
"""


class UserError(Exception):
    """An error that the user can mend.

    Args:
        what: what is wrong and where, for example ``params.yaml: model.depth.width is 'wide'``.
        allowed: what was allowed, for example ``a whole number of at least 4``.
        fix: how to mend it, for example ``set it back to 16``.
    """

    def __init__(self, what: str, *, allowed: str | None = None, fix: str | None = None) -> None:
        self.what, self.allowed, self.fix = what, allowed, fix
        parts = [what.rstrip(".")]
        if allowed:
            parts.append(f"allowed: {allowed.rstrip('.')}")
        if fix:
            parts.append(fix.rstrip("."))
        super().__init__("; ".join(parts))
