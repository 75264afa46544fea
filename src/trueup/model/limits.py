"""Every limit of trueup, each with the reason for its value; `tests/model/test_limits.py` holds how they relate.

A number that bounds a size, a count, a wait or a number of tries stands here (those of logins: `login_limits`) and
nowhere else, so that whoever asks "why does it stop at 3?" finds the answer, and whoever changes one is told which
others lean on it. Names end in their unit: `_S` seconds, `_BYTES` bytes; names without one are counts. Facts about PVE
that others lean on are here too, since they are limits that PVE sets us.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from trueup.model.ops import Kind

# --- PVE's own limits, which ours lean on ----------------------------------------------------------------------------

PVE_PROXY_TIMEOUT_S: Final = 30.0
"""pveproxy gives up on a daemon or on another node after this long and answers 596; the work may go on."""

PVE_FLOCK_WAIT_S: Final = 10.0
"""How long a worker waits for a guest's flock before it fails with "got timeout" (PVE::AbstractConfig)."""

PVE_TASK_VISIBLE_S: Final = 0.2
"""A task was listed 50 to 190 ms after the last byte of its request, on an idle node."""

PVE_TASK_ROW_STALE_S: Final = 12.0
"""A row may still say RUNNING this long after its task ended (pvestatd's cycle of 10 s and caches of 2 s)."""

PVE_INDEX_BYTES: Final = 50_000
"""PVE rotates a node's task index above this size and keeps one old part (PVE::RESTEnvironment)."""

PVE_TASKS_OF_INDEX: Final = 1_100
"""Finished tasks that a node's two index parts hold at the most, at about 90 bytes a line."""

PVE_NAME_MAX: Final = 63
"""Longest label of a DNS name; PVE checks names of guests and nodes with its `dns-name` format."""

PVE_POOL_MAX: Final = 128
"""Characters of a pool's id, with those of the pools above it."""

PVE_DNS_NAME_MAX: Final = 253
"""Longest whole DNS name."""

PVE_DESCRIPTION_MAX: Final = 8_192
"""Longest description of a guest, in characters (maxLength in PVE's schema)."""

# --- Mutations -------------------------------------------------------------------------------------------------------

SLOTS_PER_NODE: Final = 3
"""Mutations at work on one node at once. A pvedaemon has three workers by default and a synchronous call blocks one;
more than three make PVE answer 596 and work on in the dark. `[limits] slots_per_node` changes it."""

SLOTS_PER_NODE_MAX: Final = 32
"""The most that the settings may ask for: every new task rewrites the node's list of active tasks under one lock."""

SLOTS_PER_GUEST: Final = 1
"""The lane: PVE serialises a guest's operations by a lock with a short wait, so a second one would only fail."""

SLOTS_PER_CLONE_SOURCE: Final = 1
"""A clone of a running source holds its lock all the time, and a second one waits for it one second only."""

SEND_BY_S: Final = 30.0
"""From the durable intent to the first byte of its request at the most. Later it is not sent any more: what was
observed before has grown old, and a successor may already be judging."""

SEND_BY_MIN_S: Final = 1.0
"""The least that the settings may make of it: a connection with TLS must fit in."""

# --- Speaking to PVE -------------------------------------------------------------------------------------------------

CONNECT_TIMEOUT_S: Final = 10.0
"""TCP and TLS. A healthy node answers in milliseconds; ending here is NotSent, so being impatient costs nothing."""

READ_TIMEOUT_S: Final = 35.0
"""A GET, as a whole. Above pveproxy's own limit, so that PVE's answer is heard instead of guessed."""

MUTATION_TIMEOUT_S: Final = 75.0
"""A mutation's answer. Two hops (entry node, guest's node) may each take pveproxy's limit; ending earlier would turn
an answer on its way into an Unknown."""

READS_PER_NODE: Final = 8
"""GETs at once to one node. pveproxy has three workers that each serve many; more only queue there."""

READS_AT_ONCE: Final = 64
"""GETs at once to the whole cluster; bounds sockets and memory."""

READ_TRIES: Final = 3
"""Tries of one GET, each on another endpoint if there is one. Only reads are ever tried again."""

ANSWER_MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest answer that is read. `/cluster/resources` of 10,000 guests has 4.4 MB; far beyond that it is not PVE."""

ERROR_TEXT_MAX: Final = 4_096
"""Characters of PVE's own text that are kept with an error or a record."""

