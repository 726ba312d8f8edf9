"""What goes wrong in a way that a person can mend: one sentence, no traceback."""


class ClusterError(Exception):
    """The message names what is wrong and what to do; the command line prints it alone and ends with status 1."""
