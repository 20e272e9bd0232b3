"""The one exception for a rule that keeps data safe and does not hold.

It imports nothing, so that consensus and storage can use it, too.
"""


class InvariantError(AssertionError):
    """This process contradicts itself: what it says or writes from here on could be wrong, so the node ends
    (`node.fail_stop`). Never raised for what a client or a peer sends.
    """