TASK_PAGE: Final = 500
"""Rows of a task list asked for at once (PVE's default is 50, and 0 means none)."""

TASK_PAGES_MAX: Final = 40
"""Pages of one task list before it counts as unreadable: a node's index has about 1,100 finished tasks."""

TASK_WATCH_S: Final = 1.0
"""Between two looks at a node's task list while tasks run there: one cheap call for all of them."""

STATE_WATCH_S: Final = 10.0
"""The longest between two looks at a guest whose task ended before its effect shows: a round of the HA manager."""

ENDPOINTS_MAX: Final = 64
"""Endpoints of one cluster; PVE clusters have a few dozen nodes at the most."""

# --- Recovery --------------------------------------------------------------------------------------------------------

SETTLE_GOAL_S: Final = 5.0
"""Wait before a kind whose late effect is wanted anyway counts as not started. A quiet node shows a task after 0.2 s;
the rest is patience for a busy one. A bet, and recorded as one."""

SETTLE_TOKEN_S: Final = 15.0
"""Wait after a dead agent's token is gone on the guest's node. What was past the check by then waits for the flock at
the most (10 s), then shows up as a task."""

SETTLE_TIME_S: Final = 600.0
"""Wait for those kinds when there are no incarnation tokens. There is no limit to lateness; ten minutes outlast a
stalled daemon that somebody restarts. A bet, and recorded as one."""

SETTLE_MIN_S: Final = 1.0
"""The least that the settings may make of a settle time: below it a task that is on its way is not even listed."""

SETTLE_MAX_S: Final = 24 * 3600.0
"""The most; a guest stays closed all that time."""

PRESUMED_WATCH_S: Final = 24 * 3600.0
"""How long passes look for signs of an operation that was presumed not to have started: a day, since daemons that
hang overnight are restarted in the morning."""

HINDSIGHT_OPS_MAX: Final = 64
"""Operations in flight whose guests are read, one by one, before recovery may write to them: whoever brings an older
journal back has few. The guests of more are looked at by the first pass."""

TIME_SLACK_S: Final = 3600.0
"""Slack when a task's start is compared with ours: nodes' clocks differ, and a `Date` is the entry node's."""

RECOVERY_LOOK_S: Final = 2.0
"""Between two looks at everything while recovery waits for a fence or for a settle time."""

LOCK_ASKS: Final = 3
"""Questions for one guest's lock whose answer may be lost before it counts as not known."""

FENCE_TRIES: Final = 6
"""Writes of one fence that may meet a busy guest (10 s each) before the operation stays open until the next pass."""

PATIENCE_S: Final[Mapping[Kind, float]] = MappingProxyType(
    {
        Kind.CREATE: 60.0,
        Kind.CLONE: 60.0,
        Kind.CONFIGURE: 30.0,
        Kind.GROW: 60.0,  # the storage reports a new size late
        Kind.START: 180.0,  # an HA manager takes a round of ten seconds, and a start behind it
        Kind.SNAPSHOT: 60.0,
        Kind.BACKUP: 60.0,
        Kind.TAG: 30.0,
        Kind.RESTORE_NEW: 60.0,
        Kind.POOL: 30.0,
        Kind.DETACH: 30.0,
        Kind.SHUTDOWN: 300.0,  # by HA: its rounds, and the guest's own time to shut down
        Kind.STOP: 180.0,
        Kind.REBOOT: 300.0,
        Kind.MIGRATE: 3600.0,  # HA's migration task ends at once, the real one moves disks and memory
        Kind.TEMPLATE: 60.0,
        Kind.DESTROY: 60.0,
        Kind.ROLLBACK: 60.0,
        Kind.SNAPSHOT_DELETE: 60.0,
        Kind.RESTORE: 60.0,
        Kind.DISK_REMOVE: 60.0,
        Kind.BACKUP_DELETE: 60.0,
        Kind.UNLOCK: 30.0,
    }
)
"""After a task ended well, how long its effect may take to show before the operation becomes unresolved (row R4)."""

# --- The loop --------------------------------------------------------------------------------------------------------

INTERVAL_S: Final = 30.0
"""Between two passes: three of pvestatd's rounds, so that each pass sees news."""

