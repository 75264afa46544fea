-- Derived from the records that say what was pruned: each stretch of records that is gone, what its first record named
-- as the hash before it, and the hash and epoch of its last one, which the next record follows.
CREATE TABLE gaps (
  first_seq INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  prev_hash TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
DROP TRIGGER records_are_not_removed;
CREATE TRIGGER records_are_not_removed BEFORE DELETE ON records
WHEN NOT EXISTS (SELECT 1 FROM gaps WHERE OLD.seq BETWEEN first_seq AND last_seq)
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

-- Derived: why the journal may not know all that was done, as long as nobody acknowledged it.
CREATE TABLE doubts (
  what TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
