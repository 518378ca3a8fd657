-- A log. The same text serves PostgreSQL and SQLite; times are microseconds
-- since 1970, UTC.

-- One row: where the log stands. Its lock orders all appends, so that
-- positions are gapless and become visible in order.
CREATE TABLE IF NOT EXISTS {s}.head (
    one         bigint NOT NULL PRIMARY KEY CHECK (one = 1),
    log         text   NOT NULL,
    epoch       bigint NOT NULL,
    position    bigint NOT NULL,
    hash        bytea  NOT NULL,
    recorded_at bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS {s}.record (
    position    {bigint_key},
    epoch       bigint NOT NULL,
    stream      text   NOT NULL,
    version     bigint NOT NULL,
    type        text   NOT NULL,
    actor       text   NOT NULL,
    recorded_at bigint NOT NULL,
    data        bytea  NOT NULL,
    salt        bytea  NOT NULL,
    hash        bytea  NOT NULL,
    -- Finds a stream's events and its version; refuses two at one version.
    UNIQUE (stream, version)
);

-- The commands that were accepted, so that the same one writes once.
CREATE TABLE IF NOT EXISTS {s}.command (
    id             text   NOT NULL PRIMARY KEY,
    -- HMAC of the request's content, under the key named here or, where none
    -- is named, one of the deployment.
    fingerprint    bytea  NOT NULL,
    key_id         text,
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL
);

-- Keys of sealed content, wrapped by the master key. A destroyed key keeps
-- its row, without the key, so that it is never made again.
CREATE TABLE IF NOT EXISTS {s}.sealing_key (
    id      text  NOT NULL PRIMARY KEY,
    wrapped bytea
);
