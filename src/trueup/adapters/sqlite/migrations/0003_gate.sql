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

-- Derived: the labels last applied to a guest, as JSON; the newest instant of any record.
CREATE TEMPORARY TABLE kept AS SELECT vmid, uid FROM adopted;
DROP TABLE adopted;
CREATE TABLE adopted (
  vmid INTEGER PRIMARY KEY,
  uid TEXT NOT NULL,
  labels TEXT NOT NULL
) STRICT;
INSERT INTO adopted SELECT vmid, uid, '{}' FROM kept;
DROP TABLE kept;
CREATE TABLE newest (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX ops_fenced ON ops (first_seq) WHERE kind = 'destroy' AND reason = 'not_started';
