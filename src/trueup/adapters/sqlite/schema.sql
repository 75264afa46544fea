-- The journal: records are the truth, head is where their chain ends, all other tables are derived from the records
-- in the transaction that writes them, and can be made anew from them.

PRAGMA application_id = 1416787312; -- "Trup"

-- Append-only. seq counts from 1 without gaps; line is the record as trueup.core.codec writes it, which proves itself
-- and the line before it. The other columns repeat what the line says, to find it.
CREATE TABLE records (
  seq INTEGER PRIMARY KEY,
  record_id TEXT NOT NULL UNIQUE,
  op_id TEXT NOT NULL,
  line BLOB NOT NULL
) STRICT;
CREATE INDEX records_of_op ON records (op_id);
CREATE TRIGGER records_are_not_changed BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER records_are_not_removed BEFORE DELETE ON records
WHEN NOT EXISTS (SELECT 1 FROM gaps WHERE OLD.seq BETWEEN first_seq AND last_seq)
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

-- One row. Every append moves it on, and only from the epoch and the hash that its writer knows.
CREATE TABLE head (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  seq INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  hash TEXT NOT NULL,
  derived_version INTEGER NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0, '9836dea17d4a76d7eb595f121eaa484fb0bcdf61c5ca4efdcda69f13ce1b7fae', 0);

-- Derived: each operation as its records add up. first_seq is the place of its first record.
CREATE TABLE ops (
  first_seq INTEGER PRIMARY KEY,
  op_id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL,
  vmid INTEGER NOT NULL,
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  upid TEXT NOT NULL,
  started_at_ms INTEGER NOT NULL,
  ended_at_ms INTEGER NOT NULL,
  view BLOB NOT NULL
) STRICT;
CREATE INDEX ops_in_flight ON ops (first_seq) WHERE state IN ('started', 'task_running');
CREATE INDEX ops_accepted ON ops (first_seq) WHERE state = 'accepted';
CREATE INDEX ops_presumed ON ops (ended_at_ms) WHERE reason = 'presumed_not_started';
CREATE INDEX ops_without_task ON ops (ended_at_ms) WHERE upid = '' AND ended_at_ms > 0;
CREATE INDEX ops_of_guest ON ops (vmid);
CREATE INDEX ops_fenced ON ops (first_seq) WHERE kind = 'destroy' AND reason = 'not_started';

-- Derived: each request as its records add up, and what it has taken: its nonce for good, its idempotency key while it
-- is held. started_at_ms is when its operation was started, 0 = never. op_id is that of both.
CREATE TABLE requests (
  first_seq INTEGER PRIMARY KEY,
  request_id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL,
  view BLOB NOT NULL
) STRICT;
CREATE INDEX requests_in_state ON requests (state);
CREATE TABLE claims (
  op_id TEXT PRIMARY KEY,
  nonce TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  held INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_of_nonce ON claims (nonce);
CREATE INDEX claims_of_key ON claims (idempotency_key);
CREATE INDEX claims_started ON claims (started_at_ms) WHERE started_at_ms > 0;

-- Derived from the records that say what was pruned: each stretch of records that is gone, what its first record named
-- as the hash before it, and the hash and epoch of its last one, which the next record follows.
CREATE TABLE gaps (
  first_seq INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  prev_hash TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;

-- Derived: which operation holds a task.
CREATE TABLE upids (
  upid TEXT PRIMARY KEY,
  op_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Derived: agents that took over; incarnation tokens; guests known as ours, with the labels last applied as JSON; paused
-- guests ('*' = all); the newest instant of any record.
CREATE TABLE epochs (
  epoch INTEGER PRIMARY KEY,
  holder TEXT NOT NULL,
  token TEXT NOT NULL
) STRICT;
CREATE TABLE tokens (
  token TEXT PRIMARY KEY,
  planned INTEGER NOT NULL,
  retired INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE adopted (
  vmid INTEGER PRIMARY KEY,
  uid TEXT NOT NULL,
  labels TEXT NOT NULL
) STRICT;
CREATE TABLE paused (
  guest TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE newest (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  at_ms INTEGER NOT NULL
) STRICT;

-- Derived: why the journal may not know all that was done, as long as nobody acknowledged it.
CREATE TABLE doubts (
  what TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
