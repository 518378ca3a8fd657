-- What people were told. No text: that is read where it stands, as long as it
-- was not forgotten. Disposable: rebuilt from the log.
CREATE TABLE IF NOT EXISTS {s}.notice (
    id         text   NOT NULL PRIMARY KEY,
    -- The recipient's pseudonym; empty for whoever has the secret.
    recipient  text   NOT NULL,
    -- The stream that it is about.
    about      text   NOT NULL,
    kind       bigint NOT NULL,
    -- The position of the event that it tells of, and its own.
    told_of    bigint NOT NULL,
    position   bigint NOT NULL,
    -- Microseconds since 1970, UTC.
    created_at bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS notice_recipient ON {t}notice (recipient, created_at, id);
CREATE INDEX IF NOT EXISTS notice_about ON {t}notice (about, position);
-- Where telling goes on.
CREATE INDEX IF NOT EXISTS notice_told_of ON {t}notice (told_of);

-- How far each is by each channel.
CREATE TABLE IF NOT EXISTS {s}.notice_delivery (
    notice  text   NOT NULL,
    channel text   NOT NULL,
    state   bigint NOT NULL,
    -- Of the notice's stream, at which that was said: a later one holds.
    version bigint NOT NULL,
    PRIMARY KEY (notice, channel)
);

-- Who was forgotten, and where: texts to them from before are not shown.
CREATE TABLE IF NOT EXISTS {s}.notice_forgotten (
    person   text   NOT NULL PRIMARY KEY,
    position bigint NOT NULL
);
