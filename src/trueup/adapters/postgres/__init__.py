"""The journal in PostgreSQL, for several agents of which one leads.

| module | decides |
| --- | --- |
| `address` | what an address may be, and what of it is shown |
| `trouble` | what PostgreSQL's errors mean |
| `server` | how it is connected, what durability is asked for, the schema |
| `lease` | who leads, and until when it may believe so |
| `store` | what a transaction is, and what follows when its outcome is not known |
| `group_commit` | which appends share a transaction |
| `names`, `tables`, `gate_tables` | what records change in the derived tables, and how they are asked |
| `journal`, `reader`, `standby` | the port; where queries run; how an agent waits to lead |
| `inbox` | what standbys hand to the leader |
| `scratch`, `audit`, `upkeep` | whether a journal is what was written; copies, pruning, saving |
| `apart` | how commands without a loop ask |

Nothing is imported here: reading a settings file must not cost a driver.
"""
