-- What queries on participation read. Disposable: rebuilt from the log.

CREATE TABLE IF NOT EXISTS {s}.process (
    id         text   NOT NULL PRIMARY KEY,
    -- The positions of the events that made it and that made it public; 0
    -- while it is a draft.
    started    bigint NOT NULL,
    published  bigint NOT NULL,
    -- Microseconds since 1970, UTC.
    created_at bigint NOT NULL,
    -- The whole, as a `Process` of the contract.
    body       bytea  NOT NULL
);
-- Lists go newest first; the id decides between equal moments.
CREATE INDEX IF NOT EXISTS process_created ON {t}process (created_at, id);

CREATE TABLE IF NOT EXISTS {s}.contribution (
    id         text   NOT NULL PRIMARY KEY,
    process_id text   NOT NULL,
    -- The position of the event that made it.
    submitted  bigint NOT NULL,
    -- Microseconds since 1970, UTC.
    created_at bigint NOT NULL,
    -- All but the text, as a `Contribution` of the contract.
    body       bytea  NOT NULL,
    -- The sealed `Text`, encoded: only who asks for it opens it.
    text       bytea  NOT NULL
);
CREATE INDEX IF NOT EXISTS contribution_process
    ON {t}contribution (process_id, created_at, id);
