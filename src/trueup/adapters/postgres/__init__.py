"""The journal in PostgreSQL, for several agents of which one leads.

| module | decides |
| --- | --- |
| `address` | what an address may be, and what of it is shown |
| `trouble` | what PostgreSQL's errors mean |
| `server` | how it is connected, what durability is asked for, the schema |
| `lease` | who leads, and until when it may believe so |
| `store` | what a transaction is, and what follows when its outcome is not known |
| `group_commit` | which appends share a transaction |
| `tables` | what records change in the derived tables |
| `reader`, `standby` | where queries run; how an agent waits to lead |
| `inbox` | what standbys hand to the leader |
| `scratch`, `audit`, `upkeep` | whether a journal is what was written; copies, pruning, saving |
| `apart` | how commands without a loop ask |
"""

from trueup.adapters.postgres.address import Address, parse, redacted
from trueup.adapters.postgres.inbox import Waiting
from trueup.adapters.postgres.journal import PostgresJournal
from trueup.adapters.postgres.lease import Leader
from trueup.adapters.postgres.reader import Reader
from trueup.adapters.postgres.standby import Standby

__all__ = ["Address", "Leader", "PostgresJournal", "Reader", "Standby", "Waiting", "parse", "redacted"]
