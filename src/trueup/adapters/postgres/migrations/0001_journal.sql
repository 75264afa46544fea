-- Journals in one database, one for each cluster: records are the truth, head is where their chain ends, all other
-- tables but lease and inbox are derived from the records in the transaction that writes them, and can be made anew.
-- Names are bytea (UTF-8): PostgreSQL's text takes no NUL, a journal's JSON does, and bytes sort alike everywhere.

CREATE TABLE trueup.journals (
  journal integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE
);

-- One row for each journal. Every append locks it, and moves it on only from the epoch and the hash that its writer
-- knows; so one chain has one writer, whoever else believes to lead.
CREATE TABLE trueup.head (
  journal integer PRIMARY KEY REFERENCES trueup.journals,
  seq bigint NOT NULL,
  epoch bigint NOT NULL,
  hash text NOT NULL,
  derived_version integer NOT NULL
);

-- Append-only. seq counts from 1 without gaps; line is the record as trueup.core.codec writes it.
CREATE TABLE trueup.records (
  journal integer NOT NULL REFERENCES trueup.journals,
  seq bigint NOT NULL,
  record_id bytea NOT NULL,
  op_id bytea NOT NULL,
  line bytea NOT NULL,
  PRIMARY KEY (journal, seq),
  UNIQUE (journal, record_id)
);
CREATE INDEX records_of_op ON trueup.records (journal, op_id, seq);
-- Lines are JSON that was hashed as it stands: compressing them saves little, and they are read far more than kept.
ALTER TABLE trueup.records ALTER COLUMN line SET STORAGE EXTERNAL;

-- Where records were pruned; only there can they be removed.
CREATE TABLE trueup.gaps (
  journal integer NOT NULL REFERENCES trueup.journals,
  first_seq bigint NOT NULL,
  last_seq bigint NOT NULL,
  epoch bigint NOT NULL,
  prev_hash text NOT NULL,
  hash text NOT NULL,
  PRIMARY KEY (journal, first_seq)
);

CREATE FUNCTION trueup.append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (
    SELECT 1 FROM trueup.gaps g WHERE g.journal = OLD.journal AND OLD.seq BETWEEN g.first_seq AND g.last_seq
  ) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'the journal is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER records_are_kept BEFORE UPDATE OR DELETE ON trueup.records
  FOR EACH ROW EXECUTE FUNCTION trueup.append_only();
CREATE TRIGGER records_are_not_truncated BEFORE TRUNCATE ON trueup.records
  FOR EACH STATEMENT EXECUTE FUNCTION trueup.append_only();

-- Derived: each operation as its records add up. first_seq is the place of its first record.
CREATE TABLE trueup.ops (
  journal integer NOT NULL REFERENCES trueup.journals,
  first_seq bigint NOT NULL,
  op_id bytea NOT NULL,
  state text NOT NULL,
  vmid bigint NOT NULL,
  kind text NOT NULL,
  reason text NOT NULL,
  upid bytea NOT NULL,
  started_at_ms bigint NOT NULL,
  ended_at_ms bigint NOT NULL,
  view bytea NOT NULL,
  PRIMARY KEY (journal, first_seq),
  UNIQUE (journal, op_id)
);
CREATE INDEX ops_in_flight ON trueup.ops (journal, first_seq) WHERE state IN ('started', 'task_running');
CREATE INDEX ops_accepted ON trueup.ops (journal, first_seq) WHERE state = 'accepted';
CREATE INDEX ops_presumed ON trueup.ops (journal, ended_at_ms) WHERE reason = 'presumed_not_started';
CREATE INDEX ops_without_task ON trueup.ops (journal, ended_at_ms) WHERE upid = '' AND ended_at_ms > 0;
CREATE INDEX ops_of_guest ON trueup.ops (journal, vmid);
CREATE INDEX ops_fenced ON trueup.ops (journal, first_seq) WHERE kind = 'destroy' AND reason = 'not_started';

