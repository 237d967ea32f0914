"""TransferSuite."""

from .suite import Suite


class TransferSuite(Suite): ...
