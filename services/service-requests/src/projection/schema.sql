-- What queries on requests read. Disposable: rebuilt from the log.

CREATE TABLE IF NOT EXISTS {s}.request (
    id             text   NOT NULL PRIMARY KEY,
    -- What people know it by; newer ones have higher numbers.
    number         bigint NOT NULL,
    category       text   NOT NULL,
    status         bigint NOT NULL,
    neighbourhood  text   NOT NULL,
    channel        bigint NOT NULL,
    urgency        bigint NOT NULL,
    norm_state     bigint NOT NULL,
    -- Empty where there is none.
    team           text   NOT NULL,
    assignee       text   NOT NULL,
    network        text   NOT NULL,
    task           bigint NOT NULL,
    -- The pseudonym of the member who takes care of it.
    task_member    text   NOT NULL,
    source         text   NOT NULL,
    parent         text   NOT NULL,
    satisfaction   bigint NOT NULL,
    photos         bigint NOT NULL,
    -- Ten millionths of a degree: centimetres. The largest number where there
    -- is no point, as in the moments below where there is none.
    latitude       bigint NOT NULL,
    longitude      bigint NOT NULL,
    -- Microseconds since 1970, UTC.
    created_at     bigint NOT NULL,
    updated_at     bigint NOT NULL,
    closed_at      bigint NOT NULL,
    due_at         bigint NOT NULL,
    -- When a reconciler has to look at it next: a norm, a reaction or an
    -- answer that comes to its end.
    look_at        bigint NOT NULL,
    -- The pseudonym of the resident who filed it; of the employee, if one did.
    filed_by       text   NOT NULL,
    -- The whole, as a `ServiceRequest` of the contract.
    body           bytea  NOT NULL,
    -- When its norm counts as approaching: an encoded `Timestamp`, or empty.
    kept           bytea  NOT NULL,
    -- Encoded `Sealed`; empty where there is none.
    description    bytea  NOT NULL,
    reporter       bytea  NOT NULL,
    address        bytea  NOT NULL,
    answers        bytea  NOT NULL,
    -- What the words of the description are in `search`, eight bytes each.
    words          bytea  NOT NULL,
    -- The ISO week in which it was reported: the year times 100 and the week.
    week           bigint NOT NULL
);
-- Lists go newest first; the id decides between equal moments.
CREATE INDEX IF NOT EXISTS request_created ON {t}request (created_at, id);
CREATE INDEX IF NOT EXISTS request_status ON {t}request (status, created_at, id);
CREATE INDEX IF NOT EXISTS request_neighbourhood
    ON {t}request (neighbourhood, created_at, id);
CREATE INDEX IF NOT EXISTS request_category ON {t}request (category, created_at, id);
CREATE INDEX IF NOT EXISTS request_filed_by ON {t}request (filed_by, created_at, id);
CREATE INDEX IF NOT EXISTS request_team ON {t}request (team, created_at, id);
CREATE INDEX IF NOT EXISTS request_assignee ON {t}request (assignee, created_at, id);
CREATE INDEX IF NOT EXISTS request_network ON {t}request (network, created_at, id);
CREATE INDEX IF NOT EXISTS request_source ON {t}request (source, created_at, id);
CREATE INDEX IF NOT EXISTS request_channel ON {t}request (channel, created_at, id);
CREATE INDEX IF NOT EXISTS request_urgency ON {t}request (urgency, created_at, id);
CREATE INDEX IF NOT EXISTS request_norm ON {t}request (norm_state, created_at, id);
-- Of these few are wanted: they are put in order when they are read.
CREATE INDEX IF NOT EXISTS request_updated ON {t}request (updated_at);
CREATE INDEX IF NOT EXISTS request_closed ON {t}request (closed_at);
CREATE INDEX IF NOT EXISTS request_due ON {t}request (due_at);
CREATE INDEX IF NOT EXISTS request_place ON {t}request (latitude, longitude);
CREATE INDEX IF NOT EXISTS request_rated ON {t}request (satisfaction) WHERE satisfaction > 0;
CREATE INDEX IF NOT EXISTS request_photo ON {t}request (photos) WHERE photos > 0;
CREATE INDEX IF NOT EXISTS request_look ON {t}request (look_at);
CREATE UNIQUE INDEX IF NOT EXISTS request_number ON {t}request (number);
-- The few that are parts.
CREATE INDEX IF NOT EXISTS request_parent ON {t}request (parent) WHERE parent <> '';

-- Which requests have a word in their description. A word stands here as eight
-- bytes of an HMAC over its stem, and in the order of lists.
CREATE TABLE IF NOT EXISTS {s}.search (
    token      bigint NOT NULL,
    created_at bigint NOT NULL,
    id         text   NOT NULL,
    PRIMARY KEY (token, created_at, id)
);

-- All that happened to requests.
CREATE TABLE IF NOT EXISTS {s}.history (
    position bigint NOT NULL PRIMARY KEY,
    request  text   NOT NULL,
    -- As a `HistoryEntry` of the contract.
    body     bytea  NOT NULL,
    -- The key of the text, and the text: an encoded `Sealed`. Empty where there
    -- is none.
    key_id   text   NOT NULL,
    sealed   bytea  NOT NULL
);
CREATE INDEX IF NOT EXISTS history_request ON {t}history (request, position);

-- Kept as events come, so that a dashboard never counts.
CREATE TABLE IF NOT EXISTS {s}.neighbourhood_count (
    neighbourhood text   NOT NULL PRIMARY KEY,
    open          bigint NOT NULL,
    closed        bigint NOT NULL
);

-- What the service goes by: the catalogue, the organisation, the routing, the
-- networks.
CREATE TABLE IF NOT EXISTS {s}.register (
    -- The stream, such as `category/<main>/<sub>`.
    stream   text   NOT NULL PRIMARY KEY,
    -- The position of what changed it last.
    position bigint NOT NULL,
    version  bigint NOT NULL,
    retired  bigint NOT NULL,
    -- As the contract's message of its kind.
    body     bytea  NOT NULL
);
CREATE INDEX IF NOT EXISTS register_position ON {t}register (position);

-- What networks know about places.
CREATE TABLE IF NOT EXISTS {s}.place_note (
    id      text   NOT NULL PRIMARY KEY,
    network text   NOT NULL,
    -- Its box, in ten millionths of a degree.
    south   bigint NOT NULL,
    north   bigint NOT NULL,
    west    bigint NOT NULL,
    east    bigint NOT NULL,
    -- As a `PlaceNote` of the contract, without its text.
    body    bytea  NOT NULL,
    -- The sealed text.
    sealed  bytea  NOT NULL
);
CREATE INDEX IF NOT EXISTS place_note_network ON {t}place_note (network, id);
CREATE INDEX IF NOT EXISTS place_note_south ON {t}place_note (south);

-- What is a hotspot now.
CREATE TABLE IF NOT EXISTS {s}.hotspot (
    category      text   NOT NULL,
    neighbourhood text   NOT NULL,
    -- Of its detection.
    position      bigint NOT NULL,
    PRIMARY KEY (category, neighbourhood)
);
