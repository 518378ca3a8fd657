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
    PRIMARY KEY (agreement, position)
);

-- The records that may stand in a feed, as the mask let them through.
CREATE TABLE IF NOT EXISTS {s}.source_record (
    log      text   NOT NULL,
    position bigint NOT NULL,
    -- A `Record` of the contract.
    body     bytea  NOT NULL,
    PRIMARY KEY (log, position)
);

CREATE TABLE IF NOT EXISTS {s}.disclosure (
    -- The position of its event.
    position  {bigint_key},
    agreement text  NOT NULL,
    -- A `Disclosure` of the contract.
    body      bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS disclosure_agreement ON {t}disclosure (agreement, position);