INTERVAL_MIN_S: Final = 1.0
"""The least that the settings may ask for; below it passes would only read what PVE has not renewed."""

INTERVAL_MAX_S: Final = 24 * 3600.0
"""The most; a loop that looks less than daily is better run by hand."""

AGAIN_S: Final = 10.0
"""Before the next pass where this one missed something that may be there a moment later; pvestatd's round."""

REREAD_BOUND_S: Final = 600.0
"""Within this time every config is read again, also where no list hints at a change."""

LISTS_LAG_S: Final = 20.0
"""How far the uptimes in PVE's lists are behind or ahead of each other: two of pvestatd's rounds."""

REREAD_LEAST: Final = 200
"""Configs that a pass reads at the least, where there are as many: on small clusters every pass sees everything."""

BACKOFF_FIRST_S: Final = 5.0
"""Before a guest whose operation failed is tried again; doubled each time, with jitter."""

BACKOFF_MAX_S: Final = 600.0
"""The longest of these waits: a mended cluster is noticed within ten minutes."""

BACKOFF_JITTER: Final = 0.25
"""Share of a wait that chance decides, so that a hundred guests do not come back in one instant."""

APPLY_PASSES_MAX: Final = 100
"""Passes of one `apply` before it says that the cluster does not converge."""

APPLY_TRIES: Final = 3
"""Failures in a row of one guest before an `apply` gives it up; the agent's loop goes on for ever."""

SHUTDOWN_GUEST_S: Final = 60.0
"""What a guest gets for its own shutdown; PVE's default too."""

AGENT_STOP_S: Final = 20.0
"""After SIGTERM: for requests on the wire to be answered; their tasks go on in PVE, and the next start finds them."""

# --- The journal -----------------------------------------------------------------------------------------------------

RECORD_MAX_BYTES: Final = 1024 * 1024
"""Largest record: a request (64 KiB) or a guest's parameters; more is a mistake, refused before it is written."""

GROUP_RECORDS_MAX: Final = 512
"""Records in one commit; beyond it nothing gets faster, but everybody waits longer."""

JOURNAL_QUEUE_MAX: Final = 10_000
"""Drafts waiting for the writer; then callers wait."""

JOURNAL_BUSY_S: Final = 5.0
"""SQLite's own wait for a reader's lock."""

RETENTION_MIN_S: Final = 7 * 24 * 3600.0
"""Younger records are never pruned: presumed operations are watched for a day, and people come back from weekends."""

PRUNED_GAPS_MAX: Final = 2_000
"""Gaps that one record of a pruning names; more get another record, so that none grows too large."""

LEASE_S: Final = 60.0
"""How long a leader leads without renewing."""

LEASE_RENEW_S: Final = 15.0
"""Between two renewals, or a quarter of the lease if that is less: three may fail before the lease ends."""

LEASE_MIN_S: Final = 4.0
"""The least that the settings may make of a lease: shorter ones end at each hiccup of a network."""

LEASE_MAX_S: Final = 3600.0
"""The most: so long nobody works after a leader died."""

LEASE_MARGIN_S: Final = 0.5
"""A leader believes its lease to end so much sooner, at least."""

LEASE_DRIFT: Final = 0.02
"""The share of a lease that its leader gives away besides: clocks do not run at one speed."""

STANDBY_LOOK_S: Final = 2.0
"""Between two looks of a standby at the lease; it is told when the lease is given back."""

INBOX_MAX: Final = 1_000
"""Requests that wait for a leader; more are refused."""

INBOX_LOOK_S: Final = 5.0
"""Between two looks of the leader at what standbys have put down for it; it is told when something comes."""

SPOOL_LOOK_S: Final = 1.0
"""Between two looks at the spool; a person who drops a file there and looks up sees the answer."""

POSTGRES_CONNECT_S: Final = 5.0
"""For a connection to PostgreSQL."""

POSTGRES_COMMIT_S: Final = 20.0
"""For the answer to a COMMIT, which may wait for a synchronous standby; then it is looked up what became of it."""

POSTGRES_LOCK_S: Final = 15.0
"""PostgreSQL's own wait for a row's lock; longer than it lets a session idle that holds one."""

POSTGRES_IDLE_S: Final = 10.0
"""After so long without a word from its writer, PostgreSQL ends a transaction."""

