-- What queries and feeds read. Disposable: rebuilt from this service's log and
-- from the logs that it follows.

CREATE TABLE IF NOT EXISTS {s}.partner (
    code text  NOT NULL PRIMARY KEY,
    -- A `Partner` of the contract.
    body bytea NOT NULL
);

-- By which certificates a partner is known.
CREATE TABLE IF NOT EXISTS {s}.partner_certificate (
    partner    text NOT NULL,
    oin        text NOT NULL,
    thumbprint text NOT NULL,
    PRIMARY KEY (partner, thumbprint)
);
CREATE INDEX IF NOT EXISTS partner_certificate_thumbprint
    ON {t}partner_certificate (thumbprint);

CREATE TABLE IF NOT EXISTS {s}.agreement (
    id       text   NOT NULL PRIMARY KEY,
    partner  text   NOT NULL,
    -- The position of the event that made it: lists go newest first.
    position bigint NOT NULL,
    in_force bigint NOT NULL,
    -- An `Agreement` of the contract.
    body     bytea  NOT NULL
);

-- Which source record stands where in which feed.
CREATE TABLE IF NOT EXISTS {s}.feed_entry (
    agreement       text   NOT NULL,
    position        bigint NOT NULL,
    -- The epoch in which the place was given.
    epoch           bigint NOT NULL,
    source_log      text   NOT NULL,
    source_epoch    bigint NOT NULL,
    source_position bigint NOT NULL,
    -- The position of the event that withdrew the place; 0: it stands.
    withdrawn       bigint NOT NULL,
    -- The number of the erasure by which the partner was told of it; 0: none.
    told            bigint NOT NULL,
    PRIMARY KEY (agreement, position)
);
CREATE INDEX IF NOT EXISTS feed_entry_source ON {t}feed_entry (source_log, source_position);

-- The records that may stand in a feed, as the mask let them through.
CREATE TABLE IF NOT EXISTS {s}.source_record (
    log      text   NOT NULL,
    position bigint NOT NULL,
    epoch    bigint NOT NULL,
    -- A `Record` of the contract.
    body     bytea  NOT NULL,
    PRIMARY KEY (log, position)
);

-- Under which keys those records' content is sealed.
CREATE TABLE IF NOT EXISTS {s}.source_key (
    log      text   NOT NULL,
    position bigint NOT NULL,
    key_id   text   NOT NULL,
    epoch    bigint NOT NULL,
    -- The record's stream.
    stream   text   NOT NULL,
    PRIMARY KEY (log, position, key_id)
);
CREATE INDEX IF NOT EXISTS source_key_key ON {t}source_key (log, key_id);

-- Keys that were destroyed.
CREATE TABLE IF NOT EXISTS {s}.erased_key (
    log    text NOT NULL,
    key_id text NOT NULL,
    PRIMARY KEY (log, key_id)
);

CREATE TABLE IF NOT EXISTS {s}.disclosure (
    -- The position of its event.
    position  {bigint_key},
    agreement text   NOT NULL,
    -- How far the feed has gone out with it.
    reached   bigint NOT NULL,
    -- A `Disclosure` of the contract.
    body      bytea  NOT NULL
);
CREATE INDEX IF NOT EXISTS disclosure_agreement ON {t}disclosure (agreement, position);

-- What partners have to delete. Times are microseconds since 1970.
CREATE TABLE IF NOT EXISTS {s}.erasure (
    -- The position of the event that made it: lists go newest first.
    position     {bigint_key},
    partner      text   NOT NULL,
    number       bigint NOT NULL,
    -- The epoch in which the number was given.
    epoch        bigint NOT NULL,
    due_time     bigint NOT NULL,
    -- 0: not yet.
    send_time    bigint NOT NULL,
    -- 0: not yet.
    confirm_time bigint NOT NULL,
    -- An `ErasureDue` of the contract.
    body         bytea  NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS erasure_number ON {t}erasure (partner, number);