-- Derived: each request as its records add up, and what it has taken: its nonce for good, its idempotency key while it
-- is held. started_at_ms is when its operation was started, 0 = never. op_id is that of both.
CREATE TABLE trueup.requests (
  journal integer NOT NULL REFERENCES trueup.journals,
  first_seq bigint NOT NULL,
  request_id bytea NOT NULL,
  state text NOT NULL,
  view bytea NOT NULL,
  PRIMARY KEY (journal, first_seq),
  UNIQUE (journal, request_id)
);
CREATE INDEX requests_in_state ON trueup.requests (journal, state);
CREATE TABLE trueup.claims (
  journal integer NOT NULL REFERENCES trueup.journals,
  op_id bytea NOT NULL,
  nonce bytea NOT NULL,
  idempotency_key bytea NOT NULL,
  held integer NOT NULL,
  started_at_ms bigint NOT NULL,
  PRIMARY KEY (journal, op_id)
);
CREATE INDEX claims_of_nonce ON trueup.claims USING hash (nonce);
CREATE INDEX claims_of_key ON trueup.claims USING hash (idempotency_key);
CREATE INDEX claims_started ON trueup.claims (journal, started_at_ms) WHERE started_at_ms > 0;

-- Derived: the newest instant of any record.
CREATE TABLE trueup.newest (
  journal integer PRIMARY KEY REFERENCES trueup.journals,
  one integer NOT NULL CHECK (one = 1),
  at_ms bigint NOT NULL
);

-- Derived: which operation holds a task; agents that took over; incarnation tokens; guests known as ours,
-- with the labels last applied to them, as JSON; paused guests ('*' = all); why the journal may not know all that was done.
CREATE TABLE trueup.upids (
  journal integer NOT NULL REFERENCES trueup.journals,
  upid bytea NOT NULL,
  op_id bytea NOT NULL,
  PRIMARY KEY (journal, upid)
);
CREATE TABLE trueup.epochs (
  journal integer NOT NULL REFERENCES trueup.journals,
  epoch bigint NOT NULL,
  holder bytea NOT NULL,
  token bytea NOT NULL,
  PRIMARY KEY (journal, epoch)
);
CREATE TABLE trueup.tokens (
  journal integer NOT NULL REFERENCES trueup.journals,
  token bytea NOT NULL,
  planned integer NOT NULL,
  retired integer NOT NULL,
  PRIMARY KEY (journal, token)
);
CREATE TABLE trueup.adopted (
  journal integer NOT NULL REFERENCES trueup.journals,
  vmid bigint NOT NULL,
  uid bytea NOT NULL,
  labels text NOT NULL,
  PRIMARY KEY (journal, vmid)
);
CREATE TABLE trueup.paused (
  journal integer NOT NULL REFERENCES trueup.journals,
  guest bytea NOT NULL
);
CREATE UNIQUE INDEX paused_once ON trueup.paused (journal, sha256(guest)); -- a name may be longer than an index takes
CREATE TABLE trueup.doubts (
  journal integer NOT NULL REFERENCES trueup.journals,
  what bytea NOT NULL
);
CREATE UNIQUE INDEX doubts_once ON trueup.doubts (journal, sha256(what));

-- Who leads, in this database's time. session is the leader's secret name for its hold ('' = nobody leads), epoch the
-- one that it has taken (0 = none yet).
CREATE TABLE trueup.lease (
  journal integer PRIMARY KEY REFERENCES trueup.journals,
  session text NOT NULL,
  epoch bigint NOT NULL,
  holder text NOT NULL,
  role text NOT NULL CHECK (role IN ('free', 'leading')),
  lease_until timestamptz NOT NULL
);

-- Requests that reached an agent which does not lead: no epoch, no chain. Only the leader verifies and appends them.
CREATE TABLE trueup.inbox (
  journal integer NOT NULL REFERENCES trueup.journals,
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  via text NOT NULL,
  put_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  request bytea NOT NULL
);
CREATE INDEX inbox_of_journal ON trueup.inbox (journal, id);