POSTGRES_PATIENCE_S: Final = 30.0
"""For reads and appends to find a connection that works; a leader's lease may end sooner, and with it its patience."""

POSTGRES_AGAIN_S: Final = 0.2
"""Between two tries to connect."""

POSTGRES_HANG_UP_S: Final = 2.0
"""For a goodbye; then the connection is cut."""

POSTGRES_READERS: Final = 4
"""Connections that one agent reads through."""

# --- Manifests and settings ------------------------------------------------------------------------------------------

MANIFEST_MAX_BYTES: Final = 1024 * 1024
"""One manifest file: about 1,500 guests. Beyond it, it is a dump that somebody dropped there."""

MANIFEST_FILES_MAX: Final = 20_000
"""Files of one folder, with everything below it."""

MANIFEST_FOLDERS_DEEP: Final = 32
"""Folders inside folders."""

MANIFEST_DOCUMENTS_MAX: Final = 10_000
"""Documents in one file."""

MANIFEST_DEPTH_MAX: Final = 32
"""Maps inside maps, as written. A guest needs four; YAML's parser recurses, and a bomb wants it deep."""

MANIFEST_NODES_MAX: Final = 250_000
"""Values in one file once its aliases are followed: what a file without aliases could hold in 1 MiB, and no bomb."""

GUESTS_MAX: Final = 20_000
"""Guests of one folder; twice the largest cluster that is measured."""

DESCRIPTION_MAX: Final = 7_680
"""Characters of the user's own description: PVE's limit, less the room that our marker needs."""

CONFIG_VALUE_MAX: Final = 8_192
"""Characters of one config value; PVE's longest is the description."""

CONFIG_KEYS_MAX: Final = 1_000
"""Config keys of one guest; PVE knows about 600, most of them numbered disks and unused volumes."""

LABELS_MAX: Final = 64
"""Labels of one guest: they are for selecting, and are written into each request's record."""

LABEL_MAX: Final = 63
"""Characters of a label's key or value, as in Kubernetes."""

KEEP_MAX: Final = 1_000
"""Copies of one guest that a policy may keep; PVE's own retention has no more."""

SNAPSHOT_PREFIX_MAX: Final = 26
"""Characters before the time in a snapshot's name: PVE takes 40 in all, and `-YYYYMMDD-HHMM` has 14."""

IGNORE_MAX: Final = 64
"""Patterns of config keys that one guest leaves alone."""

VMID_RANGES_MAX: Final = 64
"""Ranges of vmids of one folder."""

SSH_KEYS_MAX: Final = 64
"""Public keys of one guest; PVE keeps them in one value."""

PROBLEMS_MAX: Final = 100
"""Problems of one load that are told; people mend the first ones and load again."""

SETTINGS_MAX_BYTES: Final = 256 * 1024
"""The settings file."""

SECRET_MAX_BYTES: Final = 4_096
"""A file with a secret; PVE's have 36 characters."""

# --- The gate --------------------------------------------------------------------------------------------------------

REQUEST_MAX_BYTES: Final = 64 * 1024
"""A signed request as it arrives."""

REQUEST_DEPTH_MAX: Final = 16
"""Objects inside objects in a request."""

REQUEST_VALID_S: Final = 3600.0
"""How long a prepared request is good, unless its rule says less."""

CLOCK_DIFFERENCE_S: Final = 60.0
"""Allowed between a signer's clock and ours."""

NONCE_BITS: Final = 128
"""Chance in a nonce: never the same twice."""

REQUEST_TEXT_MAX: Final = 1_000
"""Characters of a reason, as people write it into a request; it is shown wherever the request is."""

REQUEST_NAME_MAX: Final = 128
"""Characters of an idempotency key, and of a person's or a role's name."""

REQUEST_PARAMS_MAX: Final = 32
"""Parameters of one request; no kind has more than a handful."""

RULE_LONGEST_S: Final = 24 * 3600.0
"""How long a request may be good where its rule does not say: a working day, and the night behind it."""

RULE_LONGEST_MAX_S: Final = 30 * 24 * 3600.0
"""The most that a rule may say. Nonces are kept that long, and people forget what they signed."""

SIGNATURES_MAX: Final = 32
"""Signatures of one envelope; each costs a verification, and no rule wants more people."""

