"""The demo: a cluster, an agent that is killed again and again, and what it finds out each time.

Rule kept here: nothing is staged inside the agent. It is the same `trueup apply` that everybody runs, a process of its
own; the demo only watches the simulator and the journal, chooses the moment, and kills. Each sentence of its summary is
checked against both, and the demo fails if one does not hold.

| module | decides |
| --- | --- |
| `cast` | which cluster there is, and which guests are declared |
| `stage` | which processes run, and in which folder |
| `sight` | what is seen of the cluster and the journal |
| `story` | who is killed when |
| `findings` | what a recovery found, from the journal |
| `claims` | whether it held |
| `teller`, `screen`, `drawing`, `picture` | how it is told: lines, a live picture, its parts, an SVG |
"""
