-- What queries on requests read. Disposable: rebuilt from the log.

CREATE TABLE IF NOT EXISTS {s}.request (
    id            text   NOT NULL PRIMARY KEY,
    -- The position of the event that made it, which is also its number.
    number        bigint NOT NULL,
    category      text   NOT NULL,
    status        bigint NOT NULL,
    neighbourhood text   NOT NULL,
    -- Microseconds since 1970, UTC.
    created_at    bigint NOT NULL,
    -- The pseudonym of the resident who filed it; of the employee, if one did.
    filed_by      text   NOT NULL,
    -- The whole, as a `ServiceRequest` of the contract.
    body          bytea  NOT NULL,
    -- The sealed `Text` and `Reporter`, encoded; empty where there is none.
    description   bytea  NOT NULL,
    reporter      bytea  NOT NULL
);
-- Lists go newest first; the id decides between equal moments.
CREATE INDEX IF NOT EXISTS request_created ON {t}request (created_at, id);
CREATE INDEX IF NOT EXISTS request_status ON {t}request (status, created_at, id);
CREATE INDEX IF NOT EXISTS request_neighbourhood
    ON {t}request (neighbourhood, created_at, id);
CREATE INDEX IF NOT EXISTS request_category ON {t}request (category, created_at, id);
CREATE INDEX IF NOT EXISTS request_filed_by ON {t}request (filed_by, created_at, id);

-- Kept as events come, so that a dashboard never counts.
CREATE TABLE IF NOT EXISTS {s}.neighbourhood_count (
    neighbourhood text   NOT NULL PRIMARY KEY,
    open          bigint NOT NULL,
    closed        bigint NOT NULL
);