PEOPLE_MAX: Final = 1_000
"""People of a keyring."""

KEYS_MAX: Final = 64
"""Keys of one person."""

RULES_MAX: Final = 1_000
"""Rules of a policy, and its budgets."""

GATE_FILE_MAX_BYTES: Final = 1024 * 1024
"""A keyring or a policy."""

RSA_BITS_MIN: Final = 2_048
"""Shorter RSA keys are refused (NIST SP 800-131A)."""

RSA_BITS_MAX: Final = 16_384
"""Longer ones cost seconds to verify; OpenSSH's limit as well."""

NONCES_MAX: Final = 100_000
"""Requests that are remembered for their nonce. Beyond it the gate refuses: to forget one is to allow a replay."""

GATE_BATCH_MAX: Final = 64
"""Requests that are judged together; each is at most two records and one for each signature."""

DENIALS_RECORDED: Final = 30
"""Refusals that are recorded one by one in each `DENIALS_PER_S`; the rest of them is counted, so that no flood of
forged requests fills the journal."""

DENIALS_PER_S: Final = 60.0
"""See `DENIALS_RECORDED`."""

# --- Commands and HTTP -----------------------------------------------------------------------------------------------

SOCKET_MESSAGE_MAX_BYTES: Final = 1024 * 1024
"""One message on the agent's own unix socket."""

SOCKET_TIMEOUT_S: Final = 5.0
"""For the agent to take a command's connection before the command says that the agent hangs."""

HTTP_BODY_MAX_BYTES: Final = REQUEST_MAX_BYTES
"""A body sent to us; nothing that we accept is larger than a request."""

HTTP_REQUEST_TIMEOUT_S: Final = 30.0
"""For a client to send its request, and for a read of ours to answer it."""

HTTP_CONNECTIONS_MAX: Final = 1_536
"""Connections to us at once; more are hung up on. Room for all listeners, and for others beside them."""

HTTP_TOKEN_MIN: Final = 16
"""Characters of the HTTP token; ours have 43, and what people type in themselves must not be guessed."""

SESSIONS_MAX: Final = 1_000
"""Browsers that are logged in at once; then the oldest has to log in again."""

SESSION_S: Final = 12 * 3600.0
"""How long a login lasts: a working day."""

OPS_PAGE: Final = 200
"""Operations in one answer, unless somebody asks for another number."""

OPS_PAGE_MAX: Final = 2_000
"""The most that can be asked for: about a megabyte."""

EVENT_STREAMS_MAX: Final = 1_200
"""Listeners on the event stream at once."""

EVENTS_KEPT: Final = 1_000
"""The newest events, which all listeners share; whoever falls behind by more has lost some."""

HEARTBEAT_S: Final = 15.0
"""Between two signs of life on a silent event stream; proxies give up on a silent connection after a minute."""

GUEST_LOOK_S: Final = 5.0
"""For a look at one guest that a page asks for; then the page says that it could not be looked at."""

GUEST_LOOK_KEPT_S: Final = 15.0
"""How long what such a look showed is shown again, so that many readers cost PVE no more than one."""

VERIFY_KEPT_S: Final = 10.0
"""How long the result of a verification is shown again: reading a whole journal is work."""

# --- Notifications ---------------------------------------------------------------------------------------------------

NOTIFY_GATHER_S: Final = 3.0
"""From the first piece of news to the message that tells it, so that a node's death is one message and not fifty."""

NOTIFY_TIMEOUT_S: Final = 30.0
"""For all services to take one message; then it is given up and said in the log."""

NOTIFY_AT_END_S: Final = 5.0
"""For the last message of an agent that ends: it does not wait longer for anybody."""

NOTIFY_MESSAGES_MAX: Final = 12
"""Messages in each `NOTIFY_PER_S`; what comes on top waits, and is told together."""

NOTIFY_PER_S: Final = 3600.0
"""See `NOTIFY_MESSAGES_MAX`."""

NOTIFY_LINES_MAX: Final = 40
"""Lines of one message, and lines that wait; of the others the number is told."""

NOTIFY_REMEMBERED_MAX: Final = 10_000
"""Pieces of news that are known to have been told, so that they are told once."""

NOTIFY_FAILURES: Final = 3
"""Failures in a row, of one kind of change of one guest or of passes, before anybody is told."""
